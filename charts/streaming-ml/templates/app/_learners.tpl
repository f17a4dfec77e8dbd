{{/* Made by `make generate` from the app's learners. */}}
{{- define "streaming-ml.app.learnerEnv" -}}
{{- if ne .Values.bayes.halfLife nil }}
- {name: BAYES_HALF_LIFE, value: {{ .Values.bayes.halfLife | quote }}}
{{- end }}
{{- if ne .Values.rls.halfLife nil }}
- {name: RLS_HALF_LIFE, value: {{ .Values.rls.halfLife | quote }}}
{{- end }}
- {name: RLS_RIDGE, value: {{ .Values.rls.ridge | quote }}}
- {name: SGD_STEP_SIZE, value: {{ .Values.sgd.stepSize | quote }}}
- {name: SGD_ITERATIONS, value: {{ int64 .Values.sgd.iterations | quote }}}
- {name: SGD_CONVERGENCE_TOLERANCE, value: {{ .Values.sgd.convergenceTolerance | quote }}}
- {name: SGD_INTERCEPT, value: {{ .Values.sgd.intercept | quote }}}
{{- end }}
