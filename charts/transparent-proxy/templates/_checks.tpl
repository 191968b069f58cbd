{{/* Values of what comes later, with what they may be until then. */}}
{{- define "transparent-proxy.later" -}}
compliance.fipsModeEnabled: false
config.tenantMode: dedicated
config.security.communication.internal.encryptionEnabled: false
config.integration.destinationService.instances: []
config.integration.connectivityProxy.serviceName: ""
config.integration.connectivityProxy.serviceCredentials.secretName: ""
config.integration.connectivityProxy.serviceCredentials.secretKey: ""
config.integration.connectivityProxy.serviceCredentials.secretNamespace: ""
config.integration.connectivityProxy.serviceCredentials.privateKey.secretName: ""
config.integration.connectivityProxy.serviceCredentials.privateKey.secretInternalKey: ""
config.integration.connectivityProxy.serviceCredentials.privateKey.secretNamespace: ""
config.integration.serviceMesh.istio.istio-injection: ""
deployment.autoscaling.http.vertical.enabled: false
deployment.autoscaling.tcp.vertical.enabled: false
{{- end }}

{{/* Values that are taken and do nothing, with their defaults. */}}
{{- define "transparent-proxy.idle" -}}
config.security.communication.internal.certManager.issuerRef.name: ""
config.security.communication.internal.certManager.issuerRef.kind: ""
config.security.communication.internal.certManager.issuerRef.namespace: ""
config.security.communication.internal.certManager.certificate.privateKey.algorithm: ""
config.security.communication.internal.certManager.certificate.privateKey.encoding: ""
config.security.communication.internal.certManager.certificate.privateKey.size: 0
config.security.communication.internal.certManager.certificate.duration: ""
config.security.communication.internal.certManager.certificate.renewBefore: ""
config.metering.enabled: false
config.integration.destinationService.connectionTimeoutSeconds: 5
config.integration.destinationService.readTimeoutSeconds: 10
config.integration.connectivityProxy.connectionTimeoutSeconds: 1
config.integration.connectivityProxy.servicePort: 0
config.integration.connectivityProxy.type: ""
config.integration.connectivityProxy.http.port: 20003
config.integration.connectivityProxy.tcp.port: 20004
config.integration.ztis.socketPath: /run/spire/agent-sockets/spire-agent.sock
deployment.replicas.tcp: 1
deployment.autoscaling.http.vertical.updateMode: "Off"
deployment.autoscaling.http.vertical.minAllowed: {}
deployment.autoscaling.http.vertical.maxAllowed: {}
deployment.autoscaling.tcp.horizontal.enabled: false
deployment.autoscaling.tcp.horizontal.maxReplicaCount: 2
deployment.autoscaling.tcp.horizontal.metrics.cpuAverageUtilization: 80
deployment.autoscaling.tcp.horizontal.metrics.memoryAverageUtilization: 80
deployment.autoscaling.tcp.vertical.updateMode: "Off"
deployment.autoscaling.tcp.vertical.minAllowed: {}
deployment.autoscaling.tcp.vertical.maxAllowed: {}
{{- end }}

{{/* The value at a path, as JSON; nothing if it is not set. Takes a list: values, path. */}}
{{- define "transparent-proxy.valueAt" -}}
{{- $node := first . -}}
{{- $found := true -}}
{{- range $key := splitList "." (last .) -}}
{{- $found = and $found (kindIs "map" $node) (hasKey $node $key) -}}
{{- $node = $found | ternary (get ($found | ternary $node dict) $key) nil -}}
{{- end -}}
{{- if $found }}{{ toJson $node }}{{ end -}}
{{- end }}

{{/* Lines with the values that are set and do nothing. */}}
{{- define "transparent-proxy.idleValues" -}}
{{- range $path, $default := include "transparent-proxy.idle" . | fromYaml -}}
{{- $value := include "transparent-proxy.valueAt" (list $.Values $path) -}}
{{- if and $value (ne $value (toJson $default)) }}
{{ $path }}: {{ $value }}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Lines, one per mistake in the values. */}}
{{- define "transparent-proxy.problems" -}}
{{- include "transparent-proxy.unknownValues" . -}}
{{- range $path, $default := include "transparent-proxy.later" . | fromYaml -}}
{{- $value := include "transparent-proxy.valueAt" (list $.Values $path) -}}
{{- if and $value (ne $value (toJson $default)) }}
{{ $path }} is not supported yet: leave it at {{ toJson $default }}
{{- end -}}
{{- end -}}
{{- include "transparent-proxy.instanceProblems" . -}}
{{- include "transparent-proxy.scalingProblems" . -}}
{{- include "transparent-proxy.updateProblems" . -}}
{{- include "transparent-proxy.portProblems" . -}}
{{- include "transparent-proxy.resourceProblems" . -}}
{{- include "transparent-proxy.additionalCAsProblems" . -}}
{{- if not .Values.config.helm.skipExistingResourceValidation -}}
{{- include "transparent-proxy.clusterProblems" . -}}
{{- end -}}
{{- end }}

