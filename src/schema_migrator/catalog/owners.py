"""Finds the owners of a store's schema and tables, and the other roles that may read them or create objects there."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, LiteralString, TypeAlias

from psycopg import Cursor
from psycopg.rows import dict_row

from schema_migrator.catalog import leftovers
from schema_migrator.catalog.leftovers import STORE, ForeignSchema, Leftover, Look

if TYPE_CHECKING:
    from schema_migrator.postgres.connection import Connection

_NAME = re.compile(r'\s*(?:"((?:[^"]|"")*)"|([^,"]*?))\s*(?:,|$)')
# A server only needs to read the version table, and only the migrator needs the history.
_WHOSE: LiteralString = f"""
WITH {STORE}, ns AS (
  SELECT n.oid, n.nspowner, n.nspacl, o.rolname::text AS owner, o.rolsuper AS super FROM pg_catalog.pg_namespace n
  LEFT JOIN pg_catalog.pg_roles o ON o.oid = n.nspowner WHERE n.nspname = %(schema)s
), served AS (SELECT * FROM store WHERE name <> 'schema_update_history'),
vendors AS (SELECT * FROM served WHERE name <> 'schema_version'),
usual AS (
  SELECT e.grantee, e.privilege_type AS what FROM vendors v CROSS JOIN LATERAL pg_catalog.aclexplode(v.relacl) e
  WHERE e.grantee <> v.relowner AND e.grantee <> (SELECT oid FROM me)
    AND e.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
  GROUP BY 1, 2 HAVING 2 * count(DISTINCT v.oid) > (SELECT count(*) FROM vendors)
), rights AS (
  SELECT coalesce(r.rolname::text, 'public') AS role, u.what,
    EXISTS (SELECT FROM pg_catalog.pg_default_acl d CROSS JOIN LATERAL pg_catalog.aclexplode(d.defaclacl) e
      WHERE d.defaclrole = (SELECT oid FROM me) AND d.defaclobjtype = 'r'
        AND d.defaclnamespace IN (0, (SELECT oid FROM ns))
        AND e.grantee IN (0, u.grantee) AND e.privilege_type = u.what) AS given,
    ARRAY(SELECT s.name FROM served s WHERE (s.name <> 'schema_version' OR u.what = 'SELECT')
      AND NOT has_table_privilege(coalesce(r.rolname, 'public'), s.oid, u.what) ORDER BY 1) AS lacking
  FROM usual u LEFT JOIN pg_catalog.pg_roles r ON r.oid = u.grantee
)
SELECT
  (SELECT CASE WHEN reset_val = boot_val THEN '' ELSE reset_val END FROM pg_catalog.pg_settings
    WHERE name = 'search_path') AS session_path,
  current_user::text AS role,
  coalesce((SELECT owner FROM ns), '') AS schema_owner,
  NOT EXISTS (SELECT FROM ns, me WHERE NOT (
    ns.nspowner = me.oid OR ns.super OR ns.owner = 'pg_database_owner'
    OR (NOT me.rolsuper AND pg_catalog.pg_has_role(ns.nspowner, 'MEMBER'))
    OR ns.nspowner = (SELECT datdba FROM pg_catalog.pg_database WHERE datname = current_database()))) AS trusted,
  coalesce((SELECT pg_catalog.pg_get_userbyid(h.oid)::text FROM heir h, me WHERE h.oid <> me.oid), '') AS heir,
  EXISTS (SELECT FROM heir h, me, ns WHERE h.oid <> me.oid AND (me.rolsuper OR (
    pg_catalog.has_schema_privilege(h.oid, ns.oid, 'CREATE') AND pg_catalog.pg_has_role(h.oid,
      CASE WHEN current_setting('server_version_num')::int < 160000 THEN 'MEMBER' ELSE 'SET' END)))) AS may_give,
  ARRAY(SELECT json_build_array(s.name, pg_catalog.pg_get_userbyid(s.relowner), pg_catalog.pg_get_userbyid(h.oid))
    FROM store s, heir h WHERE s.relowner <> h.oid ORDER BY s.name) AS strays,
  ARRAY(SELECT s.name FROM served s WHERE NOT has_table_privilege(s.oid, 'SELECT') ORDER BY 1) AS unreadable,
  ARRAY(SELECT CASE e.grantee WHEN 0 THEN '' ELSE pg_catalog.pg_get_userbyid(e.grantee)::text END
    FROM me, ns
    CROSS JOIN LATERAL pg_catalog.aclexplode(coalesce(ns.nspacl, pg_catalog.acldefault('n', ns.nspowner))) e
    WHERE e.privilege_type = 'CREATE' AND e.grantee <> ns.nspowner
      AND e.grantee NOT IN (SELECT oid FROM me UNION ALL SELECT oid FROM heir UNION ALL
        SELECT datdba FROM pg_catalog.pg_database WHERE datname = current_database())
      AND (e.grantee = 0 OR me.rolsuper OR NOT pg_catalog.pg_has_role(e.grantee, 'MEMBER'))
    ORDER BY 1) AS open_to,
  EXISTS (SELECT FROM ns, me WHERE ns.nspowner = me.oid OR me.rolsuper OR EXISTS (
    SELECT FROM pg_catalog.aclexplode(ns.nspacl) e WHERE e.grantee <> 0 AND e.privilege_type = 'CREATE'
      AND pg_catalog.pg_has_role(e.grantee, 'USAGE'))) AS makes_by_itself,
  ARRAY(SELECT json_build_array(role, what, given, lacking) FROM rights ORDER BY role, what DESC) AS rights
