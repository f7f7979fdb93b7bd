"""Every option, defined once: its variable, its type, its default and its meaning."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from schema_migrator.config import hosts, sizes
from schema_migrator.releases.source import Store

PREFIX = "SCHEMA_MIGRATOR_"
PASSWORDS = frozenset({"password", "password_file", "password_command"})
"""The fields of SqlSettings that are ways to give the password."""
MOST_SECONDS = 2_147_483
"""PostgreSQL counts a timeout's milliseconds in 31 bits."""


def _split_names(value: object) -> object:
    """Split each of one or several texts at its commas; a name counts once."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple):
        return value
    names = [name.strip() for text in texts for name in str(text).split(",")]
    return tuple(dict.fromkeys(name for name in names if name))


def _size(value: object, word: str = "") -> object:
    """Return the bytes that a text says; the word is one that may stand in their place."""
    if not isinstance(value, str) or (word and value == word):
        return value
    with suppress(ValueError):
        if (count := sizes.parse(value)) > 0:
            return count
    raise PydanticCustomError("size", "a size such as 256MB" + (f", or {word}" if word else ""))


def _limit(value: object) -> object:
    """Return the bytes that a text says; `off` is no limit."""
    found = _size(value, "off")
    return None if found == "off" else found


class _Given(BaseSettings):
    """Settings made of what is given alone: `flags.read_environment` and the flags are merged before."""

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
        """Leave the environment out: which flag beats which variable depends on the store."""
        return (init_settings,)


class RunSettings(_Given):
    """What to do, and how patiently."""

    temporal_version: str | None = Field(
        None, validation_alias="TEMPORAL_VERSION", description="server version whose files are used, exactly"
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
    allow_older_targets: bool = Field(
        default=False,
        validation_alias=f"{PREFIX}ALLOW_OLDER_TARGETS",
        description="take targets below what servers of TEMPORAL_VERSION need; else migrate refuses them, and wait"
        " and status --check ask for what the servers need",
    )
    stores: Annotated[tuple[Store, ...], NoDecode, BeforeValidator(_split_names)] = Field(
        tuple(Store),
        min_length=1,
        validation_alias=f"{PREFIX}STORES",
        description="stores to work on, separated by commas; --store repeats",
    )
    sources: Path = Field(
        Path("releases"),
        validation_alias=f"{PREFIX}SOURCES",
        description="folder that holds the releases' files, one folder a server version",
    )
    executor: Literal["native", "sql-tool"] = Field(
        "native",
        validation_alias=f"{PREFIX}EXECUTOR",
        description="what runs the statements: we, or the vendor's binary one step at a time",
    )
    sql_tool: Annotated[Path | None, AfterValidator(lambda path: path and path.absolute())] = Field(
        None,
        validation_alias=f"{PREFIX}SQL_TOOL",
        description="the vendor's temporal-sql-tool, of the same release as the files; for the executor sql-tool",
    )
    output: Literal["text", "json"] = Field(
        "text", validation_alias=f"{PREFIX}OUTPUT", description="form of the results on standard output"
    )
    wait_timeout: float = Field(
        300,
        ge=0,
        le=MOST_SECONDS,
        validation_alias=f"{PREFIX}WAIT_TIMEOUT",
        description="seconds to wait for the database, for a step's table locks, and while an online rewrite pauses",
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
        description="seconds that one try may queue for a table lock (PostgreSQL's lock_timeout)",
    )
    statement_timeout: float = Field(
        0,
        ge=0,
        le=MOST_SECONDS,
        validation_alias=f"{PREFIX}STATEMENT_TIMEOUT",
        description="seconds that one statement may run; 0: no limit",
    )
    max_lock_seconds: float | None = Field(
        None,
        ge=1,
        le=MOST_SECONDS,
        validation_alias=f"{PREFIX}MAX_LOCK_SECONDS",
        description="refuse, before anything is changed, a step that would keep a table locked for longer, or for"
        " nobody knows how long; unset: no limit",
    )
    heartbeat: float = Field(
        10,
        ge=0.001,
        le=MOST_SECONDS,
        validation_alias=f"{PREFIX}HEARTBEAT",
        description="seconds between events that tell what runs and how far it is",
    )
    no_verify: bool = Field(
        default=False, validation_alias=f"{PREFIX}NO_VERIFY", description="do not prove the result by a rehearsal"
    )
    on_drift: Literal["warn", "fail"] = Field(
        "warn",
        validation_alias=f"{PREFIX}ON_DRIFT",
        description="what to do where the schema was changed by hand: warn, or fail before anything is touched;"
        " for the command namespaces: where one differs and is not updated",
    )
    rewrite: Literal["online", "in-place"] | None = Field(
        None,
        validation_alias=f"{PREFIX}REWRITE",
        description="how to rewrite tables: online without blocking writers, or in place with the vendor's statements;"
        " unset: large tables online, or refused where that is not safe",
    )
    keep_old: bool = Field(
        default=False,
        validation_alias=f"{PREFIX}KEEP_OLD",
        description="keep the table that an online rewrite has replaced, in a schema of its own",
    )
    max_load: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        validation_alias=f"{PREFIX}MAX_LOAD",
        description="active sessions of others above which an online rewrite pauses (takes pg_read_all_stats);"
        " unset: no limit",
    )
    max_replica_lag: Annotated[int | None, BeforeValidator(_limit)] = Field(
        "256MB",  # type: ignore[assignment]  # validated like any other value
        validation_alias=f"{PREFIX}MAX_REPLICA_LAG",
        description="WAL that a replica may lack: while one lacks more, or our role cannot see it, an online rewrite"
        " does not begin, or pauses; off: replicas are not watched",
    )
    ignore_replicas: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_names)] = Field(
        (),
        validation_alias=f"{PREFIX}IGNORE_REPLICAS",
        description="replicas that do not count, by application_name or slot, separated by commas;"
        " --ignore-replica repeats",
    )
    disk_free: Annotated[int | Literal["df"] | None, BeforeValidator(partial(_size, word="df"))] = Field(
        None,
        validation_alias=f"{PREFIX}DISK_FREE",
        description="what is free on the server's disk, such as 500GB: an online rewrite that takes more is refused;"
        " df: the server runs that program to tell; unset: nobody checks",
    )
    adopt: bool = Field(
        default=False,
        validation_alias=f"{PREFIX}ADOPT",
        description="record the version that the tables are of, where another one or none is recorded",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", validation_alias=f"{PREFIX}LOG_LEVEL", description="least grave event that is logged"
    )
    termination_log: Path = Field(
        Path("/dev/termination-log"),
        validation_alias=f"{PREFIX}TERMINATION_LOG",
        description="file that gets the last words, if it exists (Kubernetes makes it)",
    )


class SqlSettings(_Given):
    """How to reach a database; read once for both stores and once for each."""

    uri: SecretStr | None = Field(
        None, description="host, port, role, password and database in one: postgresql://user:password@host/database"
    )
    host: Annotated[str | None, BeforeValidator(hosts.bare)] = Field(
        None, description="server's name or address, or a socket's folder; several, separated by commas"
    )
    port: Annotated[str | None, BeforeValidator(hosts.ports)] = Field(
        None, description="server's port; for several hosts one for all, or one for each, separated by commas"
    )
    user: str | None = Field(None, description="role")
    password: SecretStr | None = Field(
        None, description="password, any characters; a flag shows it to everybody on the machine"
    )
    password_file: Path | None = Field(None, description="file that holds the password")
    password_command: str | None = Field(
        None, description="command that prints the password (run without a shell at every connection)"
    )
    database: str | None = Field(None, description="database's name; temporal and temporal_visibility unless said")
    connect_attributes: str | None = Field(
        None,
        repr=False,
        description="more connection parameters, as a query string (search_path=temporal&sslmode=require)",
    )
    tls: bool | None = Field(
        None,
        description="use TLS and check the server's certificate (recommended); unset: as libpq decides (PGSSLMODE)",
    )
    tls_ca_file: Path | None = Field(None, description="certificates of the authorities to trust")
    tls_cert_file: Path | None = Field(None, description="client certificate")
    tls_key_file: Path | None = Field(None, description="client certificate's key")
    tls_server_name: str | None = Field(None, description="name expected in the server's certificate")
    tls_disable_host_verification: bool | None = Field(
        None, description="accept a certificate for any name; without a CA file any certificate at all"
    )
    plugin: Literal["postgres12", "postgres12_pgx"] | None = Field(
        None, description="the vendor's name of the kind of database"
    )
    direct_host: Annotated[str | None, BeforeValidator(hosts.bare)] = Field(
        None, description="server's address past a transaction pooler, for CREATE INDEX CONCURRENTLY"
    )
    direct_port: Annotated[str | None, BeforeValidator(hosts.ports)] = Field(
        None, description="server's port past a transaction pooler"
    )

    def over(self, broad: Self) -> Self:
        """Return these settings, with the broad ones where nothing is set here.

        A password of its own, however it is given, leaves no room for a broad one.
        """
        mine = self.model_fields_set
        taken = mine | PASSWORDS if mine & PASSWORDS else mine
        return self.model_copy(update={name: getattr(broad, name) for name in broad.model_fields_set - taken})


class ClientSettings(_Given):
    """How to reach Temporal's frontend, by the names that its own clients read, and what is to be there."""

    address: str | None = Field(
        None,
        validation_alias="TEMPORAL_ADDRESS",
        description="frontend's host and port, such as temporal-frontend:7233",
    )
    api_key: SecretStr | None = Field(None, validation_alias="TEMPORAL_API_KEY", description="API key, or a token")
    api_key_file: Path | None = Field(
        None, validation_alias="TEMPORAL_API_KEY_FILE", description="file that holds the API key"
    )
    tls: bool | None = Field(
        None,
        validation_alias="TEMPORAL_TLS",
        description="use TLS; unset: exactly if there is an API key or a certificate",
    )
    ca_file: Path | None = Field(
        None,
        validation_alias="TEMPORAL_TLS_SERVER_CA_CERT_PATH",
        description="certificates of the authorities to trust; unset: the system's",
    )
    cert_file: Path | None = Field(
        None, validation_alias="TEMPORAL_TLS_CLIENT_CERT_PATH", description="client certificate"
    )
    key_file: Path | None = Field(
        None, validation_alias="TEMPORAL_TLS_CLIENT_KEY_PATH", description="client certificate's key"
    )
    server_name: str | None = Field(
        None, validation_alias="TEMPORAL_TLS_SERVER_NAME", description="name expected in the frontend's certificate"
    )
    namespaces: str | None = Field(
        None,
        validation_alias=f"{PREFIX}NAMESPACES",
        description="namespaces to create: names separated by commas, or a JSON list of objects",
    )
    namespaces_file: Path | None = Field(
        None, validation_alias=f"{PREFIX}NAMESPACES_FILE", description="file that holds that JSON list"
    )
