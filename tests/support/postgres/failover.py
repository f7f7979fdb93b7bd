"""A primary and its standby, which takes over: copies of a server, so that each trial has a pair of its own."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from schema_migrator.demo.embedded_postgres import Server, start, stop_if_running
from support.postgres.engine import Engine
from support.waiting import await_true

SETTINGS = {"max_connections": "100", "wal_level": "replica"}
ASYNCHRONOUS = "asynchronous"
MODES = (ASYNCHRONOUS, "on", "remote_write", "remote_apply")
"""How commits are replicated: without waiting, or what `synchronous_commit` says."""
STANDBY = "second"
_ADDRESS = "host={} port={} user={} password={} application_name={}"
_STREAMS = "SELECT FROM pg_stat_replication WHERE state = 'streaming'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A primary, and a standby that streams from it."""

    primary: Server
    standby: Server

    def take_over(self, *, stopped: bool) -> None:
        """Promote the standby. The primary was stopped at once before that, or goes on."""
        if stopped:
            self.primary.stop("immediate")
        self.standby.run("pg_ctl", "promote", "-w", "-D", str(self.standby.datadir))


@contextmanager
def pair(server: Server, mode: str) -> Iterator[Pair]:
    """Copy a server, and run the copy with a standby."""
    names = {} if mode == ASYNCHRONOUS else {"synchronous_standby_names": STANDBY, "synchronous_commit": mode}
    with ExitStack() as stack:
        primary = stack.enter_context(_copy(server, "primary", SETTINGS | names))
        # Everybody sees how far a standby with a slot is.
        follows = {"primary_conninfo": _address(primary, STANDBY), "primary_slot_name": STANDBY}
        options = ("-R", "--create-slot", "--slot", STANDBY)
        standby = stack.enter_context(_copy(primary, "standby", SETTINGS | follows, *options))
        with engine(primary).connect() as admin:
            await_true(lambda: admin.execute(_STREAMS).fetchone() is not None)
        yield Pair(primary=primary, standby=standby)


def engine(server: Server) -> Engine:
    """Return a server as the tests' databases want it."""
    return Engine(host=server.host, port=server.port, user=server.user, password=server.password)


@contextmanager
def _copy(server: Server, name: str, settings: dict[str, str], *options: str) -> Iterator[Server]:
    data = server.datadir.parent / f"{server.datadir.name}_{name}"
    taken = ("-D", str(data), "-d", _address(server, name), "-c", "fast", "--no-sync")
    server.run("pg_basebackup", *taken, *options)
    made = start(replace(server, datadir=data), {"fsync": "off", **settings})
    try:
        yield made
    finally:
        stop_if_running(made)
        shutil.rmtree(data)


def _address(server: Server, name: str) -> str:
    return _ADDRESS.format(server.host, server.port, server.user, server.password, name)
