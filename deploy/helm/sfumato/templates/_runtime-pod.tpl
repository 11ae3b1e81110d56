{{/* The pods: of a worker, and of a server with its worker within. */}}

{{/* A pod that takes jobs. (dict "root" $ "runtime" … "facts" …) */}}
{{- define "sfumato.worker.podSpec" -}}
{{- $once := eq .runtime.scaling "job" -}}
{{- $annotates := include "sfumato.runtime.annotatesItself" . -}}
{{- $env := include "sfumato.worker.env" . -}}
restartPolicy: {{ if $once }}Never{{ else }}Always{{ end }}
{{- if $annotates }}
serviceAccountName: {{ include "sfumato.fullname" .root }}-worker
{{- end }}
# The token of a worker that annotates itself is mounted below, short-lived.
automountServiceAccountToken: false
enableServiceLinks: false
terminationGracePeriodSeconds: {{ int .runtime.terminationGracePeriodSeconds }}
securityContext: {{- include "sfumato.podSecurityContext" (dict "root" .root) | nindent 2 }}
{{- include "sfumato.runtime.placement" . }}
{{- with .runtime.extraSidecars }}
initContainers:
  {{- range . }}
  {{- $own := dict "restartPolicy" "Always" "securityContext" (include "sfumato.containerSecurityContext" $.root | fromYaml) }}
  - {{- toYaml (mustMergeOverwrite (deepCopy .) $own) | nindent 4 }}
  {{- end }}
{{- end }}
containers:
  - name: worker
    image: {{ include "sfumato.image" (dict "root" .root "image" .root.Values.images.worker) }}
    imagePullPolicy: {{ .root.Values.images.worker.pullPolicy }}
    args:
      - worker
      - --runtime
      - {{ .runtime.name }}
      - --connect
      - {{ include "sfumato.apiUrl" .root }}
      # Plain HTTP within the cluster.
      - --insecure
      {{- if $once }}
      - --once
      {{- else }}
      - --idle-timeout
      - "0"
      {{- end }}
    env:
      {{- $env | nindent 6 }}
      {{- include "sfumato.runtime.otherEnv" (dict "runtime" .runtime "env" $env) | nindent 6 }}
    ports:
      - name: metrics
        containerPort: 9090
    # Until the engine answers; then the others begin.
    startupProbe:
      httpGet: {path: /startupz, port: metrics}
      periodSeconds: 5
      timeoutSeconds: 3
      failureThreshold: {{ div (add (int .runtime.startupSeconds) 4) 5 }}
    readinessProbe:
      httpGet: {path: /readyz, port: metrics}
      periodSeconds: 5
      timeoutSeconds: 3
      failureThreshold: 2
    # Of the process's heartbeat: a GPU may well be busy for minutes, or idle.
    livenessProbe:
      httpGet: {path: /livez, port: metrics}
      periodSeconds: 20
      timeoutSeconds: 5
      failureThreshold: 3
    resources: {{- include "sfumato.runtime.resources" . | nindent 6 }}
    securityContext: {{- include "sfumato.containerSecurityContext" .root | nindent 6 }}
    volumeMounts:
      {{- include "sfumato.runtime.mounts" . | nindent 6 }}
      {{- if $annotates }}
      - name: pod-token
        mountPath: /var/run/secrets/kubernetes.io/serviceaccount
        readOnly: true
      {{- end }}
volumes:
  {{- include "sfumato.runtime.volumes" . | nindent 2 }}
  {{- if $annotates }}
  - name: pod-token
    projected:
      defaultMode: 0440
      sources:
        - serviceAccountToken: {path: token, expirationSeconds: 3600}
        - configMap:
            name: kube-root-ca.crt
            items: [{key: ca.crt, path: ca.crt}]
        - downwardAPI:
            items: [{path: namespace, fieldRef: {fieldPath: metadata.namespace}}]
  {{- end }}
{{- end -}}

{{- define "sfumato.worker.env" -}}
- name: SFUMATO_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ include "sfumato.tokenSecretName" .root }}
      key: worker-token
# What is left then is handed over with its state, before Kubernetes kills.
- name: SFUMATO_GRACE
  value: {{ sub (int .runtime.terminationGracePeriodSeconds) 30 | quote }}
{{- with .facts.spotNotices }}
- name: SFUMATO_SPOT_NOTICES
  value: {{ . }}
{{- end }}
{{- if include "sfumato.runtime.annotatesItself" . }}
- name: SFUMATO_POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: SFUMATO_POD_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
{{- end }}
{{ include "sfumato.runtime.env" . }}
{{- end -}}

{{/* A container that answers calls: a service of its own, with a worker, that forgets when it ends.
     (dict "root" $ "runtime" … "facts" … "name" … "port" … "grace" seconds) */}}
{{- define "sfumato.server.container" -}}
{{- $env := include "sfumato.server.env" . -}}
- name: {{ .name }}
  image: {{ include "sfumato.image" (dict "root" .root "image" .root.Values.images.worker) }}
  imagePullPolicy: {{ .root.Values.images.worker.pullPolicy }}
  args: [serve, --host, 0.0.0.0, --port, "8080"]
  env:
    {{- $env | nindent 4 }}
    {{- include "sfumato.runtime.otherEnv" (dict "runtime" .runtime "env" $env) | nindent 4 }}
  ports:
    - name: {{ .port }}
      containerPort: 8080
      protocol: TCP
  startupProbe:
    httpGet: {path: /readyz, port: 8080}
    periodSeconds: 5
    timeoutSeconds: 3
    failureThreshold: {{ div (add (int .runtime.startupSeconds) 4) 5 }}
  readinessProbe:
    httpGet: {path: /readyz, port: 8080}
    periodSeconds: 5
    timeoutSeconds: 3
    failureThreshold: 2
  livenessProbe:
    httpGet: {path: /healthz, port: 8080}
    periodSeconds: 20
    timeoutSeconds: 5
    failureThreshold: 3
  resources: {{- include "sfumato.runtime.resources" . | nindent 4 }}
  securityContext: {{- include "sfumato.containerSecurityContext" .root | nindent 4 }}
  volumeMounts:
    {{- include "sfumato.runtime.mounts" . | nindent 4 }}
{{- end -}}

{{- define "sfumato.server.env" -}}
# Callers show the key of the release's first credentials.
- name: SFUMATO_BOOTSTRAP_API_KEY
  valueFrom:
    secretKeyRef:
      name: {{ include "sfumato.credentialsSecretName" .root }}
      key: api-key
- name: SFUMATO_GRACE
  value: {{ sub (int .grace) 30 | quote }}
- name: SFUMATO_RUNTIMES
  value: {{ list (dict "name" .runtime.name "models" .runtime.models "max_workers" 1) | toJson | quote }}
# A pod is there because somebody calls: its worker begins at once, and stays.
- name: SFUMATO_WARM
  value: "true"
- name: SFUMATO_IDLE_TIMEOUT
  value: "86400"
{{- /* Knative's own container has 9090 in every pod. */}}
{{ include "sfumato.runtime.env" . | replace "\"9090\"" "\"9190\"" }}
{{- end -}}
