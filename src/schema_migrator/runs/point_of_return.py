"""The point of return: time and WAL position of a server just before a run changes a store on it.

A point-in-time restore to this position has all that was committed before, and nothing of the run.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import psycopg

from schema_migrator import events
from schema_migrator.catalog.owners import grantee
from schema_migrator.postgres import transactions

if TYPE_CHECKING:
    from schema_migrator.postgres.connection import Connection

# The insert position, not pg_current_wal_lsn(): what others have committed without waiting for the disk lies between
# the two. The timeline is that of the segment's name, because pg_control_checkpoint() shows the one before a promotion
# until the next checkpoint is done.
_POINT = """
WITH here AS MATERIALIZED (SELECT clock_timestamp() AS now, pg_current_wal_insert_lsn() AS lsn)
SELECT now, lsn::text, ('x' || left(pg_walfile_name(lsn), 8))::bit(32)::bigint FROM here
"""
_CLOCK = "SELECT clock_timestamp()"
_UNSEEN = (
    psycopg.errors.InsufficientPrivilege,
    psycopg.errors.FeatureNotSupported,
    psycopg.errors.ObjectNotInPrerequisiteState,
    psycopg.errors.UndefinedFunction,
)
"""How a server, or a service that changed PostgreSQL, answers if the role cannot see the position."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PointOfReturn:
    """A moment before a run's first change of a store.

    `time` is the server's clock in UTC. `lsn` is where the next WAL record begins, on `timeline`; both are None if the
    role cannot see them.
    """

    time: datetime
    lsn: str | None = None
    timeline: int | None = None


def record(conn: Connection, role: str) -> PointOfReturn:
    """Log and return the point of return of a store. Without the position, log why and what to do."""
    try:
        ((now, lsn, timeline),) = transactions.ask(conn, _POINT)
        point = PointOfReturn(time=now.astimezone(UTC), lsn=lsn, timeline=timeline)
        reason = remedy = None
    except _UNSEEN as error:
        ((now,),) = transactions.ask(conn, _CLOCK)
        point = PointOfReturn(time=now.astimezone(UTC))
        reason, remedy = error.diag.message_primary, _remedy(error, role)
    events.logger().log(
        logging.INFO if reason is None else logging.WARNING,
        "point_of_return.recorded",
        time=point.time.isoformat(),
        lsn=point.lsn,
        timeline=point.timeline,
        reason=reason,
        remedy=remedy,
    )
    return point


def _remedy(error: psycopg.Error, role: str) -> str:
    if not isinstance(error, psycopg.errors.InsufficientPrivilege):
        return "aim a restore at the time"
    return (
        "as a superuser, in this database: GRANT EXECUTE ON FUNCTION pg_catalog.pg_current_wal_insert_lsn(),"
        f" pg_catalog.pg_walfile_name(pg_lsn) TO {grantee(role)}; until then, aim a restore at the time"
    )
