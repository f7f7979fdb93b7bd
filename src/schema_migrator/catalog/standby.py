"""How far a standby has replayed its primary's WAL, which is the moment that it shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, LiteralString

from psycopg.rows import class_row

if TYPE_CHECKING:
    from schema_migrator.postgres.connection import Connection

# The age of the last transaction is no lag while the primary is idle, so it is given beside the bytes. Everybody may
# see that there is a WAL receiver, and only pg_read_all_stats its details.
_QUERY: LiteralString = """
SELECT pg_last_wal_replay_lsn()::text AS replayed, pg_last_wal_receive_lsn()::text AS received,
  greatest(pg_wal_lsn_diff(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()), 0)::bigint AS behind,
  extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float AS seconds,
  EXISTS (SELECT FROM pg_catalog.pg_stat_wal_receiver) AS receiving,
  CASE WHEN pg_is_in_recovery() THEN pg_is_wal_replay_paused() ELSE false END AS paused
WHERE pg_is_in_recovery()
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standby:
    """What a standby shows: everything up to the LSN `replayed`.

    `received` is the last LSN that it has, and `behind` the bytes of WAL between the two; both are None if it does not
    stream. `seconds`: the age of the last transaction that it has replayed, None if there was none. `receiving`: it is
    connected to a server that sends WAL. `paused`: it replays nothing until somebody resumes it.
    """

    replayed: str | None
    received: str | None
    behind: int | None
    seconds: float | None
    receiving: bool
    paused: bool


def read(conn: Connection) -> Standby | None:
    """Return how far the server has replayed, None if it is no standby. Must run in a transaction."""
    with conn.cursor(row_factory=class_row(Standby)) as cursor:
        return cursor.execute(_QUERY).fetchone()
