"""Numbers of bytes, read and written."""

import re

import pytest

from schema_migrator.config import settings, sizes
from schema_migrator.errors import SettingsError

READ = {"256MB": 256 << 20, "1.5 GB": 3 << 29, "4096": 4096, "1kb": 1024, "2TB": 2 << 40, "7B": 7}
TEXTS = {
    0: "0 B",
    1023: "1023 B",
    1024: "1 kB",
    4096: "4 kB",
    256 << 20: "256 MB",
    3 << 29: "1.5 GB",
    2 << 40: "2048.0 GB",
}
NONSENSE = ("", "MB", "-1MB", "1XB", "1 000MB", "0x10", "1e3", "9" * 5000, "\u0661MB", "nan", "inf")
LAG, FREE = "SCHEMA_MIGRATOR_MAX_REPLICA_LAG", "SCHEMA_MIGRATOR_DISK_FREE"


@pytest.mark.parametrize(("text", "count"), READ.items(), ids=READ)
def test_sizes_are_read(text: str, count: int) -> None:
    """Units are PostgreSQL's, in any case; without one they are bytes."""
    assert sizes.parse(text) == count


@pytest.mark.parametrize("text", NONSENSE)
def test_nonsense_is_no_size(text: str) -> None:
    """What says no number of bytes is refused, however long."""
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        sizes.parse(text)


@pytest.mark.parametrize(("count", "text"), TEXTS.items(), ids=TEXTS.values())
def test_sizes_are_written(count: int, text: str) -> None:
    """In the largest unit that leaves one of it."""
    assert sizes.text(count) == text


def test_settings_take_sizes() -> None:
    """The limit for replicas is 256 MB unless it is said or off; free disk is a size or df."""
    assert settings.read({}).run.max_replica_lag == 256 << 20
    assert settings.read({LAG: "off"}).run.max_replica_lag is None
    assert settings.read({LAG: "1GB", FREE: "df"}).run.max_replica_lag == 1 << 30
    assert settings.read({FREE: "df"}).run.disk_free == "df"
    assert settings.read({FREE: "2GB"}).run.disk_free == 2 << 30
    assert settings.read({"SCHEMA_MIGRATOR_IGNORE_REPLICAS": ["a, b", "c"]}).run.ignore_replicas == ("a", "b", "c")


@pytest.mark.parametrize(("name", "text"), [(LAG, "0"), (LAG, "much"), (LAG, "df"), (FREE, "off"), (FREE, "0GB")])
def test_settings_refuse_nonsense(name: str, text: str) -> None:
    """With exit 2, by the flag's name, and with what was expected."""
    with pytest.raises(SettingsError) as refusal:
        settings.read({name: text})
    flag, word = ("--max-replica-lag", "off") if name == LAG else ("--disk-free", "df")
    assert str(refusal.value) == f'{flag} is "{text}", expected a size such as 256MB, or {word}'
    assert refusal.value.exit_code == 2
