{{/* Of every object. Takes a list: context, what it is part of (agent, fallback, manager, healthcheck, cleanup, test). */}}
{{- define "transparent-proxy.labels" -}}
{{- $context := first . -}}
{{ include "transparent-proxy.selector" . }}
app.kubernetes.io/instance: {{ $context.Release.Name | quote }}
app.kubernetes.io/version: {{ $context.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $context.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $context.Chart.Name ($context.Chart.Version | replace "+" "_") }}
{{- end }}

{{/* Selectors cannot be changed: nothing in here may depend on values or versions. */}}
{{- define "transparent-proxy.selector" -}}
app.kubernetes.io/name: transparent-proxy
app.kubernetes.io/component: {{ last . }}
{{- end }}

{{/* Of pods. The same list. What is ours wins over what is wished for. */}}
{{- define "transparent-proxy.podLabels" -}}
{{- $context := first . -}}
{{- $part := last . -}}
{{- $labels := include "transparent-proxy.selector" . | fromYaml -}}
{{- $components := dict "agent" "http-proxy" "fallback" "http-proxy" "manager" "manager" "healthcheck" "healthcheck" -}}
{{- with get $components $part -}}
{{- $_ := set $labels "transparent-proxy.connectivity.api.sap/component" . -}}
{{- end -}}
{{- if eq $part (include "transparent-proxy.fallbackPart" $context) -}}
{{- $_ := set $labels "transparent-proxy.connectivity.api.sap/fallback" "true" -}}
{{- end -}}
{{- /* A sidecar would see redirected connections and open others, by which callers cannot be told. */ -}}
{{- $_ := set $labels "sidecar.istio.io/inject" "false" -}}
{{- $_ := set $labels "istio.io/dataplane-mode" "none" -}}
{{- merge $labels $context.Values.deployment.podLabels | toYaml -}}
{{- end }}

{{/* Whose pods are the ordinary endpoints of the virtual IPs. */}}
{{- define "transparent-proxy.fallbackPart" -}}
{{- if include "transparent-proxy.hasFallback" . }}fallback{{ else }}agent{{ end }}
{{- end }}
