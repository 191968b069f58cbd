{{/* One pod at a time may be moved away. Takes a list: context, name, part. */}}
{{- define "transparent-proxy.disruptionBudget" -}}
{{- $context := first . -}}
{{- $part := list $context (last .) -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ index . 1 }}
  namespace: {{ $context.Release.Namespace | quote }}
  labels: {{- include "transparent-proxy.labels" $part | nindent 4 }}
spec:
  maxUnavailable: 1
  {{- if semverCompare ">=1.27-0" $context.Capabilities.KubeVersion.Version }}
  # A pod that does not work must not keep a node from being drained.
  unhealthyPodEvictionPolicy: AlwaysAllow
  {{- end }}
  selector:
    matchLabels: {{- include "transparent-proxy.selector" $part | nindent 6 }}
{{- end }}
