"""What a run costs: round trips after authentication, memory, and what a rehearsal takes."""

import time
from contextlib import suppress
from pathlib import Path

import pytest

from schema_migrator.diagnosis import rehearsal
from support.postgres.databases import STORES, Databases
from support.postgres.engine import Connection
from support.postgres.proxy import Options, Proxy
from support.program.command import COMMAND
from support.program.memory import peak
from support.program.store_driver import files

INSTALL, NOTHING = 24, 12
"""The most round trips, for both stores together, of a run without its proof."""
SLOW_LINK = 0.1
"""Seconds of each round trip: on a fast link, a busy machine sends a statement so late that it counts as one more."""
MOST_MEMORY = 80 * 1024 * 1024
REHEARSAL_SECONDS = 3.0


def run(databases: Databases, *args: str) -> int:
    """Migrate both stores in a process of its own; return the bytes of its memory at the most."""
    return peak([*COMMAND, "migrate", *args], databases.env())


@pytest.mark.parametrize("release", ["1.29.1", "1.32.2"])
def test_round_trips(databases: Databases, release: str) -> None:
    """Over a slow link they are what takes the time: few for an installation, fewer with nothing to do."""
    for most in (INSTALL, NOTHING):
        with Proxy(Options(host=databases.host, port=databases.port, delay=SLOW_LINK)) as proxy:
            run(databases.via(proxy.port), "--no-verify", "--temporal-version", release)
        assert 0 < proxy.stats.round_trips <= most


def test_memory(databases: Databases) -> None:
    """An installation with its proof fits into what a hook's pod is given."""
    assert run(databases) < MOST_MEMORY


def rehearse_both(databases: Databases) -> float:
    """Rehearse both stores, the longest step statement by statement; return the seconds, without waits for a CPU."""
    with databases.connect("default") as connection:
        began = time.monotonic() - waited_for_cpu(connection)
        for source in map(files, STORES):
            longest = max(source.steps, key=lambda step: len(step.statements))
            rehearsal.rehearse(connection, source, closely={longest.version})
        return time.monotonic() - waited_for_cpu(connection) - began


def waited_for_cpu(connection: Connection) -> float:
    """Return the seconds that a connection's backend, if it is on this machine, has waited for others' work."""
    backend = Path(f"/proc/{connection.info.backend_pid}")
    with suppress(OSError):  # a container's process has another number here, if any
        if (backend / "cmdline").read_bytes().startswith(b"postgres: "):
            return int((backend / "schedstat").read_text().split()[1]) / 1e9
    return 0.0


def test_a_rehearsal_is_quick(databases: Databases) -> None:
    """Both stores take a second or so; on a machine that has other work, one of a few tries does."""
    assert any(rehearse_both(databases) < REHEARSAL_SECONDS for _ in range(5))
