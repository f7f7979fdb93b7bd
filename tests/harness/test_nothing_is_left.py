"""However a run of the tests ends, no server of it is left: neither PostgreSQL nor Temporal's development server."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from support.postgres.engine import Engine
from support.temporal.frontends import development_server
from support.waiting import await_true

pytestmark = pytest.mark.server

NOTE = "TESTS_THAT_ARE_ENDED"
# A shell's background job has SIGINT ignored, and its children with it.
INTERRUPTIBLE = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
HOLD = 600.0
ENDING = 20.0


def hold_servers(server: Engine, tmp_path: Path) -> None:
    """Note the processes of both servers and of this worker, and wait to be ended; collected by name below."""
    with server.connect() as admin, development_server(tmp_path):
        ((data,),) = admin.execute("SHOW data_directory").fetchall()
        postmaster = (Path(data) / "postmaster.pid").read_text(encoding="ascii").split()[0]
        note = Path(os.environ[NOTE])
        note.with_suffix(".new").write_text(f"{os.getpid()} {postmaster} {child()}", encoding="ascii")
        note.with_suffix(".new").rename(note)
        time.sleep(HOLD)


def child() -> int:
    """Return the process of this thread's only child that is no watcher: the development server."""
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text(encoding="ascii").split()
    (found,) = [one for one in children if b"start-dev" in Path(f"/proc/{one}/cmdline").read_bytes()]
    return int(found)


@contextmanager
def held(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], int, list[int]]]:
    """Run the above in a worker; give the run, the worker, and the servers, which are killed if the test fails."""
    note = folder / "note"
    pytest_run = ["-m", "pytest", "-q", "-n", "1", "-o", "python_functions=hold_*", __file__]
    command = [sys.executable, "-c", INTERRUPTIBLE, *pytest_run]
    with subprocess.Popen(
        command,
        env=os.environ | {NOTE: str(note)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as run:
        await_true(note.exists)
        worker, *servers = map(int, note.read_text(encoding="ascii").split())
        try:
            yield run, worker, servers
        finally:
            for pid in (*servers, worker, run.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def left(pids: list[int]) -> list[int]:
    """Return the processes that still run; what has ended and is not waited for does not."""
    states = {}
    for pid in pids:
        with suppress(FileNotFoundError):
            states[pid] = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    return [pid for pid, state in states.items() if state != "Z"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_is_ended(tmp_path: Path, number: int) -> None:
    """Ctrl-C goes to the whole group of processes, the others to the run alone."""
    with held(tmp_path) as (run, _, servers):
        assert left(servers) == servers
        os.killpg(run.pid, number) if number == signal.SIGINT else run.send_signal(number)
        await_true(lambda: not left(servers), ENDING)


def test_a_worker_is_killed(tmp_path: Path) -> None:
    """Its servers are gone before the run begins another worker's."""
    with held(tmp_path) as (_, worker, servers):
        os.kill(worker, signal.SIGKILL)
        await_true(lambda: not left(servers), ENDING)
