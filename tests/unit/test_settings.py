from pathlib import Path
from typing import Any

import pytest

from schema_migrator.config.options import all_options
from schema_migrator.config.settings import Settings, read
from schema_migrator.errors import SettingsError
from schema_migrator.releases.source import Store

pytestmark = pytest.mark.usefixtures("clean")


def given(patch: pytest.MonkeyPatch, variables: dict[str, str], **flags: Any) -> Settings:  # noqa: ANN401 - as argparse
    """Read the settings under these variables and flags."""
    for name, value in variables.items():
        patch.setenv(name, value)
    return read(flags)


def refused(patch: pytest.MonkeyPatch, variables: dict[str, str], **flags: Any) -> str:  # noqa: ANN401 - as argparse
    """Return why the settings are refused."""
    with pytest.raises(SettingsError) as caught:
        given(patch, variables, **flags)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_works_without_any() -> None:
    """Nothing set means both stores, the vendor's database names and the documented defaults."""
    found = read({})
    assert [(one.store, one.database) for one in found.stores] == [
        (Store.DEFAULT, "temporal"),
        (Store.VISIBILITY, "temporal_visibility"),
    ]
    assert found.store(Store.VISIBILITY).address == "the default host/temporal_visibility"
    run = found.run
    assert (run.wait_timeout, run.lock_timeout, run.ddl_lock_timeout, run.statement_timeout) == (300, 600, 0.2, 0)
    assert (run.temporal_version, run.output, run.log_level, run.executor) == (None, "text", "info", "native")
    assert (run.sources, run.termination_log) == ((Path("releases"),), Path("/dev/termination-log"))


@pytest.mark.parametrize(
    ("variables", "flags", "hosts"),
    [
        ({"SQL_HOST": "b"}, {}, ("b", "b")),
        ({"SQL_HOST": "b"}, {"SQL_HOST": "f"}, ("f", "f")),
        ({"SQL_HOST": "b", "VISIBILITY_SQL_HOST": "v"}, {}, ("b", "v")),
        ({"SQL_HOST": "b", "VISIBILITY_SQL_HOST": "v"}, {"SQL_HOST": "f"}, ("f", "v")),
        ({"VISIBILITY_SQL_HOST": "v"}, {"VISIBILITY_SQL_HOST": "f"}, (None, "f")),
        ({"SQL_HOST": "b", "DEFAULT_SQL_HOST": "", "VISIBILITY_SQL_HOST": " "}, {}, ("b", "b")),
        ({"SQL_HOST": "b"}, {"SQL_HOST": ""}, ("b", "b")),
        ({"SQL_HOST": " b\n"}, {}, ("b", "b")),
    ],
)
def test_precedence(
    clean: pytest.MonkeyPatch,
    variables: dict[str, str],
    flags: dict[str, str],
    hosts: tuple[str | None, str | None],
) -> None:
    """Narrow beats broad, then a flag beats a variable; empty means unset."""
    found = given(clean, variables, **flags)
    assert tuple(store.sql.host for store in found.stores) == hosts


def test_every_option_has_flag_variable_and_meaning() -> None:
    """Flags and variables are made of one another, and none is there twice."""
    options = all_options()
    assert len({option.flag for option in options}) == len({option.variable for option in options}) == len(options)
    assert all(option.field.description for option in options)
    meanings = {option.variable: option.meaning for option in options}
    assert meanings["SCHEMA_MIGRATOR_OUTPUT"] == "format of the results on standard output (text, json)"
    assert meanings["SQL_PLUGIN"] == "the vendor's name for the kind of database (postgres12, postgres12_pgx)"
    assert meanings["SQL_PORT"] == "port; for several hosts, one for all or one for each, separated by commas"
    flags = {option.variable: option.flag for option in options}
    assert flags["SCHEMA_MIGRATOR_LOCK_TIMEOUT"] == "--lock-timeout"
    assert flags["SCHEMA_MIGRATOR_STORES"] == "--store"
    assert flags["TEMPORAL_VERSION"] == "--temporal-version"
    assert flags["VISIBILITY_SQL_TLS_CA_FILE"] == "--visibility-sql-tls-ca-file"
    assert {option.variable: option.default for option in options}["SCHEMA_MIGRATOR_STORES"] == "default,visibility"


