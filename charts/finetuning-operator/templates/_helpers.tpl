{{- /* The release's name, unless it does not say what this is. */ -}}
{{- define "finetuning-operator.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "finetuning-operator.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "finetuning-operator.labels" -}}
{{ include "finetuning-operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "finetuning-operator.operatorImage" -}}
{{- .Values.image.operator | default (printf "finetuning-operator:%s" .Chart.AppVersion) -}}
{{- end -}}

{{- define "finetuning-operator.trainerImage" -}}
{{- .Values.image.trainer | default (printf "finetuning-trainer:%s" .Chart.AppVersion) -}}
{{- end -}}

{{- /* "true" where the operator's own ServiceMonitor belongs into the release. */ -}}
{{- define "finetuning-operator.serviceMonitor" -}}
{{- $wish := .Values.monitoring.serviceMonitor | toString -}}
{{- $known := .Capabilities.APIVersions.Has "monitoring.coreos.com/v1/ServiceMonitor" -}}
{{- if or (eq $wish "true") (and (eq $wish "auto") $known) -}}true{{- end -}}
{{- end -}}

{{- /* "true" where the alerts belong into the release. */ -}}
{{- define "finetuning-operator.prometheusRule" -}}
{{- $wish := .Values.prometheusRule.enabled | toString -}}
{{- $known := .Capabilities.APIVersions.Has "monitoring.coreos.com/v1/PrometheusRule" -}}
{{- if or (eq $wish "true") (and (eq $wish "auto") $known) -}}true{{- end -}}
{{- end -}}

{{- /* The operator's settings, one variable per field of finetuning.controller.settings. */ -}}
{{- define "finetuning-operator.settings" -}}
OPERATOR_IMAGE: {{ include "finetuning-operator.operatorImage" . | quote }}
TRAINER_IMAGE: {{ include "finetuning-operator.trainerImage" . | quote }}
SERVING_IMAGES: {{ join "," .Values.serving.images | quote }}
SERVING_IMAGES_BY_DIGEST: {{ .Values.serving.imagesByDigest | quote }}
IMAGE_PULL_POLICY: {{ .Values.image.pullPolicy | quote }}
IMAGE_PULL_SECRETS: {{ join "," .Values.imagePullSecrets | quote }}
GPU_RESOURCE_NAME: {{ .Values.gpuResourceName | quote }}
GPU_MODEL: {{ .Values.gpuModel | quote }}
GPU_SUPPLEMENTAL_GROUPS: {{ include "finetuning-operator.integers" .Values.gpuSupplementalGroups | quote }}
GPU_ENVIRONMENT: {{ .Values.gpuEnvironment | default dict | toJson | quote }}
GPU_SECCOMP_PROFILE: {{ .Values.gpuSeccompProfile | quote }}
SHARED_MEMORY: {{ .Values.training.sharedMemory | quote }}
RUN_AS_USER: {{ .Values.training.runAsUser | int64 | quote }}
MONITORING_MODE: {{ .Values.monitoring.mode | quote }}
MONITORING_INTERVAL: {{ .Values.monitoring.interval | quote }}
MONITORING_EXTRA_LABELS: {{ .Values.monitoring.extraLabels | toJson | quote }}
MONITORING_SAMPLE_LIMIT: {{ .Values.monitoring.sampleLimit | int64 | quote }}
MONITORING_LABEL_LIMIT: {{ .Values.monitoring.labelLimit | int64 | quote }}
MONITORING_LABEL_VALUE_LENGTH_LIMIT: {{ .Values.monitoring.labelValueLengthLimit | int64 | quote }}
DEPLOYMENT_NAME: {{ include "finetuning-operator.fullname" . | quote }}
DEPLOYMENT_NAMESPACE: {{ .Release.Namespace | quote }}
LEADER_ELECTION: "true"
METRICS_FINISHED_JOBS: {{ .Values.monitoring.finishedJobs | int64 | quote }}
METRICS_LINGER_SECONDS: {{ .Values.monitoring.lingerSeconds | int64 | quote }}
PROGRESS_INTERVAL_SECONDS: {{ .Values.operator.progressIntervalSeconds | quote }}
WATCH_NAMESPACES: {{ join "," .Values.watchNamespaces | quote }}
LOG_LEVEL: {{ .Values.operator.logLevel | quote }}
HTTP_PORT: "8080"
{{- end -}}

{{- /* Numbers from a values file are floats to Helm: 1000000 would be printed as 1e+06. */ -}}
{{- define "finetuning-operator.integers" -}}
{{- range $i, $n := . }}{{ if $i }},{{ end }}{{ $n | int64 }}{{ end -}}
{{- end -}}

{{- /* Who may scrape, as the peers of a NetworkPolicy. */ -}}
{{- define "finetuning-operator.scrapers" -}}
{{- $policy := .Values.monitoring.networkPolicy -}}
{{- range $policy.namespaces }}
- namespaceSelector:
    matchLabels:
      kubernetes.io/metadata.name: {{ . }}
  {{- with $policy.podLabels }}
  podSelector:
    matchLabels:
      {{- toYaml . | nindent 6 }}
  {{- end }}
{{- end }}
{{- end -}}
