{{/* Addresses and Secrets of Kafka, Elasticsearch and Kibana, either of this release or existing ones, and of a schema registry. */}}

{{- define "streaming-ml.kafka.env" -}}
{{- if .Values.kafka.enabled }}
- {name: KAFKA_BOOTSTRAP, value: "{{ .Release.Name }}-kafka-bootstrap:9093"}
- {name: KAFKA_SECURITY_PROTOCOL, value: SASL_SSL}
- {name: KAFKA_SASL_MECHANISM, value: SCRAM-SHA-512}
- {name: KAFKA_USER, value: {{ .Release.Name }}-app}
{{- else }}
- {name: KAFKA_BOOTSTRAP, value: {{ include "streaming-ml.text" (include "streaming-ml.list" .Values.kafka.bootstrap) }}}
- {name: KAFKA_SECURITY_PROTOCOL, value: {{ .Values.kafka.securityProtocol }}}
- {name: KAFKA_SASL_MECHANISM, value: {{ .Values.kafka.saslMechanism }}}
{{- with trim .Values.kafka.user }}
- {name: KAFKA_USER, value: {{ include "streaming-ml.text" . }}}
{{- end }}
{{- end }}
{{- if include "streaming-ml.kafka.passwordSecret" . }}
- {name: KAFKA_PASSWORD_FILE, value: /etc/streaming-ml/kafka/password}
{{- end }}
{{- if include "streaming-ml.kafka.caSecret" . }}
- {name: KAFKA_CA_FILE, value: /etc/streaming-ml/kafka-ca/ca.crt}
{{- end }}
{{- end }}

{{/* Arguments: `list . NAME-OF-SECRET`. */}}
{{- define "streaming-ml.elasticsearch.env" -}}
{{- $root := index . 0 -}}
- {name: ELASTICSEARCH_URL, value: {{ include "streaming-ml.text" (include "streaming-ml.elasticsearch.url" $root) }}}
- name: ELASTICSEARCH_USER
  valueFrom: {secretKeyRef: {name: {{ index . 1 | quote }}, key: username}}
- {name: ELASTICSEARCH_PASSWORD_FILE, value: /etc/streaming-ml/elasticsearch/password}
{{- if include "streaming-ml.elasticsearch.caSecret" $root }}
- {name: ELASTICSEARCH_CA_FILE, value: /etc/streaming-ml/elasticsearch-ca/ca.crt}
{{- end }}
{{- end }}

{{- define "streaming-ml.schemaRegistry.env" -}}
{{- with .Values.schemaRegistry }}
{{- with include "streaming-ml.list" .url }}
- {name: SCHEMA_REGISTRY_URL, value: {{ include "streaming-ml.text" . }}}
{{- end }}
{{- with trim .user }}
- {name: SCHEMA_REGISTRY_USER, value: {{ include "streaming-ml.text" . }}}
{{- end }}
{{- if .passwordSecret }}
- {name: SCHEMA_REGISTRY_PASSWORD_FILE, value: /etc/streaming-ml/schema-registry/password}
{{- end }}
{{- if .tokenSecret }}
- {name: SCHEMA_REGISTRY_TOKEN_FILE, value: /etc/streaming-ml/schema-registry-token/token}
{{- end }}
{{- if .caSecret }}
- {name: SCHEMA_REGISTRY_CA_FILE, value: /etc/streaming-ml/schema-registry-ca/ca.crt}
{{- end }}
{{- end }}
{{- end }}

{{/* Volumes of Secrets: `list NAME-OF-VOLUME NAME-OF-SECRET KEY`; mounted at /etc/streaming-ml/NAME-OF-VOLUME. */}}
{{- define "streaming-ml.secretVolume" -}}
{{- if index . 1 }}
- name: {{ index . 0 }}
  secret: {secretName: {{ index . 1 | quote }}, items: [{key: {{ index . 2 }}, path: {{ index . 2 }}}]}
{{- end }}
{{- end }}

{{- define "streaming-ml.secretMount" -}}
{{- if index . 1 }}
- {name: {{ index . 0 }}, mountPath: /etc/streaming-ml/{{ index . 0 }}, readOnly: true}
{{- end }}
{{- end }}

{{- define "streaming-ml.kafka.passwordSecret" -}}
{{ if .Values.kafka.enabled }}{{ .Release.Name }}-app{{ else }}{{ .Values.kafka.passwordSecret }}{{ end }}
{{- end }}

{{- define "streaming-ml.kafka.caSecret" -}}
{{ if .Values.kafka.enabled }}{{ .Release.Name }}-cluster-ca-cert{{ else }}{{ .Values.kafka.caSecret }}{{ end }}
{{- end }}

{{- define "streaming-ml.elasticsearch.url" -}}
{{ if .Values.elasticsearch.enabled }}https://{{ .Release.Name }}-es-http:9200{{ else }}{{ include "streaming-ml.list" .Values.elasticsearch.url }}{{ end }}
{{- end }}

{{- define "streaming-ml.elasticsearch.caSecret" -}}
{{ if .Values.elasticsearch.enabled }}{{ .Release.Name }}-es-http-certs-public{{ else }}{{ .Values.elasticsearch.caSecret }}{{ end }}
{{- end }}

{{/* Name of a user's Secret. Arguments: `list . "app"`, "dashboards" or "viewer". */}}
{{- define "streaming-ml.elasticsearch.secret" -}}
{{- $root := index . 0 -}}
{{- $made := dict "app" "app-elasticsearch" "dashboards" "dashboards-elasticsearch" "viewer" "viewer" -}}
{{ index $root.Values.elasticsearch (printf "%sSecret" (index . 1)) | default (printf "%s-%s" $root.Release.Name (index $made (index . 1))) }}
{{- end }}

{{/* The user with which `helm test` searches for points. */}}
{{- define "streaming-ml.test.secret" -}}
{{- if or .Values.elasticsearch.enabled .Values.elasticsearch.viewerSecret -}}
{{ include "streaming-ml.elasticsearch.secret" (list . "viewer") }}
{{- else -}}
{{ .Values.elasticsearch.appSecret }}
{{- end }}
{{- end }}

{{- define "streaming-ml.kibana.url" -}}
{{ if .Values.kibana.enabled }}https://{{ .Release.Name }}-kb-http:5601{{ else }}{{ .Values.kibana.url }}{{ end }}
{{- end }}

{{- define "streaming-ml.kibana.caSecret" -}}
{{ if .Values.kibana.enabled }}{{ .Release.Name }}-kb-http-certs-public{{ else }}{{ .Values.kibana.caSecret }}{{ end }}
{{- end }}
