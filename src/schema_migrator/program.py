"""How a command line ends: its result, its errors, its exit code; the one place that exits."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from schema_migrator import errors
from schema_migrator.errors import MigratorError, SeveralErrors


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
            print(f"error: {part}", file=sys.stderr)  # noqa: T201
        _last_words(f"exit code {code}: {error}", arguments)
        return code
    except Exception as error:
        _last_words(f"exit code 1: {type(error).__name__}: {error}", arguments)
        raise
    return 0


def leave(code: int) -> NoReturn:
    """Exit."""
    gc.freeze()  # else Python searches all that was imported for cycles as it exits: 60 ms or more
    sys.exit(code)


def say(text: str) -> None:
    """Print a result; a reader that has left, such as `head`, changes neither what is done nor the exit code."""
    try:
        print(text, flush=True)  # noqa: T201 - results go to standard output
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _last_words(text: str, arguments: dict[str, Any]) -> None:
    """Write to the termination log, where there is one, whatever the settings are otherwise like."""
    name = "SCHEMA_MIGRATOR_TERMINATION_LOG"
    path = Path(arguments.get(name) or os.environ.get(name) or "/dev/termination-log")
    with suppress(OSError):  # the same words have gone to standard error
        if path.exists():
            path.write_text(f"{text}\n", encoding="utf-8", errors="backslashreplace")
