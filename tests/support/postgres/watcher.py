"""Ends the servers of a test run when the run ends, however it ends: on Ctrl-C, SIGTERM, or SIGKILL of a worker."""

import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

MEMORY = "/dev/shm"  # noqa: S108 - the folder below it is one of mkdtemp's
ENOUGH = 6 * 1024**3
"""Bytes that must be free there for one process: a run has a few, each with some hundred small databases at most."""
# The end of standard input is the end of the process that holds the other end of the pipe. A server that is starting
# as its folder goes does not start, or stops by itself.
_SCRIPT = """
read -r _
for file in "$1"/*/*/postmaster.pid; do
  [ -f "$file" ] && kill -QUIT "$(head -n 1 "$file")"
done
for _ in 1 2 3 4 5 6 7 8 9 10; do
  rm -rf "$1" && break
  sleep 0.5
done
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watcher:
    """A process that waits for the end of this one; the servers that this one starts lie under its folder."""

    folder: Path
    outside: str | None
    process: subprocess.Popen[bytes]

    def end(self) -> None:
        """Let it stop the servers that are left, and remove the folder."""
        tempfile.tempdir = self.outside
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def watch() -> Watcher:
    """Start a watcher; from now on temporary folders of this process lie under its folder."""
    outside = tempfile.tempdir
    # pytest's own temporary folders stay where they are, to be read after the run.
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
    folder = Path(tempfile.mkdtemp(prefix="tests-", dir=memory()))
    folder.chmod(0o711)  # where root runs the tests, the servers belong to another account
    process = subprocess.Popen(
        ["/bin/sh", "-c", _SCRIPT, "sh", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # what the terminal sends to the run does not reach it
    )
    tempfile.tempdir = str(folder)
    return Watcher(folder=folder, outside=outside, process=process)


def memory() -> str | None:
    """Return the folder in memory, where servers take half the time, if it has room and programs may run there."""
    try:
        found = os.statvfs(MEMORY)
    except OSError:
        return None
    roomy = found.f_bavail * found.f_frsize >= ENOUGH
    return MEMORY if roomy and not found.f_flag & os.ST_NOEXEC and os.access(MEMORY, os.W_OK) else None


def dies_with_us(*command: str) -> list[str]:
    """Return a command that is killed when the thread that started it has ended, in good order or not."""
    return ["setpriv", "--pdeathsig", "KILL", "--", *command]
