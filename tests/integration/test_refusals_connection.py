"""Databases that cannot be reached: waited for, or refused at once, and left as they were."""

import json
import re
import socket
from pathlib import Path

import pytest

from support.postgres.databases import STORES, Databases, create_database, unique
from support.program.command import Completed, await_event, finish, run_cli, start_cli
from support.program.refusals import Clock, Refusals, errors

THERE = "is it running, and is the address correct?"


def address(databases: Databases, store: str, host: str | None = None, port: int | None = None) -> str:
    """Return where a store is, as sentences say it."""
    return f"{databases.user}@{host or databases.host}:{port or databases.port}/{databases.name(store)}"


def waited(done: Completed) -> float:
    """Return after how many seconds the last wait was begun."""
    events = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    return max(event["seconds"] for event in events if event["event"] == "database.waiting")


def test_no_such_host(refusals: Refusals, databases: Databases) -> None:
    """A name that leads nowhere is tried until the deadline, since it may be entered later."""
    found = refusals.refused(1, SQL_HOST="no.such.host.invalid")
    # The resolver's own words differ with and without a network.
    assert [re.sub(r"\[Errno -\d\] [\w ]+", "REASON", line) for line in found] == [
        f"error: {store}: the database at {address(databases, store, 'no.such.host.invalid')} was not available"
        " after 1 s: "
        f"failed to resolve host 'no.such.host.invalid': REASON; {THERE}"
        for store in STORES
    ]


@pytest.mark.parametrize("host", ["db..svc", f"{'d' * 64}.svc"])
def test_no_host_name(refusals: Refusals, databases: Databases, host: str) -> None:
    """A name that no host can have is refused at once, with or without a name for its certificate."""
    for tls in ({}, {"SQL_TLS": "true", "SQL_TLS_SERVER_NAME": "db"}):
        found = refusals.refused(2, "--store", "default", SQL_HOST=host, SCHEMA_MIGRATOR_WAIT_TIMEOUT="300", **tls)
        assert found == [
            f"error: default: the host in {address(databases, 'default', host)} is not a host name; correct SQL_HOST"
        ]


def test_refused_port(refusals: Refusals, databases: Databases) -> None:
    """A port that nobody listens on is tried until the deadline."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    done = refusals.run(1, SQL_HOST="127.0.0.1", SQL_PORT=str(port))
    assert errors(done) == [
        f"error: {store}: the database at {address(databases, store, '127.0.0.1', port)} was not available after 1 s: "
        f"Connection refused; {THERE}"
        for store in STORES
    ]
    assert waited(done) <= 1


def test_server_that_does_not_answer(refusals: Refusals) -> None:
    """A server that takes the connection and says nothing does not hold us up past the deadline for long."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        clock = Clock()
        found = refusals.refused(1, SQL_HOST="127.0.0.1", SQL_PORT=str(silent.getsockname()[1]))
        assert [line.rpartition(" s: ")[2] for line in found] == [f"connection timeout expired; {THERE}"] * 2
        assert clock.seconds < 60  # as slow as a busy machine may be; a try that nobody ends takes minutes


def test_database_that_comes_late(databases: Databases) -> None:
    """A database that is created within the deadline is served, and what was waited for is logged."""
    name = unique("temporal_late")
    waiting = start_cli(databases.env() | {"DEFAULT_SQL_DATABASE": name}, "status", "--store", "default")
    event = await_event(waiting, "database.waiting")
    assert event["level"] == "warning"
    assert event["reason"] == f'database "{name}" does not exist'
    create_database(databases.engine, name, databases.user)
    assert finish(waiting).code == 0


def test_wrong_password(refusals: Refusals, databases: Databases) -> None:
    """A wrong password is tried for less than ten seconds of the five minutes, then names role and database."""
    done = refusals.run(10, SQL_PASSWORD="no", SCHEMA_MIGRATOR_WAIT_TIMEOUT="300")
    assert errors(done) == [
        f"error: {store}: the server rejected the password for {address(databases, store)}; "
        "make the Secret and the role's password the same"
        for store in STORES
    ]
    assert 2 < waited(done) < 9


@pytest.mark.parametrize(("added", "found"), [("\n", "ends with a line break"), (" ", "starts or ends with a space")])
def test_a_password_with_more_than_itself(refusals: Refusals, databases: Databases, added: str, found: str) -> None:
    """A line break that `echo` made part of the Secret is named; nothing of the password is."""
    done = refusals.run(10, "--store", "default", SQL_PASSWORD=databases.password + added)
    (line,) = errors(done)
    assert f"rejected the password for {address(databases, 'default')}; SQL_PASSWORD {found}" in line
    assert databases.password not in done.stderr


def test_the_charts_words(refusals: Refusals, databases: Databases, tmp_path: Path) -> None:
    """In the chart's Job its values stand beside the settings, on standard error and in the pod's last words."""
    words = tmp_path / "termination-log"
    words.touch()
    told = {"SCHEMA_MIGRATOR_CHART": "migrate", "SCHEMA_MIGRATOR_TERMINATION_LOG": str(words)}
    (line,) = refusals.refused(10, "--store", "default", SQL_PASSWORD="", **told)
    expected = (
        "set SQL_PASSWORD (in the chart: connection.existingSecret),"
        " SQL_PASSWORD_FILE (in the chart: connection.passwordFile)"
    )
    assert line.startswith(f"error: default: the server asks for a password for {address(databases, 'default')}")
    assert expected in line
    assert expected in words.read_text()


