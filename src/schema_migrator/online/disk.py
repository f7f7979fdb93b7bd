"""Disk space for an online rewrite: how much it needs, and how much is free on the server, as far as is known.

PostgreSQL has no view of its disk. The operator either states the free space or lets the server run `df`.
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
"""The free space must be at least this factor times the forecast."""
_UNMEASURED = 1.7
"""Bytes of files, and the same again of WAL, per byte of a table that was not measured: the most that the benchmark has
measured (docs/performance.md, from version 1.2)."""
_LEAST_SHARE = 20
_KILO = 1024
# A program that the server runs starts in the data directory.
_PLACE = """
SELECT coalesce(nullif(pg_tablespace_location(dattablespace), ''), '.')
FROM pg_catalog.pg_database WHERE datname = current_database()
"""
_LINE = re.compile(r".*?\s+\d+\s+\d+\s+(\d+)\s+\S+\s+(/.*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """The bytes that an online rewrite needs, margin included: for its files, and for the WAL that it writes."""

    data: int
    wal: int

    @property
    def total(self) -> int:
        """Return the bytes of files and WAL together."""
        return self.data + self.wal

    def left(self, written: int) -> Need:
        """Return what is still needed once the files have grown to `written` bytes: at least a twentieth of it all."""
        rest = max(1 - written / max(self.data, 1), 1 / _LEAST_SHARE)
        return Need(data=round(self.data * rest), wal=round(self.wal * rest))


@dataclass(frozen=True, slots=True, kw_only=True)
class Free:
    """The bytes that are free on the database's disk and on the WAL's; `wal` is None if they are one disk."""

    data: int
    wal: int | None = None


def need(online: Online) -> Need:
    """Return what an online rewrite needs; it writes as much WAL as files, as in the benchmark."""
    share = online.forecast * MARGIN if online.forecast else online.size * _UNMEASURED
    return Need(data=round(share), wal=round(share))


def lacking(wanted: Need, free: Free) -> str:
    """Return in words which disk has too little free space; empty if none."""
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
    """Return the free space, None if it was not stated; in an open transaction.

    Raises PreflightFailed if the server should run `df` and cannot, or if the output is unreadable.
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
    if len(found) != 2:  # noqa: PLR2004 - one line per folder
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
