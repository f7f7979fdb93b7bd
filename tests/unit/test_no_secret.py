"""Ten thousand URIs and passwords, escaped or not, in the right setting or in a wrong one: no part of one is shown."""

import re
from contextlib import suppress
from urllib.parse import quote

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schema_migrator.errors import MigratorError, SettingsError
from schema_migrator.parameters import parameters
from schema_migrator.refusals import explain
from schema_migrator.settings import Settings, read

PART = re.compile("[QXZJ0179]{4,}")  # appears in no message of ours
# What a URI, a query string and a shell treat in a way of their own.
PASSWORDS = st.lists(
    st.text("QXZJ", min_size=4, max_size=7)
    | st.text("0179", min_size=4, max_size=6)
    | st.sampled_from(list("/@:?#%&=[]+\\'\", ;$é") + ["%2F", "://", "%00", "//", "?a=", "&b=", "sslmode=", ",h:"]),
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
PLACES = ("SQL_URI", "DEFAULT_SQL_URI", "SQL_HOST", "SQL_PORT", "SQL_DATABASE", "SQL_USER", "SQL_DIRECT_HOST") + (
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


def said(flags: dict[str, str]) -> tuple[str, bool]:
    """Return all that a run could say of these settings before it reaches a server, and whether they are taken."""
    try:
        found = read(flags)
    except SettingsError as error:
        assert error.exit_code == 2
        return f"{error} {error!r} {error.detail}", False
    return " ".join([repr(found), *shown(found)]), True


def shown(found: Settings) -> list[str]:
    """Return what messages say of settings that are taken, whatever the server answers."""
    words = [repr(found)]
    for store in found.stores:
        words += [store.address, repr(store), store.direct("there").address]
        words += [str(explain(psycopg.OperationalError(text), store, 1)) for text in WORDS]
        with suppress(psycopg.OperationalError):
            try:
                parameters(store)
            except MigratorError as error:
                words.append(str(error))
    return words


@pytest.mark.usefixtures("clean")
@settings(max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(PASSWORDS, st.sampled_from(URIS), st.sampled_from((*PLACES, "SQL_URI", "DEFAULT_SQL_URI")), st.booleans())
def test_no_part_of_a_password_is_shown(password: str, uri: str, place: str, escaped: bool) -> None:  # noqa: FBT001 - hypothesis gives it
    """Whether the settings are taken or refused, and whatever the server says to what is taken."""
    text, _ = said({place: uri.format(quote(password, safe="") if escaped else password)})
    assert not [part for part in PART.findall(password) if part in text]


@pytest.mark.usefixtures("clean")
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(PASSWORDS)
def test_what_is_escaped_arrives(password: str) -> None:
    """An escaped password is taken as it is, and one that begins with / is refused where it is not."""
    if "\0" not in password:
        escaped = f"postgresql://temporal:{quote(password, safe='')}@db.example/temporal"
        assert read({"DEFAULT_SQL_URI": escaped}).stores[0].password() == password
    with pytest.raises(SettingsError, match="escape / as %2F"):
        read({"DEFAULT_SQL_URI": f"postgresql://temporal:/{password}@db.example/temporal"})
