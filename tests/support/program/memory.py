"""The most memory that a program takes, by a small process in between.

Linux begins a program's peak (ru_maxrss) with that of the process which started it: straight from here, everything
would seem to take what the tests' own process does.
"""

import subprocess
import sys
from collections.abc import Mapping, Sequence

BETWEEN = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code if code >= 0 else 128 - code)
"""
UNIT = 1 if sys.platform == "darwin" else 1024


def peak(words: Sequence[str], env: Mapping[str, str]) -> int:
    """Run it to its end; return the bytes that it kept resident at the most. Raises CalledProcessError."""
    command = [sys.executable, "-I", "-S", "-c", BETWEEN, *words]
    return int(subprocess.run(command, env=dict(env), stdout=subprocess.PIPE, check=True).stdout) * UNIT
