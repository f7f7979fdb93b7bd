"""Events to standard error: JSON for machines, lines for a terminal."""

from __future__ import annotations

import logging
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from schema_migrator import chart

if TYPE_CHECKING:
    import structlog


class Listener:
    """Standard error, whoever reads it: a pipe's end that has left must not end a migration."""

    def write(self, text: str) -> None:
        """Write, if somebody is there."""
        with suppress(OSError):
            sys.stderr.write(text)

    def flush(self) -> None:
        """Send what was written."""
        with suppress(OSError):
            sys.stderr.flush()


@dataclass(slots=True, kw_only=True)
class Beat:
    """The time for the next word about something that lasts: every so many seconds, from now on."""

    seconds: float
    _last: float = field(default_factory=time.monotonic)

    def due(self) -> bool:
        """Whether it is that time; then the next one begins."""
        now = time.monotonic()
        if now - self._last < self.seconds:
            return False
        self._last = now
        return True


def configure(level: str, *, terminal: bool) -> None:
    """Set up structlog for the process; psycopg's own warnings say again what our errors say."""
    import structlog  # noqa: PLC0415 - `--help` and `--version` do without it

    logging.getLogger("psycopg").addHandler(logging.NullHandler())
    renderer: Any = structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            _as_in_the_chart,
            structlog.processors.TimeStamper(fmt="%H:%M:%S" if terminal else "iso", utc=not terminal),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(Listener()),  # type: ignore[arg-type]  # print() needs no more
        cache_logger_on_first_use=True,
    )


def _as_in_the_chart(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return {name: chart.named(value) if isinstance(value, str) else value for name, value in event.items()}


def logger() -> structlog.typing.FilteringBoundLogger:
    """Return the logger. Events are dotted past names with values: `step.applied`, `lock.waiting`."""
    import structlog  # noqa: PLC0415 - see configure

    log: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    return log
