{{/* Labels by which a NetworkPolicy selects a component's pods: `list . "driver"`. Each operator has labels of its own. */}}
{{- define "streaming-ml.pods" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
{{- if has $name (list "driver" "executor") -}}
matchLabels:
  {{- include "streaming-ml.selectorLabels" (list $root "app") | nindent 2 }}
  spark-role: {{ $name }}
{{- else if has $name (list "kafka" "entity-operator") -}}
matchLabels:
  strimzi.io/cluster: {{ include "streaming-ml.fullname" $root }}
  strimzi.io/name: {{ include "streaming-ml.fullname" $root }}-{{ $name }}
{{- else if eq $name "elasticsearch" -}}
matchLabels: {elasticsearch.k8s.elastic.co/cluster-name: {{ include "streaming-ml.fullname" $root }}}
{{- else if eq $name "kibana" -}}
matchLabels: {kibana.k8s.elastic.co/name: {{ include "streaming-ml.fullname" $root }}}
{{- else -}}
matchLabels: {{- include "streaming-ml.selectorLabels" . | nindent 2 }}
{{- end }}
{{- end }}

{{/* A list of peers: `list . "driver" "executor" …`. */}}
{{- define "streaming-ml.peers" -}}
{{- $root := index . 0 -}}
{{- range rest . }}
- podSelector:
    {{- include "streaming-ml.pods" (list $root .) | nindent 4 }}
{{- end }}
{{- end }}

{{- define "streaming-ml.peers.operators" -}}
- namespaceSelector:
    matchExpressions:
      - {key: kubernetes.io/metadata.name, operator: In, values: {{ toJson .Values.networkPolicies.operatorNamespaces }}}
{{- end }}

{{- define "streaming-ml.egress.dns" -}}
- ports: [{protocol: UDP, port: 53}, {protocol: TCP, port: 53}]
  {{- with .Values.networkPolicies.dnsTo }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{- define "streaming-ml.egress.apiServer" -}}
- to: [{ipBlock: {cidr: {{ .Values.networkPolicies.apiServerCidr }}}}]
  ports:
    {{- range .Values.networkPolicies.apiServerPorts }}
    - port: {{ . }}
    {{- end }}
{{- end }}

{{- define "streaming-ml.egress.kafka" -}}
{{- if .Values.kafka.enabled -}}
- to: {{- include "streaming-ml.peers" (list . "kafka") | nindent 4 }}
  ports: [{port: 9093}]
{{- else -}}
- to: {{- toYaml .Values.networkPolicies.kafkaTo | nindent 4 }}
{{- end }}
{{- end }}

{{- define "streaming-ml.egress.elasticsearch" -}}
{{- if .Values.elasticsearch.enabled -}}
- to: {{- include "streaming-ml.peers" (list . "elasticsearch") | nindent 4 }}
  ports: [{port: 9200}]
{{- else -}}
- to: {{- toYaml .Values.networkPolicies.elasticsearchTo | nindent 4 }}
{{- end }}
{{- end }}

{{- define "streaming-ml.egress.schemaRegistry" -}}
{{- if trim .Values.schemaRegistry.url -}}
- to: {{- toYaml .Values.networkPolicies.schemaRegistryTo | nindent 4 }}
{{- end }}
{{- end }}

{{- define "streaming-ml.egress.kibana" -}}
{{- if .Values.kibana.enabled -}}
- to: {{- include "streaming-ml.peers" (list . "kibana") | nindent 4 }}
  ports: [{port: 5601}]
{{- else -}}
- to: {{- toYaml .Values.networkPolicies.kibanaTo | nindent 4 }}
{{- end }}
{{- end }}
