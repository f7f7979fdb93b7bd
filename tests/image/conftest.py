"""A PostgreSQL container, and what runs the images beside it."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import docker  # type: ignore[import-untyped]  # docker has no types
import pytest
from docker.errors import APIError, ImageNotFound  # type: ignore[import-untyped]  # the same
from testcontainers.community.postgres import PostgresContainer
from testcontainers.core.config import testcontainers_config

from support.kubernetes.containers import IMAGE, SERVER, TOOLS_IMAGE, Image
from support.postgres.engine import Engine


def pytest_sessionstart(session: pytest.Session) -> None:
    """Say in one line what is missing, rather than once for each test."""
    if not hasattr(session.config, "workerinput") and (missing := _missing()):
        pytest.exit(missing, returncode=pytest.ExitCode.USAGE_ERROR)


def _missing() -> str:
    """Return what these tests lack; empty where they can run."""
    command = shutil.which("docker")
    if command is None:
        return "there is no docker command, expected Docker for these tests"
    asked = subprocess.run([command, "version"], capture_output=True, text=True, check=False)
    if asked.returncode != 0:
        return f"no Docker daemon answers, expected one for these tests: {asked.stderr.strip()}"
    try:
        with closing(docker.from_env()) as client:
            for name in (IMAGE, TOOLS_IMAGE):
                if not _has(client, name):
                    return f'there is no image "{name}", expected the one under test: make image'
            if not _has(client, SERVER):
                client.images.pull(SERVER)
    except APIError as error:
        return (
            f'the image "{SERVER}" is not here and cannot be fetched: {error};'
            " name another PostgreSQL in SCHEMA_MIGRATOR_TEST_IMAGE"
        )
    return ""


def _has(client: docker.DockerClient, name: str) -> bool:
    try:
        client.images.get(name)
    except ImageNotFound:
        return False
    return True


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresContainer]:
    """Start the server's container, without testcontainers' own, which not every registry has: this one is removed."""
    testcontainers_config.ryuk_disabled = True
    with PostgresContainer(SERVER, username="postgres", password="postgres") as started:
        yield started


@pytest.fixture(scope="session")
def server(postgres: PostgresContainer) -> Engine:
    """Return the server as this machine reaches it."""
    host, port = postgres.get_container_host_ip(), int(postgres.get_exposed_port(5432))
    return Engine(host=host, port=port, user="postgres", password="postgres")


@pytest.fixture(scope="session")
def image(postgres: PostgresContainer) -> Iterator[Image]:
    """Return what runs the slim image."""
    client = docker.from_env()
    try:
        name = postgres.get_wrapped_container().id
        networks = client.containers.get(name).attrs["NetworkSettings"]["Networks"]
        host = next(network["IPAddress"] for network in networks.values())
        yield Image(name=IMAGE, client=client, network=f"container:{name}", host=host)
    finally:
        client.close()


@pytest.fixture(scope="session")
def tools_image(image: Image) -> Image:
    """Return what runs the image with the vendor's tool."""
    return replace(image, name=TOOLS_IMAGE)


@pytest.fixture(params=["slim", "tools"])
def each_image(request: pytest.FixtureRequest, image: Image, tools_image: Image) -> Image:
    """Return one image after the other."""
    return image if request.param == "slim" else tools_image
