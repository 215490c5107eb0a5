{{/*
One service as a workload. Takes root, service (its name), values (its section) and kind (Deployment or StatefulSet).
*/}}
{{- define "firn.workload" -}}
{{- $root := .root }}
{{- $values := .values }}
{{- $name := printf "%s-%s" (include "firn.fullname" $root) .service }}
{{- $scaled := or (and (hasKey $values "autoscaling") $values.autoscaling.enabled) (and (hasKey $values "keda") $values.keda.enabled) }}
{{- $sqlite := and (eq .service "catalog") (eq $root.Values.database.type "sqlite") }}
apiVersion: apps/v1
kind: {{ .kind }}
metadata:
  name: {{ $name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "firn.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ .service }}
spec:
  {{- if not $scaled }}
  replicas: {{ $values.replicas }}
  {{- end }}
  {{- if eq .kind "StatefulSet" }}
  serviceName: {{ $name }}
  podManagementPolicy: Parallel
  {{- else }}
  strategy:
    {{- if $sqlite }}
    type: Recreate
    {{- else }}
    type: RollingUpdate
    rollingUpdate: {maxUnavailable: 0, maxSurge: 1}
    {{- end }}
  {{- end }}
  selector:
    matchLabels:
      {{- include "firn.selector" $root | nindent 6 }}
      app.kubernetes.io/component: {{ .service }}
  template:
    metadata:
      labels:
        {{- include "firn.labels" $root | nindent 8 }}
        app.kubernetes.io/component: {{ .service }}
        {{- with $root.Values.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      annotations:
        # New settings are a new roll-out.
        firn/config: {{ include "firn.config" $root | sha256sum }}
        {{- with merge (dict) $values.podAnnotations $root.Values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      serviceAccountName: {{ include "firn.serviceAccountName" $root }}
      automountServiceAccountToken: false
      enableServiceLinks: false
      terminationGracePeriodSeconds: {{ $root.Values.terminationGracePeriodSeconds }}
      {{- with $root.Values.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      {{- with $root.Values.image.pullSecrets }}
      imagePullSecrets: {{ toYaml . | nindent 8 }}
      {{- end }}
      {{- with merge (dict) $values.nodeSelector $root.Values.nodeSelector }}
      nodeSelector: {{ toYaml . | nindent 8 }}
      {{- end }}
      {{- with concat $values.tolerations $root.Values.tolerations }}
      tolerations: {{ toYaml . | nindent 8 }}
      {{- end }}
      {{- with $root.Values.affinity }}
      affinity: {{ toYaml . | nindent 8 }}
      {{- end }}
      {{- if $root.Values.topologySpread }}
      topologySpreadConstraints:
        {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
        - maxSkew: 1
          topologyKey: {{ . }}
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels:
              {{- include "firn.selector" $root | nindent 14 }}
              app.kubernetes.io/component: {{ $.service }}
        {{- end }}
      {{- end }}
      securityContext: {{ include "firn.podSecurityContext" $root | nindent 8 }}
      containers:
        - name: {{ .service }}
          image: {{ include "firn.image" $root }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          args: [{{ .service }}, serve]
          ports:
            - {name: http, containerPort: 8181, protocol: TCP}
          env: {{ include "firn.env" $root | nindent 12 }}
          # What is away at start is waited for: the pod lives, and isn't ready, with the reason in /health/ready.
          livenessProbe:
            {{- include "firn.probe" (dict "root" $root "ask" "live") | nindent 12 }}
            periodSeconds: 10
            timeoutSeconds: 5
            failureThreshold: 6
          readinessProbe:
            {{- include "firn.probe" (dict "root" $root "ask" "ready") | nindent 12 }}
            periodSeconds: 2
            timeoutSeconds: 2
            failureThreshold: 1
          resources: {{ toYaml $values.resources | nindent 12 }}
          securityContext: {{ include "firn.securityContext" $root | nindent 12 }}
          volumeMounts:
            {{- include "firn.volumeMounts" $root | nindent 12 }}
            {{- if $sqlite }}
            - {name: data, mountPath: /var/lib/firn}
            {{- end }}
      volumes:
        {{- include "firn.volumes" $root | nindent 8 }}
        - name: tmp
          emptyDir: {sizeLimit: {{ default "1Gi" $values.spillSize }}}
        {{- if $sqlite }}
        - name: data
          persistentVolumeClaim: {claimName: {{ $name }}}
        {{- end }}
{{- end }}

{{/* The Service of a workload; headless where clients want to reach every replica. */}}
{{- define "firn.service" -}}
{{- $root := .root }}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "firn.fullname" $root }}-{{ .service }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "firn.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ .service }}
spec:
  {{- if .headless }}
  clusterIP: None
  {{- end }}
  selector:
    {{- include "firn.selector" $root | nindent 4 }}
    app.kubernetes.io/component: {{ .service }}
  ports:
    - {name: http, port: 8181, targetPort: http, protocol: TCP{{ if $root.Values.tls.secretName }}, appProtocol: https{{ end }}}
{{- end }}
