import pytest

from schema_migrator.config.settings import read
from schema_migrator.errors import SettingsError
from schema_migrator.releases.source import Store

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
        "postgresql://temporal:/a/b@db:5432/temporal",
        "postgresql://temporal:12/secret@db/temporal",
        "postgresql://temporal:12?/secret=b@db/temporal",
        "postgresql://temporal:12345678",
        "postgresql://db/app?user=u&password=a&b=c",
        "postgresql://db/app?password=a&password=b",
        "postgresql://db/app?pass/word=b",
        "postgresql://db/a/b",
        "postgresql://db:a/b",
        "postgresql://u:%00@db/b",
        "postgresql://u:\udcff@db/b",
    ],
)
def test_what_is_none_is_refused(clean: pytest.MonkeyPatch, uri: str) -> None:
    """Anything else is refused, and not shown: a password that is not escaped runs on into host, port or database."""
    clean.setenv("DEFAULT_SQL_URI", uri)
    with pytest.raises(SettingsError) as caught:
        read({})
    assert str(caught.value) == (
        "DEFAULT_SQL_URI is not a connection URI, or its password is not escaped; "
        "expected postgresql://user:password@host:5432/database; in user and password"
        " escape / as %2F, @ as %40, : as %3A, ? as %3F, # as %23 and % as %25"
    )


def test_takes_what_libpq_takes(clean: pytest.MonkeyPatch) -> None:
    """Several hosts, each with its port or without one, IPv6, a socket, a login in the query, and no login at all."""
    places = {
        "postgresql://u:p:w#x@a:1,b,[::1]:3/d": "u@a,b,[::1]:1,5432,3/d",
        "postgresql://%2Fvar%2Frun/d?user=u": "u@/var/run:5432/d",
        "postgresql:///d?host=/srv&port=5433": "/srv:5433/d",
        "postgres://u:p%2Fw@[::1]": "u@[::1]:5432/temporal",
    }
    for uri, address in places.items():
        clean.setenv("DEFAULT_SQL_URI", uri)
        assert read({}).store(Store.DEFAULT).address == address


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("pgbouncer=true", 'gives "pgbouncer", which is not a libpq connection parameter; remove it from the URI; '),
        ("connect_timeout=5&connect_timeout=6", 'gives "connect_timeout" twice; set it once'),
        ("replication=database", 'gives "replication", which is not taken; a replication connection takes no '),
        ("hostaddr=::1", 'gives "hostaddr", which is not taken; set SQL_HOST to the address, and '),
    ],
)
def test_names_the_parameter_that_is_not_taken(clean: pytest.MonkeyPatch, query: str, sentence: str) -> None:
    """Of a URI that gives no secret there, a parameter's name is shown."""
    clean.setenv("DEFAULT_SQL_URI", f"postgresql://u:p@h/d?{query}")
    with pytest.raises(SettingsError) as caught:
        read({})
    assert str(caught.value).startswith(f"DEFAULT_SQL_URI {sentence}")


def test_parameters_join_the_attributes(clean: pytest.MonkeyPatch) -> None:
    """What the URI says of TLS stays beside other attributes; of a parameter that both give, the attribute counts."""
    clean.setenv("DEFAULT_SQL_URI", "postgresql://h/d?sslmode=verify-full&search_path=uri&binary_parameters=yes")
    assert read({}).store(Store.DEFAULT).attributes == {
        "sslmode": "verify-full",
        "search_path": "uri",
        "binary_parameters": "yes",
    }
    clean.setenv("DEFAULT_SQL_CONNECT_ATTRIBUTES", "search_path=mine")
    assert read({}).store(Store.DEFAULT).attributes == {
        "sslmode": "verify-full",
        "search_path": "mine",
        "binary_parameters": "yes",
    }


def test_one_database_for_both_stores(clean: pytest.MonkeyPatch) -> None:
    """A common URI that names a database would put both stores into one."""
    clean.setenv("SQL_URI", URI)
    with pytest.raises(SettingsError) as caught:
        read({})
    assert str(caught.value) == (
        'the database of SQL_URI is "app" for 2 stores, expected a database for each; set DEFAULT_SQL_DATABASE'
        " and VISIBILITY_SQL_DATABASE, or one store in SCHEMA_MIGRATOR_STORES"
    )
