{{- define "streaming-ml.test.env" -}}
- {name: PYTHONPATH, value: /etc/streaming-ml/test} # for kube.py beside check.py: the image sets PYTHONSAFEPATH
- {name: RELEASE, value: {{ include "streaming-ml.fullname" . }}}
- {name: INSTANCE, value: {{ .Release.Name }}}
- {name: NAMESPACE, value: {{ .Release.Namespace }}}
- {name: KAFKA, value: {{ .Values.kafka.enabled | quote }}}
- {name: ELASTICSEARCH, value: {{ .Values.elasticsearch.enabled | quote }}}
- {name: KIBANA, value: {{ .Values.kibana.enabled | quote }}}
- {name: DASHBOARDS, value: {{ .Values.dashboards.enabled | quote }}}
- {name: ELASTICSEARCH_URL, value: {{ include "streaming-ml.text" (include "streaming-ml.elasticsearch.url" .) }}}
{{- include "streaming-ml.elasticsearch.tlsEnv" . }}
- {name: INDEX_PREFIX, value: {{ include "streaming-ml.text" .Values.indexPrefix }}}
- {name: TIMEOUT_S, value: {{ int64 .Values.test.timeoutSeconds | quote }}}
{{- end }}

{{- define "streaming-ml.test.volumes" -}}
- name: test
  configMap: {name: {{ include "streaming-ml.fullname" . }}-test}
# Optional, so that the test starts without the Secret and can report that it is missing.
- name: elasticsearch
  secret: {secretName: {{ include "streaming-ml.test.secret" . | quote }}, optional: true}
{{- with include "streaming-ml.elasticsearch.caSecret" . }}
- name: elasticsearch-ca
  secret: {secretName: {{ . | quote }}, optional: true, items: [{key: ca.crt, path: ca.crt}]}
{{- end }}
{{- with .Values.elasticsearch.certificateSecret }}
- name: elasticsearch-certificate
  secret: {secretName: {{ . | quote }}, optional: true}
{{- end }}
{{- end }}
