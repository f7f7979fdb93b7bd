"""Runs the commands that settings name, without a shell. No error shows what a command was given or has printed."""

from __future__ import annotations

import os
import selectors
import shlex
import subprocess
import time
from collections.abc import Sequence

from schema_migrator.errors import MigratorError, SettingsError

_MOST_BYTES = 1 << 20  # of output: a password and a time are short, and a command may print without end
_BY_HAND = "run it by hand and read its output"
_PART_BYTES = 1 << 16
_RUNNING: set[subprocess.Popen[bytes]] = set()


def split(text: str, name: str) -> tuple[str, ...]:
    """Return the words of a command line; `name` is the setting that has it. Raises SettingsError."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise SettingsError(f"{name} is not a command line ({str(error).lower()})", hint=_fix(name)) from None
    if not words or not words[0]:
        raise SettingsError(f"{name} is empty", hint=_fix(name))
    return tuple(words)


def output(words: Sequence[str], name: str, *, seconds: float, failure: type[MigratorError] = SettingsError) -> bytes:
    """Return what a command prints to standard output; `name` is the setting that has it.

    Raises SettingsError if it cannot be started, and `failure` if it fails, runs for longer than `seconds`, or prints
    more than a megabyte.
    """
    try:
        with subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            printed = _printed(process, seconds)
    except OSError as error:
        raise SettingsError(f'{name} cannot run "{words[0]}" ({error.strerror})', hint=_fix(name)) from None
    except subprocess.TimeoutExpired:
        raise failure(f'{name}: "{words[0]}" ran longer than {seconds:g} s', hint=_BY_HAND) from None
    if len(printed) > _MOST_BYTES:
        raise failure(f'{name}: "{words[0]}" printed more than {_MOST_BYTES >> 20} MB', hint=_BY_HAND)
    if process.returncode != 0:
        raise failure(f'{name}: "{words[0]}" failed with exit code {process.returncode}', hint=_BY_HAND)
    return printed


def _printed(process: subprocess.Popen[bytes], seconds: float) -> bytes:
    """Return the output, and a little more than the most of it if there is too much."""
    _RUNNING.add(process)
    try:
        end = time.monotonic() + seconds
        printed = _read(process, end)
        if len(printed) > _MOST_BYTES:
            process.kill()
        else:
            process.wait(max(0.0, end - time.monotonic()))
    except BaseException:
        process.kill()
        raise
    else:
        return printed
    finally:
        _RUNNING.discard(process)


def _read(process: subprocess.Popen[bytes], end: float) -> bytes:
    """Read to the end of the output or to more than the most of it. Raises TimeoutExpired at `end`."""
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    printed = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while len(printed) <= _MOST_BYTES:
            left = end - time.monotonic()
            if left <= 0:
                raise subprocess.TimeoutExpired(process.args, 0)
            if selector.select(left):
                part = os.read(process.stdout.fileno(), _PART_BYTES)
                if not part:
                    break
                printed += part
    return bytes(printed)


def end_all() -> None:
    """Kill the commands that are still running. Threads that wait for one see it as failed."""
    for process in tuple(_RUNNING):
        process.kill()


def _fix(name: str) -> str:
    return f"correct {name}"
