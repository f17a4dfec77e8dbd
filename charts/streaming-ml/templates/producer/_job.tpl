{{/* The same Job as in the project's producer/job.yaml, with the names, images and logins of this release. */}}
{{- define "streaming-ml.producer.job" -}}
{{- $name := include "streaming-ml.fullname" . }}
{{- $pod := include "streaming-ml.pod" (list . "producer.pod") | fromYaml -}}
# Sends the 336,776 flights that left New York in 2013 to the release {{ .Release.Name }}, once. After a kill or an eviction it
# continues where it stopped: it sends no record twice and leaves none out. To send other records, change the variables under
# "What is sent", delete the Job and create it again, because Kubernetes cannot change the pods of a Job.
# Records with other fields need a release with other `features` and `label`.
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ $name }}-producer
  labels: {{- include "streaming-ml.selectorLabels" (list . "producer") | nindent 4 }}
spec:
  backoffLimit: 20
  podFailurePolicy:
    rules:
      - action: Ignore # an eviction or a drained node is not a failure
        onPodConditions: [{type: DisruptionTarget}]
      - action: FailJob # wrong settings, or refused by Kafka: another attempt would fail in the same way
        onExitCodes: {operator: In, values: [2, 4]}
  template:
    metadata: {{- include "streaming-ml.pod.metadata" (list . $pod "producer") | nindent 6 }}
    spec:
      restartPolicy: Never
      automountServiceAccountToken: false
      enableServiceLinks: false
      {{- include "streaming-ml.pod.serviceAccount" (list . "producer" "producer.pod") | nindent 6 }}
      {{- include "streaming-ml.pullSecrets" . | nindent 6 }}
      {{- include "streaming-ml.pod.scheduling" (list . $pod "producer") | nindent 6 }}
      securityContext: {runAsNonRoot: true, runAsUser: 10001, runAsGroup: 10001, seccompProfile: {type: RuntimeDefault}}
      containers:
        - name: producer
          image: {{ include "streaming-ml.image" (list . "producer") }}
          imagePullPolicy: {{ .Values.image.pullPolicy }}
          env: {{- include "streaming-ml.pod.items" (list "producer.pod" "env" $pod (include "streaming-ml.producer.env" .)) | nindent 12 }}
          {{- include "streaming-ml.pod.envFrom" $pod | nindent 10 }}
          securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
          resources: {requests: {cpu: 100m, memory: 192Mi}, limits: {memory: 384Mi}}
          volumeMounts:
            - {name: kafka-user, mountPath: /etc/kafka-user, readOnly: true}
            - {name: kafka-ca, mountPath: /etc/kafka-ca, readOnly: true}
            {{- with $pod.extraVolumeMounts }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
      volumes: {{- include "streaming-ml.pod.items" (list "producer.pod" "extraVolumes" $pod (include "streaming-ml.producer.volumes" .)) | nindent 8 }}
{{- end }}

{{- define "streaming-ml.producer.env" -}}
{{- $name := include "streaming-ml.fullname" . -}}
# What is sent: flights, 5,000 per second.
- {name: SOURCE, value: flights}
- {name: RATE, value: "5000"}
# Or random points of a known linear model, in the fields of the default release:
#   SOURCE: synthetic, COUNT: "100000", FEATURES: "dep_delay,distance,air_time", LABEL: arr_delay
# Or your own records, one JSON object a line, from a volume (the release's values producer.pod.extraVolumes and
# extraVolumeMounts put it here):
#   SOURCE: ndjson, INPUT_FILE: /data/records.ndjson
# In Avro, or in JSON with a schema (the release's value schemaRegistry.url opens the way through the network):
#   VALUE_FORMAT: avro, SCHEMA_REGISTRY_URL: "http://registry:8081"
# The image lists all variables when its only argument is --help.
# Where it is sent: the release's Kafka, with TLS, as the user that may write to these topics.
- {name: KAFKA_BOOTSTRAP, value: "{{ $name }}-kafka-bootstrap:9093"}
{{- range $topic, $default := dict "train" "train" "test" "test" }}
{{- $value := index $.Values.kafka (printf "%sTopic" $topic) | trim }}
{{- if ne $value $default }}
- {name: KAFKA_{{ upper $topic }}_TOPIC, value: {{ include "streaming-ml.text" $value }}}
{{- end }}
{{- end }}
{{- if eq .Values.kafka.authentication "tls" }}
- {name: KAFKA_SECURITY_PROTOCOL, value: SSL}
- {name: KAFKA_CERTIFICATE_FILE, value: /etc/kafka-user/user.crt}
- {name: KAFKA_KEY_FILE, value: /etc/kafka-user/user.key}
{{- else }}
- {name: KAFKA_SECURITY_PROTOCOL, value: SASL_SSL}
- {name: KAFKA_USER, value: {{ $name }}-producer}
- {name: KAFKA_PASSWORD_FILE, value: /etc/kafka-user/password}
{{- end }}
- {name: KAFKA_CA_FILE, value: /etc/kafka-ca/ca.crt}
{{- end }}

{{- define "streaming-ml.producer.volumes" -}}
{{- $name := include "streaming-ml.fullname" . -}}
- name: kafka-user
  {{- if eq .Values.kafka.authentication "tls" }}
  secret: {secretName: {{ $name }}-producer, items: [{key: user.crt, path: user.crt}, {key: user.key, path: user.key}]}
  {{- else }}
  secret: {secretName: {{ $name }}-producer, items: [{key: password, path: password}]}
  {{- end }}
- name: kafka-ca
  secret: {secretName: {{ $name }}-cluster-ca-cert, items: [{key: ca.crt, path: ca.crt}]}
{{- end }}
