"""The last check of a run: a new connection finds what the run has recorded.

A failover during the run may have made another server the primary, which need not have all that the old one committed.
The old one may still run, and then the run's own connections notice nothing.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import psycopg

from schema_migrator.errors import FailedOver
from schema_migrator.postgres import connection, transactions
from schema_migrator.releases.manifests import parse_version
from schema_migrator.runs import version_table

if TYPE_CHECKING:
    from packaging.version import Version

    from schema_migrator.concurrency import Interrupt
    from schema_migrator.config.settings import StoreSettings
    from schema_migrator.planning.plan import Plan


def assert_recorded(settings: StoreSettings, interrupt: Interrupt, made: Plan, *, patience: float) -> None:
    """Raise FailedOver if a new connection finds an older version than the plan's last one, or none.

    Raises what a connection raises after `patience` seconds, and psycopg's error if the version table is locked.
    """
    reached = made.version if made.ahead and made.version else made.target
    with closing(connection.connect(settings, interrupt, patience=patience)) as conn:
        found = _recorded(conn, made)
    if found is None or found < reached:
        raise FailedOver(
            f"this run has recorded version {reached}, but a new connection finds {found or 'no version'} at"
            f" {settings.address}: another server may have become the primary",
            hint="run it again: it resumes with what that server has",
        )


def _recorded(conn: connection.Connection, made: Plan) -> Version | None:
    try:
        with transactions.look(conn, made.schema) as sent:
            answer = version_table.ask(sent, made.database)
    except psycopg.errors.UndefinedTable:  # also if the schema does not exist
        return None
    row = answer.fetchone()
    return parse_version(row[0] or "") if row else None
