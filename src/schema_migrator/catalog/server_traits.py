"""What a server and a database have in which they may differ from another one that creates the same schema."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, LiteralString

from psycopg.rows import class_row

if TYPE_CHECKING:
    from collections.abc import Mapping

    from schema_migrator.postgres.connection import Connection

# Older versions lack some of the columns, so they are read by name from the row as JSON.
_QUERY: LiteralString = """
SELECT current_setting('server_version_num')::int AS number, current_setting('server_version') AS version,
  pg_postmaster_start_time()::text || '/' || d.oid AS identity,
  pg_encoding_to_char(d.encoding)::text AS encoding,
  concat_ws(' ', CASE to_jsonb(d) ->> 'datlocprovider' WHEN 'i' THEN 'icu' WHEN 'b' THEN 'builtin' ELSE 'libc' END,
    coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale', d.datcollate::text),
    to_jsonb(d) ->> 'datcollversion') AS collation,
  coalesce((SELECT jsonb_object_agg(extname, extversion) FROM pg_catalog.pg_extension), '{}') AS extensions,
  coalesce((SELECT jsonb_object_agg(name, default_version) FROM pg_catalog.pg_available_extensions), '{}') AS available
FROM pg_catalog.pg_database d WHERE d.datname = current_database()
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerTraits:
    """The traits of a database and of its server.

    `number` is server_version_num. `identity` is equal for all connections to the same database of the same server.
    `collation` is the database's default one, with its provider and version. `extensions` are the installed ones with
    their versions, `available` those that can be installed.
    """

    number: int
    version: str
    identity: str
    encoding: str
    collation: str
    extensions: Mapping[str, str]
    available: Mapping[str, str]

    @property
    def major(self) -> int:
        """The major version."""
        return self.number // 10000


def read(conn: Connection) -> ServerTraits:
    """Return the traits. Must run in a transaction."""
    with conn.cursor(row_factory=class_row(ServerTraits)) as cursor:
        found = cursor.execute(_QUERY).fetchone()
    assert found is not None  # noqa: S101 - current_database() always has its row
    return found


def differences(store: ServerTraits, other: ServerTraits, extensions: frozenset[str]) -> tuple[str, ...]:
    """Return in words what the other server has and the store's does not; of `extensions`, their versions.

    An extension that the store does not have is none of these: the comparison itself shows that.
    """
    pairs = [
        ("PostgreSQL", store.version, other.version),
        ("encoding", store.encoding, other.encoding),
        ("default collation", store.collation, other.collation),
    ]
    known = {**other.available, **other.extensions}
    pairs += [
        (f"extension {name}", store.extensions[name], known.get(name, "none"))
        for name in sorted(extensions & store.extensions.keys())
    ]
    return tuple(f"{what} {theirs} instead of {own}" for what, own, theirs in pairs if own != theirs)
