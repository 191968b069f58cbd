{{/* Names of objects do not depend on the release: there is one installation per namespace. */}}
{{- define "transparent-proxy.agent" -}}sap-transp-proxy{{- end }}
{{- define "transparent-proxy.fallback" -}}sap-transp-proxy-fallback{{- end }}
{{- define "transparent-proxy.manager" -}}sap-transp-proxy-manager{{- end }}
{{- define "transparent-proxy.healthcheck" -}}sap-transp-proxy-healthcheck{{- end }}
{{- define "transparent-proxy.cleanup" -}}sap-transp-proxy-cleanup{{- end }}
{{- define "transparent-proxy.config" -}}sap-transp-proxy-config{{- end }}

{{/* Of the proxy itself: agents and fallback. */}}
{{- define "transparent-proxy.proxyServiceAccount" -}}sap-transp-proxy-service-account{{- end }}
{{- define "transparent-proxy.managerServiceAccount" -}}sap-transp-proxy-manager-service-account{{- end }}
{{- define "transparent-proxy.healthcheckServiceAccount" -}}sap-transp-proxy-healthcheck-service-account{{- end }}
{{- define "transparent-proxy.cleanupServiceAccount" -}}sap-transp-proxy-cleanup-service-account{{- end }}

{{/* What belongs to no namespace carries that of the installation; so do objects in other namespaces. */}}
{{- define "transparent-proxy.proxyClusterRole" -}}sap-transp-proxy-agent-{{ .Release.Namespace }}{{- end }}
{{- define "transparent-proxy.managerClusterRole" -}}sap-transp-proxy-manager-{{ .Release.Namespace }}{{- end }}
{{- define "transparent-proxy.healthcheckClusterRole" -}}sap-transp-proxy-healthcheck-{{ .Release.Namespace }}{{- end }}
{{- define "transparent-proxy.cleanupClusterRole" -}}sap-transp-proxy-cleanup-{{ .Release.Namespace }}{{- end }}
{{- define "transparent-proxy.secretsRole" -}}sap-transp-proxy-secrets-{{ .Release.Namespace }}{{- end }}

{{- define "transparent-proxy.additionalCAsRole" -}}sap-transp-proxy-additional-cas-{{ .Release.Namespace }}{{- end }}

{{/* The value of a PriorityClass cannot be changed, so another value is another object. */}}
{{- define "transparent-proxy.priorityClass" -}}
sap-transp-proxy-{{ int64 .Values.deployment.priority.value }}-{{ .Release.Namespace }}
{{- end }}

{{- define "transparent-proxy.crd" -}}destinations.destination.connectivity.api.sap{{- end }}

{{/* Are there agents? Without the hook the fallback does everything, unless it has no pods. */}}
{{- define "transparent-proxy.hasAgents" -}}
{{- if or .Values.deployment.ebpf.enabled (not (include "transparent-proxy.hasFallback" .)) }}yes{{ end }}
{{- end }}

{{- define "transparent-proxy.hasFallback" -}}
{{- if gt (int .Values.deployment.replicas.http) 0 }}yes{{ end }}
{{- end }}
