{{/* What KEDA asks how many workers there should be. Every metric counts the jobs that run beside those
     that wait: a count of those that wait alone falls while a Job draws, and the next is never started.
     (dict "root" $ "runtime" … "target" open jobs of a worker) */}}
{{- define "sfumato.trigger" -}}
{{- $trigger := .runtime.trigger -}}
{{- $name := .runtime.name -}}
{{- $target := toString .target -}}
{{- $at := printf "runtimes: %s: trigger.type is %s: " $name $trigger.type -}}
- type: {{ $trigger.type }}
  {{- if eq $trigger.type "metrics-api" }}
  metadata:
    url: {{ printf "%s/v1/scaling/%s" (include "sfumato.apiUrl" .root) $name }}
    valueLocation: open
    targetValue: {{ $target | quote }}
    activationTargetValue: "0"
    authMode: bearer
  {{- else if eq $trigger.type "rabbitmq" }}
  {{- if not (or $trigger.existingSecret.name .root.Values.rabbitmq.enabled) }}
  {{- fail (printf "%sKEDA asks RabbitMQ's management API. trigger.existingSecret.name is a Secret with its URL, as http://user:password@rabbitmq:15672/vhost." $at) }}
  {{- end }}
  metadata:
    # Over AMQP itself, KEDA would see only what nobody works on.
    protocol: http
    mode: QueueLength
    queueName: {{ printf "%s.%s" $trigger.prefix $name }}
    value: {{ $target | quote }}
    activationValue: "0"
    excludeUnacknowledged: "false"
  {{- else if eq $trigger.type "aws-sqs-queue" }}
  {{- with $trigger.aws }}
  {{- if not (and .region .account) }}
  {{- fail (printf "%sthe queue's address needs trigger.aws.region and trigger.aws.account." $at) }}
  {{- end }}
  metadata:
    queueURL: {{ printf "%s/%s/%s-%s" (default (printf "https://sqs.%s.amazonaws.com" .region) .endpoint) .account $trigger.prefix $name }}
    awsRegion: {{ .region }}
    {{- with .endpoint }}
    awsEndpoint: {{ . }}
    {{- end }}
    queueLength: {{ $target | quote }}
    activationQueueLength: "0"
    scaleOnInFlight: "true"
    scaleOnDelayed: "false"
  {{- end }}
  {{- else if eq $trigger.type "postgresql" }}
  metadata:
    query: {{ printf "SELECT COALESCE(COUNT(*), 0) FROM jobs WHERE runtime = '%s' AND status IN ('queued', 'running')" $name | quote }}
    targetQueryValue: {{ $target | quote }}
    activationTargetQueryValue: "0"
  {{- else }}
  metadata:
    scalerAddress: {{ include "sfumato.fullname" .root }}-api-internal.{{ .root.Release.Namespace }}.svc:9091
    runtime: {{ $name }}
    target: {{ $target | quote }}
  {{- end }}
  {{- if ne $trigger.type "external-push" }}
  authenticationRef:
    name: {{ include "sfumato.runtime.name" . }}
  {{- end }}
{{- end -}}

{{/* What KEDA shows there. */}}
{{- define "sfumato.triggerAuthentication" -}}
{{- $trigger := .runtime.trigger -}}
{{- $secret := dict "name" $trigger.existingSecret.name "key" $trigger.existingSecret.key -}}
{{- if eq $trigger.type "metrics-api" -}}
{{- $secret = dict "parameter" "token" "name" (include "sfumato.credentialsSecretName" .root) "key" "scaling-key" -}}
{{- else if eq $trigger.type "rabbitmq" -}}
{{- $_ := set $secret "parameter" "host" -}}
{{- if not $secret.name -}}
{{- $secret = dict "parameter" "host" "name" (include "sfumato.queueSecretName" .root) "key" "management-url" -}}
{{- end -}}
{{- else if eq $trigger.type "postgresql" -}}
{{- $_ := set $secret "parameter" "connection" -}}
{{- if not $secret.name -}}
{{- /* The service's own. */ -}}
{{- with first (fromYamlArray (include "sfumato.databaseEnv" .root)) -}}
{{- $_ := set $secret "name" .valueFrom.secretKeyRef.name -}}
{{- $_ := set $secret "key" .valueFrom.secretKeyRef.key -}}
{{- end -}}
{{- end -}}
{{- end -}}
apiVersion: keda.sh/v1alpha1
kind: TriggerAuthentication
metadata:
  name: {{ include "sfumato.runtime.name" . }}
  labels: {{- include "sfumato.runtime.labels" . | nindent 4 }}
spec:
  {{- if eq $trigger.type "aws-sqs-queue" }}
  podIdentity:
    provider: aws
    {{- with $trigger.aws.roleArn }}
    roleArn: {{ . }}
    {{- end }}
  {{- else }}
  secretTargetRef:
    - parameter: {{ $secret.parameter }}
      name: {{ $secret.name }}
      key: {{ $secret.key }}
  {{- end }}
{{- end -}}
