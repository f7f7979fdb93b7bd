"""The file of accepted differences: what is read from it, what is refused, and what is written."""

import os
import random
from datetime import date
from pathlib import Path

import pytest

from schema_migrator.commands import accept
from schema_migrator.config import accepted, settings
from schema_migrator.config.accepted import Accept, AcceptedDifference
from schema_migrator.errors import SettingsError
from schema_migrator.releases.source import Store

INDEX = "index executions_visibility.by_status"
PARTIAL = "CREATE INDEX by_status ON executions_visibility USING btree (status) WHERE status > 1"
ENTRY = {"store": "visibility", "object": INDEX, "accept": "missing", "reason": "nobody lists by it"}
DIFFERENT = AcceptedDifference(
    store=Store.VISIBILITY, object=INDEX, accept=Accept.DIFFERENT, reason="smaller", definition=PARTIAL
)


def table(**fields: str | None) -> str:
    """Return an entry with these fields in place of its own, each a value as TOML writes it; None leaves one out."""
    values = {name: f'"{text}"' for name, text in ENTRY.items()} | fields
    return "\n".join(["[[accepted]]", *(f"{name} = {value}" for name, value in values.items() if value is not None)])


def file(folder: Path, text: str | bytes) -> Path:
    """Write a file and return its place."""
    path = folder / "accepted.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_each_field(tmp_path: Path) -> None:
    """An entry has what its table has; a date may be a text too."""
    more = table(accept='"different"', definition=f'"{PARTIAL}"', until="2027-01-31", object='"index t.i"')
    last = table(until='"2027-02-01"', object='"index t.j"')
    found = accepted.read(file(tmp_path, f"{table()}\n{more}\n{last}"))
    assert found[0] == AcceptedDifference(
        store=Store.VISIBILITY, object=INDEX, accept=Accept.MISSING, reason="nobody lists by it"
    )
    assert (found[1].accept, found[1].definition, found[1].until) == ("different", PARTIAL, date(2027, 1, 31))
    assert found[2].until == date(2027, 2, 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (table(reason='" "'), "entry 1 has no reason"),
        (table(reason=None), "entry 1 has no reason"),
        (table(store='"visibilty"'), 'entry 1: store is "visibilty", expected default, visibility, secondary-visibil'),
        (table(accept='"another"'), 'entry 1: accept is "another", expected missing, different, extra'),
        (table(object='"by_status"'), 'entry 1: object is "by_status", expected kind and name, such as index exec'),
        (table(accept='"different"'), f"entry 1: {INDEX} has no definition, which different needs"),
        (table(definition='"x"'), f"entry 1: {INDEX} has a definition, which missing cannot have"),
        (table(until='"soon"'), 'entry 1: until is "soon", expected a date such as 2027-01-31'),
        (table(until='"2027-02-30"'), 'entry 1: until is "2027-02-30", expected a date'),
        (table(until="2027-01-31T10:00:00"), 'entry 1: until is "2027-01-31 10:00:00", expected a date'),
        (table(keep='"no"'), 'entry 1: keep is "no", expected true or false'),
        (table(since="2027-01-31"), "entry 1 has since, which is unknown, expected store, object, accept, definition"),
        (f"{table()}\n{table()}", f"has two entries for the {INDEX} of the visibility store"),
        ("accepted = 1", "has more than tables [[accepted]]"),
        ("[other]", "has more than tables [[accepted]]"),
        (f"accepted = {'[' * 5000}{']' * 5000}", "has more than tables [[accepted]]"),
        (f"accepted = {'1' * 5000}", "has more than tables [[accepted]]"),
        ("accepted", "is not valid TOML: "),
        (b"\xff", "is not UTF-8 text"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str | bytes, said: str) -> None:
    """By the variable, the file and the number of the entry; nothing is accepted then."""
    path = file(tmp_path, text)
    with pytest.raises(SettingsError) as refusal:
        accepted.read(path)
    assert f'SCHEMA_MIGRATOR_ACCEPTED "{path}"' in refusal.value.message
    assert said in refusal.value.message
    assert refusal.value.hint


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """It is not taken for an empty one, which accepts nothing."""
    with pytest.raises(SettingsError, match="cannot be read"):
        accepted.read(tmp_path / "accepted.toml")
    assert accepted.read(file(tmp_path, "")) == ()


def test_the_setting_is_read_when_it_is_asked_for(tmp_path: Path) -> None:
    """Commands that accept nothing do not depend on the file."""
    found = settings.read({"SCHEMA_MIGRATOR_ACCEPTED": str(tmp_path / "gone.toml")}, {})
    with pytest.raises(SettingsError, match="cannot be read"):
        _ = found.accepted
    assert settings.read({}, {}).accepted == ()


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    """Whatever letters a definition and a reason have."""
    letters = ["a", '"', "\\", "\n", "\r", "\t", "\x00", "\x7f", "\u2028", "ö", "'", "#", "=", " ", "𝄞"]
    texts = random.Random(19)  # noqa: S311 - no secret
    entries = [
        AcceptedDifference(
            store=texts.choice(list(Store)),
            object=f"index {' ' * (number % 2)}t{number}.{''.join(texts.choices(letters, k=5))}i",
            accept=Accept.EXTRA,
            definition=f"x{''.join(texts.choices(letters, k=20))}",
            reason=f"x{''.join(texts.choices(letters, k=20))}",
            until=texts.choice([None, date(2027, 1, 31)]),
            keep=texts.choice([True, False]),
        )
        for number in range(50)
    ]
    assert accepted.read(file(tmp_path, accepted.written(entries))) == tuple(entries)


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    """A name that is too long and a reason that is no text are input; nothing is left in the folder."""
    with pytest.raises(SettingsError, match="cannot be written"):
        accept.check(tmp_path / ("a" * 300), "mine", settings.read({}, {}))
    with pytest.raises(SettingsError, match="--reason is not UTF-8 text"):
        accept.check(tmp_path / "accepted.toml", os.fsdecode(b"\xff"), settings.read({}, {}))
    (folder := tmp_path / "accepted.toml").mkdir()
    with pytest.raises(SettingsError, match="cannot be written"):
        accept.write(folder, "mine", settings.read({}, {}), [])
    assert list(tmp_path.iterdir()) == [folder]


def test_a_day_counts_to_its_end() -> None:
    """An entry applies on its last day, and no longer on the next."""
    limited = AcceptedDifference(
        store=Store.VISIBILITY, object=INDEX, accept=Accept.MISSING, reason="x", until=date(2027, 1, 31)
    )
    assert [limited.expired(date(2027, 1, day)) for day in (30, 31)] == [False, False]
    assert limited.expired(date(2027, 2, 1))
    assert not DIFFERENT.expired(date.max)