"""  # noqa: S608 - constants
_DEFAULT = ("$user", "public")
_ORDER = ("SELECT", "INSERT", "UPDATE", "DELETE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Right:
    """A right that a role has on most of the store's tables.

    `given`: by default privileges it has the right on new tables too. `lacking` are the tables without the right.
    """

    role: str
    what: str
    given: bool
    lacking: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignOwner:
    """A table of the store that does not belong to `heir`, the role that owns most of the tables."""

    table: str
    owner: str
    heir: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ownership:
    """The owners of a store's schema and tables, as `role` sees them.

    `chosen`: search_path is set, and not to its default. `named`: it contains the schema's own name, not only
    `"$user"`. `trusted`: our role has to trust the schema's owner anyway. `heir` is the role that owns most tables,
    unless that is ours; `may_give`: our role can give it the objects that it creates. `unreadable` are tables that our
    role may not read. `open_to` are other roles that may create objects in the schema ("": every role), and
    `makes_by_itself`: our role may create objects there without a grant to every role.
    """

    schema: str = ""
    role: str = ""
    schema_owner: str = ""
    chosen: bool = False
    named: bool = False
    trusted: bool = True
    heir: str = ""
    may_give: bool = False
    strays: tuple[ForeignOwner, ...] = ()
    unreadable: tuple[str, ...] = ()
    open_to: tuple[str, ...] = ()
    makes_by_itself: bool = True
    rights: tuple[Right, ...] = ()
    leftovers: tuple[Leftover, ...] = ()
    foreign_schemas: tuple[ForeignSchema, ...] = ()


UNSEEN = Ownership()
"""The value if the owners have not been read."""


Asked: TypeAlias = tuple[Cursor[Any], Cursor[Look]]
"""The cursors of the queries that `ask` has sent, with answers that have not been read yet."""


def ask(conn: Connection, schema: str, known: Collection[str]) -> Asked:
    """Send the queries for the owners of a schema's `known` tables and for leftovers, in a transaction."""
    values = {"schema": schema, "known": sorted(known)}
    return conn.cursor(row_factory=dict_row).execute(_WHOSE, values), leftovers.ask(conn, schema, known)


def look(asked: Asked, schema: str, path: Sequence[str]) -> Ownership:
    """Read the answers to `ask`. `path` is the search_path that the settings give, if any."""
    answer, left = asked
    row = answer.fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM has its row
    traces = leftovers.judged(left.fetchall(), schema)
    return replace(read(row, schema, path), leftovers=traces.leftovers, foreign_schemas=traces.foreign_schemas)


def read(row: Mapping[str, Any], schema: str, path: Sequence[str]) -> Ownership:
    """Return the ownership, without leftovers, from the row that answers the query."""
    names = tuple(path or search_path(row["session_path"]))
    chosen = names not in ((), _DEFAULT)
    return Ownership(
        schema=schema,
        role=row["role"],
        schema_owner=row["schema_owner"],
        chosen=chosen,
        named=chosen and schema in names,
        trusted=row["trusted"],
        heir=row["heir"],
        may_give=row["may_give"],
        strays=tuple(ForeignOwner(table=table, owner=owner, heir=heir) for table, owner, heir in row["strays"]),
        unreadable=tuple(row["unreadable"]),
        open_to=tuple(row["open_to"]),
        makes_by_itself=row["makes_by_itself"],
        rights=tuple(
            Right(role=role, what=what, given=given, lacking=tuple(lacking))
            for role, what, given, lacking in row["rights"]
        ),
    )


def search_path(text: str) -> tuple[str, ...]:
    """Return the names in a search_path as PostgreSQL reads them: names without quotes become lower case."""
    found = (item.group(1, 2) for item in _NAME.finditer(text))
    names = (quoted.replace('""', '"') if quoted is not None else plain.lower() for quoted, plain in found)
    return tuple(name for name in names if name)


def grants(schema: str, lacking: Iterable[tuple[str, str, Collection[str]]]) -> list[str]:
    """Return the GRANT statements for missing rights. Each entry of `lacking` is a role, a right and the tables."""
    wanted: dict[tuple[str, tuple[str, ...]], set[str]] = defaultdict(set)
    for role, what, tables in lacking:
        if tables:
            wanted[role, tuple(sorted(tables))].add(what)
    return [
        f"GRANT {', '.join(what for what in _ORDER if what in rights)} ON "
        f"{', '.join(f'{quoted(schema)}.{quoted(table)}' for table in tables)} TO {grantee(role)};"
        for (role, tables), rights in sorted(wanted.items())
    ]


def grantee(role: str) -> str:
    """Return a role in the form that GRANT and REVOKE expect."""
    return "PUBLIC" if role in ("", "public") else quoted(role)


def quoted(name: str) -> str:
    """Return an identifier in quotes, for SQL that a person runs."""
    return '"' + name.replace('"', '""') + '"'