@pytest.mark.parametrize(
    ("variable", "flag", "stores"),
    [
        ("", None, ["default", "visibility"]),
        ("visibility", None, ["visibility"]),
        ("visibility, default,visibility,", None, ["visibility", "default"]),
        ("visibility", ["default"], ["default"]),
        ("", ["visibility", "default"], ["visibility", "default"]),
        ("", ["default,visibility"], ["default", "visibility"]),
        ("default,visibility,secondary-visibility", None, ["default", "visibility", "secondary-visibility"]),
        ("visibility", ["secondary-visibility"], ["secondary-visibility"]),
    ],
)
def test_stores(clean: pytest.MonkeyPatch, variable: str, flag: list[str] | None, stores: list[str]) -> None:
    """Stores are given with commas or by repeating the flag, in any order, each once."""
    found = given(clean, {"SCHEMA_MIGRATOR_STORES": variable}, SCHEMA_MIGRATOR_STORES=flag)
    assert [str(one.store) for one in found.stores] == stores


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        (
            "SCHEMA_MIGRATOR_STORES",
            "default,visible",
            '"visible", expected default, visibility or secondary-visibility',
        ),
        ("SCHEMA_MIGRATOR_OUTPUT", "yaml", '"yaml", expected text or json'),
        ("SCHEMA_MIGRATOR_LOG_LEVEL", "trace", '"trace", expected debug, info, warning or error'),
        ("SCHEMA_MIGRATOR_EXECUTOR", "magic", '"magic", expected native or sql-tool'),
        ("SCHEMA_MIGRATOR_WAIT_TIMEOUT", "5m", '"5m", expected a number of seconds'),
        ("SCHEMA_MIGRATOR_WAIT_TIMEOUT", "inf", '"inf", expected a number of seconds'),
        ("SCHEMA_MIGRATOR_WAIT_TIMEOUT", "-1", '"-1", expected at least 0'),
        ("SCHEMA_MIGRATOR_DDL_LOCK_TIMEOUT", "0", '"0", expected at least 0.001'),
        ("SCHEMA_MIGRATOR_DDL_LOCK_TIMEOUT", "1e308", '"1e308", expected at most 2147483'),
        ("SQL_PORT", "5432a", '"5432a", expected a whole number'),
        ("SQL_PORT", "0", '"0", expected at least 1'),
        ("VISIBILITY_SQL_PORT", "65536", '"65536", expected at most 65535'),
        ("SQL_TLS", "enabled", '"enabled", expected true or false'),
        ("SQL_PLUGIN", "mysql8", '"mysql8", expected postgres12 or postgres12_pgx'),
    ],
)
def test_refuses_values(clean: pytest.MonkeyPatch, name: str, value: str, expected: str) -> None:
    """A value that cannot be used is shown under its name, with what was expected."""
    assert refused(clean, {name: value}) == f"{name} is {expected}"


