"""The register of PostgreSQL's catalogs against every PostgreSQL from 13 on: nothing is missing, nothing is made up."""

from contextlib import ExitStack

import pytest

from schema_migrator.catalog import blockers
from schema_migrator.catalog.table_register import REGISTER, Fate
from support.postgres.engine import Connection, Engine
from support.postgres.older_servers import PINNED, older

THERE = """
SELECT c.relname || '.' || a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relnamespace = 'pg_catalog'::regnamespace AND c.relkind = 'r' AND a.attnum > 0
"""
NOT_OF_A_CATALOG = {
    "granted_by_others",
    "index_tablespace",
    "key_type",
    "lost_identity",
    "missing_right",
    "no_key",
    "tablespace",
    "whole_row",
}
"""Blockers that are no property in themselves: they follow from several, or from what our role may do."""


def columns(connection: Connection) -> set[str]:
    """Return all columns of all catalogs."""
    return {name for (name,) in connection.execute(THERE).fetchall()}


def test_every_property_has_one_entry(server: Engine) -> None:
    """This server has no column of the tables' catalogs, and no reference to a table, that the register lacks."""
    assert len({entry.name for entry in REGISTER}) == len(REGISTER)
    with server.connect() as connection:
        assert blockers.unknown(connection) == ()


def test_every_blocker_is_looked_for() -> None:
    """The register's blockers are those that a query finds, and each query stands for a property."""
    keys = {entry.why for entry in REGISTER if entry.fate is Fate.BLOCKER}
    assert keys | NOT_OF_A_CATALOG == set(blockers.BLOCKERS)
    assert keys.isdisjoint(NOT_OF_A_CATALOG)


@pytest.mark.matrix
def test_every_postgresql(server: Engine) -> None:
    """Nothing is missing in any version, and each entry is of some version."""
    found = set()
    with ExitStack() as stack:
        for engine in (server, *(stack.enter_context(older(major)) for major in PINNED)):
            with engine.connect() as connection:
                assert blockers.unknown(connection) == (), connection.info.server_version
                assert blockers.find(connection, "pg_catalog") is not None
                found |= columns(connection)
    assert sorted({entry.name for entry in REGISTER} - found) == []
