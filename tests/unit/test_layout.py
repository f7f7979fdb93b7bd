"""Reports on screens of any width: nothing is cut off, no name is broken, and colours say nothing new."""

import io
import re
import subprocess
import sys
from collections.abc import Callable

import pytest

from schema_migrator.reports.layout import Report, Table, Toned, Verbatim, joined, rendered, widths
from schema_migrator.terminal import Screen, Tone, printable, screen

LONG = "a_name_of_as_many_letters_as_postgresql_keeps_" + "x" * 17
REPORT: Report = (
    Toned("matches", Tone.GOOD, 'visibility store, database "d", version 1.9: '),
    Table(
        ("store", "database", "state"),
        (
            ("default", "temporal", (Toned("at target: nothing", Tone.GOOD), "in the schema public")),
            ("visibility", "v", Toned("half-applied: 1.3, 9 of 11 statements: resumes it", Tone.PENDING)),
        ),
    ),
    Verbatim("repair: " + "CREATE INDEX " * 20),
    "  a note of many words " * 6,
)
SGR = re.compile(r"\x1b\[[0-9;]*m")


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Return that it is one."""
        return True


def table(*names: str) -> Report:
    """Return a table with names in its first column."""
    return (Table(("name", "what is said of it"), tuple((name, "some words of a sentence " * 4) for name in names)),)


@pytest.mark.parametrize("columns", [80, 100, 140])
@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("names", [("a",), (LONG,), ("a", LONG), ("表" * 21,)])
def test_tables_fit(columns: int, terminal: bool, names: tuple[str, ...]) -> None:  # noqa: FBT001
    """As a table or as a list, with every name in one piece and every word there."""
    text = rendered(table(*names), Screen(columns=columns, terminal=terminal))
    assert all(len(line) <= columns for line in text.splitlines())
    assert all(name.strip() in " ".join(text.split()) for name in names)
    assert text.count("sentence") == 4 * len(names)
    assert "…" not in text


def test_list_where_the_words_do_not_fit() -> None:
    """A name that leaves no room for its row: a line a cell, and a gap between the rows."""
    made = Table(("store", "database", "state"), (("default", LONG, ("empty", "installs it")), ("v", "w", "x")))
    assert rendered((made,), Screen()).splitlines() == [
        "store     default",
        f"database  {LONG}",
        "state     empty",
        "          installs it",
        "",
        "store     v",
        "database  w",
        "state     x",
    ]


def test_sentences_are_wrapped_at_a_terminal_alone() -> None:
    """In a file or a pipe each is a line, so that it can be searched; SQL is never wrapped."""
    kept = rendered(REPORT, Screen()).splitlines()
    wrapped = rendered(REPORT, Screen(terminal=True)).splitlines()
    assert max(map(len, kept)) > 200
    assert [line for line in wrapped if len(line) > 80] == ["repair: " + "CREATE INDEX " * 20]
    assert wrapped[-1].startswith("    ")
    assert " ".join(kept).split() == " ".join(wrapped).split()


def test_colours_stress_words_that_are_there_anyway() -> None:
    """Without its colours the text is the text without colours."""
    plain, coloured = (rendered(REPORT, Screen(colours=colours, terminal=True)) for colours in (False, True))
    assert "\x1b" not in plain
    assert "version 1.9: \x1b[32mmatches\x1b[0m" in coloured
    assert "\x1b[32mat target: nothing\x1b[0m" in coloured
    assert "\x1b[33mhalf-applied" in coloured
    bare, plainly = ([line.rstrip() for line in text.splitlines()] for text in (SGR.sub("", coloured), plain))
    assert bare == plainly


def test_what_is_named_cannot_steer() -> None:
    """Whatever a name holds, the only control sequences are ours."""
    evil = "a\x1b[2Jb\x9b\x07\r"
    report: Report = (
        evil,
        Toned(evil, Tone.GOOD, evil),
        Verbatim(evil),
        Table(("name",), ((evil,), (Toned(evil, Tone.GOOD),))),
    )
    for colours in (False, True):
        text = SGR.sub("", rendered(report, Screen(colours=colours)))
        assert text.count(printable(evil)) == 6
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)


def test_tables_stand_apart() -> None:
    """With one empty line, and none where the report begins and ends."""
    made = Table(("a",), (("b",),))
    assert rendered((made,), Screen()).splitlines() == ["a", "─", "b"]
    assert rendered(("x", made, made, "", made, "y"), Screen()).replace("a\n─\nb", "T").split("\n") == (
        ["x", "", "T", "", "T", "", "T", "", "y"]
    )


def test_joined() -> None:
    """Reports stand below each other with an empty line between them."""
    assert joined([("a", "b"), ("c",)]) == ("a", "b", "", "c")
    assert joined([]) == ()


def test_the_widest_columns_give_way() -> None:
    """And none below its longest word."""
    assert widths([1, 1], [3, 4], 10) == [3, 4]
    assert widths([1, 1, 1], [3, 40, 30], 43) == [3, 20, 20]
    assert widths([1, 30, 1], [3, 40, 30], 43) == [3, 30, 10]


@pytest.mark.parametrize(
    ("environ", "terminal", "colours"),
    [
        ({"TERM": "xterm"}, True, True),
        ({"TERM": "xterm"}, False, False),
        ({"TERM": "dumb"}, True, False),
        ({}, True, False),
        ({"TERM": "xterm", "NO_COLOR": "1"}, True, False),
        ({"TERM": "xterm", "NO_COLOR": ""}, True, True),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": ""}, False, False),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, False),
    ],
)
def test_colours(environ: dict[str, str], terminal: bool, colours: bool) -> None:  # noqa: FBT001
    """Where a terminal shows them or they are forced, unless NO_COLOR is set."""
    assert screen((Terminal if terminal else io.StringIO)(), environ).colours is colours


@pytest.mark.parametrize(
    ("make", "columns", "expected"), [(Terminal, "140", 140), (Terminal, "60", 80), (io.StringIO, "140", 80)]
)
def test_width(make: Callable[[], io.StringIO], columns: str, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As wide as the terminal, never below 80, and 80 where there is none."""
    monkeypatch.setenv("COLUMNS", columns)
    assert screen(make(), {}).columns == expected


def test_what_is_slow_to_load_comes_late() -> None:
    """The command line is there before the modules that draw tables and log events."""
    late = "import sys, schema_migrator.cli.main as _; print(sorted({'rich', 'structlog'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", late], capture_output=True, text=True, check=True).stdout == "[]\n"
