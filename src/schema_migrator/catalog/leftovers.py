"""Finds the leftovers of online rewrites: schemas that are ours by owner, name and comment.

No table in them has the name of a vendor's table, because the release's files look up tables by name alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, LiteralString

from psycopg import Cursor
from psycopg.rows import class_row
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schema_migrator.catalog import plain_rows

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from schema_migrator.postgres.connection import Connection

TRIGGER = "schema_migrator_log"
ROWS = "schema_migrator_shadow"
"""The name of the shadow table until the cutover."""
CONTROL, REPLAYED = "control", "replayed"
"""The names of the control row's table, and of the table of keys that were replayed while the cutover was held."""
ONLINE, RETIRED = "schema_migrator_online_", "schema_migrator_retired_"
REHEARSAL = "schema_migrator_rehearsal_"
"""The prefixes of the names of our schemas."""
OUR_TRIGGER: LiteralString = """g.tgname = 'schema_migrator_log' AND EXISTS (
  SELECT FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace s ON s.oid = p.pronamespace
  JOIN pg_catalog.pg_class w ON w.oid = g.tgrelid
  WHERE p.oid = g.tgfoid AND p.proname = 'log' AND s.nspowner IN (
    w.relowner, (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = current_user)))"""
"""Whether `pg_trigger g` belongs to an online rewrite: anybody can use the trigger's name, but not the right owner."""
STORE: LiteralString = """
me AS (SELECT r.oid, r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname = current_user),
store AS (
  SELECT c.oid, c.relname::text AS name, c.relowner, c.relacl
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname = %(schema)s AND c.relkind IN ('r', 'p')
    AND c.relname = ANY (%(known)s::text[] || ARRAY['schema_version', 'schema_update_history'])
), heir AS (
  SELECT s.relowner AS oid FROM store s
  GROUP BY 1 ORDER BY count(*) DESC, bool_or(s.name = 'schema_version') DESC, 1 LIMIT 1
)
"""
"""Expressions for a WITH: our role (me), the store's tables (store), and the role that owns most of them (heir)."""

# Objects of other owners are neither read nor measured: a comment may contain anything, and a lock may never end.
_FOUND: LiteralString = rf"""
WITH {STORE}, watch AS (
  SELECT p.pronamespace AS oid, min(s.name) AS name FROM pg_catalog.pg_trigger g JOIN store s ON s.oid = g.tgrelid
  JOIN pg_catalog.pg_proc p ON p.oid = g.tgfoid WHERE g.tgname = 'schema_migrator_log' GROUP BY 1
), looks AS (
  SELECT n.oid, n.nspname::text AS name, pg_catalog.pg_get_userbyid(n.nspowner)::text AS owner,
    n.nspowner IN (SELECT oid FROM me UNION ALL SELECT oid FROM heir) AS trusted,
    w.name AS watched, substring(n.nspname::text from '^schema_migrator_(?:online|retired)_([0-9]+)$') AS number
  FROM pg_catalog.pg_namespace n LEFT JOIN watch w ON w.oid = n.oid
)
SELECT l.name, l.oid::bigint AS oid, l.owner, l.trusted, coalesce(l.watched, '') AS watched,
  l.number IS NOT NULL AS named,
  coalesce((SELECT s.name FROM store s WHERE s.oid::text = l.number), '') AS numbered,
  EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid::text = l.number AND n.nspname <> %(schema)s) AS elsewhere,
  CASE WHEN l.trusted THEN left(pg_catalog.obj_description(l.oid, 'pg_namespace'), 4000) END AS says,
  EXISTS (SELECT FROM pg_catalog.pg_class c
    WHERE c.relnamespace = l.oid AND c.relname = 'schema_migrator_shadow') AS filled,
  EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.relnamespace = l.oid AND c.relname = l.name) AS replaced,
  2 = (SELECT count(*) FROM pg_catalog.pg_class c WHERE c.relnamespace = l.oid AND c.relkind = 'r'
    AND EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid
      AND (c.relname, a.attname) IN (('log', 'schema_migrator_turn'), ('batches', 'upto')))) AS laid_out,
  CASE WHEN l.trusted THEN (SELECT pg_catalog.pg_total_relation_size(c.oid) FROM pg_catalog.pg_class c
    WHERE c.relnamespace = l.oid AND c.relname = 'log' AND c.relkind = 'r') END AS log_bytes
FROM looks l WHERE l.number IS NOT NULL OR l.watched IS NOT NULL
  OR l.name ~ '^schema_migrator_rehearsal_[0-9a-f]{{16}}$' ORDER BY l.name
"""  # noqa: S608 - constants


_OF_OURS = """
SELECT nspname::text FROM pg_catalog.pg_namespace
WHERE nspname ~ '^schema_migrator_(online|retired)_[0-9]+$' AND pg_has_role(nspowner, 'USAGE') ORDER BY 1
"""


def of_ours(conn: Connection) -> tuple[str, ...]:
    """Return the schemas with our names that our role owns, for any store. Must run in a transaction."""
    return tuple(name for (name,) in conn.execute(_OF_OURS).fetchall())