def test_names_the_flag_that_is_wrong(clean: pytest.MonkeyPatch) -> None:
    """What came by a flag is called by its flag."""
    assert refused(clean, {}, SCHEMA_MIGRATOR_OUTPUT="yaml") == '--output is "yaml", expected text or json'
    assert refused(clean, {"SCHEMA_MIGRATOR_STORES": ","}) == (
        "SCHEMA_MIGRATOR_STORES cannot be used, expected one or more of default, visibility, secondary-visibility"
    )


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        (
            "SQL_HOST",
            "postgres://me:s3cret@db/temporal",
            (
                "SQL_HOST is a URL, expected a name; set SQL_HOST, SQL_PORT, SQL_USER, SQL_PASSWORD and SQL_DATABASE"
                " one by one"
            ),
        ),
        (
            "DEFAULT_SQL_DATABASE",
            "postgres://me:s3cret@db/temporal",
            (
                "DEFAULT_SQL_DATABASE is a URL, expected a name; set DEFAULT_SQL_HOST, DEFAULT_SQL_PORT, "
                "DEFAULT_SQL_USER, DEFAULT_SQL_PASSWORD and DEFAULT_SQL_DATABASE one by one"
            ),
        ),
        (
            "SQL_USER",
            "postgres://me:s3cret@db/temporal",
            (
                "SQL_USER is a URL, expected a name; set SQL_HOST, SQL_PORT, SQL_USER, SQL_PASSWORD and SQL_DATABASE"
                " one by one"
            ),
        ),
        ("SQL_PORT", "postgres://me:s3cret@db/temporal", "SQL_PORT cannot be used, expected a whole number"),
        (
            "SQL_HOST",
            "db:5432",
            "SQL_HOST has a port, expected a name or address alone; set the port in SQL_PORT",
        ),
        (
            "SQL_HOST",
            "[::1]:5432",
            "SQL_HOST has a port, expected a name or address alone; set the port in SQL_PORT",
        ),
        (
            "SQL_HOST",
            "a:1,b:2",
            "SQL_HOST has a port, expected a name or address alone; set the port in SQL_PORT",
        ),
        (
            "SQL_HOST",
            "me:s3,h:cret,@db",
            (
                "SQL_HOST is a URL, expected a name; set SQL_HOST, SQL_PORT, SQL_USER, SQL_PASSWORD and SQL_DATABASE"
                " one by one"
            ),
        ),
        (
            "SQL_HOST",
            "me:s3cret@db",
            (
                "SQL_HOST is a URL, expected a name; set SQL_HOST, SQL_PORT, SQL_USER, SQL_PASSWORD and SQL_DATABASE"
                " one by one"
            ),
        ),
        ("SQL_PORT", "me:s3cret@db:5432", "SQL_PORT cannot be used, expected a whole number"),
        (
            "SQL_PORT",
            "1,2",
            (
                "default: SQL_PORT has 2 ports for 1 host(s), expected one for all or one for each; "
                "correct SQL_HOST or SQL_PORT"
            ),
        ),
        (
            "SQL_DIRECT_HOST",
            "db:5432",
            "SQL_DIRECT_HOST has a port, expected a name or address alone; set the port in SQL_DIRECT_PORT",
        ),
    ],
)
def test_refuses_places_of_another_form(clean: pytest.MonkeyPatch, name: str, value: str, sentence: str) -> None:
    """A URL is not shown, since it may hold a password; a port after the host is no part of it."""
    assert refused(clean, {name: value}) == sentence


@pytest.mark.parametrize("host", ["::1", "fe80::1", "/var/run/postgresql", "@abstract", "a,b", "db.example"])
def test_takes_hosts_of_every_form(clean: pytest.MonkeyPatch, host: str) -> None:
    """IPv6 addresses, socket folders and several hosts are hosts."""
    assert given(clean, {"SQL_HOST": host}).stores[0].sql.host == host


@pytest.mark.parametrize(
    ("host", "bare", "address"),
    [
        ("[::1]", "::1", "[::1]:5433"),
        ("[fe80::1%eth0]", "fe80::1%eth0", "[fe80::1%eth0]:5433"),
        ("db,[::1]", "db,::1", "db,[::1]:5433"),
    ],
)
def test_takes_brackets_off(clean: pytest.MonkeyPatch, host: str, bare: str, address: str) -> None:
    """The vendor's tool wants brackets around IPv6 addresses, and so does an address with a port."""
    found = given(clean, {"SQL_HOST": host, "SQL_DIRECT_HOST": host, "SQL_PORT": "5433"}).stores[0]
    assert (found.sql.host, found.sql.direct_host, found.address) == (bare, bare, f"{address}/temporal")


def test_takes_a_port_for_each_host(clean: pytest.MonkeyPatch) -> None:
    """As libpq does; direct ports go with direct hosts."""
    several = {"SQL_HOST": "a,b", "SQL_PORT": "1, 2", "SQL_DIRECT_HOST": "c,d", "SQL_DIRECT_PORT": "3,4"}
    sql = given(clean, several).stores[0].sql
    assert (sql.port, sql.direct_port) == ("1,2", "3,4")


