{{/* Of every pod template. Takes a list: context, part. */}}
{{- define "transparent-proxy.podMetadata" -}}
{{- $context := first . -}}
{{- $checksum := dict "checksum/config" (include "transparent-proxy.configFile" $context | sha256sum) -}}
labels: {{- include "transparent-proxy.podLabels" . | nindent 2 }}
annotations: {{- merge $checksum $context.Values.deployment.podAnnotations | toYaml | nindent 2 }}
{{- end }}

{{/* What the specs of all pods have in common. */}}
{{- define "transparent-proxy.podSpec" -}}
# A variable per Service of the namespace would be thousands: there is one Service per destination.
enableServiceLinks: false
{{- with .Values.deployment.image.pullSecret }}
imagePullSecrets:
  - name: {{ . | quote }}
{{- end }}
{{- if ne (int64 .Values.deployment.priority.value) 0 }}
priorityClassName: {{ include "transparent-proxy.priorityClass" . }}
{{- end }}
{{- end }}

{{/* Where pods run that are not one per node. */}}
{{- define "transparent-proxy.centralPlacement" -}}
{{- include "transparent-proxy.placement" (list . .Values.deployment.central) }}
{{- end }}

{{/* Takes a list: context, nodeSelector, affinity and tolerations as they are wished. */}}
{{- define "transparent-proxy.placement" -}}
{{- with last . }}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with include "transparent-proxy.affinity" (list (first $) .affinity) | fromYaml }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}

{{/*
What is wished, and only nodes for which the image was made. Terms are alternatives, so each of them gets that.
https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/#node-affinity Takes a list: context, affinity.
*/}}
{{- define "transparent-proxy.affinity" -}}
{{- $architectures := (first .).Values.deployment.image.architectures -}}
{{- $affinity := last . | default dict | deepCopy -}}
{{- if $architectures -}}
{{- $ours := dict "key" "kubernetes.io/arch" "operator" "In" "values" $architectures -}}
{{- $required := dig "nodeAffinity" "requiredDuringSchedulingIgnoredDuringExecution" "nodeSelectorTerms" list $affinity -}}
{{- $terms := list -}}
{{- range $required | default (list dict) -}}
{{- $terms = append $terms (set (deepCopy .) "matchExpressions" (append (.matchExpressions | default list) $ours)) -}}
{{- end -}}
{{- $nodes := get $affinity "nodeAffinity" | default dict -}}
{{- $_ := set $nodes "requiredDuringSchedulingIgnoredDuringExecution" (dict "nodeSelectorTerms" $terms) -}}
{{- $_ := set $affinity "nodeAffinity" $nodes -}}
{{- end -}}
{{- toYaml $affinity -}}
{{- end }}

{{/* Replicas apart from each other where that is possible. Takes a list: context, part. */}}
{{- define "transparent-proxy.spread" -}}
topologySpreadConstraints:
{{- $context := first . }}
{{- $list := . }}
{{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - topologyKey: {{ . }}
    maxSkew: 1
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "transparent-proxy.selector" $list | nindent 8 }}
    {{- if semverCompare ">=1.27-0" $context.Capabilities.KubeVersion.Version }}
    # In an update the pods that are about to go do not count.
    matchLabelKeys: [pod-template-hash]
    {{- end }}
{{- end }}
{{- end }}

{{- define "transparent-proxy.image" -}}
{{- $image := .Values.deployment.image -}}
{{- $name := list $image.registry $image.repository | compact | join "/" -}}
{{- if $image.digest -}}
image: {{ printf "%s@%s" $name $image.digest | quote }}
{{- else -}}
image: {{ printf "%s:%s" $name ($image.tag | default .Chart.AppVersion) | quote }}
{{- end }}
imagePullPolicy: {{ $image.pullPolicy }}
{{- end }}

{{/* What a pod knows of itself. */}}
{{- define "transparent-proxy.environment" -}}
- name: POD_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
{{- end }}

{{- define "transparent-proxy.proxyEnvironment" -}}
{{ include "transparent-proxy.environment" . }}
- name: POD_IPS
  valueFrom: {fieldRef: {fieldPath: status.podIPs}}
- name: NODE_NAME
  valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
{{- end }}

{{/* Liveness and readiness, at the port named `probes`. */}}
{{- define "transparent-proxy.probes" -}}
livenessProbe:
  httpGet: {path: /healthz, port: probes}
  initialDelaySeconds: 15
  periodSeconds: 20
  timeoutSeconds: 5
readinessProbe:
  httpGet: {path: /readyz, port: probes}
  periodSeconds: 3
  timeoutSeconds: 2
  failureThreshold: 2
{{- end }}

{{/* The capabilities come last, so that those of agents can follow. Satisfies the Pod Security level `restricted`. https://kubernetes.io/docs/concepts/security/pod-security-standards/ */}}
{{- define "transparent-proxy.restricted" -}}
securityContext:
  runAsUser: 65532
  runAsGroup: 65532
  runAsNonRoot: true
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  seccompProfile:
    type: RuntimeDefault
  capabilities:
    drop: [ALL]
{{- end }}

{{/* The settings, and the folder by which the log level is changed in a running pod. */}}
{{- define "transparent-proxy.mounts" -}}
- name: config
  mountPath: /etc/transparent-proxy
  readOnly: true
- name: logging
  mountPath: /etc/logging
{{- end }}

{{- define "transparent-proxy.volumes" -}}
- name: config
  configMap:
    name: {{ include "transparent-proxy.config" . }}
- name: logging
  emptyDir: {}
{{- end }}

{{/* Agents and fallback keep what they serve while the API server is away, and listen to commands from inside of the pod. */}}
{{- define "transparent-proxy.proxyMounts" -}}
{{ include "transparent-proxy.mounts" . }}
- name: state
  mountPath: /var/lib/transparent-proxy
- name: run
  mountPath: /run/transparent-proxy
{{- end }}

{{- define "transparent-proxy.proxyVolumes" -}}
{{ include "transparent-proxy.volumes" . }}
- name: state
  emptyDir: {}
- name: run
  emptyDir: {}
{{- end }}

{{- define "transparent-proxy.ports" -}}
- name: probes
  containerPort: 8081
{{- if .Values.config.metrics.prometheus.enabled }}
- name: metrics
  containerPort: 9494
{{- end }}
{{- end }}

{{/* The planes for HTTP and TCP have metrics of their own. */}}
{{- define "transparent-proxy.proxyPorts" -}}
{{ include "transparent-proxy.ports" . }}
{{- if .Values.config.metrics.prometheus.enabled }}
- name: tcp-metrics
  containerPort: 9495
{{- end }}
{{- end }}