{{/* Mistyped keys below `config` and `deployment` are found by the schema; that cannot know what a parent chart puts beside them. */}}
{{- define "transparent-proxy.unknownValues" -}}
{{- if .Chart.IsRoot -}}
{{- range $key, $_ := omit .Values "additionalCAs" "compliance" "config" "deployment" "global" -}}
{{- if not (hasPrefix "x-" $key) }}
{{ $key }} is unknown; there are additionalCAs, compliance, config and deployment (and x-… for what you want to keep in your file)
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "transparent-proxy.instanceProblems" -}}
{{- $service := .Values.config.integration.destinationService -}}
{{- $names := list "secrets" -}}
{{- range $index, $instance := $service.instances -}}
{{- $path := printf "config.integration.destinationService.instances[%d]" $index -}}
{{- if has $instance.name $names }}
{{ $path }}.name: {{ $instance.name }} is the name of another instance
{{- end -}}
{{- $names = append $names $instance.name -}}
{{- $credentials := $instance.serviceCredentials | default dict -}}
{{- if and $credentials.secretData $credentials.secretNamespace }}
{{ $path }}.serviceCredentials: secretData and secretNamespace exclude each other, since the Secret that is made of secretData is made in the installation namespace
{{- end -}}
{{- end -}}
{{- with $service.defaultInstanceName -}}
{{- if not (has . $names) }}
config.integration.destinationService.defaultInstanceName: {{ . }} is no instance; there is {{ join ", " $names }}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "transparent-proxy.scalingProblems" -}}
{{- range $plane := list "http" "tcp" -}}
{{- $scaling := get $.Values.deployment.autoscaling $plane -}}
{{- if and $scaling.horizontal.enabled $scaling.vertical.enabled }}
deployment.autoscaling.{{ $plane }}: horizontal.enabled and vertical.enabled exclude each other
{{- end -}}
{{- end -}}
{{- $horizontal := .Values.deployment.autoscaling.http.horizontal -}}
{{- $replicas := int .Values.deployment.replicas.http -}}
{{- if $horizontal.enabled -}}
{{- if eq $replicas 0 }}
deployment.autoscaling.http.horizontal.enabled: there is nothing to scale, since deployment.replicas.http is 0
{{- else if lt (int $horizontal.maxReplicaCount) $replicas }}
deployment.autoscaling.http.horizontal.maxReplicaCount is {{ int $horizontal.maxReplicaCount }}, less than deployment.replicas.http, which is {{ $replicas }}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "transparent-proxy.portProblems" -}}
{{- $range := .Values.config.tcp.targetPortRange -}}
{{- $ports := splitList "-" $range -}}
{{- $first := first $ports | int -}}
{{- $last := last $ports | int -}}
{{- if or (lt $first 1024) (gt $first $last) (gt $last 65535) }}
config.tcp.targetPortRange: {{ $range }} is no range within 1024-65535
{{- end -}}
{{- /* https://docs.kernel.org/networking/ip-sysctl.html, ip_local_port_range; each pod has a range of its own, and this is what it begins with. */ -}}
{{- if and (le $first 60999) (ge $last 32768) }}
config.tcp.targetPortRange: {{ $range }} overlaps 32768-60999, out of which the kernel takes the ports of outgoing connections: a destination could find its port in use
{{- end -}}
{{- $taken := list -}}
{{- range $port := list 8080 8081 9494 9495 -}}
{{- if and (le $first $port) (ge $last $port) }}{{ $taken = append $taken $port }}{{ end -}}
{{- end -}}
{{- with $taken }}
config.tcp.targetPortRange: {{ $range }} contains {{ join ", " . }}, where the pods serve something else
{{- end -}}
{{- end }}

{{/* Otherwise the API server would refuse the pods, in the middle of an installation. */}}
{{- define "transparent-proxy.resourceProblems" -}}
{{- $resources := .Values.deployment.resources -}}
{{- include "transparent-proxy.excessProblems" (list "deployment.resources.http and .tcp together" (include "transparent-proxy.proxyResources" .)) -}}
{{- range $part := list "manager" "healthcheck" -}}
{{- include "transparent-proxy.excessProblems" (list (printf "deployment.resources.%s" $part) (include "transparent-proxy.resources" (get $resources $part))) -}}
{{- end -}}
{{- end }}

