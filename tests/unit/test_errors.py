import inspect
import re

import pytest

from schema_migrator import errors
from schema_migrator.errors import (
    DatabaseUnavailable,
    LockHeld,
    MigratorError,
    PasswordRejected,
    SettingsError,
    SeveralErrors,
    StatementFailed,
    Stopped,
    TableLockTimeout,
    combine,
    exit_code,
)

ALL = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, MigratorError)]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DatabaseUnavailable("a"), 1),
        (TableLockTimeout("a"), 1),
        (SettingsError("a"), 2),
        (PasswordRejected("a"), 10),
        (StatementFailed("a"), 34),
        (LockHeld("a"), 4),
        (Stopped(15), 143),
        (Stopped(2), 130),
    ],
)
def test_exit_codes(error: MigratorError, code: int) -> None:
    """Each kind of failure has its code, whether alone or twice."""
    assert exit_code(error) == code
    assert exit_code(combine([error])) == code
    assert exit_code(combine([error, error])) == code


@pytest.mark.parametrize(
    ("one", "other", "code"),
    [
        (DatabaseUnavailable("a"), LockHeld("b"), 4),
        (DatabaseUnavailable("a"), SettingsError("b"), 2),
        (LockHeld("a"), SettingsError("b"), 2),
        (SettingsError("a"), PasswordRejected("b"), 10),
        (DatabaseUnavailable("a"), PasswordRejected("b"), 10),
        (PasswordRejected("a"), Stopped(15), 143),
    ],
)
def test_the_gravest_of_two_counts(one: MigratorError, other: MigratorError, code: int) -> None:
    """Of two stores' failures the one that a retry cures least decides; a signal beats both."""
    assert exit_code(combine([one, other])) == exit_code(combine([other, one])) == code


def test_several_errors_keep_all_sentences() -> None:
    """Every store's sentence is there, with its store, message and hint."""
    first = LockHeld("another run holds it", hint="wait", store="default")
    second = StatementFailed("it failed", store="visibility", detail="f.sql:1\n  SELECT\n  ^")
    found = combine([first, second])
    assert isinstance(found, SeveralErrors)
    assert found.parts == (first, second)
    assert str(found) == ("default: another run holds it; wait\nvisibility: it failed\nf.sql:1\n  SELECT\n  ^")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MigratorError("found"), "found"),
        (MigratorError("found", hint="do"), "found; do"),
        (MigratorError("found", hint="do", store="default"), "default: found; do"),
        (MigratorError("found", hint="do", detail="  more\n  lines"), "found; do\n  more\n  lines"),
        (Stopped(15), "stopped by a signal, everything uncommitted was rolled back; run it again"),
    ],
)
def test_says_what_and_then_what_to_do(error: MigratorError, said: str) -> None:
    """The sentence, the hint after a semicolon, details below."""
    assert str(error) == said


def test_the_tree_shows_every_class() -> None:
    """The picture in the module's docstring names all classes, and no other."""
    assert errors.__doc__ is not None
    assert set(re.findall(r"[A-Z]\w+(?= *[\d ]|\n|$)", errors.__doc__.split("\n\n", 1)[1])) == {
        kind.__name__ for kind in ALL
    }
