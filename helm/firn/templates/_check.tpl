{{/* What a schema can't see, or would say less plainly. */}}
{{- define "firn.check" -}}
{{- $log := or .Values.gateway.enabled .Values.ingest.enabled .Values.alerts.enabled }}
{{- if and $log (not .Values.kafka.bootstrapServers) }}
{{- fail "kafka.bootstrapServers: needed by gateway, ingest and alerts; set it, or disable all three" }}
{{- end }}
{{- if and .Values.tls.mutual (not .Values.tls.secretName) }}
{{- fail "tls.mutual: needs certificates; set tls.secretName" }}
{{- end }}
{{- if and .Values.ingress.enabled .Values.gatewayApi.enabled }}
{{- fail "ingress.enabled and gatewayApi.enabled: choose one way in" }}
{{- end }}
{{- if and (or .Values.ingress.enabled .Values.gatewayApi.enabled) (not (and .Values.gateway.enabled .Values.catalog.enabled)) }}
{{- fail "ingress and gatewayApi lead to catalog and gateway: enable both" }}
{{- end }}
{{- if eq .Values.database.type "sqlite" }}
{{- if or (gt (int .Values.catalog.replicas) 1) .Values.catalog.autoscaling.enabled }}
{{- fail "catalog.replicas: SQLite has one replica; set catalog.replicas to 1 and autoscaling.enabled to false, or database.type to postgres" }}
{{- end }}
{{- if .Values.database.urlSecret.name }}
{{- fail "database.urlSecret.name: contradicts database.type sqlite; remove it, or set database.type to postgres" }}
{{- end }}
{{- end }}
{{- range $service := list "catalog" "gateway" }}
{{- with (get $.Values $service).autoscaling }}
{{- if and .enabled (gt (int .minReplicas) (int .maxReplicas)) }}
{{- fail (printf "%s.autoscaling: minReplicas is above maxReplicas" $service) }}
{{- end }}
{{- end }}
{{- end }}
{{- range $service := list "ingest" "alerts" }}
{{- with (get $.Values $service).keda }}
{{- if and .enabled (gt (int .minReplicas) (int .maxReplicas)) }}
{{- fail (printf "%s.keda: minReplicas is above maxReplicas" $service) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
