"""Where a store is: facts from the catalogs and the version row to a state."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import psycopg
from packaging.version import Version
from psycopg import sql
from psycopg.rows import class_row

from schema_migrator.catalog.owners import UNSEEN
from schema_migrator.errors import UnknownState, WrongStore
from schema_migrator.releases.source import UNVERSIONED, parse_version

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schema_migrator.catalog.owners import Ownership
    from schema_migrator.config.settings import StoreSettings
    from schema_migrator.postgres.connection import Connection
    from schema_migrator.releases.source import Release, Source

_APART = "give each store its own database"
# Where the role's own search_path leads. Nothing here is looked up by it: the function is named with its schema.
_ROLES_SCHEMA = (
    "SET LOCAL search_path TO DEFAULT",
    "SELECT pg_catalog.set_config('schema_migrator.schema', pg_catalog.current_schema(), true)",
    "SET LOCAL search_path = pg_catalog, pg_temp",
)
_FACTS = """
WITH chosen AS (SELECT coalesce(
  (SELECT n.nspname::text FROM unnest(%(path)s::text[]) WITH ORDINALITY AS p(name, place)
    JOIN pg_catalog.pg_namespace n ON n.nspname = CASE p.name WHEN '$user' THEN current_user ELSE p.name END
    ORDER BY place LIMIT 1),
  %(wanted)s, nullif(current_setting('schema_migrator.schema'), '')) AS name)
SELECT chosen.name AS schema,
  n.oid IS NOT NULL AS schema_exists,
  current_setting('server_version_num')::int AS server,
  pg_is_in_recovery() OR current_setting('transaction_read_only')::bool AS read_only,
  pg_backend_pid() AS pid,
  pg_postmaster_start_time()::text || '/' || d.oid AS identity,
  current_user::text AS role,
  has_database_privilege(d.oid, 'CREATE') AS may_create_schema,
  coalesce(has_schema_privilege(n.oid, 'CREATE'), false) AS may_create_table,
  coalesce(pg_get_userbyid(n.nspowner)::text, '') AS schema_owner,
  EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'btree_gin') AS btree_gin,
  ARRAY(SELECT c.relname::text FROM pg_catalog.pg_class c
    WHERE c.relnamespace = n.oid AND c.relkind IN ('r', 'p') ORDER BY 1) AS tables,
  ARRAY(SELECT c.relname::text FROM pg_catalog.pg_class c
    WHERE c.relnamespace = n.oid AND c.relkind IN ('r', 'p') AND NOT pg_has_role(c.relowner, 'USAGE')
      AND c.relname = ANY (%(known)s || ARRAY['schema_version', 'schema_update_history'])
    ORDER BY 1) AS foreign_tables,
  ARRAY(SELECT o.nspname::text FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace o ON o.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND o.oid IS DISTINCT FROM n.oid AND o.nspname !~ '^(pg_|schema_migrator_rehearsal_)'
    GROUP BY 1 HAVING bool_or(c.relname = ANY (%(known)s))
      AND bool_or(c.relname IN ('schema_version', 'executions_visibility'))) AS elsewhere,
  ARRAY(SELECT i.relname::text FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
    WHERE i.relnamespace = n.oid AND NOT x.indisvalid AND (i.relname = ANY (%(indexes)s)
      OR regexp_replace(i.relname, '_cc(new|old)[0-9]*$', '') = ANY (%(indexes)s) AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_locks l WHERE l.locktype = 'relation' AND l.relation = x.indrelid
          AND l.mode = 'ShareUpdateExclusiveLock' AND l.pid IS DISTINCT FROM pg_backend_pid()
          AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())))
    ORDER BY 1) AS invalid,
  ARRAY(SELECT c.relname::text FROM pg_catalog.pg_class c
    WHERE c.relnamespace = n.oid AND c.relkind IN ('r', 'p') AND c.relname = ANY (%(known)s)
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_index x WHERE x.indrelid = c.oid AND x.indisprimary)
    ORDER BY 1) AS keyless
