"""The tools that the Makefile runs find what they import."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMAND = re.compile(r"PYTHONPATH=(\S+) \$\(BIN\)/python (tools/\S+\.py)")
TOOLS = COMMAND.findall((ROOT / "Makefile").read_text())


def test_there_are_some() -> None:
    """The Makefile's lines are read."""
    expected = ["tools/durations.py", "tools/kill_sweep.py", "tools/online_sweep.py"]
    expected += [
        "tools/schedules.py",
        "tools/failovers.py",
        "tools/situations.py",
        "tools/mutants.py",
        "tools/sabotages.py",
        "tools/bench.py",
        "tools/e2e_cluster.py",
    ]
    assert sorted(tool for _, tool in TOOLS) == sorted(expected)


@pytest.mark.parametrize(("path", "tool"), TOOLS)
def test_says_how_it_is_used(path: str, tool: str) -> None:
    """With the path that the Makefile sets."""
    command = [sys.executable, tool, "--help"]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, "usage: " in done.stdout) == (0, True), done.stderr
