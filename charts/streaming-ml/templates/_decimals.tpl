{{/* Made by `make generate` from values.yaml: the values that may be decimal numbers, and their limits. */}}
{{- define "streaming-ml.decimals" -}}
initial.weights: {"minimum": -1e+70, "maximum": 1e+70}
initial.intercept: {"minimum": -1e+70, "maximum": 1e+70}
bayes.halfLife: {"exclusiveMinimum": 0}
rls.halfLife: {"exclusiveMinimum": 0}
rls.ridge: {"minimum": 0}
sgd.stepSize: {"exclusiveMinimum": 0}
sgd.convergenceTolerance: {"minimum": 0, "maximum": 1}
triggerIntervalS: {"minimum": 0, "maximum": 86400}
pointsFraction: {"exclusiveMinimum": 0, "maximum": 1}
driftGrowth: {"minimum": 0, "maximum": 1000}
indexRefreshIntervalS: {"minimum": 0.001, "maximum": 86400}
serverTimeoutS: {"minimum": 0, "maximum": 31536000}
monitoring.prometheusRule.meanSquaredError: {"minimum": 0}
monitoring.prometheusRule.invalidShare: {"minimum": 0, "maximum": 1}
{{- end }}
