{{/* Options of pods: podDefaults, and the value `pod` of each part, such as `app.driver.pod`. */}}

{{/* The options of a part's pods: those of podDefaults, replaced by the part's own; maps are merged. Arguments: `list . "app.driver.pod"`. */}}
{{- define "streaming-ml.pod" -}}
{{- $pod := deepCopy (index . 0).Values.podDefaults }}
{{- $own := (index . 0).Values }}
{{- range splitList "." (index . 1) }}
{{- $own = index $own . }}
{{- end }}
{{- range $name, $value := $own }}
{{- if kindIs "map" $value }}
{{- $value = merge (deepCopy $value) (index $pod $name) }}
{{- end }}
{{- $_ := set $pod $name $value }}
{{- end }}
{{- toYaml $pod }}
{{- end }}

{{/*
The same in the words of Strimzi's pod templates, which have no nodeSelector: a nodeSelector becomes a required affinity.
They take fewer kinds of volumes, and Strimzi refuses mounts outside of /mnt.
*/}}
{{- define "streaming-ml.strimziPod" -}}
{{- $part := index . 1 }}
{{- $pod := include "streaming-ml.pod" . | fromYaml }}
{{- $expressions := list }}
{{- range $key, $value := $pod.nodeSelector }}
{{- $expressions = append $expressions (dict "key" $key "operator" "In" "values" (list $value)) }}
{{- end }}
{{- if $expressions }}
{{- $node := dig "nodeAffinity" dict $pod.affinity }}
{{- $terms := list }}
{{- range dig "requiredDuringSchedulingIgnoredDuringExecution" "nodeSelectorTerms" (list dict) $node }}
{{- $terms = append $terms (set (deepCopy .) "matchExpressions" (concat $expressions (.matchExpressions | default list))) }}
{{- end }}
{{- $_ := set $node "requiredDuringSchedulingIgnoredDuringExecution" (dict "nodeSelectorTerms" $terms) }}
{{- $_ := set $pod.affinity "nodeAffinity" $node }}
{{- end }}
{{- range $volume := $pod.extraVolumes }}
{{- range $kind := keys (omit $volume "name") }}
{{- if not (has $kind (list "secret" "configMap" "emptyDir" "persistentVolumeClaim" "csi")) }}
{{- fail (printf "podDefaults.extraVolumes or %s.extraVolumes: volume %s is of the kind %s, which Strimzi does not take: give %s.extraVolumes volumes of other kinds, or an empty list" $part $volume.name $kind $part) }}
{{- end }}
{{- end }}
{{- end }}
{{- range $pod.extraVolumeMounts }}
{{- if not (hasPrefix "/mnt/" .mountPath) }}
{{- fail (printf "podDefaults.extraVolumeMounts or %s.extraVolumeMounts: Strimzi mounts volumes below /mnt only, not at %s: give %s.extraVolumeMounts other paths, or an empty list" $part .mountPath $part) }}
{{- end }}
{{- end }}
{{- toYaml (omit $pod "nodeSelector" "envFrom") }}
{{- end }}

{{/* The fields that decide on which nodes pods run. Arguments: `list . $pod "component"`; the component's pods are those that are spread. */}}
{{- define "streaming-ml.pod.scheduling" -}}
{{- $root := index . 0 }}
{{- $component := index . 2 }}
{{- with index . 1 }}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .topologySpreadConstraints }}
topologySpreadConstraints:
{{- range . }}
  -
    {{- if not .labelSelector }}
    labelSelector: {{- include "streaming-ml.pods" (list $root $component) | nindent 6 }}
    {{- end }}
    {{- toYaml . | nindent 4 }}
{{- end }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- end }}
{{- end }}

{{/* Spreads the pods over the nodes if the user's values do not. ECK does the same for Elasticsearch. */}}
{{- define "streaming-ml.pod.spread" -}}
{{- if not .topologySpreadConstraints }}
{{- $_ := set . "topologySpreadConstraints" (list (dict "maxSkew" 1 "topologyKey" "kubernetes.io/hostname" "whenUnsatisfiable" "ScheduleAnyway")) }}
{{- end }}
{{- end }}

{{/* Labels and annotations of a part's pods; the chart's own labels win. Arguments: `list . $pod "component"`. */}}
{{- define "streaming-ml.pod.metadata" -}}
{{- $pod := index . 1 -}}
labels: {{- merge (include "streaming-ml.selectorLabels" (list (index . 0) (index . 2)) | fromYaml) $pod.labels | toYaml | nindent 2 }}
{{- with $pod.annotations }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The chart's own items, and those of a part, whose names must be others. Arguments: `list "app.driver.pod" "env" $pod "the chart's items"`. */}}
{{- define "streaming-ml.pod.items" -}}
{{- $part := index . 0 }}
{{- $list := index . 1 }}
{{- $ours := index . 3 | trim }}
{{- $ours }}
{{- $names := list }}
{{- range index . 2 $list }}
{{- if regexMatch (printf "(?m)\\bname: %s([,}]|$)" .name) $ours }}
{{- fail (printf "podDefaults.%s or %s.%s has %s, which the chart sets itself: leave it out, and set the chart's own value" $list $part $list .name) }}
{{- end }}
{{- if has .name $names }}
{{- fail (printf "podDefaults.%s or %s.%s has %s twice, or driver and executors have two of this name: choose another name for one" $list $part $list .name) }}
{{- end }}
{{- $names = append $names .name }}
- {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "streaming-ml.pod.envFrom" -}}
{{- with .envFrom }}
envFrom: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* An account for pods that need one only for its annotations. Arguments: `list . "dashboards" "dashboards.pod"`. */}}
{{- define "streaming-ml.pod.serviceAccount" -}}
{{- with (include "streaming-ml.pod" (list (index . 0) (index . 2)) | fromYaml).serviceAccountAnnotations }}
serviceAccountName: {{ include "streaming-ml.fullname" (index $ 0) }}-{{ index $ 1 }}
{{- end }}
{{- end }}
