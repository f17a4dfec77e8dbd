{{/* Addresses and Secrets of Kafka, Elasticsearch and Kibana, either of this release or existing ones, and of a schema registry. */}}

{{- define "streaming-ml.kafka.env" -}}
{{- $kafka := .Values.kafka }}
{{- if $kafka.enabled }}
- {name: KAFKA_BOOTSTRAP, value: "{{ include "streaming-ml.fullname" . }}-kafka-bootstrap:9093"}
{{- if eq $kafka.authentication "tls" }}
- {name: KAFKA_SECURITY_PROTOCOL, value: SSL}
{{- else }}
- {name: KAFKA_SECURITY_PROTOCOL, value: SASL_SSL}
- {name: KAFKA_SASL_MECHANISM, value: SCRAM-SHA-512}
- {name: KAFKA_USER, value: {{ include "streaming-ml.fullname" . }}-app}
{{- end }}
{{- else }}
- {name: KAFKA_BOOTSTRAP, value: {{ include "streaming-ml.text" (include "streaming-ml.list" $kafka.bootstrap) }}}
- {name: KAFKA_SECURITY_PROTOCOL, value: {{ $kafka.securityProtocol }}}
- {name: KAFKA_SASL_MECHANISM, value: {{ $kafka.saslMechanism }}}
{{- range $name, $value := dict "USER" $kafka.user "OAUTH_TOKEN_URL" $kafka.oauth.tokenUrl "OAUTH_CLIENT_ID" $kafka.oauth.clientId "OAUTH_SCOPE" $kafka.oauth.scope }}
{{- if trim $value }}
- {name: KAFKA_{{ $name }}, value: {{ include "streaming-ml.text" $value }}}
{{- end }}
{{- end }}
{{- end }}
{{- if include "streaming-ml.kafka.passwordSecret" . }}
- {name: KAFKA_PASSWORD_FILE, value: /etc/streaming-ml/kafka/password}
{{- end }}
{{- if include "streaming-ml.kafka.caSecret" . }}
- {name: KAFKA_CA_FILE, value: /etc/streaming-ml/kafka-ca/ca.crt}
{{- end }}
{{- if include "streaming-ml.kafka.certificateSecret" . }}
- {name: KAFKA_CERTIFICATE_FILE, value: /etc/streaming-ml/kafka-certificate/{{ include "streaming-ml.kafka.certificateName" . }}.crt}
- {name: KAFKA_KEY_FILE, value: /etc/streaming-ml/kafka-certificate/{{ include "streaming-ml.kafka.certificateName" . }}.key}
{{- end }}
{{- if $kafka.oauth.clientSecret }}
- {name: KAFKA_OAUTH_CLIENT_SECRET_FILE, value: /etc/streaming-ml/kafka-oauth/client-secret}
{{- end }}
{{- if $kafka.oauth.caSecret }}
- {name: KAFKA_OAUTH_CA_FILE, value: /etc/streaming-ml/kafka-oauth-ca/ca.crt}
{{- end }}
{{- if $kafka.optionsSecret }}
- {name: KAFKA_OPTIONS_FILE, value: /etc/streaming-ml/kafka-options/options}
{{- end }}
{{- end }}

{{- define "streaming-ml.kafka.volumes" -}}
{{- $certificate := include "streaming-ml.kafka.certificateName" . -}}
{{- include "streaming-ml.secretVolume" (list "kafka" (include "streaming-ml.kafka.passwordSecret" .) "password") }}
{{- include "streaming-ml.secretVolume" (list "kafka-ca" (include "streaming-ml.kafka.caSecret" .) "ca.crt") }}
{{- include "streaming-ml.secretVolume" (list "kafka-certificate" (include "streaming-ml.kafka.certificateSecret" .) (printf "%s.crt" $certificate) (printf "%s.key" $certificate)) }}
{{- include "streaming-ml.secretVolume" (list "kafka-oauth" .Values.kafka.oauth.clientSecret "client-secret") }}
{{- include "streaming-ml.secretVolume" (list "kafka-oauth-ca" .Values.kafka.oauth.caSecret "ca.crt") }}
{{- include "streaming-ml.secretVolume" (list "kafka-options" .Values.kafka.optionsSecret "options") }}
{{- end }}

