{{- define "streaming-ml.app.env" -}}
{{- include "streaming-ml.kafka.env" . | trim }}
{{ include "streaming-ml.elasticsearch.env" (list . (include "streaming-ml.elasticsearch.secret" (list . "app"))) }}
{{- with include "streaming-ml.schemaRegistry.env" . | trim }}
{{ . }}
{{- end }}
{{ include "streaming-ml.app.settings" . }}
{{- end }}

{{/* The app's settings that have a value of the same name. */}}
{{- define "streaming-ml.app.settings" -}}
- {name: KAFKA_TRAIN_TOPIC, value: {{ include "streaming-ml.text" .Values.kafka.trainTopic }}}
- {name: KAFKA_TEST_TOPIC, value: {{ include "streaming-ml.text" .Values.kafka.testTopic }}}
- {name: FEATURES, value: {{ include "streaming-ml.features" . }}}
- {name: LABEL, value: {{ include "streaming-ml.text" .Values.label }}}
- {name: VALUE_FORMAT, value: {{ .Values.valueFormat }}}
- {name: NUMERIC_STRINGS, value: {{ .Values.numericStrings | quote }}}
- {name: UNKNOWN_CATEGORY, value: {{ .Values.unknownCategory }}}
- {name: BOOLEANS_AS_NUMBERS, value: {{ .Values.booleansAsNumbers | quote }}}
- {name: LEARNER, value: {{ .Values.learner }}}
{{- with .Values.initial.weights }}
- {name: INITIAL_WEIGHTS, value: {{ join "," . | quote }}}
{{- end }}
- {name: INITIAL_INTERCEPT, value: {{ .Values.initial.intercept | quote }}}
{{ include "streaming-ml.app.learnerEnv" . | trim }}
- {name: TRIGGER_INTERVAL_S, value: {{ .Values.triggerIntervalS | quote }}}
- {name: ELASTICSEARCH_MAX_REQUEST_BYTES, value: {{ int64 .Values.elasticsearch.maxRequestBytes | quote }}}
- {name: MAX_OFFSETS_PER_TRIGGER, value: {{ int64 .Values.maxOffsetsPerTrigger | quote }}}
- {name: POINTS_FRACTION, value: {{ .Values.pointsFraction | quote }}}
- {name: PREDICTION_INTERVALS, value: {{ .Values.predictionIntervals | quote }}}
- {name: DRIFT_GROWTH, value: {{ .Values.driftGrowth | quote }}}
- {name: ON_DATA_LOSS, value: {{ .Values.onDataLoss }}}
- {name: CHECKPOINT, value: /checkpoint/{{ trim .Values.indexPrefix }}}
- {name: INDEX_PREFIX, value: {{ include "streaming-ml.text" .Values.indexPrefix }}}
- {name: INDEX_SHARDS, value: {{ int64 .Values.indexShards | quote }}}
{{- if ne .Values.indexReplicas nil }}
- {name: INDEX_REPLICAS, value: {{ int64 .Values.indexReplicas | quote }}}
{{- end }}
{{- if ne .Values.indexRefreshIntervalS nil }}
- {name: INDEX_REFRESH_INTERVAL_S, value: {{ .Values.indexRefreshIntervalS | quote }}}
{{- end }}
- {name: REPLACE_RUN, value: {{ .Values.replaceRun | quote }}}
- {name: RETENTION_DAYS, value: {{ int64 .Values.retentionDays | quote }}}
- {name: SERVER_TIMEOUT_S, value: {{ .Values.serverTimeoutS | quote }}}
- {name: METRICS_PORT, value: {{ int64 .Values.metricsPort | quote }}}
{{- with trim .Values.javaOptions }}
- {name: JAVA_OPTIONS, value: {{ include "streaming-ml.text" . }}}
{{- end }}
- {name: LOG_LEVEL, value: {{ .Values.logLevel }}}
- {name: LOG_FORMAT, value: {{ .Values.logFormat }}}
{{- end }}

{{/* In cluster mode the JVM starts before the app can set its options, so they are repeated here. */}}
{{- define "streaming-ml.app.javaOptions" -}}
{{ trim .Values.javaOptions }} -Dlog4j2.configurationFile=/opt/streaming-ml/streaming_regression/log4j2.properties -Dform={{ .Values.logFormat }}
{{- end }}

{{/* Spark properties that the chart sets; validate.yaml refuses them in app.sparkConf. */}}
{{- define "streaming-ml.app.sparkConf" -}}
# Fixed ports, so that NetworkPolicies can name them.
spark.driver.port: "7078"
spark.driver.blockManager.port: "7079"
spark.blockManager.port: "7079"
# GET /metrics/prometheus (driver) and /metrics/executors/prometheus at the driver's port 4040
spark.ui.prometheus.enabled: "true"
spark.sql.streaming.metricsEnabled: "true"
spark.metrics.namespace: {{ include "streaming-ml.fullname" . }}
spark.metrics.conf.driver.sink.prometheusServlet.class: org.apache.spark.metrics.sink.PrometheusServlet
spark.metrics.conf.driver.sink.prometheusServlet.path: /metrics/prometheus
{{- end }}

{{- define "streaming-ml.app.volumes" -}}
- {name: tmp, emptyDir: {}}
- name: checkpoint
  persistentVolumeClaim: {claimName: {{ include "streaming-ml.fullname" . }}-checkpoint}
{{- include "streaming-ml.kafka.volumes" . }}
{{- include "streaming-ml.elasticsearch.volumes" (list . (include "streaming-ml.elasticsearch.secret" (list . "app"))) }}
{{- include "streaming-ml.secretVolume" (list "schema-registry" .Values.schemaRegistry.passwordSecret "password") }}
{{- include "streaming-ml.secretVolume" (list "schema-registry-token" .Values.schemaRegistry.tokenSecret "token") }}
{{- include "streaming-ml.secretVolume" (list "schema-registry-ca" .Values.schemaRegistry.caSecret "ca.crt") }}
{{- end }}

{{- define "streaming-ml.app.secretMounts" -}}
{{- include "streaming-ml.kafka.mounts" . }}
{{- include "streaming-ml.elasticsearch.mounts" . }}
{{- include "streaming-ml.secretMount" (list "schema-registry" .Values.schemaRegistry.passwordSecret) }}
{{- include "streaming-ml.secretMount" (list "schema-registry-token" .Values.schemaRegistry.tokenSecret) }}
{{- include "streaming-ml.secretMount" (list "schema-registry-ca" .Values.schemaRegistry.caSecret) }}
{{- end }}
