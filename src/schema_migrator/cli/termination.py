"""The termination message of a container: how the run ended, and the points to which a restore can go back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from schema_migrator.config import chart
from schema_migrator.config.fields import PREFIX

_LOG = f"{PREFIX}TERMINATION_LOG"
_MOST_BYTES = 4096  # Kubernetes keeps the last ones of a longer message


@dataclass(frozen=True, slots=True)
class TerminationMessage:
    """Collects the points of return from the events of a run, and writes the message at its end."""

    points: list[str] = field(default_factory=list)

    def note(self, event: Mapping[str, Any]) -> None:
        """Keep the point of return if the event has one."""
        if event["event"] == "point_of_return.recorded":
            self.points.append(_sentence(event))

    def write(self, words: str, arguments: Mapping[str, Any], *, tail: str = "") -> None:
        """Write to the termination log if it exists, whatever the other settings are.

        If all of it is too long, the end of `words` and the beginning of `tail` are left out.
        """
        path = Path(arguments.get(_LOG) or os.environ.get(_LOG) or "/dev/termination-log")
        with suppress(OSError, ValueError):  # the same words have gone to standard error
            if path.is_file() or path.is_char_device():
                path.write_bytes(self._composed(chart.named(words), tail))

    def _composed(self, words: str, tail: str) -> bytes:
        points = "".join(f"{point}\n" for point in self.points).encode()
        head = words.encode(errors="backslashreplace")[: _MOST_BYTES - len(points)]
        rest = tail.encode(errors="backslashreplace")
        return head + rest[max(0, len(rest) - (_MOST_BYTES - len(points) - len(head))) :] + points


def _sentence(event: Mapping[str, Any]) -> str:
    place = f"LSN {event['lsn']}, timeline {event['timeline']}" if event["lsn"] else "LSN unknown"
    return f"point of return of the {event['store']} store: {event['time']}, {place}"
