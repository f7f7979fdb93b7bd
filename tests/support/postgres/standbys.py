"""A primary server of our own, and its standbys: made with pg_basebackup, as late as a test wants them.

SCHEMA_MIGRATOR_TEST_BINDIR names other programs than the wheel's, such as /usr/lib/postgresql/15/bin.
"""

import os
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from schema_migrator.demo.embedded_postgres import Server, give_tree, private_server, start, stop_if_running
from support.postgres.engine import Connection, Engine
from support.waiting import await_true

MEGABYTE = 1024 * 1024
_ADDRESS = "host={} port={} user={} password={} application_name={}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standby:
    """A running standby."""

    engine: Engine
    server: Server

    def pause(self) -> None:
        """Let it go on receiving, but replay nothing."""
        with self.engine.connect() as admin:
            admin.execute("SELECT pg_wal_replay_pause()")

    @contextmanager
    def deaf(self) -> Iterator[Callable[[], None]]:
        """Let it receive nothing during the block, or until what is given is called; it stays connected."""
        with self.engine.connect() as admin:
            ((pid,),) = admin.execute("SELECT pid FROM pg_stat_wal_receiver").fetchall()
        hear = partial(os.kill, pid, signal.SIGCONT)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield hear
        finally:
            hear()


@dataclass(frozen=True, slots=True, kw_only=True)
class Primary:
    """A server that may have standbys."""

    engine: Engine
    server: Server

    @contextmanager
    def standby(
        self, name: str, *, slot: str | None = None, settings: Mapping[str, str] | None = None, stays: bool = False
    ) -> Iterator[Standby]:
        """Run a standby that streams, with a slot of that name where there is one, which may stay."""
        of_slot = ("--create-slot", "--slot", slot) if slot else ()
        own = {"primary_conninfo": address(self.server, name)} | ({"primary_slot_name": slot} if slot else {})
        with copied(self.server, name, own | dict(settings or {}), "-R", *of_slot) as made:
            try:
                self.await_all(name)
                yield Standby(engine=replace(self.engine, port=made.port), server=made)
            finally:
                stop_if_running(made)
                await_true(lambda: not self._streaming(name))
                if slot and not stays:
                    self.drop_slot(slot)

    def await_all(self, name: str) -> None:
        """Wait until the standby streams."""
        await_true(lambda: self._streaming(name))

    def _streaming(self, name: str) -> bool:
        query = "SELECT FROM pg_stat_replication WHERE application_name = %s AND state = 'streaming'"
        with self.engine.connect() as admin:
            return admin.execute(query, [name]).fetchone() is not None

    def write(self, megabytes: int) -> None:
        """Write so much WAL."""
        with self.engine.connect() as admin:
            for _ in range(megabytes):
                admin.execute("SELECT pg_logical_emit_message(true, 'test', repeat('x', %s))", [MEGABYTE])

    def drop_slot(self, slot: str) -> None:
        """Drop a slot, once nobody reads it any more."""
        with self.engine.connect() as admin:
            await_true(lambda: _idle(admin, slot))
            admin.execute("SELECT pg_drop_replication_slot(%s)", [slot])


def _idle(admin: Connection, slot: str) -> bool:
    query = "SELECT FROM pg_replication_slots WHERE slot_name = %s AND NOT active"
    return admin.execute(query, [slot]).fetchone() is not None


@contextmanager
def copied(server: Server, name: str, settings: Mapping[str, str], *options: str) -> Iterator[Server]:
    """Run a copy of a server, made by pg_basebackup if it is there, which is known to that server by a name."""
    data = server.datadir.parent / f"{server.datadir.name}_{name}"
    taken = ("-D", str(data), "-d", address(server, name), "-c", "fast", "--no-sync")
    if (server.bindir / "pg_basebackup").exists():
        server.run("pg_basebackup", *taken, *options)
    else:
        _copy_stopped(server, data)
    made = start(replace(server, datadir=data), {"fsync": "off", **settings})
    try:
        yield made
    finally:
        stop_if_running(made)
        shutil.rmtree(data)


def _copy_stopped(server: Server, data: Path) -> None:
    """Copy the files of a server while it is stopped, as those of a standby: npm's packages lack pg_basebackup."""
    server.stop("fast")
    shutil.copytree(server.datadir, data)
    (data / "standby.signal").touch()
    give_tree(data, server.account)
    server.start()


def address(server: Server, name: str) -> str:
    """Return how a standby of that name connects to a server."""
    return _ADDRESS.format(server.host, server.port, server.user, server.password, name)


def programs() -> Path | None:
    """Return the folder of PostgreSQL's programs, or nothing for the wheel's."""
    chosen = os.environ.get("SCHEMA_MIGRATOR_TEST_BINDIR")
    return Path(chosen) if chosen else None


@contextmanager
def primary() -> Iterator[Primary]:
    """Start a server."""
    settings = {"max_connections": "100", "wal_level": "logical"}
    with private_server(settings=settings, bindir=programs()) as server:
        engine = Engine.of(server)
        yield Primary(engine=engine, server=server)
