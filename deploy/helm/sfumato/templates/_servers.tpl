{{/* What the bundled servers have in common: each a StatefulSet of one pod, for trials. */}}

{{- define "sfumato.serverSpec" -}}
{{- $labels := dict "root" .root "component" .component -}}
replicas: 1
serviceName: {{ include "sfumato.fullname" .root }}-{{ .component }}
selector:
  matchLabels: {{- include "sfumato.selectorLabels" $labels | nindent 4 }}
volumeClaimTemplates:
  - metadata:
      name: data
    spec:
      accessModes: [ReadWriteOnce]
      {{- with .values.storage.className }}
      storageClassName: {{ . }}
      {{- end }}
      resources:
        requests: {storage: {{ .values.storage.size }}}
{{- end -}}

{{/* Of their pods: no chart version, or each release of the chart would start the servers anew. */}}
{{- define "sfumato.serverLabels" -}}
{{ include "sfumato.selectorLabels" . }}
app.kubernetes.io/part-of: sfumato
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* (dict "root" $ "user" 999) */}}
{{- define "sfumato.serverPod" -}}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext: {{- include "sfumato.podSecurityContext" . | nindent 2 }}
terminationGracePeriodSeconds: 60
{{- end -}}

{{- define "sfumato.serverService" -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "sfumato.fullname" .root }}-{{ .component }}
  labels: {{- include "sfumato.labels" . | nindent 4 }}
spec:
  clusterIP: None
  selector: {{- include "sfumato.selectorLabels" . | nindent 4 }}
  ports:
    {{- range $name, $port := .ports }}
    - {name: {{ $name }}, port: {{ $port }}}
    {{- end }}
{{- end -}}

{{/* Metadata of a Secret that outlives the release, as the volume does whose data it opens. */}}
{{- define "sfumato.serverSecretMetadata" -}}
name: {{ include "sfumato.fullname" .root }}-{{ .component }}
labels: {{- include "sfumato.labels" . | nindent 2 }}
annotations:
  helm.sh/resource-policy: keep
{{- end -}}

{{/* A value of a Secret that exists, or a new one; in plain text. (dict "root" $ "secret" NAME "key" KEY) */}}
{{- define "sfumato.keptOrNew" -}}
{{- $old := get (lookup "v1" "Secret" .root.Release.Namespace .secret) "data" | default dict -}}
{{- if hasKey $old .key -}}
{{- get $old .key | b64dec -}}
{{- else -}}
{{- .prefix }}{{ randAlphaNum 43 -}}
{{- end -}}
{{- end -}}
