{{/* One runtime: what its values come to, and the parts that its pods share whatever scales them. */}}

{{/* A runtime's values: `workers` with its entry laid over. (dict "root" $ "entry" .) */}}
{{- define "sfumato.runtime" -}}
{{- $runtime := mustMergeOverwrite (deepCopy .root.Values.workers) .entry -}}
{{- $own := default dict .entry.gpu -}}
{{- if and (hasKey $own "class") (not (hasKey $own "alternatives")) -}}
{{- /* Those of another class are none of this one's. */ -}}
{{- $_ := set $runtime.gpu "alternatives" list -}}
{{- end -}}
{{- include "sfumato.runtime.refuse" (dict "root" .root "runtime" $runtime) -}}
{{- toJson $runtime -}}
{{- end -}}

{{/* Values that each make sense, but not together. */}}
{{- define "sfumato.runtime.refuse" -}}
{{- $runtime := .runtime -}}
{{- $at := printf "runtimes: %s: " $runtime.name -}}
{{- $names := list -}}
{{- range .root.Values.runtimes }}{{ $names = append $names .name }}{{ end -}}
{{- if ne (len $names) (len (uniq $names)) -}}
{{- fail (printf "%seach runtime needs a name of its own; there are %s." $at (join ", " $names)) -}}
{{- end -}}
{{- if and (eq $runtime.scaling "job") (eq $runtime.trigger.type "external-push") -}}
{{- fail (printf "%sKEDA's external-push trigger knows no ScaledJob: it would never start one. With scaling: job take trigger.type: metrics-api; or scaling: deployment." $at) -}}
{{- end -}}
{{- if lt (int $runtime.replicas.max) (int $runtime.replicas.min) -}}
{{- fail (printf "%sreplicas.max is %d, below replicas.min, which is %d." $at (int $runtime.replicas.max) (int $runtime.replicas.min)) -}}
{{- end -}}
{{- if le (int $runtime.terminationGracePeriodSeconds) 60 -}}
{{- fail (printf "%sterminationGracePeriodSeconds is %d. Of it, 30 are kept to hand unfinished jobs over, and a picture takes a while: more than 60." $at (int $runtime.terminationGracePeriodSeconds)) -}}
{{- end -}}
{{- if and (eq $runtime.scaling "job") (lt (int $runtime.job.activeDeadlineSeconds) (add (int $runtime.startupSeconds) (int $runtime.terminationGracePeriodSeconds))) -}}
{{- fail (printf "%sjob.activeDeadlineSeconds is %d, but a Job may take startupSeconds and terminationGracePeriodSeconds together, %d, beside its node's boot." $at (int $runtime.job.activeDeadlineSeconds) (add (int $runtime.startupSeconds) (int $runtime.terminationGracePeriodSeconds))) -}}
{{- end -}}
{{- $calls := or (eq $runtime.scaling "knative") (eq $runtime.scaling "kserve") -}}
{{- if and $calls $runtime.extraSidecars -}}
{{- fail (printf "%sextraSidecars go with scaling: deployment and job; Knative and KServe put their own beside the container." $at) -}}
{{- end -}}
{{- $others := without $runtime.models "starter" -}}
{{- if and $calls $others (eq (include "sfumato.models.folders" .root) "[]") -}}
{{- fail (printf "%swith scaling: %s a pod has no API to fetch %s from. Mount them with models.volume, models.s3Mount or models.imageVolume." $at $runtime.scaling (join ", " $others)) -}}
{{- end -}}
{{- $prometheus := $runtime.kserve.prometheus -}}
{{- if and (eq $runtime.scaling "kserve") (eq $runtime.kserve.mode "Standard") (eq (int $runtime.replicas.min) 0) -}}
{{- fail (printf "%sKServe's Standard mode holds no call while there is no pod: replicas.min must be 1 or more. kserve.mode: Knative scales from zero, and so does scaling: deployment." $at) -}}
{{- end -}}
{{- if and (eq $runtime.scaling "kserve") (eq $runtime.kserve.mode "Standard") (gt (int $runtime.replicas.max) (int $runtime.replicas.min)) (not (and $prometheus.serverAddress $prometheus.query)) -}}
{{- fail (printf "%sKServe's Standard mode needs a figure to scale by: kserve.prometheus.serverAddress and .query; or let replicas.max be replicas.min." $at) -}}
{{- end -}}
{{- end -}}

{{/* Beginning of the names of a runtime's objects: 52 characters, for Knative and KServe put theirs behind. */}}
{{- define "sfumato.runtime.name" -}}
{{- $name := printf "%s-%s-%s" (include "sfumato.fullname" .root) (include "sfumato.runtime.component" .) .runtime.name -}}
{{- include "sfumato.shortened" (dict "name" $name "length" 52) -}}
{{- end -}}

{{/* A name of at most so many characters, that no other is shortened to. (dict "name" … "length" …) */}}
{{- define "sfumato.shortened" -}}
{{- if gt (len .name) (int .length) -}}
{{- printf "%s-%s" (trunc (sub .length 9 | int) .name | trimSuffix "-") (sha256sum .name | trunc 8) -}}
{{- else -}}
{{- .name -}}
{{- end -}}
{{- end -}}

{{/* Beginning of the names of objects that no namespace holds. */}}
{{- define "sfumato.clusterwideName" -}}
{{- printf "%s-%s" .Release.Namespace (include "sfumato.fullname" .) | trimPrefix "-" -}}
{{- end -}}

