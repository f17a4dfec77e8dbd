{{- define "streaming-ml.dashboards.pod" -}}
{{- $secret := include "streaming-ml.elasticsearch.secret" (list . "dashboards") -}}
{{- $pod := include "streaming-ml.pod" (list . "dashboards.pod") | fromYaml -}}
restartPolicy: Never
automountServiceAccountToken: false
enableServiceLinks: false
{{- with include "streaming-ml.pullSecrets" . }}
{{ . }}
{{- end }}
{{- include "streaming-ml.pod.serviceAccount" (list . "dashboards" "dashboards.pod") }}
{{- include "streaming-ml.pod.scheduling" (list . $pod "dashboards") }}
securityContext: {{- include "streaming-ml.podSecurity" . | nindent 2 }}
containers:
  - name: load
    image: {{ include "streaming-ml.image" (list . "dashboards") }}
    imagePullPolicy: {{ .Values.image.pullPolicy }}
    args: [load]
    env: {{- include "streaming-ml.pod.items" (list "dashboards.pod" "env" $pod (include "streaming-ml.dashboards.env" .)) | nindent 6 }}
    {{- include "streaming-ml.pod.envFrom" $pod | nindent 4 }}
    securityContext: {{- include "streaming-ml.containerSecurity" . | nindent 6 }}
    resources: {{- toYaml .Values.dashboards.resources | nindent 6 }}
    volumeMounts:
      - {name: tmp, mountPath: /tmp}
      {{- include "streaming-ml.elasticsearch.mounts" . | nindent 6 }}
      {{- include "streaming-ml.secretMount" (list "kibana-ca" (include "streaming-ml.kibana.caSecret" .)) | nindent 6 }}
      {{- with $pod.extraVolumeMounts }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
volumes: {{- include "streaming-ml.pod.items" (list "dashboards.pod" "extraVolumes" $pod (include "streaming-ml.dashboards.volumes" .)) | nindent 2 }}
{{- end }}

{{- define "streaming-ml.dashboards.volumes" -}}
- {name: tmp, emptyDir: {}}
{{- include "streaming-ml.elasticsearch.volumes" (list . (include "streaming-ml.elasticsearch.secret" (list . "dashboards"))) }}
{{- include "streaming-ml.secretVolume" (list "kibana-ca" (include "streaming-ml.kibana.caSecret" .) "ca.crt") }}
{{- end }}

{{- define "streaming-ml.dashboards.env" -}}
{{- $secret := include "streaming-ml.elasticsearch.secret" (list . "dashboards") -}}
{{ include "streaming-ml.elasticsearch.env" (list . $secret) }}
- {name: KIBANA_URL, value: {{ include "streaming-ml.text" (include "streaming-ml.kibana.url" .) }}}
{{ include "streaming-ml.elasticsearch.login" (list . "KIBANA" $secret) }}
{{- if include "streaming-ml.kibana.caSecret" . }}
- {name: KIBANA_CA_FILE, value: /etc/streaming-ml/kibana-ca/ca.crt}
{{- end }}
{{- with .Values.kibana.space }}
- {name: KIBANA_SPACE, value: {{ . | quote }}}
{{- end }}
# Kubernetes deletes a running pod and its log at the Job's deadline. So the loader gives up earlier: a quarter of the time
# is left for the start of its pod, which waits for the Secrets that the operators create.
- {name: SERVER_TIMEOUT_S, value: {{ div (mul (int64 .Values.dashboards.timeoutSeconds) 3) 4 | quote }}}
- {name: FEATURES, value: {{ include "streaming-ml.features" . }}}
- {name: LABEL, value: {{ include "streaming-ml.text" .Values.label }}}
- {name: INDEX_PREFIX, value: {{ include "streaming-ml.text" .Values.indexPrefix }}}
- {name: KAFKA_TRAIN_TOPIC, value: {{ include "streaming-ml.text" .Values.kafka.trainTopic }}}
- {name: KAFKA_TEST_TOPIC, value: {{ include "streaming-ml.text" .Values.kafka.testTopic }}}
{{- end }}

{{/*
Helm deletes the hook of the last release before it creates the new one, because both have the same name. `helm template`
adds a hash of the content: `kubectl apply` cannot change the pod template of a Job. It has no cluster, so lookup finds nothing.
*/}}
{{- define "streaming-ml.dashboards.job" -}}
{{ include "streaming-ml.fullname" . }}-dashboards
{{- if not (hasKey (lookup "v1" "ServiceAccount" .Release.Namespace "") "items") }}-{{ include "streaming-ml.dashboards.pod" . | sha256sum | trunc 8 }}{{ end }}
{{- end }}
