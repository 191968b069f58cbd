{{/*
Destination resources of the whole cluster live by this definition. So it stays when a release goes, and
only the release that owns it changes it; another one uses it if it has what is needed.
*/}}
{{- define "transparent-proxy.foreignCRD" -}}
{{- $there := lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" (include "transparent-proxy.crd" .) -}}
{{- $owned := and
  (eq (dig "metadata" "annotations" "meta.helm.sh/release-name" "" $there) .Release.Name)
  (eq (dig "metadata" "annotations" "meta.helm.sh/release-namespace" "" $there) .Release.Namespace)
  (eq (dig "metadata" "labels" "app.kubernetes.io/managed-by" "" $there) "Helm")
-}}
{{- if and $there (not $owned) }}{{ toYaml $there }}{{ end -}}
{{- end }}

{{- define "transparent-proxy.crdProblems" -}}
{{- $there := include "transparent-proxy.foreignCRD" . | fromYaml -}}
{{- if $there -}}
{{- $ours := .Files.Get "files/destination-crd.yaml" | fromYaml -}}
{{- $missing := include "transparent-proxy.missingVersions" (list $ours.spec.versions $there.spec.versions) | trim -}}
{{- if $missing }}
the CustomResourceDefinition {{ include "transparent-proxy.crd" . }} belongs to another installation and lacks {{ splitList "\n" $missing | join ", " }}; update that installation, or hand the definition over: {{ include "transparent-proxy.takeOver" . }}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Helm takes objects that say that they are its own. */}}
{{- define "transparent-proxy.takeOver" -}}
{{- $crd := include "transparent-proxy.crd" . -}}
kubectl annotate crd {{ $crd }} --overwrite meta.helm.sh/release-name={{ .Release.Name }} meta.helm.sh/release-namespace={{ .Release.Namespace }} && kubectl label crd {{ $crd }} --overwrite app.kubernetes.io/managed-by=Helm
{{- end }}

{{/* Lines with what versions lack. Takes a list: versions of ours, versions that are there. */}}
{{- define "transparent-proxy.missingVersions" -}}
{{- $there := dict -}}
{{- range last . -}}
{{- if .served }}{{ $_ := set $there .name . }}{{ end -}}
{{- end -}}
{{- range $ours := first . -}}
{{- $theirs := get $there $ours.name -}}
{{- if not $theirs }}
{{ $ours.name }}
{{- else -}}
{{- if and (hasKey ($ours.subresources | default dict) "status") (not (hasKey ($theirs.subresources | default dict) "status")) }}
the subresource status
{{- end -}}
{{- include "transparent-proxy.missingFields" (list $ours.schema.openAPIV3Schema $theirs.schema.openAPIV3Schema "") -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Lines with the fields of one schema that another lacks. Takes a list: schema of ours, of theirs, path. */}}
{{- define "transparent-proxy.missingFields" -}}
{{- $path := last . -}}
{{- $ours := first . -}}
{{- $theirs := index . 1 -}}
{{- if not (get $theirs "x-kubernetes-preserve-unknown-fields") -}}
{{- range $name, $field := $ours.properties | default dict -}}
{{- $other := get ($theirs.properties | default dict) $name -}}
{{- if not $other }}
{{ $path }}{{ $name }}
{{- else -}}
{{- include "transparent-proxy.missingFields" (list $field $other (printf "%s%s." $path $name)) -}}
{{- end -}}
{{- end -}}
{{- if and $ours.items $theirs.items -}}
{{- include "transparent-proxy.missingFields" (list $ours.items $theirs.items $path) -}}
{{- end -}}
{{- end -}}
{{- end }}
