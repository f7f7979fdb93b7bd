import pytest

from schema_migrator.errors import SettingsError
from schema_migrator.settings import read
from schema_migrator.source import Store

URI = "postgresql://app:p%40ss%20w@db-rw.ns:5433/app?sslmode=require&connect_timeout=5"
pytestmark = pytest.mark.usefixtures("clean")


def test_says_all(clean: pytest.MonkeyPatch) -> None:
    """Host, port, role, password and database; what has no setting of its own is a connect attribute."""
    clean.setenv("DEFAULT_SQL_URI", URI)
    found = read({}).store(Store.DEFAULT)
    assert found.address == "app@db-rw.ns:5433/app"
    assert found.password() == "p@ss w"
    assert found.attributes == {"sslmode": "require", "connect_timeout": "5"}
    assert read({}).store(Store.VISIBILITY).address == "the default host/temporal_visibility"


def test_is_beaten_by_what_is_said_one_by_one(clean: pytest.MonkeyPatch) -> None:
    """A setting of the same scope beats the URI, a store's URI beats the common one."""
    clean.setenv("SQL_URI", URI.replace("/app?", "?"))
    clean.setenv("SQL_USER", "owner")
    clean.setenv("SQL_PASSWORD_COMMAND", "echo token")
    clean.setenv("VISIBILITY_SQL_URI", "postgres://other:o@elsewhere/vis")
    first, second = read({}).stores
    assert (first.address, first.password()) == ("owner@db-rw.ns:5433/temporal", "token")
    assert (second.address, second.password()) == ("other@elsewhere:5432/vis", "o")


@pytest.mark.parametrize(
    "uri",
    [
        "postgres://u:p@ss@h/d",
        "postgres://u:p@ss:w0rd@h/d",
        "db-rw",
        "host=db user=app",
        "http://db/app",
        "postgresql://app:p%@db/app",
        "postgresql://db/app?nix=1",
    ],
)
def test_what_is_none_is_refused(clean: pytest.MonkeyPatch, uri: str) -> None:
    """Anything else is refused, and not shown."""
    clean.setenv("DEFAULT_SQL_URI", uri)
    with pytest.raises(SettingsError) as caught:
        read({})
    assert str(caught.value) == (
        "DEFAULT_SQL_URI is no connection URI; expected postgresql://user:password@host:5432/database"
    )


def test_one_database_for_both_stores(clean: pytest.MonkeyPatch) -> None:
    """A common URI that names a database would put both stores into one."""
    clean.setenv("SQL_URI", URI)
    with pytest.raises(SettingsError) as caught:
        read({})
    assert str(caught.value) == (
        'the database of SQL_URI is "app" for both stores, expected a database for each; set DEFAULT_SQL_DATABASE'
        " and VISIBILITY_SQL_DATABASE, or one store in SCHEMA_MIGRATOR_STORES"
    )