{{- define "streaming-ml.kafka.mounts" -}}
{{- include "streaming-ml.secretMount" (list "kafka" (include "streaming-ml.kafka.passwordSecret" .)) }}
{{- include "streaming-ml.secretMount" (list "kafka-ca" (include "streaming-ml.kafka.caSecret" .)) }}
{{- include "streaming-ml.secretMount" (list "kafka-certificate" (include "streaming-ml.kafka.certificateSecret" .)) }}
{{- include "streaming-ml.secretMount" (list "kafka-oauth" .Values.kafka.oauth.clientSecret) }}
{{- include "streaming-ml.secretMount" (list "kafka-oauth-ca" .Values.kafka.oauth.caSecret) }}
{{- include "streaming-ml.secretMount" (list "kafka-options" .Values.kafka.optionsSecret) }}
{{- end }}

{{/* The login to a server. Arguments: `list . SERVER NAME-OF-SECRET`; SERVER is ELASTICSEARCH or KIBANA. */}}
{{- define "streaming-ml.elasticsearch.login" -}}
{{- $server := index . 1 -}}
{{- if eq (index . 0).Values.elasticsearch.authentication "token" -}}
- {name: {{ $server }}_TOKEN_FILE, value: /etc/streaming-ml/elasticsearch/token}
{{- else -}}
- name: {{ $server }}_USER
  valueFrom: {secretKeyRef: {name: {{ index . 2 | quote }}, key: username}}
- {name: {{ $server }}_PASSWORD_FILE, value: /etc/streaming-ml/elasticsearch/password}
{{- end }}
{{- end }}

{{/* Arguments: `list . NAME-OF-SECRET`. */}}
{{- define "streaming-ml.elasticsearch.env" -}}
{{- $root := index . 0 -}}
- {name: ELASTICSEARCH_URL, value: {{ include "streaming-ml.text" (include "streaming-ml.elasticsearch.url" $root) }}}
{{ include "streaming-ml.elasticsearch.login" (list $root "ELASTICSEARCH" (index . 1)) }}
{{- include "streaming-ml.elasticsearch.tlsEnv" $root }}
{{- end }}

{{- define "streaming-ml.elasticsearch.tlsEnv" -}}
{{- if include "streaming-ml.elasticsearch.caSecret" . }}
- {name: ELASTICSEARCH_CA_FILE, value: /etc/streaming-ml/elasticsearch-ca/ca.crt}
{{- end }}
{{- if .Values.elasticsearch.certificateSecret }}
- {name: ELASTICSEARCH_CERTIFICATE_FILE, value: /etc/streaming-ml/elasticsearch-certificate/tls.crt}
- {name: ELASTICSEARCH_KEY_FILE, value: /etc/streaming-ml/elasticsearch-certificate/tls.key}
{{- end }}
{{- end }}

{{/* Arguments: `list . NAME-OF-SECRET`. */}}
{{- define "streaming-ml.elasticsearch.volumes" -}}
{{- $root := index . 0 -}}
{{- include "streaming-ml.secretVolume" (list "elasticsearch" (index . 1) $root.Values.elasticsearch.authentication) }}
{{- include "streaming-ml.secretVolume" (list "elasticsearch-ca" (include "streaming-ml.elasticsearch.caSecret" $root) "ca.crt") }}
{{- include "streaming-ml.secretVolume" (list "elasticsearch-certificate" $root.Values.elasticsearch.certificateSecret "tls.crt" "tls.key") }}
{{- end }}

