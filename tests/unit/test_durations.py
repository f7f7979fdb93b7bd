"""Durations, read and written."""

import re
from datetime import timedelta

import pytest

from schema_migrator.config import durations, settings
from schema_migrator.errors import SettingsError

READ = {
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
    "1d12h": timedelta(hours=36),
    "90m": timedelta(minutes=90),
    "1d1h1m1s": timedelta(seconds=90061),
}
TEXTS = {259200: "3d", 129600: "36h", 5400: "90m", 61: "61s", 0: "0s"}
NONSENSE = ("", "24", "h", "-1h", "1.5h", "24H", "1h 30m", "30m1h", "0h", "36501d", "9" * 5000, "\u0661h")
WITHIN = "SCHEMA_MIGRATOR_REQUIRE_BACKUP_WITHIN"


@pytest.mark.parametrize(("text", "length"), READ.items(), ids=READ)
def test_durations_are_read(text: str, length: timedelta) -> None:
    """Days, hours, minutes and seconds, in this order."""
    assert durations.parse(text) == length


@pytest.mark.parametrize("text", NONSENSE)
def test_nonsense_is_no_duration(text: str) -> None:
    """A number without a unit could be seconds or hours."""
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        durations.parse(text)


@pytest.mark.parametrize(("length", "text"), TEXTS.items(), ids=TEXTS.values())
def test_durations_are_written(length: int, text: str) -> None:
    """A duration is shown as it would be given."""
    assert durations.text(timedelta(seconds=length)) == text


def test_a_setting(clean: pytest.MonkeyPatch) -> None:
    """A setting says what a duration looks like."""
    clean.setenv("SCHEMA_MIGRATOR_BACKUP_COMMAND", "true")
    clean.setenv(WITHIN, "24h")
    assert settings.read({}).run.require_backup_within == timedelta(hours=24)
    clean.setenv(WITHIN, "24")
    with pytest.raises(SettingsError) as refused:
        settings.read({})
    assert str(refused.value) == f'{WITHIN} is "24", expected a duration such as 24h or 7d'
