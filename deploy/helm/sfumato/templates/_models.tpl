{{/* Where workers have models from, beside the API: folders that are mounted, and a cache. */}}

{{- define "sfumato.models.folders" -}}
{{- $folders := list -}}
{{- if .Values.models.volume.claim }}{{ $folders = append $folders "/models/volume" }}{{ end -}}
{{- if .Values.models.s3Mount.enabled }}{{ $folders = append $folders "/models/s3" }}{{ end -}}
{{- if .Values.models.imageVolume.repository }}{{ $folders = append $folders "/models/image" }}{{ end -}}
{{- toJson $folders -}}
{{- end -}}

{{- define "sfumato.models.env" }}
{{- $cache := .Values.models.cache }}
- name: SFUMATO_MODEL_CACHE
  value: /var/cache/sfumato
# A tenth is left: the file system needs some itself, and a full one ends the pod.
- name: SFUMATO_MODEL_CACHE_BYTES
  value: {{ mulf (include "sfumato.mebibytes" $cache.size | float64) 943718.4 | int64 | quote }}
{{- with include "sfumato.models.folders" . }}
{{- if ne . "[]" }}
- name: SFUMATO_MODEL_FOLDERS
  value: {{ . | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "sfumato.models.mounts" }}
{{- $models := .Values.models }}
- name: models-cache
  mountPath: /var/cache/sfumato
{{- if $models.volume.claim }}
- name: models-volume
  mountPath: /models/volume
  readOnly: true
  {{- with $models.volume.subPath }}
  subPath: {{ . }}
  {{- end }}
{{- end }}
{{- if $models.s3Mount.enabled }}
- name: models-s3
  mountPath: /models/s3
  readOnly: true
{{- end }}
{{- if $models.imageVolume.repository }}
- name: models-image
  mountPath: /models/image
  readOnly: true
  {{- with $models.imageVolume.subPath }}
  subPath: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "sfumato.models.volumes" }}
{{- $models := .Values.models }}
{{- $cache := $models.cache }}
- name: models-cache
  {{- if eq $cache.type "emptyDir" }}
  emptyDir: {sizeLimit: {{ $cache.size }}}
  {{- else if eq $cache.type "ephemeral" }}
  ephemeral:
    volumeClaimTemplate:
      spec:
        accessModes: [ReadWriteOnce]
        {{- with $cache.storageClass }}
        storageClassName: {{ . }}
        {{- end }}
        resources: {requests: {storage: {{ $cache.size }}}}
  {{- else if eq $cache.type "claim" }}
  persistentVolumeClaim:
    claimName: {{ required "models.cache.type is claim: models.cache.claim is the PersistentVolumeClaim." $cache.claim }}
  {{- else }}
  hostPath:
    path: {{ required "models.cache.type is hostPath: models.cache.path is the node's folder, which user 65532 may write to." $cache.path }}
    type: Directory
  {{- end }}
{{- if $models.volume.claim }}
- name: models-volume
  persistentVolumeClaim: {claimName: {{ $models.volume.claim }}, readOnly: true}
{{- end }}
{{- if $models.s3Mount.enabled }}
- name: models-s3
  persistentVolumeClaim: {claimName: {{ include "sfumato.fullname" . }}-models-s3, readOnly: true}
{{- end }}
{{- if $models.imageVolume.repository }}
- name: models-image
  image:
    reference: {{ include "sfumato.models.image" . }}
    pullPolicy: {{ $models.imageVolume.pullPolicy }}
{{- end }}
{{- end -}}

{{- define "sfumato.models.image" -}}
{{- $image := .Values.models.imageVolume -}}
{{- if not (or $image.tag $image.digest) -}}
{{- fail "models.imageVolume: which of the repository's images? Give its digest, or a tag." -}}
{{- end -}}
{{- include "sfumato.image" (dict "root" . "image" $image) -}}
{{- end -}}