{{/* worker: takes jobs. server: answers calls, and has its worker within. */}}
{{- define "sfumato.runtime.component" -}}
{{- if or (eq .runtime.scaling "knative") (eq .runtime.scaling "kserve") }}server{{ else }}worker{{ end -}}
{{- end -}}

{{- define "sfumato.runtime.selectorLabels" -}}
{{ include "sfumato.selectorLabels" (dict "root" .root "component" (include "sfumato.runtime.component" .)) }}
sfumato.dev/runtime: {{ .runtime.name }}
{{- end -}}

{{- define "sfumato.runtime.labels" -}}
{{ include "sfumato.labels" (dict "root" .root "component" (include "sfumato.runtime.component" .)) }}
sfumato.dev/runtime: {{ .runtime.name }}
{{- end -}}

{{/* Of pods: no chart version, or each release of the chart would start every worker anew. */}}
{{- define "sfumato.runtime.podLabels" -}}
{{ include "sfumato.runtime.selectorLabels" . }}
app.kubernetes.io/part-of: sfumato
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "sfumato.runtime.annotatesItself" -}}
{{- if and (eq .runtime.scaling "deployment") .runtime.selfAnnotate.enabled }}true{{ end -}}
{{- end -}}

{{- define "sfumato.runtime.podAnnotations" -}}
{{- $annotations := dict "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes" "data,tmp,models-cache" -}}
{{- $server := eq (include "sfumato.runtime.component" .) "server" -}}
{{- if or (eq .runtime.scaling "job") (and $server (eq (int .runtime.replicas.min) 0)) -}}
{{- /* It lives for as long as it has work, and never needs to say so. */ -}}
{{- $annotations = dict "karpenter.sh/do-not-disrupt" "true" "cluster-autoscaler.kubernetes.io/safe-to-evict" "false" -}}
{{- end -}}
{{- toYaml (mustMergeOverwrite $annotations (deepCopy .runtime.podAnnotations)) -}}
{{- end -}}

{{/* What both kinds of process need to know. */}}
{{- define "sfumato.runtime.env" -}}
{{- $facts := .facts -}}
- name: SFUMATO_DATA
  value: /var/lib/sfumato
- name: SFUMATO_DEVICE
  value: {{ if $facts.gpus }}cuda{{ else }}cpu{{ end }}
- name: SFUMATO_MAX_JOBS
  value: {{ int .runtime.maxJobs | quote }}
{{- with $facts.memoryFraction }}
- name: SFUMATO_GPU_MEMORY_FRACTION
  value: {{ . | quote }}
{{- end }}
{{- include "sfumato.models.env" .root }}
# The root file system is read-only: whatever compiles or caches does so here.
- name: HOME
  value: /tmp
- name: XDG_CACHE_HOME
  value: /tmp/.cache
{{ include "sfumato.telemetryEnv" .root }}
{{- end -}}

{{- define "sfumato.runtime.otherEnv" -}}
{{- $ours := list -}}
{{- range fromYamlArray .env }}{{ $ours = append $ours .name }}{{ end -}}
{{- range $name, $value := .runtime.env }}
{{- if has $name $ours -}}
{{- fail (printf "runtimes: %s: env.%s: the chart sets this one itself, from a value of its own." $.runtime.name $name) -}}
{{- end }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end -}}

{{/* Requests and limits; what is left out is reckoned so that a node's workers fit it. */}}
{{- define "sfumato.runtime.resources" -}}
{{- $requests := mustMergeOverwrite (dict "cpu" .facts.cpu "memory" .facts.memory) (deepCopy .runtime.resources.requests) -}}
{{- $limits := mustMergeOverwrite (dict "memory" $requests.memory) (deepCopy .runtime.resources.limits) -}}
{{- with .facts.resource -}}
{{- $_ := set $requests . (toString $.facts.gpus) -}}
{{- $_ := set $limits . (toString $.facts.gpus) -}}
{{- end -}}
requests: {{- toYaml $requests | nindent 2 }}
limits: {{- toYaml $limits | nindent 2 }}
{{- end -}}

{{- define "sfumato.runtime.mounts" -}}
- name: tmp
  mountPath: /tmp
- name: data
  mountPath: /var/lib/sfumato
{{- include "sfumato.models.mounts" .root }}
{{- end -}}

{{- define "sfumato.runtime.volumes" -}}
- name: tmp
  emptyDir: {sizeLimit: 8Gi}
- name: data
  emptyDir: {sizeLimit: 4Gi}
{{- include "sfumato.models.volumes" .root }}
{{- end -}}

{{/* Where its pods may land, and with what rank. */}}
{{- define "sfumato.runtime.placement" -}}
{{- $facts := .facts -}}
{{- with mustMergeOverwrite (deepCopy $facts.nodeSelector) (deepCopy .runtime.nodeSelector) }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with concat $facts.tolerations .runtime.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with mustMergeOverwrite (deepCopy $facts.affinity) (deepCopy .runtime.affinity) }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- if and .runtime.topologySpread (eq (include "sfumato.runtime.component" .) "worker") }}
# Preferred alone: a worker in a crowded zone is better than none.
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: topology.kubernetes.io/zone
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "sfumato.runtime.selectorLabels" . | nindent 8 }}
{{- end }}
{{- with .runtime.priority }}
priorityClassName: {{ if has . (list "interactive" "batch") }}{{ include "sfumato.clusterwideName" $.root }}-{{ . }}{{ else }}{{ . }}{{ end }}
{{- end }}
{{- with .runtime.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
