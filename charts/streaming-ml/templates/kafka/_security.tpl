{{/* Strimzi's images run as user 1001. Strimzi's defaults meet only the baseline profile. */}}
{{- define "streaming-ml.kafka.podSecurity" -}}
runAsNonRoot: true
runAsUser: 1001
fsGroup: 1001
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* Who may reach the listener. Strimzi also creates a NetworkPolicy from this list; without the list that policy would admit everyone. */}}
{{- define "streaming-ml.kafka.clients" -}}
{{- include "streaming-ml.peers" (list . "driver" "executor" "producer") | trim }}
{{- with .Values.networkPolicies.kafkaFrom }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Strimzi's template of a pod. Arguments: `list . $pod "kafka"`. */}}
{{- define "streaming-ml.kafka.pod" -}}
{{- $root := index . 0 }}
{{- $pod := index . 1 -}}
securityContext: {{- include "streaming-ml.kafka.podSecurity" $root | nindent 2 }}
{{- with pick $pod "labels" "annotations" }}
{{- if or .labels .annotations }}
metadata: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- with include "streaming-ml.pullSecrets" $root }}
{{ . }}
{{- end }}
{{- include "streaming-ml.pod.scheduling" . }}
{{- with $pod.extraVolumes }}
volumes: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Strimzi's template of a container. */}}
{{- define "streaming-ml.kafka.container" -}}
{{- with .env }}
env: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .extraVolumeMounts }}
volumeMounts: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
