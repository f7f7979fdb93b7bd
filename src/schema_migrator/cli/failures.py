"""How a run fails, in words: errors as lines or JSON, and faults of this program."""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from schema_migrator import errors, events, exit_codes
from schema_migrator.config import chart
from schema_migrator.errors import MigratorError, SeveralErrors
from schema_migrator.terminal import Tone, printable, screen, wrapped

_OUTPUT, _LEVEL = (f"SCHEMA_MIGRATOR_{name}" for name in ("OUTPUT", "LOG_LEVEL"))
_SECRET = re.compile(r"PASSWORD|API_KEY|URI|TOKEN|SECRET")
_SHORTEST_MASKED = 4
_EXPECTED = ", expected "


def wants_json(argv: Sequence[str], arguments: Mapping[str, Any]) -> bool:
    """Return whether the output is to be JSON, also where the flags could not be parsed."""
    said = [word for word in argv if word.startswith("--output=")]
    said += [f"--output={value}" for flag, value in pairwise(argv) if flag == "--output"]
    if said:
        return said[-1] == "--output=json"
    return (arguments.get(_OUTPUT) or os.environ.get(_OUTPUT)) == "json"


def code(error: Exception) -> int:
    """Return the exit code."""
    return errors.exit_code(error) if isinstance(error, MigratorError) else exit_codes.BUG


def fail(error: MigratorError, *, as_json: bool) -> str:
    """Say to standard error what was wrong; return the same for the termination message."""
    for part in error.parts if isinstance(error, SeveralErrors) else (error,):
        if as_json:
            events.logger().error("run.failed", **as_values(part))
        else:
            _line(str(part))
    return f"exit code {code(error)}: {error}\n"


def as_values(error: MigratorError) -> dict[str, Any]:
    """Return an error as the values of an event."""
    found, _, expected = error.message.partition(_EXPECTED)
    return {
        "kind": re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(error).__name__).lower(),
        "exit_code": errors.exit_code(error),
        "found": found,
        "expected": expected or None,
        "hint": error.hint or None,
        "detail": error.detail or None,
        "store": str(error.store) or None,
    }


def blame_ourselves(error: Exception, arguments: Mapping[str, Any], *, as_json: bool) -> tuple[str, str]:
    """Say in one line that this program is at fault, at level debug with the traceback.

    Return the line and the traceback for the termination message. What is known to be secret is masked.
    """
    trace = _masked("".join(traceback.format_exception(error)), arguments)
    frame = (traceback.extract_tb(error.__traceback__) or [None])[-1]
    place = f" in {Path(frame.filename).name}, line {frame.lineno}" if frame else ""
    found = f"a bug in this program: {type(error).__name__}{place}"
    hint = "please report it with the traceback that --log-level debug shows"
    debug = (arguments.get(_LEVEL) or os.environ.get(_LEVEL)) == "debug"
    if as_json:
        shown = {"kind": "bug", "exit_code": exit_codes.BUG, "found": found, "expected": None, "hint": hint}
        more = {"detail": trace if debug else None, "store": None}
        events.logger().error("run.failed", **shown, **more)
    else:
        _line(f"{found}; {hint}" + (f"\n{trace.rstrip()}" if debug else ""))
    return f"exit code {exit_codes.BUG}: {found}; {hint}\n", trace


def _masked(text: str, arguments: Mapping[str, Any]) -> str:
    """Return the text without the secrets that were given, but for parts too short to be told apart."""
    given = {**os.environ, **arguments}
    secrets = {value for name, value in given.items() if isinstance(value, str) and value and _SECRET.search(name)}
    secrets |= {part for secret in secrets for part in re.split(r"[:/@?&=]", secret) if part}
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _SHORTEST_MASKED:
            text = text.replace(secret, "***")
    return text


def _line(text: str) -> None:
    out, label = events.SafeStderr(), "error:"
    shown = screen(out)
    lines = f"{label} {printable(chart.named(text))}".split("\n")
    if shown.terminal:
        lines = [part for line in lines for part in wrapped(line, shown.columns)]
    text = "\n".join(lines).removeprefix(label)
    print(shown.painted(label, Tone.REFUSED) + text, file=out, flush=True)
