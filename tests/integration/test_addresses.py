"""Every way to say where a server is, and what is said of the one that refuses."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from schema_migrator.demo.embedded_postgres import private_server
from support.postgres.databases import Databases
from support.postgres.engine import Engine
from support.postgres.relay import relay
from support.program.command import Completed, run_cli, run_process
from support.program.refusals import errors


@contextmanager
def on_ipv6(databases: Databases) -> Iterator[int]:
    """Let the server be reached at ::1; yield the port."""
    listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    with relay(listener, databases.host, databases.port):
        yield int(listener.getsockname()[1])


@contextmanager
def on_socket(databases: Databases, folder: Path) -> Iterator[None]:
    """Let the server be reached by a socket in that folder, at the port 5432."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / ".s.PGSQL.5432"))
    listener.listen()
    with relay(listener, databases.host, databases.port):
        yield


def status(databases: Databases, **changes: str) -> Completed:
    """Run status on one store; an empty value takes a variable away."""
    env = databases.env() | {"SCHEMA_MIGRATOR_STORES": "default", "SCHEMA_MIGRATOR_WAIT_TIMEOUT": "1"} | changes
    return run_cli({name: value for name, value in env.items() if value}, "status")


def works(databases: Databases, **changes: str) -> None:
    """Run status; assert that it gets through."""
    done = status(databases, **changes)
    assert done.code == 0, done.stderr


def by_uri(databases: Databases, place: str, query: str = "") -> dict[str, str]:
    """Return the variables of a URI alone."""
    login = f"{databases.user}:{quote(databases.password, safe='')}"
    unset = dict.fromkeys(("SQL_HOST", "SQL_PORT", "SQL_USER", "SQL_PASSWORD", "DEFAULT_SQL_DATABASE"), "")
    return unset | {"DEFAULT_SQL_URI": f"postgresql://{login}@{place}/{databases.default}{query}"}


def closed() -> str:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return str(taken.getsockname()[1])


def test_ipv6(databases: Databases) -> None:
    """With brackets, as the vendor's tool wants it, and without, as libpq does."""
    with on_ipv6(databases) as port:
        for host in ("[::1]", "::1", "127.0.0.1,[::1]"):
            ports = f"{closed()},{port}" if "," in host else str(port)
            works(databases, SQL_HOST=host, SQL_PORT=ports)
        works(databases, **by_uri(databases, f"[::1]:{port}"))
    found = status(databases, SQL_HOST="[::1]", SQL_PORT=closed())
    assert errors(found)[0].startswith(f"error: default: the database at {databases.user}@[::1]:")


def test_unix_socket(databases: Databases, tmp_path: Path) -> None:
    """By its folder, in a setting and in a URI."""
    with on_socket(databases, tmp_path):
        works(databases, SQL_HOST=str(tmp_path), SQL_PORT="")
        works(databases, **by_uri(databases, quote(str(tmp_path), safe="")))
        works(databases, **by_uri(databases, "", f"?host={tmp_path}"))
    (sentence,) = errors(status(databases, SQL_HOST=str(tmp_path / "no"), SQL_PORT=""))
    assert f"the database at {databases.user}@{tmp_path / 'no'}/{databases.default} was not available" in sentence


def test_several_hosts(databases: Databases) -> None:
    """With one port for all, and with a port for each; the one that refused is named."""
    works(databases, SQL_HOST="no.such.host.invalid,127.0.0.1")
    down = closed()
    several = {"SQL_HOST": "127.0.0.1,127.0.0.1", "SQL_PORT": f"{down},{databases.port}"}
    works(databases, **several)
    works(databases, **by_uri(databases, f"127.0.0.1:{down},127.0.0.1:{databases.port}"))
    (sentence,) = errors(status(databases, **several, SQL_PASSWORD="no"))
    place = f"{databases.user}@127.0.0.1:{databases.port}/{databases.default}"
    assert sentence.startswith(f"error: default: the server rejected the password for {place}; ")
    (sentence,) = errors(
        status(databases, SQL_HOST="127.0.0.1,127.0.0.1", SQL_PORT=f"{databases.port},{down}", SQL_PASSWORD="no")
    )
    assert sentence.startswith(f"error: default: the server rejected the password for {place}; ")


def test_address_in_the_environment(databases: Databases) -> None:
    """PGHOSTADDR alone is the address, and is named; beside SQL_HOST it is refused, since libpq would go there."""
    works(databases, SQL_HOST="", PGHOSTADDR="127.0.0.1")
    (sentence,) = errors(status(databases, SQL_HOST="", PGHOSTADDR="127.0.0.1", SQL_PORT=closed()))
    assert f"the database at {databases.user}@127.0.0.1:" in sentence
    done = status(databases, SQL_HOST="10.255.255.1", PGHOSTADDR="127.0.0.1")
    assert done.code == 2
    assert "PGHOSTADDR is set beside SQL_HOST=10.255.255.1" in done.stderr


def test_no_such_role(databases: Databases) -> None:
    """A role that does not exist, to log in as or to act as, is no matter of passwords."""
    with private_server() as server:
        (server.datadir / "pg_hba.conf").write_text("host all all 127.0.0.1/32 trust\n")
        engine = Engine.of(server)
        with engine.connect() as admin:
            admin.execute("SELECT pg_reload_conf()")
        place = {"SQL_HOST": server.host, "SQL_PORT": str(server.port), "SQL_USER": "nobody_here"}
        done = status(databases, **place, SCHEMA_MIGRATOR_WAIT_TIMEOUT="0")
    assert (done.code, errors(done)) == (
        10,
        [
            (
                f"error: default: the server at nobody_here@127.0.0.1:{server.port}/{databases.default} has no role "
                '"nobody_here"; create it, or correct SQL_USER'
            )
        ],
    )
    done = status(databases, PGOPTIONS="-c role=nobody_there", SCHEMA_MIGRATOR_WAIT_TIMEOUT="0")
    assert done.code == 10
    assert 'has no role "nobody_there"; correct the role in the connect attributes, in PGOPTIONS, or' in done.stderr


def test_warns_where_the_password_may_go_in_clear(databases: Databases) -> None:
    """Once, for a host that is not this machine, unless TLS is settled either way."""
    for changes, count in (
        ({"SQL_HOST": "no.such.host.invalid"}, 1),
        ({"SQL_HOST": "127.0.0.1"}, 0),
        ({"SQL_HOST": "no.such.host.invalid", "SQL_TLS": "true"}, 0),
        ({"SQL_HOST": "no.such.host.invalid", "SQL_TLS": "false"}, 0),
        ({"SQL_HOST": "no.such.host.invalid", "PGSSLMODE": "require"}, 0),
        ({"SQL_HOST": "no.such.host.invalid", "SQL_CONNECT_ATTRIBUTES": "sslmode=allow"}, 1),
        ({"SQL_HOST": "no.such.host.invalid", "SQL_CONNECT_ATTRIBUTES": "require_auth=scram-sha-256"}, 0),
    ):
        env = databases.env() | {"SCHEMA_MIGRATOR_WAIT_TIMEOUT": "0"} | changes
        done = run_process(env, "status")  # once for each process
        events = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
        assert [one["event"] for one in events].count("tls.optional") == count, (changes, done.stderr)


def test_warns_of_a_password_in_the_process_table(databases: Databases) -> None:
    """Once, with the flag's name and without the password."""
    done = run_cli(databases.env(), "status", "--sql-password", databases.password)
    events = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert [one["flag"] for one in events if one["event"] == "password.exposed"] == ["--sql-password"]
    assert databases.password not in done.stderr
    assert "password.exposed" not in run_cli(databases.env(), "status").stderr
