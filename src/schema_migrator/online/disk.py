"""Room on the server's disk for an online rewrite: what it takes, and what is free, as far as anybody tells.

The server has no view of its disk. Either the user says what is free, or lets the server run `df`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import psycopg
from psycopg import sql

from schema_migrator.config import sizes
from schema_migrator.errors import PreflightFailed

if TYPE_CHECKING:
    from schema_migrator.planning.plan import Online
    from schema_migrator.postgres.connection import Connection

Said = int | Literal["df"] | None

MARGIN = 1.2
"""What is free must be as much more than the forecast."""
_UNMEASURED = 1.7
"""Bytes of files, and as many of WAL, for each byte of a table that nobody measured: the most that the bench has seen
(docs/performance.md, from 1.2)."""
_LEAST_SHARE = 20
_KILO = 1024
# The server's programs run in its data directory.
_PLACE = """
SELECT coalesce(nullif(pg_tablespace_location(dattablespace), ''), '.')
FROM pg_catalog.pg_database WHERE datname = current_database()
"""
_LINE = re.compile(r".*?\s+\d+\s+\d+\s+(\d+)\s+\S+\s+(/.*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Bytes that an online rewrite takes, with a margin: its files, and as much WAL as it writes."""

    data: int
    wal: int

    @property
    def total(self) -> int:
        """Return all of it."""
        return self.data + self.wal

    def left(self, written: int) -> Need:
        """Return what is still to be written when its files have grown to so many bytes; never nothing at all."""
        rest = max(1 - written / max(self.data, 1), 1 / _LEAST_SHARE)
        return Need(data=round(self.data * rest), wal=round(self.wal * rest))


@dataclass(frozen=True, slots=True, kw_only=True)
class Free:
    """Bytes that are free where the database is, and where the WAL is; `wal` is None where that is the same disk."""

    data: int
    wal: int | None = None


def need(online: Online) -> Need:
    """Return what an online rewrite takes; WAL as much as files, as the bench has seen it."""
    share = online.forecast * MARGIN if online.forecast else online.size * _UNMEASURED
    return Need(data=round(share), wal=round(share))


def lacking(wanted: Need, free: Free) -> str:
    """Return in words what is too little, empty where all is enough."""
    if free.wal is None:
        pairs = [("the server's disk has", free.data, wanted.total, " with its WAL")]
    else:
        pairs = [("the server's disk has", free.data, wanted.data, "")]
        pairs += [("the disk of pg_wal has", free.wal, wanted.wal, "'s WAL")]
    return next(
        (
            f"{where} {sizes.text(has)} free, expected {sizes.text(wants)} for the rewrite{what}"
            for where, has, wants, what in pairs
            if has < wants
        ),
        "",
    )


def look(conn: Connection, said: Said) -> Free | None:
    """Return what is free, None where nobody tells; in an open transaction.

    Raises PreflightFailed where `df` was asked for and does not answer.
    """
    if said != "df":
        return None if said is None else Free(data=said)
    try:
        with conn.transaction():
            lines = _ask(conn)
    except psycopg.Error as error:
        raise PreflightFailed(
            f"the server does not run df for this role: {error.diag.message_primary or error}",
            hint="GRANT pg_execute_server_program to it, or state the free space: --disk-free 500GB",
        ) from error
    found = [match.groups() for line in lines if (match := _LINE.fullmatch(line))]
    if len(found) != 2:  # noqa: PLR2004 - one line a folder
        raise PreflightFailed(
            f"df on the server printed something unreadable: {'; '.join(lines)}",
            hint="state the free space: --disk-free 500GB",
        )
    (data, mounted), (wal, wal_mounted) = found
    return Free(data=int(data) * _KILO, wal=None if mounted == wal_mounted else int(wal) * _KILO)


def _ask(conn: Connection) -> list[str]:
    place = (conn.execute(_PLACE).fetchone() or (".",))[0]
    quoted = "'" + place.replace("'", "'\\''") + "'"
    conn.execute("CREATE TEMP TABLE schema_migrator_disk (line text) ON COMMIT DROP")
    program = sql.Literal(f"df -Pk {quoted} pg_wal/.")
    conn.execute(sql.SQL("COPY pg_temp.schema_migrator_disk FROM PROGRAM {}").format(program))
    rows = conn.execute("SELECT line FROM pg_temp.schema_migrator_disk").fetchall()
    conn.execute("DROP TABLE pg_temp.schema_migrator_disk")
    return [line for (line,) in rows]
