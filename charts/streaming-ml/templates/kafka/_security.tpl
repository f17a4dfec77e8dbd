{{/* Strimzi's images run as user 1001. Its own defaults meet the baseline profile only. */}}
{{- define "streaming-ml.kafka.podSecurity" -}}
runAsNonRoot: true
runAsUser: 1001
fsGroup: 1001
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* Who may reach the listener. Strimzi makes a NetworkPolicy of this, too, and would let everybody in without. */}}
{{- define "streaming-ml.kafka.clients" -}}
{{- include "streaming-ml.peers" (list . "driver" "executor" "producer") | trim }}
{{- with .Values.networkPolicies.kafkaFrom }}
{{ toYaml . }}
{{- end }}
{{- end }}
