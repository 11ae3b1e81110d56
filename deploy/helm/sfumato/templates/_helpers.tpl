{{/* Names, labels and security contexts: what every object of the chart is built from. */}}

{{/* Beginning of every object's name; 40 characters, so that Kubernetes' 63 hold what is put behind it. */}}
{{- define "sfumato.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What a component's pods are found by; never changes. (dict "root" $ "component" "api") */}}
{{- define "sfumato.selectorLabels" -}}
app.kubernetes.io/name: sfumato
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* Every object's labels. (dict "root" $ "component" "api") */}}
{{- define "sfumato.labels" -}}
{{ include "sfumato.selectorLabels" . }}
app.kubernetes.io/part-of: sfumato
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* An image, by digest where there is one. (dict "root" $ "image" .Values.images.api) */}}
{{- define "sfumato.image" -}}
{{- if .image.digest -}}
{{- printf "%s@%s" .image.repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" .image.repository (default .root.Chart.AppVersion .image.tag) -}}
{{- end -}}
{{- end -}}

{{/* Restricted, as the Pod Security Standards have it. (dict "root" $), with "user" for an image of another than 65532. */}}
{{- define "sfumato.podSecurityContext" -}}
{{- $user := default 65532 .user -}}
runAsNonRoot: true
runAsUser: {{ $user }}
runAsGroup: {{ $user }}
fsGroup: {{ $user }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "sfumato.containerSecurityContext" -}}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
readOnlyRootFilesystem: true
{{- end -}}

{{/* Where the API answers within the cluster. */}}
{{- define "sfumato.apiUrl" -}}
{{- printf "http://%s-api.%s.svc:%d" (include "sfumato.fullname" .) .Release.Namespace (int .Values.api.service.port) -}}
{{- end -}}

{{/* Secret with the first credentials: keys api-key, worker-token and scaling-key. */}}
{{- define "sfumato.credentialsSecretName" -}}
{{- default (printf "%s-credentials" (include "sfumato.fullname" .)) .Values.credentials.existingSecret -}}
{{- end -}}

{{/* Secret in whose key "worker-token" the workers' token is; "scaling-key" is what autoscalers show. */}}
{{- define "sfumato.tokenSecretName" -}}
{{- include "sfumato.credentialsSecretName" . -}}
{{- end -}}

{{/* How the API and the workers tell of themselves: environment variables of both. */}}
{{- define "sfumato.telemetryEnv" -}}
- name: SFUMATO_INTERNAL_PORT
  value: "9090"
- name: SFUMATO_LOG_FORMAT
  value: {{ .Values.telemetry.logFormat | quote }}
- name: SFUMATO_LOG_LEVEL
  value: {{ .Values.telemetry.logLevel | quote }}
{{- if .Values.telemetry.logPrompts }}
- name: SFUMATO_LOG_PROMPTS
  value: "true"
{{- end }}
- name: SFUMATO_TRACES
  value: {{ .Values.telemetry.traces | quote }}
{{- if ne .Values.telemetry.traces "none" }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ .Values.telemetry.otlpEndpoint | quote }}
{{- end }}
{{- end -}}
