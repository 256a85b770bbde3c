{{/* What every pod has: the same image, environment, folders and rights. Used in dagster.yaml for runs, too. */}}
{{- define "cai.labels" -}}
app.kubernetes.io/name: cai-assets
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "cai.env" -}}
- {name: DAGSTER_PG_URL, valueFrom: {secretKeyRef: {name: {{ .Values.secrets.postgres | quote }}, key: DAGSTER_PG_URL}}}
- {name: CAI_DATA_ROOT, value: {{ .Values.dataRoot | quote }}}
- {name: XDG_CACHE_HOME, value: /cache}
- {name: HF_HOME, value: /cache/huggingface}
{{- range $name, $value := .Values.settings }}
- {name: {{ $name }}, value: {{ $value | toString | quote }}}
{{- end }}
{{- if .Values.ray.enabled }}
- {name: CAI_ENGINE__REPLICAS, value: {{ .Values.ray.replicas | toString | quote }}}
- {name: CAI_ENGINE__DTYPE, value: {{ .Values.ray.dtype | quote }}}
- {name: CAI_ENGINE__RAY_ADDRESS, value: "ray://{{ .Release.Name }}-ray-head-svc:10001"}
- {name: RAY_AUTH_MODE, value: token}
- {name: RAY_AUTH_TOKEN, valueFrom: {secretKeyRef: {name: {{ .Release.Name }}-ray, key: auth_token}}}
{{- end }}
{{- end }}

{{- define "cai.keys" -}}
{{- with .Values.secrets.objects }}{secretRef: {name: {{ . | quote }}}}{{ end }}
{{- end }}

{{- define "cai.mounts" -}}
- {name: cache, mountPath: /cache}
- {name: shm, mountPath: /dev/shm}
{{- end }}

{{- define "cai.volumes" -}}
- name: cache
  {{- with .Values.cache.claim }}
  persistentVolumeClaim: {claimName: {{ . | quote }}}
  {{- else }}
  emptyDir: {sizeLimit: {{ .Values.cache.size | quote }}}
  {{- end }}
- {name: shm, emptyDir: {medium: Memory}}
{{- end }}

{{- define "cai.podSecurity" -}}
{runAsNonRoot: true, runAsUser: 1000, runAsGroup: 1000, fsGroup: 1000, seccompProfile: {type: RuntimeDefault}}
{{- end }}

{{- define "cai.containerSecurity" -}}
{allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
{{- end }}

{{- define "cai.pullSecrets" -}}
{{- range $i, $name := .Values.imagePullSecrets }}{{ if $i }}, {{ end }}{name: {{ $name | quote }}}{{ end }}
{{- end }}

{{/* Resources with GPUs: a dict of 'resources' and 'gpus'. */}}
{{- define "cai.resources" -}}
{{- $resources := deepCopy .resources }}
{{- if .gpus }}
{{- $resources = mergeOverwrite $resources (dict "limits" (dict "nvidia.com/gpu" (.gpus | toString))) }}
{{- end }}
{{- toYaml $resources }}
{{- end }}
