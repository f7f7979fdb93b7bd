"""A primary and its standby, which takes over: copies of a server, so that each trial has a pair of its own."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from schema_migrator.demo.embedded_postgres import Server
from support.postgres.engine import Engine
from support.postgres.standbys import Primary, address, copied

SETTINGS = {"max_connections": "100", "wal_level": "replica"}
ASYNCHRONOUS = "asynchronous"
MODES = (ASYNCHRONOUS, "on", "remote_write", "remote_apply")
"""How commits are replicated: without waiting, or what `synchronous_commit` says."""
STANDBY = "second"


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
        primary = stack.enter_context(copied(server, "primary", SETTINGS | names))
        # Everybody sees how far a standby with a slot is.
        follows = {"primary_conninfo": address(primary, STANDBY), "primary_slot_name": STANDBY}
        options = ("-R", "--create-slot", "--slot", STANDBY)
        standby = stack.enter_context(copied(primary, STANDBY, SETTINGS | follows, *options))
        Primary(engine=Engine.of(primary), server=primary).await_all(STANDBY)
        yield Pair(primary=primary, standby=standby)
