"""Ten thousand URIs and passwords, escaped or not, in the right setting or in a wrong one: no part of one is shown."""

import re
from collections.abc import Sequence
from contextlib import suppress
from urllib.parse import quote

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schema_migrator import settings as module
from schema_migrator.errors import MigratorError, SettingsError
from schema_migrator.options import PASSWORDS as PASSWORDS_BY
from schema_migrator.parameters import parameters
from schema_migrator.refusals import explain
from schema_migrator.settings import read
from schema_migrator.uris import spread

PART = re.compile("[QXZJ0179]{4,}")  # appears in no message of ours
# What a URI, a query string and a shell treat in a way of their own.
PASSWORDS = st.lists(
    st.text("QXZJ", min_size=4, max_size=7)
    | st.text("0179", min_size=4, max_size=6)
    | st.sampled_from([*"/@:?#%&=[]+\\'\", ;$é", "%2F", "://", "%00", "//", "?a=", "&b=", "sslmode=", ",h:"]),
    min_size=1,
    max_size=6,
).map("".join)
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
    for store in found.stores:
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
        found = spread({"uri": uri}, "SQL_URI", PASSWORDS_BY)
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
@settings(max_examples=2_500, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(st.tuples(*[PASSWORDS] * 4), st.sampled_from(URIS), st.sampled_from(PLACES), st.booleans())
def test_no_part_of_a_password_is_shown(passwords: Sequence[str], uri: str, place: str, escaped: bool) -> None:  # noqa: FBT001 - hypothesis gives it
    """Of four times 2,500 passwords, each in three forms of URI, and of some in a setting that is not theirs."""
    for number, password in enumerate(passwords):
        for form in URIS[number :: len(passwords)]:
            assert not parts(password, apart(form.format(password)))
            assert not parts(password, apart(form.format(quote(password, safe=""))))
    given = quote(passwords[0], safe="") if escaped else passwords[0]
    assert not parts(passwords[0], shown({place: uri.format(given)}))


@pytest.mark.usefixtures("bare")
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(PASSWORDS)
def test_what_is_escaped_arrives(password: str) -> None:
    """An escaped password is taken as it is, and one that begins with / is refused where it is not."""
    if "\0" not in password:
        escaped = f"postgresql://temporal:{quote(password, safe='')}@db.example/temporal"
        assert read({"DEFAULT_SQL_URI": escaped}).stores[0].password() == password
    with pytest.raises(SettingsError, match="escape / as %2F"):
        read({"DEFAULT_SQL_URI": f"postgresql://temporal:/{password}@db.example/temporal"})
