"""The entry points of both commands. A signal that arrives while the rest is loading ends the process too."""

import os
import signal
from types import FrameType

from schema_migrator.stop_signals import handled


def main() -> None:
    """Run schema-migrator and exit."""
    _end_on_signals()
    from schema_migrator.cli import main  # noqa: PLC0415 - loading it takes some tenths of a second

    main.main()


def dropin() -> None:
    """Run temporal-sql-tool and exit."""
    _end_on_signals()
    from schema_migrator.cli import vendor  # noqa: PLC0415 - loading it takes some tenths of a second

    vendor.main()


def _end_on_signals() -> None:
    """Handle the stop signals: PID 1 of a container ignores signals without a handler."""
    for number in handled():
        signal.signal(number, _end)


def _end(number: int, _frame: FrameType | None) -> None:
    os._exit(128 + number)
