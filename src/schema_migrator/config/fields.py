"""Every option of a run, defined once: its variable, type, default and meaning."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from schema_migrator.config import values, windows
from schema_migrator.releases.source import USUAL_STORES, Store

PREFIX = "SCHEMA_MIGRATOR_"
MOST_JOBS = 64
"""The most connections of one online rewrite."""
MOST_SECONDS = 2_147_483
"""The longest timeout in seconds: PostgreSQL stores the milliseconds in a signed 32-bit integer."""


class Given(BaseSettings):
    """Settings built only from the values passed in, which merge the flags and `options.read_environment`."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic-settings' signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Leave out the environment: which flag overrides which variable depends on the store."""
        return (init_settings,)


class RunSettings(Given):
    """What a run does, and how long it waits."""

    temporal_version: str | None = Field(
        None, validation_alias="TEMPORAL_VERSION", description="exact server version whose files to use"
    )
    default_target_version: str | None = Field(
        None,
        validation_alias="DEFAULT_TARGET_VERSION",
        description="schema version for the default store; unset: the release's own",
    )
    visibility_target_version: str | None = Field(
        None,
        validation_alias="VISIBILITY_TARGET_VERSION",
        description="schema version for the visibility store; unset: the release's own",
    )
    secondary_visibility_target_version: str | None = Field(
        None,
        validation_alias="SECONDARY_VISIBILITY_TARGET_VERSION",
        description="schema version for the secondary visibility store; unset: the release's own",
    )
    allow_older_targets: bool = Field(
        default=False,
        validation_alias=f"{PREFIX}ALLOW_OLDER_TARGETS",
        description="accept targets below what servers of TEMPORAL_VERSION need; otherwise migrate refuses them,"
        " and wait and status --check require what the servers need",
    )
    stores: Annotated[tuple[Store, ...], NoDecode, BeforeValidator(values.split_names)] = Field(
        USUAL_STORES,
        min_length=1,
        validation_alias=f"{PREFIX}STORES",
        description="stores to work on (default, visibility, secondary-visibility), separated by commas;"
        " --store can be repeated",
    )
    sources: Annotated[tuple[Path, ...], NoDecode, BeforeValidator(values.split_folders)] = Field(
        (Path("releases"),),
        min_length=1,
        validation_alias=f"{PREFIX}SOURCES",
        description="folders with the releases' files, separated by colons; a folder has one folder per server version,"
        " or is laid out as in the vendor's images, with the files of TEMPORAL_VERSION",
    )
    executor: Literal["native", "sql-tool"] = Field(
        "native",
        validation_alias=f"{PREFIX}EXECUTOR",
        description="who executes the statements: this program, or the vendor's binary one step at a time",
    )
    sql_tool: Annotated[Path | None, AfterValidator(lambda path: path and path.absolute())] = Field(
        None,
        validation_alias=f"{PREFIX}SQL_TOOL",
        description="the vendor's temporal-sql-tool, of the same release as the files; for the executor sql-tool",
    )
    output: Literal["text", "json"] = Field(
        "text", validation_alias=f"{PREFIX}OUTPUT", description="format of the results on standard output"
    )
    wait_timeout: float = Field(
        300,
        ge=0,
        le=MOST_SECONDS,
        validation_alias=f"{PREFIX}WAIT_TIMEOUT",
        description="seconds to wait for the database, for a step's table locks, and while an online rewrite is paused",
    )
    lock_timeout: float = Field(
        600,
        ge=0,
        le=MOST_SECONDS,
        validation_alias=f"{PREFIX}LOCK_TIMEOUT",
        description="seconds to wait for another run",
    )
    ddl_lock_timeout: float = Field(
        0.2,
        ge=0.001,
        le=MOST_SECONDS,
        validation_alias=f"{PREFIX}DDL_LOCK_TIMEOUT",
        description="seconds that one attempt may queue for a table lock (PostgreSQL's lock_timeout)",
    )
    statement_timeout: float = Field(
        0,
        ge=0,
        le=MOST_SECONDS,
        validation_alias=f"{PREFIX}STATEMENT_TIMEOUT",
        description="limit for one statement, in seconds; 0: no limit",
    )
    max_lock_seconds: float | None = Field(
        None,
        ge=1,
        le=MOST_SECONDS,
        validation_alias=f"{PREFIX}MAX_LOCK_SECONDS",
        description="refuse, before anything is changed, a step that would lock a table for longer than this, or"
        " for a time that cannot be estimated; unset: no limit",
    )
    heartbeat: float = Field(
        10,
        ge=0.001,
        le=MOST_SECONDS,
        validation_alias=f"{PREFIX}HEARTBEAT",
        description="seconds between progress events",
    )
    no_verify: bool = Field(
        default=False, validation_alias=f"{PREFIX}NO_VERIFY", description="do not verify the result by a rehearsal"
    )
    no_measure: bool = Field(
        default=False,
        validation_alias=f"{PREFIX}NO_MEASURE",
        description="do not measure on copies of some rows how long the steps would take",
    )
    on_drift: Literal["warn", "fail"] = Field(
        "warn",
        validation_alias=f"{PREFIX}ON_DRIFT",
        description="what to do if the schema was changed by hand: warn, or fail before anything is touched;"
        " for the command namespaces: if a namespace differs and is not updated",
    )
    accepted: Path | None = Field(
        None,
        validation_alias=f"{PREFIX}ACCEPTED",
        description="file of accepted differences from the vendor's schema, each with a reason; they are not drift, and"
        " a step that would undo one is refused",
    )
    rehearse_on: SecretStr | None = Field(
        None,
        validation_alias=f"{PREFIX}REHEARSE_ON",
        description="where to rehearse, for a role that may only read or for a standby: the URI of a database on"
        " another server of the same major version, or embedded for a private server; nothing is then written to the"
        " stores",
    )
    rewrite: Literal["online", "in-place"] | None = Field(
        None,
        validation_alias=f"{PREFIX}REWRITE",
        description="how to rewrite tables: online without blocking writers, or in place with the vendor's statements;"
        " unset: large tables online, or refused if that is not safe",
    )
    keep_old: bool = Field(
        default=False,
        validation_alias=f"{PREFIX}KEEP_OLD",
        description="keep the table that an online rewrite replaced, in a schema of its own",
    )
    hold_cutover: bool = Field(
        default=False,
        validation_alias=f"{PREFIX}HOLD_CUTOVER",
        description="do all of an online rewrite except the cutover, and keep the copy up to date until somebody runs"
        " schema-migrator rewrite swap, or migrate without this option",
    )
    cutover_window: Annotated[windows.Window | None, BeforeValidator(values.window)] = Field(
        None,
        validation_alias=f"{PREFIX}CUTOVER_WINDOW",
        description="hours in which the cutover of an online rewrite may begin, such as 02:00-04:00, in UTC, or"
        " 02:00-04:00 Europe/Berlin; until then the run waits as with --hold-cutover; unset: at any time",
    )
    hold_timeout: float = Field(
        604_800,
        ge=0,
        le=MOST_SECONDS,
        validation_alias=f"{PREFIX}HOLD_TIMEOUT",
        description="seconds to wait for the moment of the cutover; then the run ends, and the next one continues",
    )
    max_change_log: values.Limit = Field(
        "16GB",  # type: ignore[assignment]  # the text of --help; the validator turns it into bytes
        validation_alias=f"{PREFIX}MAX_CHANGE_LOG",
        description="size of an online rewrite's change log above which the run removes the copy and ends; off: no"
        " limit",
    )
    jobs: int | None = Field(
        None,
        ge=1,
        le=MOST_JOBS,
        validation_alias=f"{PREFIX}JOBS",
        description="most connections that an online rewrite may use, as far as the server accepts them; unset: as many"
        " as make it faster, up to 16, max_parallel_workers, and a quarter of the free connections",
    )
    max_commit_seconds: float = Field(
        0.25,
        ge=0,
        le=MOST_SECONDS,
        validation_alias=f"{PREFIX}MAX_COMMIT_SECONDS",
        description="seconds that a small commit may take; while it takes longer, an online rewrite halves its"
        " connections, down to one; 0: no limit",
    )
    max_load: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        validation_alias=f"{PREFIX}MAX_LOAD",
        description="active sessions of others above which an online rewrite pauses (requires pg_read_all_stats);"
        " unset: no limit",
    )
    max_replica_lag: values.Limit = Field(
        "256MB",  # type: ignore[assignment]  # the text of --help; the validator turns it into bytes
        validation_alias=f"{PREFIX}MAX_REPLICA_LAG",
        description="how far a replica may lag, in bytes of WAL: while one lags more, or this role cannot see it, an"
        " online rewrite does not start, or pauses; off: do not watch replicas",
    )
    max_slot_wal: values.Limit = Field(
        "16GB",  # type: ignore[assignment]  # the text of --help; the validator turns it into bytes
        validation_alias=f"{PREFIX}MAX_SLOT_WAL",
        description="WAL that the server may retain for a replication slot that nothing reads: above it an online"
        " rewrite does not start, or pauses; off: no limit",
    )
    max_archive_lag: values.Limit = Field(
        "1GB",  # type: ignore[assignment]  # the text of --help; the validator turns it into bytes
        validation_alias=f"{PREFIX}MAX_ARCHIVE_LAG",
        description="how far the WAL archive may lag, in bytes of WAL: while it lags more, or the server fails to"
        " archive, an online rewrite does not start, or pauses; off: do not watch the archive",
    )
    ignore_replicas: Annotated[tuple[str, ...], NoDecode, BeforeValidator(values.split_names)] = Field(
        (),
        validation_alias=f"{PREFIX}IGNORE_REPLICAS",
        description="replicas and slots to ignore, by application_name or slot, separated by commas;"
        " --ignore-replica can be repeated",
    )
    disk_free: Annotated[int | Literal["df"] | None, BeforeValidator(partial(values.size, word="df"))] = Field(
        None,
        validation_alias=f"{PREFIX}DISK_FREE",
        description="free space on the server's disk, such as 500GB: an online rewrite that needs more is refused;"
        " df: ask the server to run that program; unset: not checked",
    )
    require_backup_within: Annotated[timedelta | None, BeforeValidator(values.duration)] = Field(
        None,
        validation_alias=f"{PREFIX}REQUIRE_BACKUP_WITHIN",
        description="refuse to change a store that has tables unless the newest backup is at most this old, such as"
        " 24h or 7d; requires --backup-command; unset: not checked",
    )
    backup_command: str | None = Field(
        None,
        validation_alias=f"{PREFIX}BACKUP_COMMAND",
        description="command that prints when the newest backup was finished, in ISO 8601 with a time zone or as"
        " seconds since 1970, or nothing if there is none (run without a shell, for a minute at most)",
    )
    adopt: bool = Field(
        default=False,
        validation_alias=f"{PREFIX}ADOPT",
        description="record the version that the tables match, if another one or none is recorded",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", validation_alias=f"{PREFIX}LOG_LEVEL", description="lowest level of event to log"
    )
    metrics_file: Path | None = Field(
        None,
        validation_alias=f"{PREFIX}METRICS_FILE",
        description="file for metrics in Prometheus' text format, replaced while the command runs and at its end; the"
        " textfile collector of node_exporter reads only files that end in .prom",
    )
    metrics_labels: Annotated[tuple[tuple[str, str], ...], NoDecode, BeforeValidator(values.labels)] = Field(
        (),
        validation_alias=f"{PREFIX}METRICS_LABELS",
        description="labels of all metrics, such as namespace=temporal,installation=blue, to tell installations apart",
    )
    termination_log: Path = Field(
        Path("/dev/termination-log"),
        validation_alias=f"{PREFIX}TERMINATION_LOG",
        description="file for the final message, if it exists (Kubernetes creates it)",
    )
