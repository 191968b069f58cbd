{{/* How agents are replaced. What is not said of a rolling update follows from the other number: exactly one of them may be 0. https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/daemon-set-v1/ */}}
{{- define "transparent-proxy.updateStrategy" -}}
{{- $type := .Values.deployment.updateStrategy.type -}}
{{- if eq $type "RollingUpdate" -}}
rollingUpdate: {{- include "transparent-proxy.rollingUpdate" . | nindent 2 }}
{{ end -}}
type: {{ $type }}
{{- end }}

{{- define "transparent-proxy.rollingUpdate" -}}
{{- $wished := .Values.deployment.updateStrategy.rollingUpdate | default dict -}}
{{- $without := include "transparent-proxy.isSome" $wished.maxUnavailable -}}
{{- $update := dict "maxSurge" ($without | empty | ternary 1 0) "maxUnavailable" 0 -}}
{{- if and (hasKey $wished "maxSurge") (not (include "transparent-proxy.isSome" $wished.maxSurge)) -}}
{{- $_ := set $update "maxUnavailable" 1 -}}
{{- end -}}
{{- /* `merge` would take a 0 for nothing. */ -}}
{{- range $number, $amount := $wished }}{{ $_ := set $update $number $amount }}{{ end -}}
{{- toYaml $update -}}
{{- end }}

{{/* A number or percentage that is more than nothing. */}}
{{- define "transparent-proxy.isSome" -}}
{{- if not (has (toString .) (list "<nil>" "0" "0%")) }}yes{{ end -}}
{{- end }}

{{- define "transparent-proxy.updateProblems" -}}
{{- $update := include "transparent-proxy.rollingUpdate" . | fromYaml -}}
{{- $surge := include "transparent-proxy.isSome" $update.maxSurge -}}
{{- $unavailable := include "transparent-proxy.isSome" $update.maxUnavailable -}}
{{- if eq $surge $unavailable }}
deployment.updateStrategy.rollingUpdate: exactly one of maxSurge ({{ $update.maxSurge }}) and maxUnavailable ({{ $update.maxUnavailable }}) may be, and has to be, more than 0
{{- end -}}
{{- end }}
