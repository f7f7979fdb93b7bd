"""Events to standard error: JSON for machines, lines for a terminal."""

from __future__ import annotations

import json
import logging
import math
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

from schema_migrator.config import chart
from schema_migrator.terminal import Screen, Tone, printable, screen

if TYPE_CHECKING:
    import structlog


LEVELS = ("debug", "info", "warning", "error")
"""The levels of events, least grave first."""
_LIBRARIES = ("psycopg", "azure", "botocore", "google", "msal", "urllib3")
Observer = Callable[[Mapping[str, Any]], None]
"""Receives an event: its name as `event`, its level, its store if it has one, and its values."""
_OBSERVERS: list[Observer] = []
_SHOWN: dict[str, bool] = {}  # whether people read the events at a terminal; empty before `configure`


class SafeStderr:
    """Standard error that never raises: a closed pipe or a full disk must not end a migration."""

    def write(self, text: str) -> None:
        """Write, if somebody is there."""
        with suppress(OSError, ValueError, AttributeError):  # ValueError: closed, or letters that it does not have
            sys.stderr.write(text)

    def flush(self) -> None:
        """Send what was written."""
        with suppress(OSError, ValueError, AttributeError):
            sys.stderr.flush()

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        with suppress(OSError, ValueError, AttributeError):
            return sys.stderr.isatty()
        return False


@dataclass(slots=True, kw_only=True)
class Interval:
    """Decides when the next progress event is due: every `seconds` seconds, counted from now.

    With `at_once` the first one is due immediately.
    """

    seconds: float
    at_once: bool = False
    _last: float = field(default_factory=time.monotonic)

    def due(self) -> bool:
        """Whether it is that time; then the next one begins."""
        now = time.monotonic()
        if not self.at_once and now - self._last < self.seconds:
            return False
        self._last, self.at_once = now, False
        return True


def configure(level: str, *, terminal: bool) -> None:
    """Set up structlog for the process; libraries' own warnings are dropped, because our errors say the same."""
    import structlog  # noqa: PLC0415 - `--help` and `--version` do without it

    for name in _LIBRARIES:
        logging.getLogger(name).addHandler(logging.NullHandler())
    _SHOWN["terminal"] = terminal
    shown = screen(SafeStderr())
    renderer: Any = partial(_line, shown) if terminal else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            _observed,
            partial(_at_least, level),
            _as_in_the_chart,
            structlog.processors.TimeStamper(fmt="%H:%M:%S" if terminal else "iso", utc=not terminal),
            _plain,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[0]),  # observers receive every event
        logger_factory=structlog.PrintLoggerFactory(SafeStderr()),  # type: ignore[arg-type]  # print() needs no more
        cache_logger_on_first_use=True,
    )


@contextmanager
def observed(observer: Observer) -> Iterator[None]:
    """Call `observer` with every event during the block, also below the level that is logged, from any thread."""
    _OBSERVERS.append(observer)
    try:
        yield
    finally:
        _OBSERVERS.remove(observer)


def configured() -> bool:
    """Return whether `configure` has been called."""
    import structlog  # noqa: PLC0415 - see configure

    return bool(_SHOWN) and structlog.is_configured()


def edge(event: str, **values: object) -> None:
    """Log the first or the last event of a run; on a terminal only at level debug, because the result says the same."""
    (logger().debug if _SHOWN.get("terminal") else logger().info)(event, **values)


def _observed(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    for observer in _OBSERVERS:
        observer(event)
    return event


def _at_least(
    level: str, _logger: object, method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Drop an event below a level. Any other name, such as `critical`, is graver than all levels."""
    import structlog  # noqa: PLC0415 - see configure

    if _gravity(method) < _gravity(level):
        raise structlog.DropEvent
    return event


def _gravity(name: str) -> int:
    return LEVELS.index(name) if name in LEVELS else len(LEVELS)


def _plain(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {name: plain(value) for name, value in event.items()}


def plain(value: object) -> object:
    """Return a value for JSON: numbers, texts, and lists of them; everything else as text."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float | Decimal):
        return _number(value)
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return str(value)


def _number(value: float | Decimal) -> int | float | None:
    """Return a number, None for what JSON has no word for."""
    if not math.isfinite(value):
        return None
    return int(value) if value == int(value) and isinstance(value, Decimal) else float(value)


def _line(shown: Screen, _logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    """Return an event as a line for people: time, level if it is not info, store, name, and what else is known."""
    values = {name: value for name, value in event.items() if value is not None}
    time_, level, store, name = (values.pop(key, "") for key in ("timestamp", "level", "store", "event"))
    graver = {"warning": Tone.PENDING, "error": Tone.REFUSED, "critical": Tone.REFUSED}.get(level, Tone.FAINT)
    words = [f"{store}:"] if store else []
    words += [str(name), *(f"{key}={_short(value)}" for key, value in values.items())]
    first = [shown.painted(time_, Tone.FAINT)] + ([shown.painted(level, graver)] if level != "info" else [])
    return " ".join([*first, printable(" ".join(words))])


def _short(value: object) -> str:
    """Return a value without quotes and brackets where it is clear without them."""
    if isinstance(value, list) and value and not any(isinstance(item, list | dict) for item in value):
        return ",".join(map(_short, value))
    if isinstance(value, str):
        return value if re.fullmatch(r"[^\s\"'=,]+", value) else repr(value)
    return f"{value:g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def _as_in_the_chart(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return {name: chart.named(value) if isinstance(value, str) else value for name, value in event.items()}


def logger() -> structlog.typing.FilteringBoundLogger:
    """Return the logger. Events are dotted past names with values: `step.applied`, `lock.waiting`."""
    import structlog  # noqa: PLC0415 - see configure

    log: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    return log