def test_knows_a_password_from_a_flag(clean: pytest.MonkeyPatch) -> None:
    """A flag shows it to everybody who can read the process table; a variable does not."""
    assert given(clean, {"SQL_PASSWORD": "p", "SQL_URI": "postgresql://u@h"}).stores[0].exposed == ""
    assert given(clean, {}, SQL_PASSWORD="p").stores[0].exposed == "--sql-password"
    assert given(clean, {"SQL_PASSWORD": ""}, SQL_URI="postgresql://u@h").stores[0].exposed == ""
    found = given(clean, {}, VISIBILITY_SQL_URI="postgresql://u:p@h")
    assert [one.exposed for one in found.stores] == ["", "--visibility-sql-uri"]


def test_refuses_one_database_name_for_both(clean: pytest.MonkeyPatch) -> None:
    """SQL_DATABASE is for one store; two stores need two."""
    variables = {"SQL_DATABASE": "temporal"}
    assert refused(clean, variables) == (
        'SQL_DATABASE is "temporal" for 2 stores, expected a database for each; set DEFAULT_SQL_DATABASE and '
        "VISIBILITY_SQL_DATABASE, or one store in SCHEMA_MIGRATOR_STORES"
    )
    found = given(clean, variables | {"SCHEMA_MIGRATOR_STORES": "visibility"})
    assert [one.database for one in found.stores] == ["temporal"]


def test_refuses_both_stores_in_one_place(clean: pytest.MonkeyPatch) -> None:
    """The same host, port and database twice is refused; the same name on two hosts is not."""
    variables = {"DEFAULT_SQL_DATABASE": "t", "VISIBILITY_SQL_DATABASE": "t"}
    assert refused(clean, variables) == (
        'the default and visibility stores are in the same database "t", expected a database for each; '
        "set DEFAULT_SQL_DATABASE and VISIBILITY_SQL_DATABASE to different databases"
    )
    assert len(given(clean, {"VISIBILITY_SQL_HOST": "other"}).stores) == 2


