{{- /* `make docs` writes this file from the program's options. */}}
{{- define "temporal-migrations.settings" -}}
[
  {"value": "allowOlderTargets", "variable": "SCHEMA_MIGRATOR_ALLOW_OLDER_TARGETS", "default": "false"},
  {"value": "executor", "variable": "SCHEMA_MIGRATOR_EXECUTOR", "default": "native"},
  {"value": "sqlTool", "variable": "SCHEMA_MIGRATOR_SQL_TOOL", "default": ""},
  {"value": "output", "variable": "SCHEMA_MIGRATOR_OUTPUT", "default": "text"},
  {"value": "waitTimeout", "variable": "SCHEMA_MIGRATOR_WAIT_TIMEOUT", "default": "300"},
  {"value": "lockTimeout", "variable": "SCHEMA_MIGRATOR_LOCK_TIMEOUT", "default": "600"},
  {"value": "ddlLockTimeout", "variable": "SCHEMA_MIGRATOR_DDL_LOCK_TIMEOUT", "default": "0.2"},
  {"value": "statementTimeout", "variable": "SCHEMA_MIGRATOR_STATEMENT_TIMEOUT", "default": "0"},
  {"value": "maxLockSeconds", "variable": "SCHEMA_MIGRATOR_MAX_LOCK_SECONDS", "default": ""},
  {"value": "heartbeat", "variable": "SCHEMA_MIGRATOR_HEARTBEAT", "default": "10"},
  {"value": "noVerify", "variable": "SCHEMA_MIGRATOR_NO_VERIFY", "default": "false"},
  {"value": "noMeasure", "variable": "SCHEMA_MIGRATOR_NO_MEASURE", "default": "false"},
  {"value": "onDrift", "variable": "SCHEMA_MIGRATOR_ON_DRIFT", "default": "warn"},
  {"value": "rewrite", "variable": "SCHEMA_MIGRATOR_REWRITE", "default": ""},
  {"value": "keepOld", "variable": "SCHEMA_MIGRATOR_KEEP_OLD", "default": "false"},
  {"value": "maxChangeLog", "variable": "SCHEMA_MIGRATOR_MAX_CHANGE_LOG", "default": "16GB", "false": "off"},
  {"value": "jobs", "variable": "SCHEMA_MIGRATOR_JOBS", "default": ""},
  {"value": "maxCommitSeconds", "variable": "SCHEMA_MIGRATOR_MAX_COMMIT_SECONDS", "default": "0.25"},
  {"value": "maxLoad", "variable": "SCHEMA_MIGRATOR_MAX_LOAD", "default": ""},
  {"value": "maxReplicaLag", "variable": "SCHEMA_MIGRATOR_MAX_REPLICA_LAG", "default": "256MB", "false": "off"},
  {"value": "maxSlotWal", "variable": "SCHEMA_MIGRATOR_MAX_SLOT_WAL", "default": "16GB", "false": "off"},
  {"value": "maxArchiveLag", "variable": "SCHEMA_MIGRATOR_MAX_ARCHIVE_LAG", "default": "1GB", "false": "off"},
  {"value": "ignoreReplicas", "variable": "SCHEMA_MIGRATOR_IGNORE_REPLICAS", "default": ""},
  {"value": "diskFree", "variable": "SCHEMA_MIGRATOR_DISK_FREE", "default": ""},
  {"value": "requireBackupWithin", "variable": "SCHEMA_MIGRATOR_REQUIRE_BACKUP_WITHIN", "default": ""},
  {"value": "backupCommand", "variable": "SCHEMA_MIGRATOR_BACKUP_COMMAND", "default": ""},
  {"value": "adopt", "variable": "SCHEMA_MIGRATOR_ADOPT", "default": "false"},
  {"value": "logLevel", "variable": "SCHEMA_MIGRATOR_LOG_LEVEL", "default": "info"},
  {"value": "metricsFile", "variable": "SCHEMA_MIGRATOR_METRICS_FILE", "default": ""},
  {"value": "metricsLabels", "variable": "SCHEMA_MIGRATOR_METRICS_LABELS", "default": ""},
  {"value": "terminationLog", "variable": "SCHEMA_MIGRATOR_TERMINATION_LOG", "default": "/dev/termination-log"}
]
{{- end }}
{{- define "temporal-migrations.connectionSettings" -}}
[
  {"value": "passwordFile", "variable": "PASSWORD_FILE", "default": ""},
  {"value": "connectAttributes", "variable": "CONNECT_ATTRIBUTES", "default": ""},
  {"value": "plugin", "variable": "PLUGIN", "default": ""},
  {"value": "directHost", "variable": "DIRECT_HOST", "default": ""},
  {"value": "directPort", "variable": "DIRECT_PORT", "default": ""}
]
{{- end }}
{{- define "temporal-migrations.bootstrapSettings" -}}
[
  {"value": "apiKeyFile", "variable": "TEMPORAL_API_KEY_FILE", "default": ""},
  {"value": "namespacesFile", "variable": "SCHEMA_MIGRATOR_NAMESPACES_FILE", "default": ""}
]
{{- end }}
