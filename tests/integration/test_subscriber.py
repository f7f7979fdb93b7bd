"""A database that a subscription replicates into: an online rewrite would end that without a word, so it is refused."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg
import pytest

from schema_migrator.demo.embedded_postgres import private_server
from support.postgres.databases import Databases, fresh
from support.postgres.engine import Connection, Engine
from support.program.command import Completed, run_cli
from support.program.store_driver import NEWEST, site
from support.visibility.executions import TABLE, fill

ROWS = 30
BLOCKER = 'a subscription "own sub" replicates into it'
COUNT = f"SELECT count(*) FROM {TABLE}"
A_DELETE = f"DELETE FROM {TABLE} WHERE run_id = (SELECT max(run_id) FROM {TABLE})"
SECONDS = 60


@pytest.fixture(scope="module")
def logical(server: Engine) -> Iterator[Engine]:
    """Give the run's server if it has logical replication on, else start one."""
    with server.connect() as admin:
        on = admin.execute("SHOW wal_level").fetchone() == ("logical",)
    if on:
        yield server
        return
    with private_server(settings={"max_connections": "50", "wal_level": "logical"}) as started:
        yield Engine.of(started)


@pytest.fixture(scope="module")
def stores(logical: Engine) -> Iterator[Databases]:
    """Make a publisher, `default`, and a subscriber, `visibility`, both with the tables of visibility 1.9."""
    with fresh(logical) as databases:
        for name in (databases.default, databases.visibility):
            site(databases, "visibility").at(name).install("1.9")
        with databases.connect("default") as owner:
            fill(owner, ROWS)
        yield databases


@contextmanager
def subscribed(stores: Databases) -> Iterator[tuple[Connection, Connection]]:
    """Let the one replicate into the other; give superusers' connections to both."""
    name, engine = f"own_{stores.default}", stores.engine
    with stores.admin(stores.default) as publisher, stores.admin(stores.visibility) as subscriber:
        publisher.execute(f"CREATE PUBLICATION own FOR TABLE {TABLE}".encode())
        publisher.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [name])
        source = f"host={engine.host} port={engine.port} user={engine.user} dbname={stores.default}"
        source += f" password={engine.password}"
        options = f"WITH (create_slot = false, slot_name = '{name}')"
        create = f"CREATE SUBSCRIPTION \"own sub\" CONNECTION '{source}' PUBLICATION own {options}"
        try:
            subscriber.execute(create.encode())
            yield publisher, subscriber
        finally:
            with suppress(psycopg.Error):
                subscriber.execute('DROP SUBSCRIPTION "own sub"')
            publisher.execute("DROP PUBLICATION own")


def rows(connection: Connection) -> int:
    """Return how many rows there are."""
    ((count,),) = connection.execute(COUNT.encode()).fetchall()
    return int(count)


def assert_replicates(publisher: Connection, subscriber: Connection) -> None:
    """See that what the publisher has arrives, a change of now included."""
    publisher.execute(A_DELETE.encode())
    expected, started = rows(publisher), time.monotonic()
    while rows(subscriber) != expected:
        assert time.monotonic() - started < SECONDS, (rows(subscriber), expected)
        time.sleep(0.1)


def migrate(stores: Databases, way: str) -> Completed:
    """Migrate the subscriber's visibility store."""
    return run_cli(stores.env() | {"SCHEMA_MIGRATOR_STORES": "visibility"}, "migrate", "--rewrite", way)


def test_replication_goes_on(stores: Databases) -> None:
    """Online is refused, by a role that may not read subscriptions; in place is done; changes arrive after both."""
    with subscribed(stores) as (publisher, subscriber):
        assert_replicates(publisher, subscriber)
        refused = migrate(stores, "online")
        assert refused.code == 31, refused.stderr
        assert BLOCKER in refused.stderr, refused.stderr
        assert subscriber.execute("SELECT tgname FROM pg_trigger WHERE NOT tgisinternal").fetchall() == []
        assert_replicates(publisher, subscriber)
        done = migrate(stores, "in-place")
        assert done.code == 0, done.stderr
        assert site(stores, "visibility", TEMPORAL_VERSION=NEWEST).status().up_to_date
        assert_replicates(publisher, subscriber)
        assert subscriber.execute("SELECT count(*) FROM pg_subscription_rel").fetchone() == (1,)
