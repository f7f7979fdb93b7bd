"""Which commands read which option, and so take its flag.

Every command accepts every variable, since one environment serves them all.
"""

from __future__ import annotations

from schema_migrator.config.fields import PREFIX

_PLANNING = frozenset({"migrate", "plan"})
_SCHEMAS = _PLANNING | {"status", "verify", "wait", "rewrite"}
ON_STORES = _SCHEMAS | {"create-database"}
"""The commands that work on stores."""
_FRONTEND = frozenset({"wait", "namespaces"})
_REPORTING = frozenset({"status", "plan"})
_SERVERS = ON_STORES | _FRONTEND
_RESULTS = _SERVERS | {"releases"}
_EVERY = _RESULTS | {"demo"}

_MIGRATING = frozenset({"migrate"})
MEASURED = frozenset({"migrate", "verify"})
"""The commands that write metrics."""
_BOOTSTRAPPING = frozenset({"namespaces"})

_READ_BY = {
    "TEMPORAL_VERSION": _SCHEMAS | {"releases"},
    "DEFAULT_TARGET_VERSION": _SCHEMAS,
    "VISIBILITY_TARGET_VERSION": _SCHEMAS,
    "SECONDARY_VISIBILITY_TARGET_VERSION": _SCHEMAS,
    f"{PREFIX}ALLOW_OLDER_TARGETS": _SCHEMAS - {"verify"},
    f"{PREFIX}STORES": ON_STORES,
    f"{PREFIX}SOURCES": _SCHEMAS | {"releases", "demo"},
    f"{PREFIX}EXECUTOR": _PLANNING,
    f"{PREFIX}SQL_TOOL": _MIGRATING,
    f"{PREFIX}OUTPUT": _RESULTS,
    f"{PREFIX}WAIT_TIMEOUT": _SERVERS,
    f"{PREFIX}LOCK_TIMEOUT": _MIGRATING,
    f"{PREFIX}DDL_LOCK_TIMEOUT": _MIGRATING,
    f"{PREFIX}STATEMENT_TIMEOUT": _MIGRATING,
    f"{PREFIX}MAX_LOCK_SECONDS": _PLANNING,
    f"{PREFIX}HEARTBEAT": _MIGRATING,
    f"{PREFIX}NO_VERIFY": _PLANNING,
    f"{PREFIX}NO_MEASURE": _PLANNING,
    f"{PREFIX}ON_DRIFT": _PLANNING | _BOOTSTRAPPING,
    f"{PREFIX}ACCEPTED": _PLANNING | {"status", "verify"},
    f"{PREFIX}REHEARSE_ON": _REPORTING | {"verify"},
    f"{PREFIX}REWRITE": _PLANNING,
    f"{PREFIX}KEEP_OLD": _MIGRATING,
    f"{PREFIX}HOLD_CUTOVER": _MIGRATING,
    f"{PREFIX}CUTOVER_WINDOW": _MIGRATING,
    f"{PREFIX}HOLD_TIMEOUT": _MIGRATING,
    f"{PREFIX}MAX_CHANGE_LOG": _MIGRATING,
    f"{PREFIX}JOBS": _MIGRATING,
    f"{PREFIX}MAX_COMMIT_SECONDS": _MIGRATING,
    f"{PREFIX}MAX_LOAD": _PLANNING,
    f"{PREFIX}MAX_REPLICA_LAG": _PLANNING,
    f"{PREFIX}MAX_SLOT_WAL": _PLANNING,
    f"{PREFIX}MAX_ARCHIVE_LAG": _PLANNING,
    f"{PREFIX}IGNORE_REPLICAS": _PLANNING,
    f"{PREFIX}DISK_FREE": _PLANNING,
    f"{PREFIX}REQUIRE_BACKUP_WITHIN": _MIGRATING,
    f"{PREFIX}BACKUP_COMMAND": _MIGRATING,
    f"{PREFIX}ADOPT": _PLANNING,
    f"{PREFIX}LOG_LEVEL": _EVERY,
    f"{PREFIX}METRICS_FILE": MEASURED,
    f"{PREFIX}METRICS_LABELS": MEASURED,
    f"{PREFIX}TERMINATION_LOG": _EVERY,
    f"{PREFIX}NAMESPACES": _BOOTSTRAPPING,
    f"{PREFIX}NAMESPACES_FILE": _BOOTSTRAPPING,
}


def of_run(variable: str) -> frozenset[str]:
    """Return the commands that read an option of RunSettings."""
    return _READ_BY[variable]


def of_connection(field: str) -> frozenset[str]:
    """Return the commands that read an option of SqlSettings; only long statements go past a pooler."""
    return _PLANNING if field.startswith("direct_") else ON_STORES


def of_client(variable: str) -> frozenset[str]:
    """Return the commands that read an option of ClientSettings."""
    return _READ_BY.get(variable, _FRONTEND | _REPORTING)
