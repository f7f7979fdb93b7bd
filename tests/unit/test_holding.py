"""When the cutover of a rewrite may begin: by a request, or by the clock."""

from dataclasses import replace
from datetime import UTC, datetime, time

import pytest

from schema_migrator.config import windows
from schema_migrator.config.settings import read
from schema_migrator.config.windows import Window
from schema_migrator.errors import SettingsError
from schema_migrator.online import holding
from schema_migrator.online.control import HOLDING, Control

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
CONTROL = Control(phase=HOLDING, phase_since=MOMENT, begun_at=MOMENT, runner=1, swap=False, paused=False, jobs=None)
NIGHT = Window(first=time(22), last=time(4, 30), zone="Europe/Berlin")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("02:00-04:00", Window(first=time(2), last=time(4), zone="UTC")),
        (" 22:00-4:30  Europe/Berlin ", NIGHT),
        ("00:00-23:59 Etc/GMT+2", Window(first=time(0), last=time(23, 59), zone="Etc/GMT+2")),
    ],
)
def test_a_window_is_read(text: str, expected: Window) -> None:
    """Hours may have one digit, and without a zone it is UTC; what it is written as can be read again."""
    assert windows.parse(text) == expected
    assert windows.parse(str(expected)) == expected


@pytest.mark.parametrize(
    "text", ["", "at night", "02:00", "02:00-02:00", "25:00-26:00", "02:60-03:00", "02:00-04:00 Europe/'; DROP"]
)
def test_what_is_no_window(text: str) -> None:
    """Nor is one of no length."""
    with pytest.raises(ValueError, match=r".*"):
        windows.parse(text)


@pytest.mark.parametrize("text", ["at night", "02:00-02:00"])
def test_nonsense_is_repeated(text: str) -> None:
    """The error says what was given."""
    with pytest.raises(ValueError, match=f"^{text}$"):
        windows.parse(text)


def test_the_setting(clean: pytest.MonkeyPatch) -> None:
    """Nonsense is refused with an example."""
    clean.setenv("SCHEMA_MIGRATOR_CUTOVER_WINDOW", "at night")
    with pytest.raises(SettingsError, match="02:00-04:00"):
        read({})
    clean.setenv("SCHEMA_MIGRATOR_CUTOVER_WINDOW", "22:00-4:30 Europe/Berlin")
    assert read({}).run.cutover_window == NIGHT


@pytest.mark.parametrize(
    ("now", "is_open"),
    [(time(21, 59, 59), False), (time(22), True), (time(0), True), (time(4, 29, 59), True), (time(4, 30), False)],
)
def test_a_window_over_midnight(now: time, *, is_open: bool) -> None:
    """It ends on the next day; the same hours the other way round are the rest of the day."""
    assert NIGHT.contains(now) == is_open
    assert replace(NIGHT, first=NIGHT.last, last=NIGHT.first).contains(now) != is_open


def test_what_releases_it() -> None:
    """A request, at any time; or the window; nothing else, whoever began the rewrite."""
    asked = replace(CONTROL, swap=True)
    assert holding.reason_of(asked, None, None) == "somebody asked for it"
    assert holding.reason_of(asked, NIGHT, time(12)) == "somebody asked for it"
    assert holding.reason_of(CONTROL, NIGHT, time(23)) == f"the window {NIGHT} is open"
    assert holding.reason_of(CONTROL, NIGHT, time(12)) == ""
    assert holding.reason_of(replace(CONTROL, paused=True), NIGHT, time(23)) == ""
    assert holding.reason_of(CONTROL, None, None) == ""
    assert holding.reason_of(None, None, None) == ""