class Comment(BaseModel):
    """The comment on one of our schemas, as JSON. This version does not interpret a comment in another format."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    format: Literal[1]
    by: Literal["temporal-schema-migrator"]
    store_schema: str = Field(alias="schema")
    table: str
    target: str
    fingerprint: str
    kept: bool

    def written(self) -> str:
        """Return the text of the comment."""
        return self.model_dump_json(by_alias=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """One of our schemas: an unfinished rewrite, or the old table of a finished one.

    `schema` and `table` name the live table (empty if nothing identifies it). `kept`: it stays until somebody asks for
    its removal. `finished`: the cutover is done. `fingerprint`: see online.source_table. `lost`: its comment is gone,
    so no run can resume it. `watching`: its trigger is on the live table. `log_bytes` is the size of its change log.
    """

    name: str
    oid: int
    schema: str
    table: str
    target: str
    fingerprint: str
    kept: bool
    finished: bool
    lost: bool = False
    watching: bool = False
    log_bytes: int = field(default=0, compare=False)

    @property
    def retired(self) -> bool:
        """Whether it holds the old table of a finished rewrite."""
        return self.finished and self.name.startswith(RETIRED)

    @property
    def unfinished(self) -> bool:
        """Whether it is a rewrite before its cutover."""
        return not self.finished


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignSchema:
    """A schema that looks like ours but is not, and the reason (`why`). The program never touches anything in it.

    `watched` is the store's table with a trigger that calls a function in it. `wanted` is the table whose online
    rewrite needs the schema's name.
    """

    name: str
    owner: str
    why: str
    watched: str = ""
    wanted: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traces:
    """The leftovers of online rewrites of a store, and the schemas that only look like leftovers."""

    leftovers: tuple[Leftover, ...] = ()
    foreign_schemas: tuple[ForeignSchema, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A schema as the catalogs show it. `says` and `log_bytes` are None unless its owner is trusted."""

    name: str
    oid: int
    owner: str
    trusted: bool
    watched: str
    named: bool
    numbered: str
    elsewhere: bool
    says: str | None
    filled: bool
    replaced: bool
    laid_out: bool
    log_bytes: int | None


def find(conn: Connection, schema: str, known: Collection[str]) -> Traces:
    """Return the leftovers of online rewrites of a store's tables: the `known` tables of a schema."""
    return judged(ask(conn, schema, known).fetchall(), schema)


def ask(conn: Connection, schema: str, known: Collection[str]) -> Cursor[Look]:
    """Send the query for the leftovers of online rewrites, in a transaction; `judged` interprets its rows."""
    return conn.cursor(row_factory=class_row(Look)).execute(_FOUND, {"schema": schema, "known": sorted(known)})


def judged(looks: Iterable[Look], schema: str) -> Traces:
    """Return which of the schemas are ours and which only look like it, for the tables of a schema."""
    verdicts = [verdict for verdict in (_judge(look, schema) for look in looks) if verdict is not None]
    return Traces(
        leftovers=tuple(verdict for verdict in verdicts if isinstance(verdict, Leftover)),
        foreign_schemas=tuple(verdict for verdict in verdicts if isinstance(verdict, ForeignSchema)),
    )


def _judge(look: Look, schema: str) -> Leftover | ForeignSchema | None:
    """Return what a schema is, or None if it belongs to another store in this database."""
    if not look.trusted:
        others = look.elsewhere and not look.watched
        return None if others else _stranger(look, f'it belongs to "{look.owner}"')
    says = _parsed(look.says)
    if says and look.named and says.store_schema == schema:
        return _leftover(look, schema, says, lost=False)
    if not look.watched and (says or (look.elsewhere and not look.replaced)):
        return None
    why = _why_not(look, says)
    return _stranger(look, why) if why else _leftover(look, schema, says, lost=True)


def _why_not(look: Look, says: Comment | None) -> str:
    """Return why a schema of a trusted owner is not ours; empty if it is ours although its comment is gone."""
    if look.name.startswith(REHEARSAL) and not look.watched:
        return "a rehearsal left it because its files committed: inspect it, then drop it"
    if look.says and not says:
        return "this version of schema-migrator does not write such a comment"
    if look.laid_out or (look.replaced and look.name.startswith(RETIRED)):
        return ""
    return "it has no comment and does not contain what an online rewrite creates"


def _parsed(comment: str | None) -> Comment | None:
    try:
        return Comment.model_validate_json(comment or "")
    except ValidationError:
        return None


def _leftover(look: Look, schema: str, says: Comment | None, *, lost: bool) -> Leftover:
    retired = look.name.startswith(RETIRED) and not look.laid_out
    return Leftover(
        name=look.name,
        oid=look.oid,
        schema=schema,
        table=says.table if says else look.watched or look.numbered,
        target=says.target if says else "",
        fingerprint=says.fingerprint if says and not lost else "",
        kept=says.kept if says and not lost else retired,  # a table with rows is removed only on request
        finished=retired or not look.filled,
        lost=lost,
        watching=bool(look.watched),
        log_bytes=look.log_bytes or 0,
    )


def _stranger(look: Look, why: str) -> ForeignSchema:
    return ForeignSchema(name=look.name, owner=look.owner, why=why, watched=look.watched, wanted=look.numbered)


def copied(conn: Connection, found: Leftover) -> int:
    """Return the number of rows that an unfinished rewrite has copied; in an open transaction."""
    batches = plain_rows.read_if_table(conn, found.name, "batches", ("rows",)) or []
    return sum(count for (count,) in batches if isinstance(count, int))
