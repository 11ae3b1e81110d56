{{/* What the service's processes need to know: of the API's pods and of the migration Job. */}}

{{- define "sfumato.databaseEnv" -}}
- name: SFUMATO_DATABASE_URL
  valueFrom:
    secretKeyRef:
      {{- if .Values.postgresql.enabled }}
      name: {{ include "sfumato.fullname" . }}-postgresql
      key: url
      {{- else }}
      name: {{ required "Say where PostgreSQL is: database.existingSecret.name is a Secret with its URL. For a trial, postgresql.enabled=true brings one." .Values.database.existingSecret.name }}
      key: {{ .Values.database.existingSecret.key }}
      {{- end }}
{{- end -}}

{{- define "sfumato.queueSecretName" -}}
{{- if .Values.rabbitmq.enabled -}}
{{- include "sfumato.fullname" . }}-rabbitmq
{{- else -}}
{{- .Values.queue.existingSecret.name -}}
{{- end -}}
{{- end -}}

{{- define "sfumato.imagesUrl" -}}
{{- if .Values.storage.imagesUrl -}}
{{- .Values.storage.imagesUrl -}}
{{- else if .Values.seaweedfs.enabled -}}
s3://{{ .Values.seaweedfs.bucket }}
{{- else -}}
{{- fail "Say where pictures go: storage.imagesUrl is a bucket (s3://…, gs://…, az://…). For a trial, seaweedfs.enabled=true brings one." -}}
{{- end -}}
{{- end -}}

{{/* Where another S3 server than the cloud's is; empty: the cloud's. */}}
{{- define "sfumato.s3Endpoint" -}}
{{- if .Values.storage.s3Endpoint -}}
{{- .Values.storage.s3Endpoint -}}
{{- else if .Values.seaweedfs.enabled -}}
http://{{ include "sfumato.fullname" . }}-seaweedfs.{{ .Release.Namespace }}.svc:8333
{{- end -}}
{{- end -}}

{{/* The runtimes as the service's settings name them: those whose workers take jobs from it. */}}
{{- define "sfumato.runtimesSetting" -}}
{{- $all := list -}}
{{- range .Values.runtimes -}}
{{- $runtime := mustMergeOverwrite (deepCopy $.Values.workers) . -}}
{{- if eq (include "sfumato.runtime.component" (dict "runtime" $runtime)) "worker" -}}
{{- $one := dict "name" .name -}}
{{- with $runtime.models }}{{ $_ := set $one "models" . }}{{ end -}}
{{- with $runtime.gpu.class }}{{ $_ := set $one "gpu_class" . }}{{ end -}}
{{- if not (kindIs "invalid" $runtime.gpuHourPrice) }}{{ $_ := set $one "gpu_hour_price" $runtime.gpuHourPrice }}{{ end -}}
{{- $all = append $all $one -}}
{{- end -}}
{{- end -}}
{{- $all | toJson -}}
{{- end -}}

{{/* Not empty where the service itself tells KEDA that jobs wait. */}}
{{- define "sfumato.pushesToKeda" -}}
{{- range .Values.runtimes -}}
{{- $runtime := mustMergeOverwrite (deepCopy $.Values.workers) . -}}
{{- if and (eq $runtime.scaling "deployment") (eq $runtime.trigger.type "external-push") }}true{{ end -}}
{{- end -}}
{{- end -}}

{{/* Every variable that the chart itself sets for the API. */}}
{{- define "sfumato.apiEnv" -}}
{{ include "sfumato.databaseEnv" . }}
{{- with include "sfumato.queueSecretName" . }}
- name: SFUMATO_QUEUE_URL
  valueFrom:
    secretKeyRef:
      name: {{ . }}
      key: {{ if $.Values.rabbitmq.enabled }}url{{ else }}{{ $.Values.queue.existingSecret.key }}{{ end }}
{{- end }}
- name: SFUMATO_IMAGES_URL
  value: {{ include "sfumato.imagesUrl" . | quote }}
{{- with .Values.storage.modelsUrl }}
- name: SFUMATO_MODELS_URL
  value: {{ . | quote }}
{{- end }}
{{- $folders := include "sfumato.models.folders" . }}
{{- if ne $folders "[]" }}
- name: SFUMATO_MODEL_FOLDERS
  value: {{ $folders | quote }}
{{- end }}
{{- with include "sfumato.s3Endpoint" . }}
- name: SFUMATO_S3_ENDPOINT
  value: {{ . | quote }}
{{- end }}
{{- if .Values.seaweedfs.enabled }}
- name: AWS_REGION
  value: us-east-1
{{- range $variable, $key := dict "AWS_ACCESS_KEY_ID" "access-key" "AWS_SECRET_ACCESS_KEY" "secret-key" }}
- name: {{ $variable }}
  valueFrom:
    secretKeyRef:
      name: {{ include "sfumato.fullname" $ }}-seaweedfs
      key: {{ $key }}
{{- end }}
{{- end }}
{{- range $variable, $key := dict "SFUMATO_BOOTSTRAP_API_KEY" "api-key" "SFUMATO_BOOTSTRAP_WORKER_TOKEN" "worker-token" "SFUMATO_BOOTSTRAP_SCALING_KEY" "scaling-key" }}
- name: {{ $variable }}
  valueFrom:
    secretKeyRef:
      name: {{ include "sfumato.credentialsSecretName" $ }}
      key: {{ $key }}
{{- end }}
- name: SFUMATO_DATA
  value: /var/lib/sfumato
# Workers are pods of their own.
- name: SFUMATO_MAX_WORKERS
  value: "0"
{{- if .Values.runtimes }}
- name: SFUMATO_RUNTIMES
  value: {{ include "sfumato.runtimesSetting" . | quote }}
{{- end }}
{{- if include "sfumato.pushesToKeda" . }}
- name: SFUMATO_SCALER_PORT
  value: "9091"
{{- end }}
# A server that starts beside it, or is away for a moment, makes it wait and not crash.
- name: SFUMATO_START_TIMEOUT
  value: "240"
{{- if .Values.api.readsCluster }}
- name: SFUMATO_CLUSTER_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
{{- end }}
{{ include "sfumato.telemetryEnv" . }}
{{- end -}}

{{/* The variables of "sfumato.apiEnv", and those of api.env, which may not be among them. */}}
{{- define "sfumato.apiEnvWithOthers" -}}
{{- $ours := include "sfumato.apiEnv" . -}}
{{- range fromYamlArray $ours -}}
{{- if hasKey $.Values.api.env .name -}}
{{- fail (printf "api.env.%s: the chart sets this one itself; see docs/reference/helm-values.md for the value that it comes from." .name) -}}
{{- end -}}
{{- end -}}
{{ $ours }}
{{- range $name, $value := .Values.api.env }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end -}}

{{/* The folders of models that workers have: here they are looked through, to tell which models there
     are. What is only a worker's cache is left out. (dict "root" $ "of" "mounts") */}}
{{- define "sfumato.apiModels" -}}
{{- range include (printf "sfumato.models.%s" .of) .root | fromYamlArray }}
{{- if ne .name "models-cache" }}
- {{ toYaml . | nindent 2 | trim }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "sfumato.apiServiceAccountName" -}}
{{- if .Values.api.serviceAccount.create -}}
{{- default (printf "%s-api" (include "sfumato.fullname" .)) .Values.api.serviceAccount.name -}}
{{- else -}}
{{- required "api.serviceAccount.create is false: name the ServiceAccount of yours in api.serviceAccount.name." .Values.api.serviceAccount.name -}}
{{- end -}}
{{- end -}}
