{{/*
firn.toml of all services. Values win over what the chart derives; secrets are references to what the pods mount.
*/}}
{{- define "firn.config" -}}
{{- $derived := dict
  "server" (dict "listen" "0.0.0.0:8181" "public_url" (include "firn.publicUrl" .) "region" .Values.region
    "drain" (printf "%ds" (sub (int .Values.terminationGracePeriodSeconds) 15)) "linger" "5s")
  "auth" (dict "signing_key" "file:/etc/firn-signing/signing.pem")
  "catalog" (dict "url" (include "firn.url" (dict "root" . "service" "catalog")) "cache_bytes" (int64 .Values.catalog.cacheBytes))
  "storage" (dict "warehouse" .Values.storage.warehouse "path_style" .Values.storage.pathStyle)
  "log" (dict "level" .Values.log.level "format" .Values.log.format) }}
{{- if eq .Values.database.type "sqlite" }}
{{- $_ := set $derived.catalog "database_url" "sqlite:/var/lib/firn/catalog.sqlite" }}
{{- end }}
{{- range $key, $value := dict "endpoint" .Values.storage.endpoint "region" .Values.storage.region }}
{{- if $value }}{{- $_ := set $derived.storage $key $value }}{{- end }}
{{- end }}
{{- if .Values.storage.credentialsSecret.name }}
{{- $_ := set $derived.storage "access_key_id" "env:FIRN_STORAGE_KEY_ID" }}
{{- $_ := set $derived.storage "secret_access_key" "env:FIRN_STORAGE_KEY_SECRET" }}
{{- end }}
{{- if .Values.kafka.bootstrapServers }}
{{- $stream := dict "backend" "kafka" "bootstrap_servers" .Values.kafka.bootstrapServers "replication" (int .Values.kafka.replication) "tls" .Values.kafka.tls }}
{{- range $key, $value := dict "sasl.mechanism" .Values.kafka.sasl.mechanism "sasl.username" .Values.kafka.sasl.username }}
{{- if $value }}{{- $_ := set $stream $key $value }}{{- end }}
{{- end }}
{{- $secret := .Values.kafka.secret }}
{{- range $key, $file := dict "ca" $secret.ca "client_certificate" $secret.certificate "client_key" $secret.key "sasl.password" $secret.password "sasl.token" $secret.token }}
{{- if $file }}{{- $_ := set $stream $key (printf "file:/etc/firn-kafka/%s" $file) }}{{- end }}
{{- end }}
{{- $_ := set $derived "stream" $stream }}
{{- end }}
{{- $urls := dict "ingest" "ingest" "compactor" "promotion" "alerts" "alerts" }}
{{- range $service, $section := $urls }}
{{- if (get $.Values $service).enabled }}
{{- $_ := set $derived $section (dict "url" (include "firn.url" (dict "root" $ "service" $service))) }}
{{- end }}
{{- end }}
{{- if .Values.webhook.urlSecret.name }}
{{- $_ := set $derived "alerts" (merge (dict "webhook_url" "env:FIRN_WEBHOOK_URL" "webhook_format" .Values.webhook.format) (default (dict) (get $derived "alerts"))) }}
{{- end }}
{{- if .Values.tracing.endpoint }}
{{- $_ := set $derived "trace" (dict "endpoint" .Values.tracing.endpoint "sample" (float64 .Values.tracing.sample)) }}
{{- end }}
{{- if .Values.tls.secretName }}
{{- $tls := dict "certificate" "file:/etc/firn-tls/tls.crt" "key" "file:/etc/firn-tls/tls.key" "ca" "file:/etc/firn-tls/ca.crt" }}
{{- if .Values.tls.mutual }}{{- $_ := set $tls "client_ca" "file:/etc/firn-tls/ca.crt" }}{{ end }}
{{- $_ := set $derived "tls" $tls }}
{{- end }}
{{- range $section, $settings := mergeOverwrite $derived (deepCopy .Values.config) }}
[{{ $section }}]
{{- range $key, $value := $settings }}
{{- /* YAML's numbers are floats to Helm; TOML tells them apart. */}}
{{- if and (kindIs "float64" $value) (eq $value (floor $value)) }}
{{ $key }} = {{ int64 $value }}
{{- else }}
{{ $key }} = {{ toJson $value }}
{{- end }}
{{- end }}
{{ end }}
{{- end }}
