"""How a command line begins and ends: refused flags, results, errors, exit codes; the one place that exits."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from schema_migrator import chart, errors, logs
from schema_migrator.errors import MigratorError, SettingsError, SeveralErrors

_STEERING = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}


class Parser(argparse.ArgumentParser):
    """Refuses like everything else here does."""

    def error(self, message: str) -> NoReturn:
        """Raise SettingsError; where a command should stand may stand what was meant as a password."""
        said = "there is no such command" if "invalid choice" in message else message
        raise SettingsError(said, hint=f"see {self.prog} --help")


def parse(parser: Parser, argv: Sequence[str]) -> dict[str, Any]:
    """Return the flags by name. Raises SettingsError, which names unknown flags but not their values."""
    found, unknown = parser.parse_known_args(argv)
    if unknown:
        flags = [word.partition("=")[0] for word in unknown if word.startswith("-")]
        said = f"there is no flag {flags[0]}" if flags else "there is an argument that belongs to no flag"
        raise SettingsError(said, hint=f"see {parser.prog} {found.command} --help")
    return vars(found)


def run(
    argv: Sequence[str], parse: Callable[[Sequence[str]], dict[str, Any]], output: Callable[[dict[str, Any]], str]
) -> int:
    """Parse, do, print; return the exit code."""
    arguments: dict[str, Any] = {}
    try:
        arguments = parse(argv)
        say(output(arguments))
    except MigratorError as error:
        code = errors.exit_code(error)
        for part in error.parts if isinstance(error, SeveralErrors) else (error,):
            print(f"error: {_printable(chart.named(str(part)))}", file=logs.Listener(), flush=True)
        _last_words(f"exit code {code}: {error}", arguments)
        return code
    except Exception as error:
        _last_words(f"exit code 1: {type(error).__name__}: {error}", arguments)
        raise
    return 0


def leave(code: int) -> NoReturn:
    """Exit, without Python's own end: it searches for cycles for 60 ms, and threads of temporalio's abort in it."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code)


def say(text: str) -> None:
    """Print a result; a reader that has left, such as `head`, changes neither what is done nor the exit code."""
    encoding = sys.stdout.encoding or "utf-8"  # a locale may lack letters of a name, or a table's lines
    try:
        print(_printable(text).encode(encoding, "replace").decode(encoding), flush=True)  # noqa: T201 - results go to standard output
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _printable(text: str) -> str:
    """Return the text without what would steer a terminal: names of objects, and values, may hold anything."""
    return text.translate(_STEERING)


def _last_words(text: str, arguments: dict[str, Any]) -> None:
    """Write to the termination log, where there is one, whatever the settings are otherwise like."""
    name = "SCHEMA_MIGRATOR_TERMINATION_LOG"
    path = Path(arguments.get(name) or os.environ.get(name) or "/dev/termination-log")
    with suppress(OSError):  # the same words have gone to standard error
        if path.exists():
            path.write_text(f"{chart.named(text)}\n", encoding="utf-8", errors="backslashreplace")
