"""How a terminal is written to: its width, its colours, and the characters that are escaped."""

from __future__ import annotations

import os
import shutil
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

NARROWEST = 80
"""Columns that every output is expected to have."""
_STEERING = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}
_COLOURLESS = ("dumb", "unknown")


class Tone(Enum):
    """The meaning of some words, shown as a colour; the words alone say the same."""

    GOOD = "32"
    PENDING = "33"
    REFUSED = "31"
    COMMAND = "1;32"
    HEADING = "36"
    FAINT = "2"


class Output(Protocol):
    """The part of a stream that this module needs."""

    def isatty(self) -> bool:
        """Return whether it is a terminal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Screen:
    """What an output shows; at a terminal, sentences are wrapped too."""

    columns: int = NARROWEST
    colours: bool = False
    terminal: bool = False

    def painted(self, text: str, tone: Tone) -> str:
        """Return the text in the colour of its tone, if there are colours."""
        return f"\x1b[{tone.value}m{text}\x1b[0m" if self.colours and text else text


def screen(output: Output, environ: Mapping[str, str] = os.environ) -> Screen:
    """Return what an output shows; NO_COLOR and FORCE_COLOR decide about colours where they are set."""
    terminal = output.isatty()
    forced, refused = bool(environ.get("FORCE_COLOR")), bool(environ.get("NO_COLOR"))
    able = terminal and environ.get("TERM", "dumb") not in _COLOURLESS
    columns = shutil.get_terminal_size((NARROWEST, 24)).columns if terminal else NARROWEST
    return Screen(columns=max(columns, NARROWEST), colours=(able or forced) and not refused, terminal=terminal)


def printable(text: str) -> str:
    """Return the text with control characters escaped: the name of an object, or a value, can contain any character."""
    return text.translate(_STEERING)


def wrapped(line: str, columns: int) -> list[str]:
    """Wrap a line at spaces; every line after the first is indented."""
    lead = line[: len(line) - len(line.lstrip())]
    return textwrap.wrap(
        line,
        columns,
        subsequent_indent=f"{lead}  ",
        expand_tabs=False,
        replace_whitespace=False,
        break_long_words=False,
        break_on_hyphens=False,
    ) or [""]
