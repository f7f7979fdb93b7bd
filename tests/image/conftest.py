"""A PostgreSQL container, and what runs the image beside it."""

from collections.abc import Iterator

import docker  # type: ignore[import-untyped]
import pytest
from testcontainers.community.postgres import PostgresContainer

from containers import SERVER, Image
from engine import Engine


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresContainer]:
    """Start the server's container; without a Docker daemon this fails."""
    with PostgresContainer(SERVER, username="postgres", password="postgres") as started:
        yield started


@pytest.fixture(scope="session")
def server(postgres: PostgresContainer) -> Engine:
    """Return the server as this machine reaches it."""
    host, port = postgres.get_container_host_ip(), int(postgres.get_exposed_port(5432))
    return Engine(host=host, port=port, user="postgres", password="postgres")


@pytest.fixture(scope="session")
def image(postgres: PostgresContainer) -> Iterator[Image]:
    """Return what runs the image."""
    client = docker.from_env()
    try:
        name = postgres.get_wrapped_container().id
        networks = client.containers.get(name).attrs["NetworkSettings"]["Networks"]
        host = next(network["IPAddress"] for network in networks.values())
        yield Image(client=client, network=f"container:{name}", host=host)
    finally:
        client.close()
