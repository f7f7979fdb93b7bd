"""The pings of idle connections disturb nobody: not the connection's user, and not its end."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from psycopg.conninfo import make_conninfo

from schema_migrator.postgres.pipelines import PipelineConnection
from support.postgres.databases import Databases
from support.postgres.fault_proxy import Fault, FaultProxy, Place
from support.postgres.proxy import Options, Proxy

DELAY = 0.4
SILENCE = 6.0


def dsn(databases: Databases, port: int) -> str:
    """Return where the owner connects through a proxy."""
    where = {"host": "127.0.0.1", "port": port, "dbname": databases.default}
    return make_conninfo(**where, user=databases.user, password=databases.password)


@contextmanager
def pinged(databases: Databases, seconds: float) -> Iterator[tuple[PipelineConnection, threading.Thread]]:
    """Give a connection, and the thread that pings it, while the answer takes so long."""
    fault = Fault(place=Place(connection=0, message=1), act=partial(time.sleep, seconds))
    with FaultProxy(databases.host, databases.port, fault) as proxy:
        conn = PipelineConnection.connect(dsn(databases, proxy.port), autocommit=True)
        ping = threading.Thread(target=conn.ping)
        ping.start()
        time.sleep(0.1)
        assert ping.is_alive()
        yield conn, ping


def test_a_connection_is_closed_when_its_ping_has_ended(databases: Databases) -> None:
    """Otherwise libpq uses memory that the close has freed, and the process ends by a signal now and then."""
    with pinged(databases, DELAY) as (conn, ping):
        conn.close()
        ping.join(DELAY / 4)
        assert not ping.is_alive()
        assert conn.closed
        conn.ping()


def test_a_ping_that_does_not_end_delays_the_end_for_two_seconds(databases: Databases) -> None:
    """When the network is gone, nobody waits for the ping's answer."""
    with pinged(databases, SILENCE) as (conn, ping):
        began = time.monotonic()
        conn.close()
        assert ping.is_alive()
        assert time.monotonic() - began < SILENCE / 2
        ping.join()
        conn.close()


def test_a_connection_in_use_is_left_alone(databases: Databases) -> None:
    """Neither during a statement of another thread nor in a transaction; an idle one is pinged."""
    with Proxy(Options(host=databases.host, port=databases.port)) as proxy:
        conn = PipelineConnection.connect(dsn(databases, proxy.port), autocommit=True)
        with conn:
            before = proxy.stats.round_trips
            with conn.transaction():
                conn.ping()
            assert proxy.stats.round_trips == before + 2
            busy = threading.Thread(target=conn.execute, args=["SELECT pg_sleep(0.5)"])
            busy.start()
            time.sleep(0.1)
            conn.ping()
            assert busy.is_alive()
            busy.join()
            assert proxy.stats.round_trips == before + 3
            conn.ping()
            assert proxy.stats.round_trips == before + 4
