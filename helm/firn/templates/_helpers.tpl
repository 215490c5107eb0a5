{{/* Names, labels and what all pods share. */}}

{{- define "firn.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "firn.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "firn.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "firn.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "firn.selector" -}}
app.kubernetes.io/name: {{ include "firn.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "firn.labels" -}}
{{ include "firn.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "firn.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "firn.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- required "serviceAccount.name: needed when serviceAccount.create is false" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "firn.image" -}}
{{- with .Values.image }}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ default $.Chart.AppVersion .tag }}{{ end }}
{{- end }}
{{- end }}

{{- define "firn.scheme" -}}
{{ ternary "https" "http" (ne .Values.tls.secretName "") }}
{{- end }}

{{/* Where a service is, within the cluster. */}}
{{- define "firn.url" -}}
{{ include "firn.scheme" .root }}://{{ include "firn.fullname" .root }}-{{ .service }}.{{ .root.Release.Namespace }}.svc:8181
{{- end }}

{{- define "firn.publicUrl" -}}
{{- if .Values.publicUrl }}{{ .Values.publicUrl }}
{{- else if .Values.ingress.enabled }}{{ ternary "https" "http" (ne .Values.ingress.tlsSecretName "") }}://{{ .Values.ingress.host }}
{{- else if and .Values.gatewayApi.enabled .Values.gatewayApi.hostnames }}https://{{ first .Values.gatewayApi.hostnames }}
{{- else }}{{ include "firn.url" (dict "root" . "service" "gateway") }}
{{- end }}
{{- end }}

{{/* No pod may do more than another: restricted, as Pod Security Standards call it. */}}
{{- define "firn.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "firn.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* Settings that are secrets, by reference. */}}
{{- define "firn.env" -}}
- {name: FIRN_CONFIG, value: /etc/firn/firn.toml}
- name: FIRN_SERVER__INSTANCE
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
{{- if eq .Values.database.type "postgres" }}
- name: FIRN_CATALOG__DATABASE_URL
  valueFrom:
    secretKeyRef: {name: {{ .Values.database.urlSecret.name | quote }}, key: {{ .Values.database.urlSecret.key | quote }}}
{{- end }}
{{- with .Values.storage.credentialsSecret }}
{{- if .name }}
- name: FIRN_STORAGE_KEY_ID
  valueFrom: {secretKeyRef: {name: {{ .name | quote }}, key: {{ .idKey | quote }}}}
- name: FIRN_STORAGE_KEY_SECRET
  valueFrom: {secretKeyRef: {name: {{ .name | quote }}, key: {{ .secretKey | quote }}}}
{{- end }}
{{- end }}
{{- with .Values.elasticsearch.urlSecret }}
{{- if .name }}
- name: FIRN_ALERTS__ELASTICSEARCH_URL
  valueFrom: {secretKeyRef: {name: {{ .name | quote }}, key: {{ .key | quote }}}}
{{- end }}
{{- end }}
{{- with .Values.webhook.urlSecret }}
{{- if .name }}
- name: FIRN_WEBHOOK_URL
  valueFrom: {secretKeyRef: {name: {{ .name | quote }}, key: {{ .key | quote }}}}
{{- end }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "firn.volumeMounts" -}}
- {name: config, mountPath: /etc/firn, readOnly: true}
- {name: signing, mountPath: /etc/firn-signing, readOnly: true}
- {name: tmp, mountPath: /tmp}
{{- include "firn.tlsMount" . }}
{{- if .Values.kafka.secret.name }}
- {name: kafka, mountPath: /etc/firn-kafka, readOnly: true}
{{- end }}
{{- end }}

{{- define "firn.tlsMount" -}}
{{- if .Values.tls.secretName }}
- {name: tls, mountPath: /etc/firn-tls, readOnly: true}
{{- end }}
{{- end }}

{{/* As a whole, so that a new certificate reaches the pods that run. */}}
{{- define "firn.tlsVolume" -}}
{{- if .Values.tls.secretName }}
- name: tls
  secret: {secretName: {{ .Values.tls.secretName | quote }}, defaultMode: 0440}
{{- end }}
{{- end }}

{{/* As a whole, too: passwords and tokens change. */}}
{{- define "firn.kafkaVolume" -}}
{{- if .Values.kafka.secret.name }}
- name: kafka
  secret: {secretName: {{ .Values.kafka.secret.name | quote }}, defaultMode: 0440}
{{- end }}
{{- end }}

{{/* The kubelet has no certificate to show: where one is asked for, the container asks itself. */}}
{{- define "firn.probe" -}}
{{- if .root.Values.tls.mutual -}}
exec: {command: [/usr/local/bin/firn, health{{ if eq .ask "live" }}, --live{{ end }}]}
{{- else -}}
httpGet: {path: /health/{{ .ask }}, port: http{{ if .root.Values.tls.secretName }}, scheme: HTTPS{{ end }}}
{{- end -}}
{{- end }}

{{- define "firn.volumes" -}}
- name: config
  configMap: {name: {{ include "firn.fullname" . }}}
- name: signing
  secret:
    secretName: {{ .Values.signingKey.secretName | quote }}
    items: [{key: {{ .Values.signingKey.key | quote }}, path: signing.pem}]
    defaultMode: 0440
{{- include "firn.tlsVolume" . }}
{{- include "firn.kafkaVolume" . }}
{{- end }}