@pytest.mark.parametrize(
    ("text", "attributes"),
    [
        ("", {}),
        ("sslmode=require", {"sslmode": "require"}),
        ("search_path=a%20b%2Cc&x=&y=1+2", {"search_path": "a b,c", "x": "", "y": "1 2"}),
    ],
)
def test_connect_attributes(clean: pytest.MonkeyPatch, text: str, attributes: dict[str, str]) -> None:
    """Attributes are a query string, as for the vendor's tool."""
    assert given(clean, {"SQL_CONNECT_ATTRIBUTES": text}).stores[0].attributes == attributes


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("sslmode", "is not a query string; expected name=value pairs joined by &"),
        ("sslmode=require&tcp", "is not a query string; expected name=value pairs joined by &"),
        ("a=1&a=2", 'gives "a" twice; set it once'),
        ("password=s3cret", 'gives "password", which has a setting of its own; set SQL_PASSWORD'),
        ("dbname=other", 'gives "dbname", which has a setting of its own; set SQL_DATABASE'),
        (
            "hostaddr=::1",
            (
                'gives "hostaddr", which is not taken; '
                "set SQL_HOST to the address, and SQL_TLS_SERVER_NAME to the name in the server's certificate"
            ),
        ),
        ("postgresql://u:s3cret@h/d?x=1", "is not a query string; expected name=value pairs joined by &"),
        ("work_mem=1%00", "is not a query string; expected name=value pairs joined by &"),
    ],
)
def test_refuses_connect_attributes(clean: pytest.MonkeyPatch, text: str, reason: str) -> None:
    """What is not a query string, or would say again what a setting says, is refused without being shown."""
    assert refused(clean, {"SQL_CONNECT_ATTRIBUTES": text}) == f"SQL_CONNECT_ATTRIBUTES {reason}"


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        (
            {"SQL_TLS_CA_FILE": "ca"},
            (
                "SQL_TLS_CA_FILE is set, but SQL_TLS is not; "
                "set SQL_TLS=true to use it, or SQL_TLS=false to connect without TLS"
            ),
        ),
        (
            {"SQL_TLS": "true", "SQL_TLS_KEY_FILE": "k"},
            "only one of SQL_TLS_CERT_FILE and SQL_TLS_KEY_FILE is set, expected both or none; set the other one too",
        ),
        (
            {"SQL_TLS": "true", "SQL_CONNECT_ATTRIBUTES": "sslmode=disable"},
            (
                'the connect attributes give "sslmode" beside SQL_TLS, expected only one of them to configure TLS; '
                "unset one of them"
            ),
        ),
        (
            {"SQL_TLS_DISABLE_HOST_VERIFICATION": "true"},
            (
                "SQL_TLS_DISABLE_HOST_VERIFICATION is set, but SQL_TLS is not; "
                "set SQL_TLS=true to use it, or SQL_TLS=false to connect without TLS"
            ),
        ),
        (
            {"SQL_TLS": "false", "SQL_CONNECT_ATTRIBUTES": "ssl_min_protocol_version=TLSv1.3"},
            (
                'the connect attributes give "ssl_min_protocol_version" beside SQL_TLS, '
                "expected only one of them to configure TLS; unset one of them"
            ),
        ),
        (
            {"SQL_CONNECT_ATTRIBUTES": "sslrootcert=ca.pem"},
            (
                'the connect attributes give "sslrootcert", but a server without TLS is accepted as well; '
                "add sslmode=verify-full, or set SQL_TLS=true in place of the attributes"
            ),
        ),
        (
            {
                "SQL_TLS": "true",
                "SQL_TLS_DISABLE_HOST_VERIFICATION": "true",
                "SQL_CONNECT_ATTRIBUTES": "sslcrl=crl.pem",
            },
            (
                'the connect attributes give "sslcrl", but without an authority no certificate is checked; '
                "set SQL_TLS_CA_FILE"
            ),
        ),
    ],
)
def test_refuses_half_of_tls(clean: pytest.MonkeyPatch, variables: dict[str, str], reason: str) -> None:
    """TLS settings that would silently do nothing, or contradict each other, are refused."""
    assert refused(clean, variables) == f"default: {reason}"
    narrow = {f"VISIBILITY_{name}": value for name, value in variables.items()} | dict.fromkeys(variables, "")
    assert refused(clean, narrow) == f"visibility: {reason}"


def test_takes_tls_in_parts(clean: pytest.MonkeyPatch) -> None:
    """A store's own certificate joins the common switch; TLS switched off ignores the rest."""
    files = {"VISIBILITY_SQL_TLS_CERT_FILE": "c", "VISIBILITY_SQL_TLS_KEY_FILE": "k"}
    sql = given(clean, {"SQL_TLS": "true", "SQL_TLS_CA_FILE": "ca"} | files).store(Store.VISIBILITY).sql
    assert (sql.tls, str(sql.tls_ca_file), str(sql.tls_cert_file)) == (True, "ca", "c")
    assert not given(clean, {"SQL_TLS": "false"}).stores[0].sql.tls


def test_address_has_what_libpq_is_told(clean: pytest.MonkeyPatch) -> None:
    """An address for people names role, host, port and database, from libpq's own variables too."""
    found = given(clean, {"SQL_HOST": "db", "SQL_USER": "me", "SQL_PORT": "5433"})
    assert found.stores[0].address == "me@db:5433/temporal"
    assert found.stores[0].user == "me"
    for name in ("SQL_HOST", "SQL_USER", "SQL_PORT"):
        clean.delenv(name)
    assert given(clean, {"PGHOST": "h", "PGUSER": "u", "PGPORT": "1"}).stores[1].address == "u@h:1/temporal_visibility"


def test_lower_case_is_not_read(clean: pytest.MonkeyPatch) -> None:
    """A variable in lower case sets nothing: it is refused like a misspelt one."""
    assert refused(clean, {"sql_host": "db"}) == "sql_host is set, but there is no such setting; did you mean SQL_HOST?"


def test_long_values_are_cut(clean: pytest.MonkeyPatch) -> None:
    """A value that fills a screen does not fill the message."""
    said = refused(clean, {"SQL_PORT": "1" * 5000})
    assert said == f'SQL_PORT is "{"1" * 100}...", expected at most 65535'
