{{/* Strimzi's images run as user 1001. Its own defaults meet the baseline profile only. */}}
{{- define "streaming-ml.kafka.podSecurity" -}}
runAsNonRoot: true
runAsUser: 1001
fsGroup: 1001
seccompProfile: {type: RuntimeDefault}
{{- end }}
