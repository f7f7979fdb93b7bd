import pytest

from schema_migrator.config.fields import PREFIX
from schema_migrator.config.options import all_options
from schema_migrator.config.unknown_variables import refuse_unknown, service_link
from schema_migrator.errors import SettingsError

KNOWN = frozenset(option.variable for option in all_options())


def refused(name: str, value: str = "x") -> str:
    """Return why a variable is refused."""
    with pytest.raises(SettingsError) as caught:
        refuse_unknown({name: value}, KNOWN, PREFIX)
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("SCHEMA_MIGRATOR_LOCK_TIMOUT", "SCHEMA_MIGRATOR_LOCK_TIMEOUT"),
        ("SCHEMA_MIGRATOR_WAIT", "SCHEMA_MIGRATOR_WAIT_TIMEOUT"),
        ("SCHEMA_MIGRATOR_STORE", "SCHEMA_MIGRATOR_STORES"),
        ("SQL_HOTS", "SQL_HOST"),
        ("SQL_TSL", "SQL_TLS"),
        ("SQL_PASSWORDS", "SQL_PASSWORD"),
        ("DEFAULT_SQL_DATABSE", "DEFAULT_SQL_DATABASE"),
        ("VISIBILITY_SQL_PASSWORT", "VISIBILITY_SQL_PASSWORD"),
    ],
)
def test_refuses_what_nothing_reads(name: str, meant: str) -> None:
    """Of ours and of the vendor's a misspelt name is refused, with the one that is meant."""
    assert refused(name) == f"{name} is set, but there is no such setting; did you mean {meant}?"


@pytest.mark.parametrize("name", ["sql_host", "Default_Sql_Host", "schema_migrator_stores", "visibility_sql_hots"])
def test_refuses_lower_case(name: str) -> None:
    """Names of variables count in capitals alone, and nobody reads the others: the one that is meant is named."""
    meant = name.upper().replace("HOTS", "HOST")
    assert refused(name) == f"{name} is set, but there is no such setting; did you mean {meant}?"


def test_refuses_what_is_like_nothing() -> None:
    """Whatever begins as ours do is refused, if only with a pointer to the list."""
    assert refused("SCHEMA_MIGRATOR_PORT", "5432") == (
        "SCHEMA_MIGRATOR_PORT is set, but there is no such setting; "
        "unset it (schema-migrator migrate --help lists all settings)"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SCHEMA_MIGRATOR_SERVICE_HOST", "10.0.0.1"),
        ("SCHEMA_MIGRATOR_SERVICE_PORT", "80"),
        ("SCHEMA_MIGRATOR_SERVICE_PORT_HTTP", "80"),
        ("SCHEMA_MIGRATOR_PORT", "tcp://10.0.0.1:80"),
        ("SCHEMA_MIGRATOR_PORT_80_TCP", "tcp://10.0.0.1:80"),
        ("SCHEMA_MIGRATOR_PORT_80_TCP_PROTO", "tcp"),
        ("SCHEMA_MIGRATOR_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("SCHEMA_MIGRATOR_PORT_80_TCP_PORT", "80"),
        ("SCHEMA_MIGRATOR_WEB_PORT", "tcp://10.0.0.1:80"),
        ("SCHEMA_MIGRATOR_TEST_DSN", "host=x"),
        ("SCHEMA_MIGRATOR_GONE", ""),
        ("SQL_SERVICE_HOST", "10.0.0.1"),
        ("SQL_PORT_5432_TCP_ADDR", "10.0.0.1"),
        ("SQL_CERT", "/etc/tls/tls.crt"),
        ("SQL_CA", "/etc/tls/ca.crt"),
        ("SQL_MAX_CONNS", "20"),
        ("SQL_USERNAMES", "x"),
        ("SQLITE_FILE", "x"),
        ("MYSQL_HOST", "x"),
        ("HOME", "/root"),
    ],
)
def test_passes_what_is_not_for_us(name: str, value: str) -> None:
    """Kubernetes' service links, the server's own variables, empty ones and all others."""
    refuse_unknown({name: value}, KNOWN, PREFIX)


@pytest.mark.parametrize(
    ("name", "service"), [("SQL_PORT", "sql"), ("DEFAULT_SQL_PORT", "default-sql"), ("SQL_DIRECT_PORT", "sql-direct")]
)
def test_names_a_service_link(name: str, service: str) -> None:
    """Where Kubernetes has overwritten a setting of ours, the Service that did it is named."""
    found = service_link(name, "tcp://10.0.0.1:5432")
    assert str(found) == (
        f'{name} is "tcp://10.0.0.1:5432", which Kubernetes wrote for a Service named "{service}", not a port; '
        f"set {name} yourself or set enableServiceLinks: false in the pod"
    )


@pytest.mark.parametrize("value", ["5432", 5432, None])
def test_knows_a_port_from_a_link(value: object) -> None:
    """A port is no link."""
    assert service_link("SQL_PORT", value) is None
