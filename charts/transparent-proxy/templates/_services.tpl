{{/* Takes a dict: context, name, part, port, targetPort, portName and, if needed, selector and headless. */}}
{{- define "transparent-proxy.service" -}}
{{- $part := list .context .part -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ .name }}
  namespace: {{ .context.Release.Namespace | quote }}
  labels: {{- include "transparent-proxy.labels" $part | nindent 4 }}
spec:
  {{- if .headless }}
  clusterIP: None
  {{- end }}
  ipFamilyPolicy: PreferDualStack
  selector: {{- .selector | default (include "transparent-proxy.selector" $part) | nindent 4 }}
  ports:
    - name: {{ .portName }}
      port: {{ .port }}
      targetPort: {{ .targetPort }}
      protocol: TCP
      appProtocol: http
{{- end }}

{{/* Agents and fallback alike. */}}
{{- define "transparent-proxy.proxySelector" -}}
app.kubernetes.io/name: transparent-proxy
transparent-proxy.connectivity.api.sap/component: http-proxy
{{- end }}
