"""What the vendor's tool writes, as values."""

import pytest

from schema_migrator.cli import vendor
from schema_migrator.execution.tool_process import Line, parse
from schema_migrator.releases.source import Store

WRITTEN = {
    (
        "2026-01-01T00:00:00.000Z\t\x1b[34mINFO\x1b[0m\tSchema setup complete\t"
        '{"logging-call-at": "x.go:1", "config": {"a": 1}}\n'
    ): Line(level="info", message="Schema setup complete", values={}),
    't\t\x1b[31mERROR\x1b[0m\tUnable to connect.\t{"error": "refused"}\n': Line(
        level="error", message="Unable to connect.", values={"error": "refused"}
    ),
    "t\tDEBUG\t---- Done ----\n": Line(level="debug", message="---- Done ----", values={}),
    "t\tWARN\tcut\t{no json\n": Line(level="warn", message="cut", values={"values": "{no json"}),
    't\tINFO\tlist\t["no", "object"]\n': Line(level="info", message="list", values={"values": '["no", "object"]'}),
    't\tINFO\tm\t{"message": "hides", "event": "it"}\n': Line(level="info", message="m", values={}),
    "panic: duplicate connection attr\n": Line(level="error", message="panic: duplicate connection attr", values={}),
    "goroutine 1 [running]:\n": Line(level="debug", message="goroutine 1 [running]:", values={}),
    "\n": Line(level="debug", message="", values={}),
}


@pytest.mark.parametrize(("text", "line"), WRITTEN.items())
def test_lines(text: str, line: Line) -> None:
    """Level, message and values; what is no line of its log is only for a closer look."""
    assert parse(text) == line


def test_a_folder_is_of_one_store() -> None:
    """The vendor's command line names files and a database: whatever visibility store it is, they are of visibility."""
    assert vendor._SCHEMA_NAMES == {
        "postgresql/v12/temporal": Store.DEFAULT,
        "postgresql/v12/visibility": Store.VISIBILITY,
    }