FROM chosen JOIN pg_catalog.pg_database d ON d.datname = current_database()
LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = chosen.name
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the catalogs say of a database and of the one schema that holds the tables.

    `server`: server_version_num; `identity`: the same for connections to the same database of the same server;
    `elsewhere`: other schemas where the store seems to be; `invalid`: indexes of the files that an interrupted CREATE
    or REINDEX CONCURRENTLY has left, not what a running REINDEX has beside one, which locks the table; `keyless`:
    tables of the store's names without a primary key.
    """

    schema: str | None
    schema_exists: bool
    server: int
    read_only: bool
    pid: int
    identity: str
    role: str
    may_create_schema: bool
    may_create_table: bool
    schema_owner: str
    btree_gin: bool
    tables: list[str]
    foreign_tables: list[str]
    elsewhere: list[str]
    invalid: list[str] = field(default_factory=list)
    keyless: list[str] = field(default_factory=list)

    @property
    def may_rehearse(self) -> bool:
        """Whether a scratch schema can be made here."""
        return self.may_create_schema and not self.read_only

    @property
    def versioned(self) -> bool:
        """Whether the vendor's version table is there."""
        return "schema_version" in self.tables


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRow:
    """A row of schema_version, as it is recorded."""

    db_name: str
    curr_version: str | None
    min_compatible_version: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """No version is recorded and no table of the store is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class At:
    """The recorded version, 0.0 after a set-up alone.

    `release`: another one, whose files make the tables as they are; releases differ under one version.
    """

    version: Version
    min_compatible: Version
    release: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Between:
    """A step that was begun: `remaining` are the indexes of its statements that are still to run.

    `version` is the recorded one, None without a row.
    """

    version: Version | None
    step: Version
    total: int
    remaining: tuple[int, ...]

    @property
    def done(self) -> int:
        """How many of the step's statements need not run."""
        return self.total - len(self.remaining)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unrecorded:
    """The tables are those of one version, but another one or none is recorded.

    `confirmed`: another db_name's row says so (the database was renamed or restored), or the history does (two of the
    vendor's tools ran at once).
    """

    version: Version
    recorded: Version | None
    confirmed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """A state that nothing explains, and why; `refinable`: the tables may tell more than the version row does."""

    reason: str
    hint: str
    recorded: Version | None = None
    refinable: bool = False


State: TypeAlias = Absent | At | Between | Unrecorded | Unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """What one look at a database found; `recorded` is the configured database's own row.

    `whose`: only a look that examine takes asks for it.
    """

    facts: Facts
    rows: tuple[VersionRow, ...]
    recorded: Version | None
    state: State
    whose: Ownership = UNSEEN


def look(
    conn: Connection, release: Release, settings: StoreSettings, path: Sequence[str], *, lock: bool = False
) -> Overview:
    """Read a store's state, in a transaction; with `lock` the version rows stay locked until that ends.

    The schema is the first of `path` that is there, as PostgreSQL chooses; without a path the role's. A failed read
    raises psycopg's error: it is never taken for an absent version.
    """
    source = release.source(settings.store)
    names = {
        "path": list(path),
        "wanted": next((name for name in path if name != "$user"), None),
        "known": sorted(source.tables),
        "indexes": sorted(source.indexes),
    }
    for statement in _ROLES_SCHEMA:
        conn.execute(statement)
    with conn.cursor(row_factory=class_row(Facts)) as cursor:
        facts = cursor.execute(_FACTS, names).fetchone()
    assert facts is not None  # noqa: S101 - current_database() always has its row
    rows = _read_rows(conn, facts, lock=lock) if facts.versioned else ()
    own = next((row for row in rows if row.db_name == settings.database), None)
    recorded = parse_version(own.curr_version or "") if own else None
    return Overview(facts=facts, rows=rows, recorded=recorded, state=recognise(release, settings, facts, rows))


