{{/* The settings of all components, as `transparent-proxy` reads them. */}}
{{- define "transparent-proxy.configFile" -}}
{{- $config := .Values.config -}}
{{- $file := dict
  "tenantMode" $config.tenantMode
  "managedNamespacesMode" $config.managedNamespacesMode
  "defaultScope" $config.security.accessControl.destinations.defaultScope
  "executionIntervalMinutes" (int $config.manager.executionIntervalMinutes)
  "secrets" (dict "namespaces" (include "transparent-proxy.secretNamespaces" . | fromJsonArray))
  "http" (dict "retry" (dict "maxRetries" (int $config.http.retry.maxRetries) "statusCodes" $config.http.retry.statusCodes))
  "logging" (dict "level" $config.logging.level "format" $config.logging.format "access" $config.logging.access)
  "metrics" (dict "enabled" $config.metrics.prometheus.enabled)
  "ebpf" (dict "enabled" .Values.deployment.ebpf.enabled "cgroupRoot" "/host/cgroup")
  "targetPorts" $config.tcp.targetPortRange
  "limits" (dict "connectionsPerPod" (int $config.tcp.maxConnectionsPerPod))
  "drainSeconds" (include "transparent-proxy.drainSeconds" . | int)
-}}
{{- with $config.integration.destinationService.defaultInstanceName }}{{ $_ := set $file "defaultInstanceName" . }}{{ end -}}
{{- with $config.clusterDomain }}{{ $_ := set $file "clusterDomain" . }}{{ end -}}
{{- with .Values.additionalCAs -}}
{{- if .secretName }}{{ $_ := set $file "additionalCas" (dict "namespace" (include "transparent-proxy.additionalCAsNamespace" $) "secret" .secretName "key" .secretKey) }}{{ end -}}
{{- end -}}
{{- toPrettyJson $file -}}
{{- end }}

{{/* Besides the installation namespace, each once; a JSON array. */}}
{{- define "transparent-proxy.secretNamespaces" -}}
{{- without (.Values.config.integration.secrets.namespaces | uniq | sortAlpha) .Release.Namespace | toJson -}}
{{- end }}

{{- define "transparent-proxy.additionalCAsNamespace" -}}
{{- .Values.additionalCAs.secretNamespace | default .Release.Namespace -}}
{{- end }}

{{/*
The end of the process must come before the kubelet's patience ends. Before it drains, it accepts
connections for 5 more seconds; then what is cut gets a moment, too.
*/}}
{{- define "transparent-proxy.drainSeconds" -}}
{{- $grace := int .Values.deployment.terminationGracePeriodSeconds -}}
{{- sub $grace (div $grace 2 | min 10 | max 6) -}}
{{- end }}
