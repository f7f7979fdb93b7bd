"""Events to standard error: JSON for machines, lines for a terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import structlog


def configure(level: str, *, terminal: bool) -> None:
    """Set up structlog for the process."""
    import structlog  # noqa: PLC0415 - `--help` and `--version` do without it

    renderer: Any = structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S" if terminal else "iso", utc=not terminal),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def logger() -> structlog.typing.FilteringBoundLogger:
    """Return the logger. Events are dotted past names with values: `step.applied`, `lock.waiting`."""
    import structlog  # noqa: PLC0415 - see configure

    log: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    return log
