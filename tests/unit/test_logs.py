"""Events as JSON has them, and as lines for people."""

import io
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from unittest.mock import patch

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


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Return that it is one."""
        return True


@contextmanager
def terminal(**variables: str) -> Iterator[Terminal]:
    """Let events be lines at a terminal of these variables."""
    before, shown = structlog.get_config(), Terminal()
    with patch("sys.stderr", shown), patch.dict(os.environ, variables, clear=True):
        events.configure("debug", terminal=True)
        yield shown
    structlog.configure(**before)


def test_lines_at_a_terminal() -> None:
    """A short line an event: time, level unless it is info, store, name, values."""
    with terminal(TERM="dumb") as shown:
        log = events.logger()
        log.info("step.applied", store="visibility", version="1.3", seconds=0.25, by=None)
        log.warning(
            "table.busy", reason='role "a" waits', held_by=["pid 7", "b"], names=["a", "b"], rows={"t": 3}, up=True
        )
        log.error("a.b", text="one\ntwo\x1b[2J", empty="", none=[])
        log.debug("c.d", rows=Decimal(1_000_000))
    lines = [line.partition(" ") for line in shown.getvalue().splitlines()]
    assert all(re.fullmatch(r"\d\d:\d\d:\d\d", time) for time, _, _ in lines)
    assert [line for _, _, line in lines] == [
        "visibility: step.applied version=1.3 seconds=0.25",
        """warning table.busy reason='role "a" waits' held_by='pid 7',b names=a,b rows={"t": 3} up=true""",
        r"error a.b text='one\ntwo\x1b[2J' empty='' none=[]",
        "debug c.d rows=1000000",
    ]


def test_colours_at_a_terminal() -> None:
    """Time and level are coloured, with the same words."""
    with terminal(TERM="xterm") as shown:
        events.logger().warning("table.busy", table="t")
    line = r"\x1b\[2m[0-9:]{8}\x1b\[0m \x1b\[33mwarning\x1b\[0m table\.busy table=t\n"
    assert re.fullmatch(line, shown.getvalue())
