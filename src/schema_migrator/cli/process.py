"""How a process parses its command line, prints its result or error, and exits; no other module exits."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import Any, NoReturn

from schema_migrator import events
from schema_migrator.cli import failures, metrics_file
from schema_migrator.cli.termination import TerminationMessage
from schema_migrator.errors import MigratorError, ResultLost, SettingsError
from schema_migrator.reports.layout import Report, rendered
from schema_migrator.terminal import printable, screen

_WITHOUT_FLAG = "an argument belongs to no flag"


class Parser(argparse.ArgumentParser):
    """A parser that raises SettingsError instead of exiting."""

    def error(self, message: str) -> NoReturn:
        """Raise SettingsError; where a command should stand may stand what was meant as a password."""
        said = "unknown command" if "invalid choice" in message else message
        raise SettingsError(said, hint=f"see {self.prog} --help")


def parse(parser: Parser, argv: Sequence[str], takers: Callable[[str], Sequence[str]] = lambda _: ()) -> dict[str, Any]:
    """Return the flags by name. Raises SettingsError, which names unknown flags but not their values.

    `takers` returns the commands that take a flag.
    """
    found, unknown = parser.parse_known_args(argv)
    if unknown:
        flags = [word.partition("=")[0] for word in unknown if word.startswith("-")]
        said = _misplaced(flags[0], found.command, takers(flags[0])) if flags else _WITHOUT_FLAG
        raise SettingsError(said, hint=f"see {parser.prog} {found.command} --help")
    return vars(found)


def _misplaced(flag: str, command: str, takers: Sequence[str]) -> str:
    """Say that there is no such flag, or whose it is."""
    if not takers:
        return f"unknown flag {flag}"
    return f"{flag} is a flag of {_joined(takers)}, not of {command}"


def _joined(names: Sequence[str]) -> str:
    """Return names as a sentence lists them."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def run(
    argv: Sequence[str],
    parse: Callable[[Sequence[str]], dict[str, Any]],
    output: Callable[[dict[str, Any]], str | Report],
) -> int:
    """Parse, do, print; return the exit code."""
    arguments: dict[str, Any] = {}
    started, message = time.monotonic(), TerminationMessage()
    with ExitStack() as stack:
        stack.enter_context(events.observed(message.note))
        close: Callable[[int], None] = lambda _: None  # noqa: E731 - until there is a metrics file
        try:
            arguments = parse(argv)
            close = metrics_file.begin(arguments, stack)
            say(output(arguments))
        except SystemExit as end:  # argparse has shown the help, or the version
            return int(end.code or 0)
        except Exception as error:  # noqa: BLE001 - any other exception is a bug, and is reported as one
            code = _failed(error, argv, arguments, started, message)
        else:
            code = _succeeded(arguments, started, message)
        close(code)
    return code


def _succeeded(arguments: dict[str, Any], started: float, message: TerminationMessage) -> int:
    _log_end(0, started)
    if message.points:
        message.write("exit code 0\n", arguments)
    return 0


def _failed(
    error: Exception, argv: Sequence[str], arguments: dict[str, Any], started: float, message: TerminationMessage
) -> int:
    """Say why; as JSON the last event comes after that, and else before: the reason is what people look for."""
    code, as_json = failures.code(error), failures.wants_json(argv, arguments)
    if as_json and not events.configured():
        events.configure("info", terminal=False)
    if not as_json:
        _log_end(code, started)
    if isinstance(error, MigratorError):
        message.write(failures.fail(error, as_json=as_json), arguments)
    else:
        words, trace = failures.blame_ourselves(error, arguments, as_json=as_json)
        message.write(words, arguments, tail=trace)
    if as_json:
        _log_end(code, started)
    return code


def _log_end(code: int, started: float) -> None:
    if events.configured():
        events.edge("run.ended", exit_code=code, seconds=round(time.monotonic() - started, 3))


def open_streams() -> None:
    """Open closed standard streams on /dev/null; otherwise a connection could get the number of one of them."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", errors="replace", closefd=False))  # noqa: SIM115


def leave(code: int) -> NoReturn:
    """Exit without Python's shutdown, which collects garbage for 60 ms and during which threads of temporalio abort."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)


def say(result: str | Report) -> None:
    """Print a result, a report as the output shows it.

    A reader that has left, such as `head`, changes neither what is done nor the exit code. Raises ResultLost where it
    cannot be written otherwise, to a full disk for one.
    """
    # A locale may lack letters of a name, or the lines of a table.
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    text = printable(result) if isinstance(result, str) else rendered(result, screen(sys.stdout))
    try:
        print(text.encode(encoding, "replace").decode(encoding), flush=True)  # noqa: T201 - results go to standard output
    except BrokenPipeError:
        _discard_output()
    except OSError as error:
        _discard_output()
        raise ResultLost(
            f"the result could not be written to standard output ({error.strerror}); what was done is not undone",
            hint="free disk space there, then run it again",
        ) from error


def _discard_output() -> None:
    """Let what is still in the buffer of standard output go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