def test_no_password(refusals: Refusals, databases: Databases) -> None:
    """A password that is asked for and not set is refused at once."""
    found = refusals.refused(10, SQL_PASSWORD="", SCHEMA_MIGRATOR_WAIT_TIMEOUT="300")
    assert found == [
        f"error: {store}: the server asks for a password for {address(databases, store)}, and none is set; "
        "set SQL_PASSWORD, SQL_PASSWORD_FILE, SQL_PASSWORD_COMMAND or SQL_AUTH"
        for store in STORES
    ]


def test_missing_database(refusals: Refusals, databases: Databases) -> None:
    """A database that is not created until the deadline is named, with the command that creates it."""
    found = refusals.refused(1, DEFAULT_SQL_DATABASE="nix")
    assert found == [
        (
            f"error: default: the database at {address(databases, 'nix')} was not available after 1 s: "
            'database "nix" does not exist; create it: schema-migrator create-database'
        )
    ]


def test_too_few_connections(refusals: Refusals, databases: Databases) -> None:
    """The lock has a connection of its own: a role that may have one only is told so, and nothing is touched."""
    refusals.sql("default", f'ALTER ROLE "{databases.user}" CONNECTION LIMIT 1')
    found = refusals.refused(1, "--store", "default")
    assert found == [
        (
            f"error: default: the database at {address(databases, 'default')} was not available after 1 s: "
            f'too many connections for role "{databases.user}"; '
            "raise that limit, or close other connections: a run needs two for each store"
        )
    ]


def test_no_right_to_connect(refusals: Refusals, databases: Databases) -> None:
    """A role that may not connect is refused at once, with the SQL that lets it in."""
    name = databases.visibility
    refusals.sql("default", f'REVOKE CONNECT ON DATABASE "{name}" FROM PUBLIC, "{databases.user}"')
    found = refusals.refused(12, SCHEMA_MIGRATOR_WAIT_TIMEOUT="300")
    assert found == [
        (
            f"error: visibility: the server refuses this role or host at {address(databases, 'visibility')}: "
            f'permission denied for database "{name}"; '
            f'as its owner run: GRANT CONNECT ON DATABASE "{name}" TO "{databases.user}";'
        )
    ]


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ("ssl_mode=require", 'unrecognized configuration parameter "ssl_mode"'),
        ("sslmode=on", 'invalid sslmode value: "on"'),
        ("work_mem=lots", 'invalid value for parameter "work_mem": "lots"'),
        ("keepalives_idle=x", 'invalid integer value "x" for connection option "keepalives_idle"'),
    ],
)
def test_mistaken_attributes(refusals: Refusals, databases: Databases, attributes: str, reason: str) -> None:
    """Connect attributes that libpq or the server does not take are refused at once."""
    found = refusals.refused(
        2, "--store", "default", SQL_CONNECT_ATTRIBUTES=attributes, SCHEMA_MIGRATOR_WAIT_TIMEOUT="300"
    )
    assert found == [
        (
            f"error: default: the connection parameters for {address(databases, 'default')} are refused: {reason}; "
            "correct SQL_CONNECT_ATTRIBUTES, the query of SQL_URI, or libpq's own variables (PG...)"
        )
    ]


def test_failing_password_command(refusals: Refusals) -> None:
    """A command that fails is refused before connecting."""
    found = refusals.refused(2, SQL_PASSWORD="", SQL_PASSWORD_COMMAND="false")
    assert found == [
        f'error: {store}: SQL_PASSWORD_COMMAND: "false" failed with exit code 1; run it by hand and read its output'
        for store in STORES
    ]


@pytest.mark.parametrize("command", ["migrate", "plan", "status", "verify", "create-database"])
def test_every_command_waits_and_refuses(refusals: Refusals, command: str) -> None:
    """Whatever connects waits until the deadline and ends with exit code 1."""
    done = refusals.run(1, "--store", "default", command=command, SQL_PORT="1")
    assert len(errors(done)) == 1
    assert "was not available after 1 s: Connection refused" in done.stderr


def test_stops_while_waiting(databases: Databases) -> None:
    """SIGTERM ends the wait at once, with its own exit code."""
    waiting = start_cli(databases.env() | {"SQL_PORT": "1"}, "status")
    await_event(waiting, "database.waiting")
    clock = Clock()
    waiting.terminate()
    done = finish(waiting)
    assert done.code == 143
    assert errors(done) == ["error: stopped by a signal, everything uncommitted was rolled back; run it again"]
    assert clock.seconds < 30


def test_awkward_passwords_reach_the_server(databases: Databases, tmp_path: Path) -> None:
    """From a variable, a file with a line break at its end, and a command."""
    file = tmp_path / "password"
    file.write_text(f"{databases.password}\n")
    base = {name: value for name, value in databases.env().items() if name != "SQL_PASSWORD"}
    for given in ({"SQL_PASSWORD_FILE": str(file)}, {"SQL_PASSWORD_COMMAND": f"cat {file}"}):
        assert run_cli(base | given, "status").code == 0
