"""Ten thousand URIs and passwords, escaped or not, in the right setting or in a wrong one: no part of one is shown."""

import re
from contextlib import suppress
from dataclasses import replace
from random import Random
from urllib.parse import quote

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schema_migrator.config import settings as module
from schema_migrator.config.settings import read
from schema_migrator.config.sql_fields import PASSWORDS
from schema_migrator.config.uris import spread
from schema_migrator.errors import MigratorError, SettingsError
from schema_migrator.postgres.connect_failures import explain
from schema_migrator.postgres.conninfo import parameters

pytestmark = pytest.mark.random

# They appear in no message of ours; four digits do, in the number of bytes of a default.
LETTERS, DIGITS = ("QXZJ", 4, 7), ("0179", 6, 8)
PART = re.compile("[QXZJ]{4,}|[0179]{6,}")
# What a URI, a query string and a shell treat in a way of their own.
MARKS = (*"/@:?#%&=[]+\\'\", ;$é", "%2F", "://", "%00", "//", "?a=", "&b=", "sslmode=", ",h:")


def password(chance: Random) -> str:
    """Return a password of some parts and marks."""
    found = []
    for _ in range(chance.randint(1, 6)):
        letters, least, most = chance.choice((LETTERS, DIGITS))
        part = "".join(chance.choices(letters, k=chance.randint(least, most)))
        found.append(chance.choice((part, chance.choice(MARKS))))
    return "".join(found)


URIS = (
    "postgresql://temporal:{0}@db.example:5432/temporal",
    "postgres://temporal:{0}@db.example/temporal?sslmode=require",
    "postgresql://temporal:{0}@a.example:1,b.example:2/temporal",
    "postgresql://:{0}@db.example",
    "postgresql://temporal:{0}@/temporal?host=/run",
    "postgresql://db.example/temporal?user=temporal&password={0}",
    "postgresql://db.example/temporal?password={0}&connect_timeout=5",
    "postgresql://db.example/temporal?sslpassword={0}&sslmode=require",
    "http://temporal:{0}@db.example/temporal",
    "postgresql:/temporal:{0}@db.example/temporal",
    "temporal:{0}@db.example/temporal",
    "temporal:{0}@db.example:5432",
)
PLACES = (
    "SQL_URI",
    "DEFAULT_SQL_URI",
    "SQL_HOST",
    "SQL_PORT",
    "SQL_DATABASE",
    "SQL_USER",
    "SQL_DIRECT_HOST",
    "SQL_DIRECT_PORT",
    "SQL_CONNECT_ATTRIBUTES",
    "SQL_TLS",
    "SQL_PLUGIN",
    "SCHEMA_MIGRATOR_REHEARSE_ON",
)
WORDS = (
    'connection failed: connection to server at "10.0.0.1", port 5432 failed: FATAL:  database "temporal" is not there',
    'connection failed: connection to server at "10.0.0.1", port 5432 failed: FATAL:  password authentication failed',
    'connection failed: connection to server at "10.0.0.1", port 5432 failed: FATAL:  role "u" does not exist',
    "connection is bad: no such thing",
)


def shown(flags: dict[str, str]) -> str:
    """Return all that a run says of these settings before it reaches a server, and of whatever the server answers."""
    try:
        found = read(flags)
    except SettingsError as error:
        return f"{error!r} {error}"
    words = [repr(found)]
    place = found.rehearsal_place
    elsewhere = [replace(found.stores[0], sql=place.sql)] if place and place.sql else []
    for store in (*found.stores, *elsewhere):
        words += [store.address, store.direct("there").address]
        words += [str(explain(psycopg.OperationalError(text), store, 1)) for text in WORDS]
        with suppress(psycopg.OperationalError):
            try:
                parameters(store)
            except MigratorError as error:
                words.append(str(error))
    return " ".join(words)


def apart(uri: str) -> str:
    """Return what is said of a URI as it is taken apart: why it is refused, or what is not its password."""
    try:
        found = spread({"uri": uri}, "SQL_URI", PASSWORDS)
    except SettingsError as error:
        return str(error)
    return str({name: value for name, value in found.items() if name not in ("password", "connect_attributes")})


@pytest.fixture
def bare(clean: pytest.MonkeyPatch) -> None:
    """Leave the environment out of it, which takes longer to read than all the rest: flags are the same settings."""
    clean.setattr(module, "read_environment", lambda *_: {})


def parts(password: str, text: str) -> list[str]:
    """Return the parts of a password that a text shows."""
    return [part for part in PART.findall(password) if part in text]


@pytest.mark.usefixtures("bare")
@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(st.integers(0), st.booleans())
def test_no_part_of_a_password_is_shown(seed: int, escaped: bool) -> None:  # noqa: FBT001 - hypothesis gives it
    """Of forty times 250 passwords, each in three forms of URI, and of some in a setting that is not theirs."""
    chance = Random(seed)  # noqa: S311 - drawing each letter by hypothesis takes twenty times as long
    for number in range(40):
        one = password(chance)
        for form in URIS[number % 4 :: 4]:
            assert not parts(one, apart(form.format(one)))
            assert not parts(one, apart(form.format(quote(one, safe=""))))
        if number % 10 == 0:
            given = quote(one, safe="") if escaped else one
            assert not parts(one, shown({chance.choice(PLACES): chance.choice(URIS).format(given)}))


@pytest.mark.usefixtures("bare")
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(st.integers(0))
def test_what_is_escaped_arrives(seed: int) -> None:
    """An escaped password is taken as it is, and one that begins with / is refused where it is not."""
    one = password(Random(seed))  # noqa: S311 - the same
    escaped = f"postgresql://temporal:{quote(one, safe='')}@db.example/temporal"
    assert read({"DEFAULT_SQL_URI": escaped}).stores[0].password() == one
    with pytest.raises(SettingsError, match="escape / as %2F"):
        read({"DEFAULT_SQL_URI": f"postgresql://temporal:/{one}@db.example/temporal"})
