{{- define "temporal-migrations.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $made := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- $full := default $made .Values.fullnameOverride -}}
{{- /* Leaves room for suffixes within 63 characters; a hash keeps names apart that were cut off. */}}
{{- if le (len $full) 48 }}{{ $full }}{{ else }}{{ $full | trunc 39 | trimAll "-." }}-{{ sha256sum $full | trunc 8 }}{{ end -}}
{{- end }}

{{- /* Labels of every object and pod; the chart's own take precedence over `commonLabels`, because people select by them. */}}
{{- define "temporal-migrations.labels" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- range $name, $value := .Values.commonLabels }}
{{- if not (has $name (list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/version" "app.kubernetes.io/managed-by" "helm.sh/chart")) }}
{{ $name }}: {{ $value | quote }}
{{- end }}
{{- end }}
{{- end }}

{{- /* The vendor's binary is only in the image with the tools. */}}
{{- define "temporal-migrations.image" -}}
{{- $registry := default .Values.image.registry .Values.global.imageRegistry -}}
{{- $place := ternary (printf "%s/%s" $registry .Values.image.repository) .Values.image.repository (ne $registry "") -}}
{{- if .Values.image.digest }}{{ $place }}@{{ .Values.image.digest }}
{{- else }}{{ $place }}:{{ default (printf "%s%s" .Chart.AppVersion (ternary "-tools" "" (eq .Values.settings.executor "sql-tool"))) .Values.image.tag }}{{ end -}}
{{- end }}

{{- define "temporal-migrations.serviceAccountName" -}}
{{- $made := ternary (include "temporal-migrations.fullname" .) "default" .Values.serviceAccount.create -}}
{{- default $made .Values.serviceAccount.name -}}
{{- end }}

{{- /* The stores to migrate, as the names of their values, joined by commas. The program's names are the same in kebab case. */}}
{{- define "temporal-migrations.stores" -}}
{{- $enabled := list }}
{{- range $name := list "default" "visibility" "secondaryVisibility" }}
  {{- /* An older release's values, which --reuse-values keeps, lack the last one. */}}
  {{- if (default dict (index $.Values.databases $name)).enabled }}{{ $enabled = append $enabled $name }}{{ end }}
{{- end }}
{{- join "," $enabled -}}
{{- end }}

{{- /* A store's connection: its own fields replace the common ones, including the common alternatives to a field. */}}
{{- define "temporal-migrations.connection" -}}
{{- $own := .store.connection }}
{{- $made := mergeOverwrite (deepCopy .root.Values.connection) (deepCopy $own) }}
{{- range $field := list "host" "port" "user" }}
  {{- $key := printf "%sKey" $field }}
  {{- if and (hasKey $own $field) (not (hasKey $own $key)) }}{{ $_ := set $made $key "" }}{{ end }}
{{- end }}
{{- if or (hasKey $own "existingSecret") (hasKey $own "passwordCommand") (hasKey $own "passwordFile") (hasKey $own "auth") }}
  {{- range $field := list "passwordCommand" "passwordFile" "auth" }}
    {{- /* Whole: a command may be an object, whose fields the merge above has mixed. */}}
    {{- $_ := set $made $field (default "" (index $own $field)) }}
  {{- end }}
{{- end }}
{{- toYaml $made -}}
{{- end }}

{{- /* Checks that the schema cannot express, each with its message. */}}
{{- define "temporal-migrations.check" -}}
{{- $stores := include "temporal-migrations.stores" . | splitList "," | compact }}
{{- $pinned := 0 }}
{{- range $key := $stores }}
  {{- $name := kebabcase $key }}
  {{- $store := index $.Values.databases $key }}
  {{- if $store.targetVersion }}{{ $pinned = add1 $pinned }}{{ end }}
  {{- if not (or (kindIs "string" $store.targetVersion) (kindIs "invalid" $store.targetVersion)) }}
    {{- fail (printf "databases.%s.targetVersion is the number %v: quote it, because YAML reads 1.10 as 1.1" $key $store.targetVersion) }}
  {{- end }}
  {{- $connection := include "temporal-migrations.connection" (dict "root" $ "store" $store) | fromYaml }}
  {{- if not (or $connection.host $connection.hostKey $connection.uriKey) }}
    {{- fail (printf "the %s store has no host: set connection.host, or connection.hostKey to a key of the Secret" $name) }}
  {{- end }}
  {{- if not (or $connection.user $connection.userKey $connection.uriKey) }}
    {{- fail (printf "the %s store has no role: set connection.user, or connection.userKey to a key of the Secret" $name) }}
  {{- end }}
  {{- if and (not $connection.existingSecret) (or $connection.hostKey $connection.portKey $connection.userKey $connection.uriKey) }}
    {{- fail (printf "the %s store names keys of a Secret, but no Secret: set connection.existingSecret" $name) }}
  {{- end }}
  {{- $tls := $connection.tls }}
  {{- if and $tls.enabled (not $tls.existingSecret) (or $tls.caKey $tls.certKey $tls.keyKey) }}
    {{- fail (printf "the %s store names keys of certificates, but no Secret: set connection.tls.existingSecret" $name) }}
  {{- end }}
  {{- if and $tls.existingSecret (not $tls.enabled) (not (hasKey (default dict $store.connection.tls) "enabled")) }}
    {{- fail (printf "the %s store has certificates, but TLS is off: set connection.tls.enabled" $name) }}
  {{- end }}
{{- end }}
{{- if not (or $stores .Values.namespaceBootstrap.enabled) }}{{ fail "no store is enabled: set databases.default.enabled or databases.visibility.enabled" }}{{ end }}
{{- include "temporal-migrations.checkBootstrap" .Values.namespaceBootstrap }}
{{- if not (or (kindIs "string" .Values.serverVersion) (kindIs "invalid" .Values.serverVersion)) }}
  {{- fail (printf "serverVersion is the number %v: quote it" .Values.serverVersion) }}
{{- end }}
{{- if and (default dict .Values.schemaFiles).image (has (default "" .Values.serverVersion) (list "" "image")) }}
  {{- fail "schemaFiles.image is set, but serverVersion does not say which version its files have: set serverVersion, such as \"1.33.0\"" }}
{{- end }}
{{- if and (not .Values.serverVersion) (lt $pinned (len $stores)) }}
  {{- fail "serverVersion is empty, so any new image would upgrade the schemas: set it to the version of the servers, such as \"1.29.1\", or to image if you want that" }}
{{- end }}
{{- if and (ne .Values.mode "hook") (not (kindIs "invalid" .Values.ttlSecondsAfterFinished)) }}
  {{- fail "ttlSecondsAfterFinished is set, but mode is not hook: Argo CD would recreate the Job as soon as it is deleted; unset it" }}
{{- end }}
{{- if and (eq .Values.mode "prepare") (le (int64 .Values.prepare.activeDeadlineSeconds) (int64 .Values.prepare.holdTimeout)) }}
  {{- fail "prepare.activeDeadlineSeconds ends the Job before prepare.holdTimeout: set it higher" }}
{{- end }}
{{- if and (include "temporal-migrations.identityAnnotations" .) (not .Values.serviceAccount.create) }}
  {{- fail "serviceAccount.identity is set, but the chart creates no account: set serviceAccount.create, or annotate your own" }}
{{- end }}
{{- range $place, $given := dict "annotations" .Values.annotations "serviceAccount.annotations" .Values.serviceAccount.annotations "commonAnnotations" (default dict .Values.commonAnnotations) }}
  {{- range $name, $_ := $given }}
    {{- if hasPrefix "helm.sh/" $name }}
      {{- fail (printf "%s has %s, which the chart sets itself: remove it" $place $name) }}
    {{- end }}
  {{- end }}
{{- end }}
{{- $made := list }}
{{- range (include "temporal-migrations.env" . | fromYamlArray) }}{{ $made = append $made .name }}{{ end }}
{{- range include "temporal-migrations.settings" . | fromJsonArray }}{{ $made = append $made .variable }}{{ end }}
{{- range .Values.extraEnv }}
  {{- if has .name $made }}
    {{- fail (printf "extraEnv has %s, which the chart sets itself: use its value instead of extraEnv" .name) }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "temporal-migrations.checkBootstrap" -}}
{{- if .enabled }}
  {{- if not .address }}
    {{- fail "namespaceBootstrap has no address: set namespaceBootstrap.address to the frontend's, such as temporal-frontend:7233" }}
  {{- end }}
  {{- if not (or .namespaces .namespacesFile) }}
    {{- fail "namespaceBootstrap has no namespaces: set namespaceBootstrap.namespaces" }}
  {{- end }}
  {{- if and .tls.enabled (not .tls.existingSecret) (or .tls.caKey .tls.certKey .tls.keyKey) }}
    {{- fail "namespaceBootstrap.tls names keys of a Secret, but no Secret: set namespaceBootstrap.tls.existingSecret" }}
  {{- end }}
{{- end }}
{{- end }}

{{- /* Whether there is anything to migrate; if not, the chart only creates namespaces. */}}
{{- define "temporal-migrations.migrates" -}}
{{- if and .Values.enabled (include "temporal-migrations.stores" .) }}true{{ end -}}
{{- end }}

{{- /* Whether the preflight runs: a hook before the hook. */}}
{{- define "temporal-migrations.preflights" -}}
{{- if and (include "temporal-migrations.migrates" .) (eq .Values.mode "hook") .Values.preflight.enabled }}true{{ end -}}
{{- end }}

{{- /* A reference to a Secret's key. A hook's pod starts without it and reports what is missing; an ordinary Job, which is
not run again, waits for it. */}}
{{- define "temporal-migrations.secretKey" -}}
secretKeyRef: { name: {{ .secret | quote }}, key: {{ .key | quote }}{{ if eq .mode "hook" }}, optional: true{{ end }} }
{{- end }}

{{- define "temporal-migrations.env" -}}
{{- $stores := include "temporal-migrations.stores" . | splitList "," | compact -}}
- name: SCHEMA_MIGRATOR_STORES
  value: {{ include "temporal-migrations.stores" . | kebabcase | quote }}
{{- if not (has (default "" .Values.serverVersion) (list "" "image")) }}
- name: TEMPORAL_VERSION
  value: {{ .Values.serverVersion | quote }}
{{- end }}
{{- range include "temporal-migrations.settings" . | fromJsonArray }}
{{- $text := include "temporal-migrations.valueText" (dict "row" . "value" (index $.Values.settings .value)) }}
{{- /* The first follows below, because it depends on another value; the second is the migration's alone. */}}
{{- if and $text (not (has .value (list "allowOlderTargets" "metricsFile"))) }}
- name: {{ .variable }}
  value: {{ $text | quote }}
{{- end }}
{{- end }}
{{- if .Values.accepted }}
- name: SCHEMA_MIGRATOR_ACCEPTED
  value: /etc/temporal-migrations/accepted/accepted.toml
{{- end }}
{{- with include "temporal-migrations.schemaFiles" . }}
- name: SCHEMA_MIGRATOR_SOURCES
  value: {{ printf "%s:/usr/share/temporal-schema-migrator/releases" . | quote }}
{{- end }}
{{- if eq .Values.mode "prepare" }}
- name: SCHEMA_MIGRATOR_HOLD_CUTOVER
  value: "true"
- name: SCHEMA_MIGRATOR_HOLD_TIMEOUT
  value: {{ .Values.prepare.holdTimeout | int64 | toString | quote }}
{{- with .Values.prepare.cutoverWindow }}
- name: SCHEMA_MIGRATOR_CUTOVER_WINDOW
  value: {{ . | quote }}
{{- end }}
{{- end }}
{{- /* Without a version of the servers, only the targets are known. */}}
- name: SCHEMA_MIGRATOR_ALLOW_OLDER_TARGETS
  value: {{ or .Values.settings.allowOlderTargets (not .Values.serverVersion) | toString | quote }}
{{- range $key := $stores }}
{{- $store := index $.Values.databases $key }}
{{ include "temporal-migrations.storeEnv" (dict "mode" $.Values.mode "name" (kebabcase $key) "store" $store "connection" (include "temporal-migrations.connection" (dict "root" $ "store" $store) | fromYaml)) }}
{{- end }}
{{- end }}

{{- /* Where a container that compares rehearses; empty for the others, and where that is the stores' own server. */}}
{{- define "temporal-migrations.rehearseOn" -}}
{{- $own := default dict .root.Values.rehearseOn }}
{{- if and $own.existingSecret (has .name (list "verify" "drift")) }}
- name: SCHEMA_MIGRATOR_REHEARSE_ON
  valueFrom: { {{ include "temporal-migrations.secretKey" (dict "mode" .root.Values.mode "secret" $own.existingSecret "key" $own.uriKey) }} }
{{- end }}
{{- end }}

{{- /* The folder in our containers that has the SQL files of another image; empty without one. */}}
{{- define "temporal-migrations.schemaFiles" -}}
{{- $own := default dict .Values.schemaFiles }}
{{- if $own.image }}/etc/temporal-migrations/schema{{ if $own.imageVolume }}{{ $own.path }}{{ end }}{{ end }}
{{- end }}

{{- /* An init container of that image, which copies the files. Our image's group may write to an emptyDir. */}}
{{- define "temporal-migrations.copyFiles" -}}
{{- $own := .Values.schemaFiles -}}
name: schema-files
image: {{ $own.image | quote }}
imagePullPolicy: {{ $own.pullPolicy }}
command: ["sh", "-c", "cp -R \"$1\"/. /etc/temporal-migrations/schema/", "sh", {{ $own.path | quote }}]
securityContext: {{- toYaml .Values.securityContext | nindent 2 }}
resources: {{- toYaml .Values.resources | nindent 2 }}
terminationMessagePolicy: FallbackToLogsOnError
volumeMounts:
  - { name: schema-files, mountPath: /etc/temporal-migrations/schema }
{{- end }}

{{- /* A value as the text of a variable: lists and pairs are joined by commas, numbers have no exponent if they are whole. */}}
{{- define "temporal-migrations.text" -}}
{{- if kindIs "slice" . }}{{ join "," . }}
{{- else if kindIs "map" . }}
{{- $pairs := list }}{{ range $name, $value := . }}{{ $pairs = append $pairs (printf "%s=%s" $name $value) }}{{ end }}{{ join "," $pairs }}
{{- else if and (kindIs "float64" .) (eq (floor .) (float64 .)) }}{{ int64 . }}
{{- else if not (kindIs "invalid" .) }}{{ toString . }}
{{- end }}
{{- end }}

{{- /* The text of a value of a section, empty if the program's own default applies. `row`: what is known of the value. */}}
{{- define "temporal-migrations.valueText" -}}
{{- $text := include "temporal-migrations.text" .value }}
{{- if and .row.false (eq $text "false") }}{{ $text = .row.false }}{{ end }}
{{- if ne $text .row.default }}{{ $text }}{{ end -}}
{{- end }}

{{- define "temporal-migrations.storeEnv" -}}
{{- $own := snakecase .name | upper }}
{{- $prefix := printf "%s_SQL_" $own }}
{{- $connection := .connection -}}
- name: {{ $prefix }}DATABASE
  value: {{ .store.database | quote }}
{{- with .store.targetVersion }}
- name: {{ $own }}_TARGET_VERSION
  value: {{ . | quote }}
{{- end }}
{{- if $connection.uriKey }}
- name: {{ $prefix }}URI
  valueFrom: { {{ include "temporal-migrations.secretKey" (dict "mode" $.mode "secret" $connection.existingSecret "key" $connection.uriKey) }} }
{{- else }}
{{- range $variable, $field := dict "HOST" "host" "PORT" "port" "USER" "user" }}
{{- $key := index $connection (printf "%sKey" $field) }}
{{- $value := index $connection $field }}
{{- if $key }}
- name: {{ $prefix }}{{ $variable }}
  valueFrom: { {{ include "temporal-migrations.secretKey" (dict "mode" $.mode "secret" $connection.existingSecret "key" $key) }} }
{{- else if $value }}
- name: {{ $prefix }}{{ $variable }}
  value: {{ $value | toString | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- if $connection.auth }}
- name: {{ $prefix }}AUTH
  value: {{ $connection.auth | quote }}
{{- else if $connection.passwordCommand }}
- name: {{ $prefix }}PASSWORD_COMMAND
  value: {{ ternary $connection.passwordCommand (toJson $connection.passwordCommand) (kindIs "string" $connection.passwordCommand) | quote }}
{{- else if and $connection.existingSecret (not $connection.uriKey) (not $connection.passwordFile) }}
- name: {{ $prefix }}PASSWORD
  valueFrom: { {{ include "temporal-migrations.secretKey" (dict "mode" $.mode "secret" $connection.existingSecret "key" $connection.passwordKey) }} }
{{- end }}
{{- range include "temporal-migrations.connectionSettings" . | fromJsonArray }}
{{- $text := include "temporal-migrations.valueText" (dict "row" . "value" (index $connection .value)) }}
{{- if $text }}
- name: {{ $prefix }}{{ .variable }}
  value: {{ $text | quote }}
{{- end }}
{{- end }}
{{- if $connection.tls.enabled }}
- name: {{ $prefix }}TLS
  value: "true"
{{- range $variable, $field := dict "CA_FILE" "caKey" "CERT_FILE" "certKey" "KEY_FILE" "keyKey" }}
{{- with index $connection.tls $field }}
- name: {{ $prefix }}TLS_{{ $variable }}
  value: {{ printf "/etc/temporal-migrations/tls/%s/%s" $.name . | quote }}
{{- end }}
{{- end }}
{{- with $connection.tls.serverName }}
- name: {{ $prefix }}TLS_SERVER_NAME
  value: {{ . | quote }}
{{- end }}
{{- if $connection.tls.disableHostVerification }}
- name: {{ $prefix }}TLS_DISABLE_HOST_VERIFICATION
  value: "true"
{{- end }}
{{- end }}
{{- end }}

{{- define "temporal-migrations.bootstrapEnv" -}}
{{- $own := .Values.namespaceBootstrap -}}
- name: TEMPORAL_ADDRESS
  value: {{ $own.address | quote }}
{{- if $own.namespaces }}
- name: SCHEMA_MIGRATOR_NAMESPACES
  value: {{ $own.namespaces | toJson | quote }}
{{- end }}
- name: SCHEMA_MIGRATOR_WAIT_TIMEOUT
  value: {{ $own.waitTimeout | toString | quote }}
- name: SCHEMA_MIGRATOR_ON_DRIFT
  value: {{ $own.onDifference | quote }}
{{- range include "temporal-migrations.settings" . | fromJsonArray }}
{{- $text := include "temporal-migrations.valueText" (dict "row" . "value" (index $.Values.settings .value)) }}
{{- if and $text (has .value (list "logLevel" "output" "terminationLog")) }}
- name: {{ .variable }}
  value: {{ $text | quote }}
{{- end }}
{{- end }}
{{- range include "temporal-migrations.bootstrapSettings" . | fromJsonArray }}
{{- $text := include "temporal-migrations.valueText" (dict "row" . "value" (index $own .value)) }}
{{- if $text }}
- name: {{ .variable }}
  value: {{ $text | quote }}
{{- end }}
{{- end }}
{{- if $own.apiKey.existingSecret }}
- name: TEMPORAL_API_KEY
  valueFrom: { {{ include "temporal-migrations.secretKey" (dict "mode" .Values.mode "secret" $own.apiKey.existingSecret "key" $own.apiKey.key) }} }
{{- end }}
- name: TEMPORAL_TLS
  value: {{ $own.tls.enabled | toString | quote }}
{{- if $own.tls.enabled }}
{{- range $variable, $field := dict "SERVER_CA_CERT" "caKey" "CLIENT_CERT" "certKey" "CLIENT_KEY" "keyKey" }}
{{- with index $own.tls $field }}
- name: TEMPORAL_TLS_{{ $variable }}_PATH
  value: {{ printf "/etc/temporal-migrations/tls/frontend/%s" . }}
{{- end }}
{{- end }}
{{- with $own.tls.serverName }}
- name: TEMPORAL_TLS_SERVER_NAME
  value: {{ . | quote }}
{{- end }}
{{- end }}
{{- end }}

{{- /* The pod of every Job and of the test: only the command and its settings differ. */}}
{{- define "temporal-migrations.pod" -}}
{{- $root := .root }}
{{- $tls := dict }}
{{- $bootstrap := eq .command "namespaces" }}
{{- $own := $root.Values.namespaceBootstrap }}
{{- if and $bootstrap $own.tls.enabled $own.tls.existingSecret }}{{ $_ := set $tls "frontend" $own.tls.existingSecret }}{{ end }}
{{- range $key := include "temporal-migrations.stores" $root | splitList "," | compact }}
  {{- $store := index $root.Values.databases $key }}
  {{- $connection := include "temporal-migrations.connection" (dict "root" $root "store" $store) | fromYaml }}
  {{- if and (not $bootstrap) $connection.tls.enabled $connection.tls.existingSecret }}{{ $_ := set $tls (kebabcase $key) $connection.tls.existingSecret }}{{ end }}
{{- end -}}
restartPolicy: Never
serviceAccountName: {{ default (include "temporal-migrations.serviceAccountName" $root) .account | quote }}
automountServiceAccountToken: {{ and (not $bootstrap) (not .account) (default false $root.Values.serviceAccount.automountToken) }}
enableServiceLinks: false
terminationGracePeriodSeconds: {{ $root.Values.terminationGracePeriodSeconds }}
{{- $pull := list }}
{{- range concat (default list $root.Values.global.imagePullSecrets) $root.Values.imagePullSecrets }}
  {{- $pull = append $pull (ternary (get (ternary . dict (kindIs "map" .)) "name") . (kindIs "map" .)) }}
{{- end }}
{{- with uniq $pull }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- range $field := list "priorityClassName" "runtimeClassName" }}
{{- with index $root.Values $field }}
{{ $field }}: {{ . | quote }}
{{- end }}
{{- end }}
securityContext: {{- toYaml $root.Values.podSecurityContext | nindent 2 }}
{{- range $field := list "nodeSelector" "tolerations" "affinity" "topologySpreadConstraints" "hostAliases" "dnsConfig" }}
{{- with index $root.Values $field }}
{{ $field }}: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- $creates := include "temporal-migrations.creates" . }}
{{- $files := and (not $bootstrap) (include "temporal-migrations.schemaFiles" $root) }}
{{- $copies := and $files (not $root.Values.schemaFiles.imageVolume) }}
{{- if or $creates $copies $root.Values.extraInitContainers }}
initContainers:
  {{- with $root.Values.extraInitContainers }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- if $copies }}
  - {{ include "temporal-migrations.copyFiles" $root | nindent 4 | trim }}
  {{- end }}
  {{- if $creates }}
  - {{ include "temporal-migrations.container" (dict "root" $root "job" .command "name" "create-database" "args" (list "create-database") "tls" $tls) | nindent 4 | trim }}
  {{- end }}
{{- end }}
{{- $args := list .command }}
{{- if and $bootstrap $own.update }}{{ $args = append $args "--update" }}{{ end }}
{{- if eq .command "preflight" }}{{ $args = list "wait" "--for" "database" }}{{ end }}
{{- if eq .command "drift" }}{{ $args = concat (list "verify" "--output" "json") (include "temporal-migrations.metricsArgs" $root | fromJsonArray) }}{{ end }}
containers:
  - {{ include "temporal-migrations.container" (dict "root" $root "job" .command "name" .command "args" $args "tls" $tls) | nindent 4 | trim }}
{{- $accepted := and (not $bootstrap) $root.Values.accepted }}
{{- if or $tls $files $accepted $root.Values.extraVolumes }}
volumes:
  {{- if $accepted }}
  {{- $early := and (eq $root.Values.mode "hook") (has .command (list "migrate" "preflight")) }}
  - { name: accepted, configMap: { name: {{ include "temporal-migrations.fullname" $root }}-accepted{{ if $early }}-hook{{ end }} } }
  {{- end }}
  {{- if $copies }}
  - { name: schema-files, emptyDir: { sizeLimit: 64Mi } }
  {{- else if $files }}
  - { name: schema-files, image: { reference: {{ $root.Values.schemaFiles.image | quote }}, pullPolicy: {{ $root.Values.schemaFiles.pullPolicy }} } }
  {{- end }}
  {{- range $name, $secret := $tls }}
  # libpq refuses a client's key that everybody may read; the pod's group may.
  - { name: tls-{{ $name }}, secret: { secretName: {{ $secret | quote }}, defaultMode: 0440{{ if eq $root.Values.mode "hook" }}, optional: true{{ end }} } }
  {{- end }}
  {{- with $root.Values.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end }}

{{- /* A container of our image. SCHEMA_MIGRATOR_CHART tells the program that it runs in the chart, and which Secrets its values come from. */}}
{{- define "temporal-migrations.container" -}}
{{- $root := .root }}
{{- $tls := .tls }}
{{- $env := include (ternary "temporal-migrations.bootstrapEnv" "temporal-migrations.env" (eq .name "namespaces")) $root | fromYamlArray }}
{{- $env = concat $env (include "temporal-migrations.rehearseOn" . | fromYamlArray) }}
{{- $told := list .job }}
{{- range $env }}
  {{- if .valueFrom }}
    {{- $told = append $told (printf "%s=%s/%s" .name .valueFrom.secretKeyRef.name .valueFrom.secretKeyRef.key) }}
  {{- else if hasPrefix "/etc/temporal-migrations/tls/" .value }}
    {{- $place := splitList "/" .value }}
    {{- $told = append $told (printf "%s=%s/%s" .name (get $tls (index $place 4)) (index $place 5)) }}
  {{- end }}
{{- end -}}
name: {{ .name }}
image: {{ include "temporal-migrations.image" $root | quote }}
imagePullPolicy: {{ $root.Values.image.pullPolicy }}
args: {{ .args | toJson }}
env:
  - name: SCHEMA_MIGRATOR_CHART
    value: {{ join " " $told | quote }}
  {{- include (ternary "temporal-migrations.bootstrapEnv" "temporal-migrations.env" (eq .name "namespaces")) $root | nindent 2 }}
  {{- include "temporal-migrations.rehearseOn" . | nindent 2 }}
  {{- if and (eq .name "migrate") $root.Values.settings.metricsFile }}
  - name: SCHEMA_MIGRATOR_METRICS_FILE
    value: {{ $root.Values.settings.metricsFile | quote }}
  {{- end }}
  {{- with $root.Values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with $root.Values.extraEnvFrom }}
envFrom: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext: {{- toYaml $root.Values.securityContext | nindent 2 }}
resources: {{- toYaml $root.Values.resources | nindent 2 }}
terminationMessagePath: {{ default "/dev/termination-log" $root.Values.settings.terminationLog | quote }}
terminationMessagePolicy: FallbackToLogsOnError
{{- $files := and (ne .name "namespaces") (include "temporal-migrations.schemaFiles" $root) }}
{{- $accepted := and (ne .name "namespaces") $root.Values.accepted }}
{{- if or $tls $files $accepted $root.Values.extraVolumeMounts }}
volumeMounts:
  {{- if $accepted }}
  - { name: accepted, mountPath: /etc/temporal-migrations/accepted, readOnly: true }
  {{- end }}
  {{- if $files }}
  - { name: schema-files, mountPath: /etc/temporal-migrations/schema, readOnly: true }
  {{- end }}
  {{- range $name, $secret := $tls }}
  - { name: tls-{{ $name }}, mountPath: /etc/temporal-migrations/tls/{{ $name }}, readOnly: true }
  {{- end }}
  {{- with $root.Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end }}

{{- /* Whether a Job's pod creates the databases first. */}}
{{- define "temporal-migrations.creates" -}}
{{- if and .root.Values.createDatabase (has .command (list "migrate" "preflight")) }}true{{ end }}
{{- end }}

{{- /* A Job's spec; `command` is also its container's name, which the failure policy needs. */}}
{{- define "temporal-migrations.jobSpec" -}}
{{- $root := .root -}}
backoffLimit: {{ $root.Values.backoffLimit }}
activeDeadlineSeconds: {{ ternary $root.Values.prepare.activeDeadlineSeconds $root.Values.activeDeadlineSeconds (eq $root.Values.mode "prepare") | int64 }}
{{- if not (kindIs "invalid" $root.Values.ttlSecondsAfterFinished) }}
ttlSecondsAfterFinished: {{ $root.Values.ttlSecondsAfterFinished }}
{{- end }}
podFailurePolicy:
  rules:
    - action: Ignore
      onPodConditions: [{ type: DisruptionTarget, status: "True" }]
    {{- range $name := ternary (list .command) (list .command "create-database") (include "temporal-migrations.creates" . | empty) }}
    - action: FailJob
      onExitCodes:
        containerName: {{ $name }}
        operator: In
        values: [2, 3, 10, 11, 12, 20, 21, 22, 23, 24, 25, 26, 30, 31, 32, 33, 34, 35, 36, 40, 41, 42, 70]
    {{- end }}
template:
  metadata:
    labels: {{- include "temporal-migrations.podLabels" $root | nindent 6 }}
    {{- include "temporal-migrations.annotations" (dict "root" $root "given" $root.Values.podAnnotations) | nindent 4 }}
  spec:
    {{- include "temporal-migrations.pod" . | nindent 4 }}
{{- end }}

{{- /* The rendered Job except its name, which may contain this hash; without the contents of Secrets and anything random. */}}
{{- define "temporal-migrations.hash" -}}
{{- $spec := include "temporal-migrations.jobSpec" (dict "root" . "command" "migrate") -}}
{{- $accepted := default "" .Values.accepted -}}
{{- printf "%s %s %s %v%s" $spec (toYaml .Values.annotations) .Chart.Version .Values.forceTrigger $accepted | sha256sum -}}
{{- end }}

{{- /* The preflight: the migration's pod, which only waits for the databases, with its own timeout and deadline. */}}
{{- define "temporal-migrations.preflightSpec" -}}
{{- $own := .Values.preflight }}
{{- $values := merge (dict) .Values }}
{{- $_ := set $values "settings" (set (deepCopy .Values.settings) "waitTimeout" $own.waitTimeout) }}
{{- $_ := set $values "activeDeadlineSeconds" $own.activeDeadlineSeconds }}
{{- $_ := set $values "backoffLimit" $own.backoffLimit }}
{{- $root := dict "Values" $values "Chart" .Chart "Release" .Release }}
{{- include "temporal-migrations.jobSpec" (dict "root" $root "command" "preflight") }}
{{- end }}

{{- /* Whether a CronJob compares the schemas with their versions. An older release's values lack it. */}}
{{- define "temporal-migrations.checksDrift" -}}
{{- if and (default dict .Values.driftCheck).enabled (ne .Values.mode "prepare") (include "temporal-migrations.migrates" .) }}true{{ end -}}
{{- end }}

{{- /* A CronJob's name has 52 characters at most: Kubernetes adds 11 to its Jobs'. */}}
{{- define "temporal-migrations.driftName" -}}
{{- $full := include "temporal-migrations.fullname" . -}}
{{- if le (len $full) 46 }}{{ $full }}{{ else }}{{ $full | trunc 37 | trimAll "-." }}-{{ sha256sum $full | trunc 8 }}{{ end }}-drift
{{- end }}

{{- /* The arguments for the metrics file, as a JSON list: none without a volume. */}}
{{- define "temporal-migrations.metricsArgs" -}}
{{- $own := .Values.driftCheck.metrics }}
{{- $file := default (printf "%s_%s.prom" .Release.Namespace (include "temporal-migrations.driftName" .)) $own.file }}
{{- $args := list "--metrics-file" (printf "/var/lib/metrics/%s" $file) }}
{{- if not .Values.settings.metricsLabels }}{{ $args = concat $args (list "--metrics-labels" (printf "namespace=%s,installation=%s" .Release.Namespace .Release.Name)) }}{{ end }}
{{- ternary list $args (empty $own.volume) | toJson -}}
{{- end }}

{{- /* The CronJob's Job: the migration's pod, which only verifies, with its own deadline, and the volume for metrics. */}}
{{- define "temporal-migrations.driftSpec" -}}
{{- $own := .Values.driftCheck }}
{{- $values := merge (dict) .Values }}
{{- $_ := set $values "activeDeadlineSeconds" $own.activeDeadlineSeconds }}
{{- $_ := set $values "backoffLimit" $own.backoffLimit }}
{{- $_ := set $values "ttlSecondsAfterFinished" nil }}
{{- with $own.metrics.volume }}
  {{- $_ := set $values "extraVolumes" (append $values.extraVolumes (merge (dict "name" "metrics") .)) }}
  {{- $_ := set $values "extraVolumeMounts" (append $values.extraVolumeMounts (dict "name" "metrics" "mountPath" "/var/lib/metrics")) }}
{{- end }}
{{- $root := dict "Values" $values "Chart" .Chart "Release" .Release }}
{{- include "temporal-migrations.jobSpec" (dict "root" $root "command" "drift" "account" (include "temporal-migrations.laterAccount" .)) }}
{{- end }}

{{- /* The account of a pod that runs when the hooks' account is gone: the namespace's own, unless the account has an
identity and is kept; empty for the account of all pods. */}}
{{- define "temporal-migrations.laterAccount" -}}
{{- if and .Values.serviceAccount.create (eq .Values.mode "hook") (not (include "temporal-migrations.identity" .)) }}default{{ end -}}
{{- end }}

{{- /* The Job that creates namespaces: the same, with its own fields instead of the migration's. */}}
{{- define "temporal-migrations.bootstrapSpec" -}}
{{- $own := .Values.namespaceBootstrap }}
{{- $values := merge (dict) .Values }}
{{- range list "extraEnv" "extraEnvFrom" "extraInitContainers" }}{{ $_ := set $values . list }}{{ end }}
{{- range list "extraVolumes" "extraVolumeMounts" }}{{ $_ := set $values . (default list (index $own .)) }}{{ end }}
{{- range list "nodeSelector" "tolerations" "activeDeadlineSeconds" "backoffLimit" }}
  {{- if not (kindIs "invalid" (index $own .)) }}{{ $_ := set $values . (index $own .) }}{{ end }}
{{- end }}
{{- $root := dict "Values" $values "Chart" .Chart "Release" .Release }}
{{- include "temporal-migrations.jobSpec" (dict "root" $root "command" "namespaces") }}
{{- end }}

{{- define "temporal-migrations.bootstrapHash" -}}
{{- printf "%s %s" (include "temporal-migrations.bootstrapSpec" .) .Chart.Version | sha256sum -}}
{{- end }}

{{- /* An object's annotations: a hook's own, then those given for it, then those of every object. */}}
{{- define "temporal-migrations.annotations" -}}
{{- with merge (dict) (default dict .hook) (default dict .given) (default dict .root.Values.commonAnnotations) -}}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* The annotations of a hook, as YAML; `policy`: when it is deleted, if not as the Jobs are. */}}
{{- define "temporal-migrations.hook" -}}
helm.sh/hook: {{ .on }}
helm.sh/hook-weight: {{ .weight | quote }}
helm.sh/hook-delete-policy: {{ default .root.Values.hookDeletePolicy .policy }}
{{- end }}

