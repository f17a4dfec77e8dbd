{{/*
The name with which the names of all objects begin: by default that of the release. Operators derive longer names from it. The
longest is that of a Kafka volume, data-0-NAME-NAME-dual-0, which has at most 63 characters if NAME has at most 24. A longer
name is cut to 15 characters and a hash of the whole name, so that it stays the same and two releases get two names.
*/}}
{{- define "streaming-ml.fullname" -}}
{{- $name := .Values.fullnameOverride | default .Release.Name }}
{{- if and .Values.nameOverride (not .Values.fullnameOverride) (not (contains .Values.nameOverride .Release.Name)) }}
{{- $name = printf "%s-%s" .Release.Name .Values.nameOverride }}
{{- end }}
{{- if gt (len $name) 24 }}
{{- $name = printf "%s-%s" ($name | trunc 15 | trimSuffix "-") ($name | sha256sum | trunc 8) }}
{{- end }}
{{- $name }}
{{- end }}

{{/* Labels that all objects share. Arguments: `list . "component"`. */}}

{{- define "streaming-ml.selectorLabels" -}}
app.kubernetes.io/name: {{ (index . 0).Values.nameOverride | default "streaming-ml" }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* The labels without the chart's version, because Strimzi copies a Kafka's labels (except most app.kubernetes.io/ ones) to its pods. */}}
{{- define "streaming-ml.labelsWithoutChart" -}}
{{ include "streaming-ml.selectorLabels" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion }}
app.kubernetes.io/part-of: streaming-ml
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
{{- end }}

{{- define "streaming-ml.labels" -}}
{{ include "streaming-ml.labelsWithoutChart" . }}
helm.sh/chart: {{ (index . 0).Chart.Name }}-{{ (index . 0).Chart.Version }}
{{- end }}

{{/* Security context of pods that run the project's own images. */}}
{{- define "streaming-ml.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "streaming-ml.containerSecurity" -}}
runAsNonRoot: true
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* The reference of an image. Arguments: `list . "spark"`. global.imageRegistry replaces the host in the repository. */}}
{{- define "streaming-ml.image" -}}
{{- $root := index . 0 }}
{{- $image := index $root.Values.image (index . 1) }}
{{- $repository := $image.repository }}
{{- with $root.Values.global.imageRegistry }}
{{- $repository = printf "%s/%s" . (regexReplaceAll "^([^/]*[.:][^/]*|localhost)/" $repository "") }}
{{- end }}
{{- $repository }}:{{ $image.tag | default $root.Chart.AppVersion }}
{{- end }}

{{/* The names of all pull Secrets, as a list in YAML. */}}
{{- define "streaming-ml.pullSecretNames" -}}
{{- $names := list }}
{{- range concat .Values.global.imagePullSecrets .Values.image.pullSecrets }}
{{- if kindIs "map" . }}
{{- $names = append $names .name }}
{{- else }}
{{- $names = append $names . }}
{{- end }}
{{- end }}
{{- uniq $names | toYaml }}
{{- end }}

{{- define "streaming-ml.pullSecrets" -}}
{{- with include "streaming-ml.pullSecretNames" . | fromYamlArray -}}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- end }}

{{/* A text as the value of an environment variable, without blanks around it. `$` is doubled, because Kubernetes reads $$ as $ and $(NAME) as a variable. */}}
{{- define "streaming-ml.text" -}}
{{ trim . | replace "$" "$$" | quote }}
{{- end }}

{{/* A list without blanks around its items: `a, b` becomes `a,b`. */}}
{{- define "streaming-ml.list" -}}
{{- $parts := list }}
{{- range splitList "," . }}
{{- $parts = append $parts (trim .) }}
{{- end }}
{{- join "," $parts }}
{{- end }}

{{/* The backslash keeps an @ at the beginning from being read as the name of a file. */}}
{{- define "streaming-ml.features" -}}
{{- $features := include "streaming-ml.list" (join "," .Values.features) }}
{{- include "streaming-ml.text" (ternary (printf "\\%s" $features) $features (hasPrefix "@" $features)) }}
{{- end }}
