"""Errors of psycopg by their SQLSTATE, and what they mean."""

from types import SimpleNamespace
from typing import cast

import psycopg
import pytest

from schema_migrator.config import settings
from schema_migrator.errors import (
    ConnectionLost,
    MigratorError,
    PreflightFailed,
    ServerBusy,
    StatementFailed,
    StatementTimeout,
    TableLockTimeout,
)
from schema_migrator.postgres import server_errors
from schema_migrator.releases.source import Store


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("08006", ConnectionLost),
        ("57P01", ConnectionLost),
        ("57P05", ConnectionLost),  # idle_session_timeout
        ("25P03", ConnectionLost),  # idle_in_transaction_session_timeout
        ("25P04", ConnectionLost),  # transaction_timeout
        ("55P03", TableLockTimeout),
        ("40P01", TableLockTimeout),
        ("57014", StatementTimeout),
        ("25006", PreflightFailed),
        ("42501", PreflightFailed),
        ("23505", StatementFailed),
        ("53200", ServerBusy),
    ],
)
def test_by_sqlstate(clean: pytest.MonkeyPatch, state: str, kind: type[MigratorError]) -> None:
    """What a retry may cure has its own class; the rest is for a person; the address is there and no secret."""
    clean.setenv("SQL_PASSWORD", "s3cret")
    clean.setenv("SQL_HOST", "db")
    found = server_errors.explain(psycopg.errors.lookup(state)("some words"), settings.read({}).store(Store.DEFAULT))
    assert type(found) is kind
    assert "db/temporal" in found.message or kind is StatementTimeout or kind is TableLockTimeout
    assert "s3cret" not in str(found)


class SharedMemoryIsFull(psycopg.errors.DiskFull):
    """What a server says whose /dev/shm is too small, as PostgreSQL 15 said it."""

    @property
    def diag(self) -> psycopg.errors.Diagnostic:
        """Return where it was raised."""
        where = {"message_primary": "could not resize shared memory segment", "source_file": "dsm_impl.c"}
        return cast("psycopg.errors.Diagnostic", SimpleNamespace(**where, context=None))


def test_shared_memory_is_no_disk(clean: pytest.MonkeyPatch) -> None:
    """The server calls it a full disk; a rewrite that meets it is kept, and the remedy is another one."""
    clean.setenv("SQL_USER", "owner")
    found = server_errors.explain(SharedMemoryIsFull(), settings.read({}).store(Store.DEFAULT))
    assert type(found) is StatementFailed
    assert "shared memory" in found.message
    assert 'ALTER ROLE "owner" SET max_parallel_maintenance_workers = 0' in found.hint