{{- /* Whether the account of the pods is somebody: to a cloud, or to the API server. */}}
{{- define "temporal-migrations.identity" -}}
{{- $own := .Values.serviceAccount }}
{{- if or $own.annotations $own.automountToken (include "temporal-migrations.identityAnnotations" .) }}true{{ end -}}
{{- end }}

{{- /* What each cloud looks for at an account. */}}
{{- define "temporal-migrations.identityAnnotations" -}}
{{- $own := default dict .Values.serviceAccount.identity }}
{{- range $field, $name := dict "awsRoleArn" "eks.amazonaws.com/role-arn" "azureClientId" "azure.workload.identity/client-id" "gcpServiceAccount" "iam.gke.io/gcp-service-account" }}
{{- with index $own $field }}
{{ $name }}: {{ . | quote }}
{{- end }}
{{- end }}
{{- end }}

{{- /* A pod's labels; Azure's webhook looks for one of its own. */}}
{{- define "temporal-migrations.podLabels" -}}
{{- $azure := ternary (dict "azure.workload.identity/use" "true") dict (not (empty (default dict .Values.serviceAccount.identity).azureClientId)) }}
{{- mergeOverwrite (include "temporal-migrations.labels" . | fromYaml) $azure .Values.podLabels | toYaml }}
{{- end }}

