"""A network that swallows packets: the system ends the connection, and with it the run, within a minute.

A run beside a dropping firewall took 62 s to say so; what makes it so is looked at here.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import pytest

from schema_migrator.concurrency import Interrupt
from schema_migrator.config.settings import read
from schema_migrator.postgres import connection
from support.postgres.databases import Databases
from support.postgres.engine import Connection

MINUTE = 60


@contextmanager
def connected(databases: Databases, **variables: str) -> Iterator[Connection]:
    """Connect as the program does."""
    with patch.dict(os.environ, databases.env() | variables):
        settings = read({}).stores[0]
        with connection.connect(settings, Interrupt(), patience=5) as conn:
            yield conn


def test_silence_ends_a_connection(databases: Databases) -> None:
    """Whether something is on its way or nothing is, a minute without an answer is the end."""
    with connected(databases) as conn, socket.socket(fileno=os.dup(conn.fileno())) as raw:
        assert raw.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        idle, interval, count, unanswered = (
            raw.getsockopt(socket.IPPROTO_TCP, option)
            for option in (
                socket.TCP_KEEPIDLE,
                socket.TCP_KEEPINTVL,
                socket.TCP_KEEPCNT,
                socket.TCP_USER_TIMEOUT,
            )
        )
    assert (idle + interval * count, unanswered) == (MINUTE, MINUTE * 1000)


@pytest.mark.parametrize("wanted", ["tcp_user_timeout=5000", "keepalives=0"])
def test_ones_own_way(databases: Databases, wanted: str) -> None:
    """What the user says of it in the connection's attributes holds."""
    name, _, value = wanted.partition("=")
    with connected(databases, SQL_CONNECT_ATTRIBUTES=wanted) as conn:
        assert conn.info.get_parameters()[name] == value
