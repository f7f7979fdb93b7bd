"""Events as JSON has them."""

import json
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
import structlog
from packaging.version import Version

from schema_migrator import events
from schema_migrator.releases.source import Store


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Iterator[pytest.CaptureFixture[str]]:
    """Let events be JSON lines, as where no terminal is."""
    before = structlog.get_config()
    events.configure("info", terminal=False)
    yield capsys
    structlog.configure(**before)


def test_numbers_are_numbers(lines: pytest.CaptureFixture[str]) -> None:
    """What PostgreSQL answers as numeric is a number, what JSON has no number for is null, the rest is text."""
    structlog.get_logger().info(
        "statement.running",
        seconds=Decimal(17),
        share=Decimal("0.5"),
        endless=float("inf"),
        rows=3,
        up=True,
        none=None,
        store=Store.DEFAULT,
        version=Version("1.2"),
        path=Path("/x"),
        held_by=("a", Decimal(1)),
        span=timedelta(seconds=2),
        bad="\ud800",
    )
    event = json.loads(lines.readouterr().err)
    assert event.pop("timestamp")
    assert event == {
        "event": "statement.running",
        "level": "info",
        "seconds": 17,
        "share": 0.5,
        "endless": None,
        "rows": 3,
        "up": True,
        "none": None,
        "store": "default",
        "version": "1.2",
        "path": "/x",
        "held_by": ["a", 1],
        "span": "0:00:02",
        "bad": "\ud800",
    }
    assert isinstance(event["seconds"], int)
