"""Runs our program with an environment: as a process, as its users do, or in this process, which saves a second."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import structlog

from schema_migrator.cli import main
from support.waiting import PATIENCE

COMMAND = (sys.executable, "-m", "schema_migrator")


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """How a run ended and what it wrote."""

    code: int
    stdout: str
    stderr: str


def run_cli(env: Mapping[str, str], *args: str) -> Completed:
    """Run to the end in this process; what is about the process itself takes `run_process`."""
    structlog.reset_defaults()
    out, err = io.StringIO(), io.StringIO()
    with patch.dict(os.environ, env, clear=True), redirect_stdout(out), redirect_stderr(err):
        code = main.run(args)
    return Completed(code=code, stdout=out.getvalue(), stderr=err.getvalue())


def run_process(env: Mapping[str, str], *args: str) -> Completed:
    """Run to the end as a process."""
    return finish(start_cli(env, *args))


def start_cli(env: Mapping[str, str], *args: str) -> subprocess.Popen[str]:
    """Start and do not wait, for runs side by side and for signals; `finish` ends it."""
    return subprocess.Popen(
        [*COMMAND, *args],
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


@contextmanager
def started(env: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Start `migrate` for the block, which is to `finish` it; kill it when the block fails."""
    process = start_cli(env, "migrate")
    with killed_on_failure(process):
        yield process


@contextmanager
def killed_on_failure(process: subprocess.Popen[str]) -> Iterator[None]:
    """Kill the process when the block fails, and show what it said."""
    try:
        yield
    except BaseException:
        process.kill()
        sys.stderr.write(finish(process).stderr)
        raise


def await_event(process: subprocess.Popen[str], *names: str) -> Mapping[str, Any]:
    """Read events until there is one of those names; return it. Raises ValueError where the run ends before."""
    assert process.stderr is not None
    read = ""
    for line in process.stderr:
        read += line
        if line.startswith("{") and (event := json.loads(line))["event"] in names:
            return event  # type: ignore[no-any-return]  # an object, as all events are
    raise ValueError(f"no event {names}: {read}")


def finish(process: subprocess.Popen[str], timeout: float = PATIENCE) -> Completed:
    """Wait at most `timeout` seconds, then kill it and raise TimeoutExpired."""
    with process:
        try:
            stdout, stderr = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return Completed(code=process.returncode, stdout=stdout, stderr=stderr)
