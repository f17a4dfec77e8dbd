{{/* Labels that all objects share. Arguments: `list . "component"`. */}}

{{- define "streaming-ml.selectorLabels" -}}
app.kubernetes.io/name: streaming-ml
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

{{/* The reference of an image. Arguments: `list . "spark"`. */}}
{{- define "streaming-ml.image" -}}
{{- $image := index (index . 0).Values.image (index . 1) -}}
{{ $image.repository }}:{{ $image.tag | default (index . 0).Chart.AppVersion }}
{{- end }}

{{- define "streaming-ml.pullSecrets" -}}
{{- with .Values.image.pullSecrets -}}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- end }}

{{/* Spreads equal pods over the nodes. ECK does the same for Elasticsearch. */}}
{{- define "streaming-ml.spread" -}}
- maxSkew: 1
  topologyKey: kubernetes.io/hostname
  whenUnsatisfiable: ScheduleAnyway
  labelSelector: {{- include "streaming-ml.pods" . | nindent 4 }}
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
