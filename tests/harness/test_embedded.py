import shutil
import tempfile
from pathlib import Path

import psycopg
import pytest

from schema_migrator.demo.embedded_postgres import EmbeddedError, Server, private_server, wheel_bindir

pytestmark = pytest.mark.server


def ask(server: Server, query: str) -> object:
    """Return the one value that the superuser gets."""
    with psycopg.connect(
        host=server.host, port=server.port, user=server.user, password=server.password, dbname="postgres"
    ) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def test_serves_and_leaves_nothing() -> None:
    """A server with the given settings answers, again after a restart, and is gone with its files."""
    with private_server(settings={"cluster_name": r"it's a \ test"}) as server:
        assert ask(server, "SHOW cluster_name") == r"it's a \ test"
        assert ask(server, "SHOW fsync") == "off"
        assert ask(server, "SHOW server_encoding") == "UTF8"
        assert ask(server, "SELECT datcollate FROM pg_database WHERE datname = 'template1'") == "C"
        server.stop("fast")
        with pytest.raises(psycopg.OperationalError):
            ask(server, "SELECT 1")
        server.start()
        assert ask(server, "SELECT 1") == 1
    assert not server.datadir.parent.exists()
    with pytest.raises(psycopg.OperationalError):
        ask(server, "SELECT 1")


def test_needs_the_password() -> None:
    """The server is open to nobody else on this machine, and does not show its password."""
    with private_server() as server:
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(host=server.host, port=server.port, user="postgres", password="no")
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(host=str(server.datadir.parent), port=server.port, user="postgres", password="no")
        assert server.password not in repr(server)


def fail_inside(seen: list[Server]) -> None:
    """Start a server, note it, and fail."""
    with private_server() as server:
        seen.append(server)
        raise KeyError("first")


def test_stops_after_an_exception() -> None:
    """A failure inside the block ends the server and is passed on."""
    seen: list[Server] = []
    with pytest.raises(KeyError, match="first"):
        fail_inside(seen)
    server = seen[0]
    with pytest.raises(psycopg.OperationalError):
        ask(server, "SELECT 1")
    assert not server.datadir.parent.exists()


def test_says_why_it_does_not_start() -> None:
    """A setting that PostgreSQL refuses fails with PostgreSQL's own words."""
    with pytest.raises(EmbeddedError, match='unrecognized configuration parameter "no_such"'):
        private_server(settings={"no_such": "1"}).__enter__()


def test_runs_from_a_private_folder() -> None:
    """Programs that the server's account cannot reach are copied first, libraries too."""
    with tempfile.TemporaryDirectory() as name:
        package = wheel_bindir().parent.parent
        for folder in (package, package.with_name("embedded_postgres.libs")):
            shutil.copytree(folder, Path(name) / folder.name, symlinks=True)
        with private_server(bindir=Path(name) / "embedded_postgres" / "pginstall" / "bin") as server:
            assert ask(server, "SELECT 1") == 1
