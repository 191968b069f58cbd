{{/* An account for the pods that say so; others that use it get no token. Takes a list: context, name, part. */}}
{{- define "transparent-proxy.serviceAccount" -}}
{{- $context := first . -}}
apiVersion: v1
kind: ServiceAccount
automountServiceAccountToken: false
metadata:
  name: {{ index . 1 }}
  namespace: {{ $context.Release.Namespace | quote }}
  labels: {{- include "transparent-proxy.labels" (list $context (last .)) | nindent 4 }}
{{- end }}

{{/* A role and who has it. Takes a dict: context, part, role (name), accounts (names), rules; and namespace, if it is no ClusterRole; and annotations. */}}
{{- define "transparent-proxy.role" -}}
{{- $kind := empty .namespace | ternary "ClusterRole" "Role" -}}
{{- range $suffix := list "" "Binding" -}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $kind }}{{ $suffix }}
metadata:
  name: {{ $.role }}
  {{- with $.namespace }}
  namespace: {{ . | quote }}
  {{- end }}
  labels: {{- include "transparent-proxy.labels" (list $.context $.part) | nindent 4 }}
  {{- with $.annotations }}
  annotations: {{- . | nindent 4 }}
  {{- end }}
{{- if $suffix }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ $kind }}
  name: {{ $.role }}
subjects:
  {{- range $.accounts }}
  - kind: ServiceAccount
    name: {{ . }}
    namespace: {{ $.context.Release.Namespace | quote }}
  {{- end }}
{{- else }}
rules: {{- $.rules | nindent 2 }}
{{- end }}
{{ end }}
{{- end }}