{{- define "streaming-ml.elasticsearch.mounts" -}}
{{- include "streaming-ml.secretMount" (list "elasticsearch" "always") }}
{{- include "streaming-ml.secretMount" (list "elasticsearch-ca" (include "streaming-ml.elasticsearch.caSecret" .)) }}
{{- include "streaming-ml.secretMount" (list "elasticsearch-certificate" .Values.elasticsearch.certificateSecret) }}
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

{{/* Volumes of Secrets: `list NAME-OF-VOLUME NAME-OF-SECRET KEY …`; mounted at /etc/streaming-ml/NAME-OF-VOLUME. */}}
{{- define "streaming-ml.secretVolume" -}}
{{- if index . 1 }}
- name: {{ index . 0 }}
  secret:
    secretName: {{ index . 1 | quote }}
    items:
      {{- range slice . 2 }}
      - {key: {{ . }}, path: {{ . }}}
      {{- end }}
{{- end }}
{{- end }}

{{- define "streaming-ml.secretMount" -}}
{{- if index . 1 }}
- {name: {{ index . 0 }}, mountPath: /etc/streaming-ml/{{ index . 0 }}, readOnly: true}
{{- end }}
{{- end }}

{{- define "streaming-ml.kafka.passwordSecret" -}}
{{ if not .Values.kafka.enabled }}{{ .Values.kafka.passwordSecret }}{{ else if eq .Values.kafka.authentication "scram-sha-512" }}{{ include "streaming-ml.fullname" . }}-app{{ end }}
{{- end }}

{{- define "streaming-ml.kafka.certificateSecret" -}}
{{ if not .Values.kafka.enabled }}{{ .Values.kafka.certificateSecret }}{{ else if eq .Values.kafka.authentication "tls" }}{{ include "streaming-ml.fullname" . }}-app{{ end }}
{{- end }}

{{/* The name of the certificate and of the key in that Secret, without .crt and .key; Strimzi has names of its own. */}}
{{- define "streaming-ml.kafka.certificateName" -}}
{{ ternary "user" "tls" .Values.kafka.enabled }}
{{- end }}

{{- define "streaming-ml.kafka.caSecret" -}}
{{ if .Values.kafka.enabled }}{{ include "streaming-ml.fullname" . }}-cluster-ca-cert{{ else }}{{ .Values.kafka.caSecret }}{{ end }}
{{- end }}

{{- define "streaming-ml.elasticsearch.url" -}}
{{ if .Values.elasticsearch.enabled }}https://{{ include "streaming-ml.fullname" . }}-es-http:9200{{ else }}{{ include "streaming-ml.list" .Values.elasticsearch.url }}{{ end }}
{{- end }}

{{- define "streaming-ml.elasticsearch.caSecret" -}}
{{ if .Values.elasticsearch.enabled }}{{ include "streaming-ml.fullname" . }}-es-http-certs-public{{ else }}{{ .Values.elasticsearch.caSecret }}{{ end }}
{{- end }}

{{/* Name of a user's Secret. Arguments: `list . "app"`, "dashboards" or "viewer". */}}
{{- define "streaming-ml.elasticsearch.secret" -}}
{{- $root := index . 0 -}}
{{- $made := dict "app" "app-elasticsearch" "dashboards" "dashboards-elasticsearch" "viewer" "viewer" -}}
{{ index $root.Values.elasticsearch (printf "%sSecret" (index . 1)) | default (printf "%s-%s" (include "streaming-ml.fullname" $root) (index $made (index . 1))) }}
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
{{ if .Values.kibana.enabled }}https://{{ include "streaming-ml.fullname" . }}-kb-http:5601{{ else }}{{ .Values.kibana.url }}{{ end }}
{{- end }}

{{- define "streaming-ml.kibana.caSecret" -}}
{{ if .Values.kibana.enabled }}{{ include "streaming-ml.fullname" . }}-kb-http-certs-public{{ else }}{{ .Values.kibana.caSecret }}{{ end }}
{{- end }}