{{- /* Whether a store takes a cloud's tokens. */}}
{{- define "temporal-migrations.usesCloud" -}}
{{- $clouds := list }}
{{- range $key := include "temporal-migrations.stores" . | splitList "," | compact }}
  {{- $connection := include "temporal-migrations.connection" (dict "root" $ "store" (index $.Values.databases $key)) | fromYaml }}
  {{- $clouds = append $clouds $connection.auth }}
{{- end }}
{{- if compact $clouds }}true{{ end -}}
{{- end }}

{{- /* The ports of the databases, as a JSON list of numbers. */}}
{{- define "temporal-migrations.databasePorts" -}}
{{- $ports := list }}
{{- range $key := include "temporal-migrations.stores" . | splitList "," | compact }}
  {{- $connection := include "temporal-migrations.connection" (dict "root" $ "store" (index $.Values.databases $key)) | fromYaml }}
  {{- range list $connection.port $connection.directPort }}
    {{- $ports = concat $ports (include "temporal-migrations.text" . | splitList "," | compact) }}
  {{- end }}
{{- end }}
{{- $numbers := list }}
{{- range $ports | uniq | sortAlpha }}{{ $numbers = append $numbers (int .) }}{{ end }}
{{- default (list 5432) (default $numbers .Values.networkPolicy.databasePorts) | toJson -}}
{{- end }}