def _read_rows(conn: Connection, facts: Facts, *, lock: bool) -> tuple[VersionRow, ...]:
    query = sql.SQL(
        "SELECT db_name, curr_version, min_compatible_version FROM {} WHERE version_partition = 0 {}"
    ).format(sql.Identifier(facts.schema or "", "schema_version"), sql.SQL("FOR UPDATE" if lock else ""))
    with conn.cursor(row_factory=class_row(VersionRow)) as cursor:
        try:
            return tuple(cursor.execute(query).fetchall())
        except psycopg.errors.UndefinedColumn as error:  # Flyway's table was called schema_version, too
            raise UnknownState(
                f"the table schema_version is not Temporal's: {error.diag.message_primary}",
                hint="give Temporal a database of its own, or a schema by search_path in SQL_CONNECT_ATTRIBUTES",
            ) from error


def recognise(release: Release, settings: StoreSettings, facts: Facts, rows: tuple[VersionRow, ...]) -> State:
    """Decide the state of a store as far as its version row shows; snapshots may tell more.

    Raises WrongStore when the database holds the other store's tables.
    """
    if facts.schema is None:
        return Unknown(
            reason="no schema of the search_path exists for the role",
            hint="create one, GRANT USAGE on it, or name it by search_path in SQL_CONNECT_ATTRIBUTES",
        )
    source = release.source(settings.store)
    present = source.tables.intersection(facts.tables)
    _refuse_other_store(release.source(settings.store.other), settings, facts, shared=bool(present))
    row = next((row for row in rows if row.db_name == settings.database), None)
    if row is None:
        return _unrecorded(settings, rows, present) if present else Absent()
    version, lowest = parse_version(row.curr_version or ""), parse_version(row.min_compatible_version or "")
    if version is None or lowest is None:
        return Unknown(
            reason=f'schema_version records "{row.curr_version}", at least "{row.min_compatible_version}"',
            hint="expected two versions such as 1.9 and 0.1: find out who wrote that row",
        )
    return _recorded(source, present, version, lowest)


def _refuse_other_store(other: Source, settings: StoreSettings, facts: Facts, *, shared: bool) -> None:
    strange = sorted(other.tables.intersection(facts.tables))
    if not strange:
        return
    raise WrongStore(
        f'database "{settings.database}" has a table of the {other.store} store, "{strange[0]}",'
        f" {'beside those of' if shared else 'expected'} the {settings.store} store",
        hint=_APART if shared else "swap DEFAULT_SQL_DATABASE and VISIBILITY_SQL_DATABASE",
    )


def _unrecorded(settings: StoreSettings, rows: tuple[VersionRow, ...], present: frozenset[str]) -> Unknown:
    others = ", ".join(f'"{row.db_name}" at {row.curr_version}' for row in rows)
    return Unknown(
        reason=f'{len(present)} tables of the store are there, but no version of "{settings.database}"'
        + (f" (only for {others})" if others else ""),
        hint="was the database renamed, restored, or left by an interrupted set-up?",
        refinable=True,
    )


def _recorded(source: Source, present: frozenset[str], version: Version, lowest: Version) -> State:
    if version == UNVERSIONED and present:
        return Unknown(
            reason=f"version 0.0 is recorded, but {len(present)} tables of the store are there",
            hint="an earlier migration was interrupted",
            recorded=version,
            refinable=True,
        )
    if version > UNVERSIONED and not present:
        return Unknown(
            reason=f"version {version} is recorded, but none of the store's tables is there",
            hint="are the tables in another schema (search_path), or was the database emptied?",
            recorded=version,
        )
    if UNVERSIONED < version < source.latest and version not in source.versions:
        return Unknown(
            reason=f"version {version} is recorded, which release {source.release} does not have",
            hint="set TEMPORAL_VERSION to the release that created it, or to a newer one",
            recorded=version,
            refinable=True,
        )
    return At(version=version, min_compatible=lowest)
