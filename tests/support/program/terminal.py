"""Runs our program at a terminal, of any width."""

import fcntl
import os
import struct
import subprocess
import termios
import threading
from collections.abc import Mapping

from support.program.command import COMMAND, Completed


def run_at_terminal(env: Mapping[str, str], *args: str, columns: int = 80, term: str = "xterm") -> Completed:
    """Run to the end with standard output and standard error at terminals of so many columns."""
    pairs = [os.openpty() for _ in range(2)]
    for _, its in pairs:
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    written = [bytearray(), bytearray()]
    readers = [
        threading.Thread(target=_drain, args=(mine, text)) for (mine, _), text in zip(pairs, written, strict=True)
    ]
    for reader in readers:
        reader.start()
    (_, out), (_, err) = pairs
    done = subprocess.run(
        [*COMMAND, *args], env={**env, "TERM": term}, stdin=out, stdout=out, stderr=err, check=False, timeout=120
    )
    os.close(out)
    os.close(err)
    for reader in readers:
        reader.join()
    stdout, stderr = (text.decode().replace("\r\n", "\n") for text in written)
    return Completed(code=done.returncode, stdout=stdout, stderr=stderr)


def _drain(mine: int, text: bytearray) -> None:
    with os.fdopen(mine, "rb", buffering=0) as terminal:
        try:
            while piece := terminal.read(65536):
                text.extend(piece)
        except OSError:  # how Linux says that nobody has the other end any more
            return
