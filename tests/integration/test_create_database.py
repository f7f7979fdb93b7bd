"""Databases that are created through whatever database the server has, and names that nobody can have meant."""

from collections.abc import Iterator

import psycopg
import pytest

from schema_migrator.demo.embedded_postgres import Server, private_server
from support.program.command import run_cli
from support.program.refusals import Refusals, errors


@pytest.fixture(scope="module")
def bare() -> Iterator[Server]:
    """Start a server of our own, whose usual databases may go."""
    with private_server() as server:
        yield server


def env(server: Server, **changes: str) -> dict[str, str]:
    """Return the environment for our program."""
    place = {"SQL_HOST": server.host, "SQL_PORT": str(server.port), "SQL_USER": server.user}
    return place | {"SQL_PASSWORD": server.password, "SCHEMA_MIGRATOR_WAIT_TIMEOUT": "1"} | changes


def rename(server: Server, through: str, old: str, new: str) -> None:
    """Rename a database."""
    connection = psycopg.connect(
        host=server.host,
        port=server.port,
        user=server.user,
        password=server.password,
        dbname=through,
        autocommit=True,
    )
    with connection as admin:
        admin.execute(f"ALTER DATABASE {old} RENAME TO {new}".encode())


def test_without_the_usual_database(bare: Server) -> None:
    """A server that has `defaultdb` alone, and one that has neither: template1, for both stores at once."""
    rename(bare, "template1", "postgres", "defaultdb")
    try:
        done = run_cli(env(bare, DEFAULT_SQL_DATABASE="a", VISIBILITY_SQL_DATABASE="b"), "create-database")
        assert (done.code, done.stdout.count("created")) == (0, 2), done.stderr
        rename(bare, "template1", "defaultdb", "strange")
        done = run_cli(env(bare, DEFAULT_SQL_DATABASE="c", VISIBILITY_SQL_DATABASE="d"), "create-database")
        assert (done.code, done.stdout.count("created")) == (0, 2), done.stderr
        done = run_cli(
            env(bare, SCHEMA_MIGRATOR_STORES="default", DEFAULT_SQL_DATABASE="e"),
            "create-database",
            "--through",
            "strange",
        )
        assert (done.code, done.stdout.count("created")) == (0, 1), done.stderr
    finally:
        rename(bare, "template1", "strange", "postgres")


def test_nobody_lets_us_in(bare: Server) -> None:
    """All that was tried is named, with the flag for another one, and not the command that was just run."""
    where = env(bare, SCHEMA_MIGRATOR_STORES="default")
    for role, code, said in (
        ("nobody", 10, "the server rejected the password for "),
        (bare.user, 1, 'was not available after 1 s: database "none" does not exist'),
    ):
        through = ("--through", "none") if code == 1 else ()
        done = run_cli(where | {"SQL_USER": role}, "create-database", *through)
        assert done.code == code, done.stderr
        assert said in errors(done)[-1]


@pytest.mark.parametrize(
    "name", ["*", "**", "-", "${NAME}", "<name>", "{{ .Values.name }}", "a" * 64, "é" * 32, "te?poral"]
)
@pytest.mark.parametrize("store", ["default", "visibility"])
def test_names_that_nobody_can_have_meant(refusals: Refusals, name: str, store: str) -> None:
    """A pattern, an unfilled template and what PostgreSQL would cut are refused before anything is created."""
    (said,) = refusals.refused(2, command="create-database", **{f"{store.upper()}_SQL_DATABASE": name})
    assert said.startswith(
        f'error: {store}: the database\'s name is "{name[:64]}", expected a name with letters or digits'
    )
    with refusals.server.connect() as admin:
        assert admin.execute("SELECT FROM pg_database WHERE datname = left(%s, 63)", [name]).fetchall() == []
