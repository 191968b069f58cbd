{{/* Cores, as number or text, or thousandths of it: 0.2, "0.2", "200m" -> 200 */}}
{{- define "transparent-proxy.millicores" -}}
{{- $text := toString . -}}
{{- if hasSuffix "m" $text -}}
{{- trimSuffix "m" $text -}}
{{- else -}}
{{- round (mulf (float64 $text) 1000) 0 | int64 -}}
{{- end -}}
{{- end }}

{{/* 256M, 0.5Gi, 268435456 -> bytes */}}
{{- define "transparent-proxy.bytes" -}}
{{- $factors := dict "" 1 "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- if kindIs "string" . -}}
{{- $unit := regexFind "[A-Za-z]*$" . -}}
{{- round (mulf (float64 (trimSuffix $unit .)) (get $factors $unit)) 0 | int64 -}}
{{- else -}}
{{- int64 . -}}
{{- end -}}
{{- end }}

{{/* bytes -> 288M */}}
{{- define "transparent-proxy.memory" -}}
{{- $bytes := int64 . -}}
{{- if eq (mod $bytes 1000000) 0 -}}
{{- div $bytes 1000000 }}M
{{- else if eq (mod $bytes 1048576) 0 -}}
{{- div $bytes 1048576 }}Mi
{{- else -}}
{{- $bytes -}}
{{- end -}}
{{- end }}

{{/*
What a plane of the proxy requests. Some files say `request` instead of `requests`; that counts
unless `requests` says something else than the default, since nobody can tell here whether a file says the
default too. Takes a list: context, plane, cpu or memory.
*/}}
{{- define "transparent-proxy.request" -}}
{{- $plane := index (first .).Values.deployment.resources (index . 1) -}}
{{- $resource := last . -}}
{{- $defaults := dict "http" (dict "cpu" "0.2" "memory" "256M") "tcp" (dict "cpu" "0.05" "memory" "32M") -}}
{{- $requests := get ($plane.requests | default dict) $resource -}}
{{- $alias := get ($plane.request | default dict) $resource -}}
{{- if and $alias (eq (toString $requests) (get (get $defaults (index . 1)) $resource)) -}}
{{- $alias -}}
{{- else -}}
{{- $requests -}}
{{- end -}}
{{- end }}

{{- define "transparent-proxy.proxyResources" -}}
{{- $requests := dict -}}
{{- $limits := dict -}}
{{- $http := .Values.deployment.resources.http.limits | default dict -}}
{{- $tcp := .Values.deployment.resources.tcp.limits | default dict -}}
{{- $cpu := list (include "transparent-proxy.request" (list . "http" "cpu")) (include "transparent-proxy.request" (list . "tcp" "cpu")) -}}
{{- $memory := list (include "transparent-proxy.request" (list . "http" "memory")) (include "transparent-proxy.request" (list . "tcp" "memory")) -}}
{{- with include "transparent-proxy.cpuSum" $cpu }}{{ $_ := set $requests "cpu" . }}{{ end -}}
{{- with include "transparent-proxy.memorySum" $memory }}{{ $_ := set $requests "memory" . }}{{ end -}}
{{- with include "transparent-proxy.cpuSum" (list $http.cpu $tcp.cpu) }}{{ $_ := set $limits "cpu" . }}{{ end -}}
{{- with include "transparent-proxy.memorySum" (list $http.memory $tcp.memory) }}{{ $_ := set $limits "memory" . }}{{ end -}}
{{- dict "requests" $requests "limits" $limits | toYaml -}}
{{- end }}

{{/* Nothing plus something is nothing: a limit that one plane does not have is none. */}}
{{- define "transparent-proxy.cpuSum" -}}
{{- if and (first .) (last .) -}}
{{- add (include "transparent-proxy.millicores" (first .)) (include "transparent-proxy.millicores" (last .)) }}m
{{- end -}}
{{- end }}

{{- define "transparent-proxy.memorySum" -}}
{{- if and (first .) (last .) -}}
{{- add (include "transparent-proxy.bytes" (first .)) (include "transparent-proxy.bytes" (last .)) | include "transparent-proxy.memory" -}}
{{- end -}}
{{- end }}

{{/* Of one plane or component as it is, with the units that Kubernetes knows. */}}
{{- define "transparent-proxy.resources" -}}
{{- $result := dict -}}
{{- range $kind := list "requests" "limits" -}}
{{- $quantities := dict -}}
{{- range $resource, $quantity := get $ $kind | default dict -}}
{{- $_ := set $quantities $resource (kindIs "string" $quantity | ternary $quantity (eq $resource "memory" | ternary (toString (int64 $quantity)) (toString $quantity))) -}}
{{- end -}}
{{- $_ := set $result $kind $quantities -}}
{{- end -}}
{{- toYaml $result -}}
{{- end }}
