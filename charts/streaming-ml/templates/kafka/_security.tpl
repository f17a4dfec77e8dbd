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
