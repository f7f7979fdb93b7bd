"""Runs the commands that settings name, without a shell. No error shows what a command was given or has printed."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Sequence

from schema_migrator.errors import MigratorError, SettingsError

_BY_HAND = "run it by hand and read its output"
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

    Raises SettingsError if it cannot be started, and `failure` if it fails or runs for longer than `seconds`.
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
    if process.returncode != 0:
        raise failure(f'{name}: "{words[0]}" failed with exit code {process.returncode}', hint=_BY_HAND)
    return printed


def _printed(process: subprocess.Popen[bytes], seconds: float) -> bytes:
    _RUNNING.add(process)
    try:
        return process.communicate(timeout=seconds)[0]
    except BaseException:
        process.kill()
        raise
    finally:
        _RUNNING.discard(process)


def end_all() -> None:
    """Kill the commands that are still running. Threads that wait for one see it as failed."""
    for process in tuple(_RUNNING):
        process.kill()


def _fix(name: str) -> str:
    return f"correct {name}"