{{/* Takes a list: where they are, requests and limits as YAML. */}}
{{- define "transparent-proxy.excessProblems" -}}
{{- $resources := last . | fromYaml -}}
{{- range $resource, $measure := dict "cpu" "millicores" "memory" "bytes" -}}
{{- $request := get $resources.requests $resource -}}
{{- $limit := get $resources.limits $resource -}}
{{- $measure = printf "transparent-proxy.%s" $measure -}}
{{- if and $request $limit (gt (include $measure $request | int64) (include $measure $limit | int64)) }}
{{ first $ }}: requests.{{ $resource }} is {{ $request }}, more than limits.{{ $resource }}, which is {{ $limit }}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "transparent-proxy.additionalCAsProblems" -}}
{{- $cas := .Values.additionalCAs -}}
{{- if and $cas.secretName (not $cas.secretKey) }}
additionalCAs.secretKey is missing: it names the key in the Secret {{ $cas.secretName }}
{{- end -}}
{{- end }}

{{/* What only the cluster knows. Without one, every look-up finds nothing, even the namespace that every cluster has. */}}
{{- define "transparent-proxy.clusterProblems" -}}
{{- include "transparent-proxy.podSecurityProblems" . -}}
{{- include "transparent-proxy.crdProblems" . -}}
{{- include "transparent-proxy.secretNamespaceProblems" . -}}
{{- include "transparent-proxy.neighbourProblems" . -}}
{{- with .Values.additionalCAs -}}
{{- if and .secretName .secretKey (lookup "v1" "Namespace" "" "kube-system") -}}
{{- $namespace := include "transparent-proxy.additionalCAsNamespace" $ -}}
{{- $secret := lookup "v1" "Secret" $namespace .secretName -}}
{{- $certificates := get ($secret.data | default dict) .secretKey | b64dec -}}
{{- /* A sequence of that size in DER begins with MI in base64. */ -}}
{{- if not $secret }}
additionalCAs.secretName: the Secret {{ .secretName }} does not exist in {{ $namespace }}
{{- else if not (regexMatch "-----BEGIN CERTIFICATE-----\\s+MI[A-Za-z0-9+/=\\s]+-----END CERTIFICATE-----" $certificates) }}
additionalCAs.secretKey: {{ .secretKey }} in the Secret {{ .secretName }} contains no certificate in PEM
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/*
Two installations that manage the same namespaces would both make Services for the same resources. Others
are told by the ClusterRole of their manager. One that shall make room for others may always be upgraded to labelSelector.
*/}}
{{- define "transparent-proxy.neighbourProblems" -}}
{{- $prefix := printf "%s-" (include "transparent-proxy.manager" .) -}}
{{- $mine := eq .Values.config.managedNamespacesMode "all" -}}
{{- range (lookup "rbac.authorization.k8s.io/v1" "ClusterRole" "" "").items -}}
{{- $namespace := trimPrefix $prefix .metadata.name -}}
{{- if and (hasPrefix $prefix .metadata.name) (ne $namespace $.Release.Namespace) -}}
{{- $config := lookup "v1" "ConfigMap" $namespace (include "transparent-proxy.config" $) -}}
{{- $theirs := eq (dig "managedNamespacesMode" "" (dig "data" "config.json" "{}" $config | fromJson)) "all" -}}
{{- if and $config (or $mine (and $theirs $.Release.IsInstall)) }}
config.managedNamespacesMode: there is another installation, in {{ $namespace }}{{ if $theirs }}, which manages all namespaces{{ end }}; both need labelSelector
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Roles are made in these namespaces, so the installation would break off in the middle. */}}
{{- define "transparent-proxy.secretNamespaceProblems" -}}
{{- if lookup "v1" "Namespace" "" "kube-system" -}}
{{- range include "transparent-proxy.secretNamespaces" . | fromJsonArray -}}
{{- if not (lookup "v1" "Namespace" "" .) }}
config.integration.secrets.namespaces: there is no namespace {{ . }}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Otherwise the DaemonSet would be there, and never a pod of it. https://kubernetes.io/docs/concepts/security/pod-security-standards/ */}}
{{- define "transparent-proxy.podSecurityProblems" -}}
{{- $namespace := lookup "v1" "Namespace" "" .Release.Namespace -}}
{{- $level := dig "metadata" "labels" "pod-security.kubernetes.io/enforce" "" $namespace -}}
{{- if and .Values.deployment.ebpf.enabled (has $level (list "baseline" "restricted")) }}
the namespace {{ .Release.Namespace }} enforces the Pod Security level {{ $level }}, which refuses the agents: label it pod-security.kubernetes.io/enforce=privileged, or set deployment.ebpf.enabled to false
{{- end -}}
{{- end }}
