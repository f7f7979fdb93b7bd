"""An ApplicationSet that syncs migrations before servers."""

import copy
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.kubernetes import examples
from support.kubernetes.argocd import ARGOCD, hooks
from support.kubernetes.cluster import Cluster, until
from support.kubernetes.gitrepo import PLACE, VALUES, Repository, repository
from support.kubernetes.helm import Manifest
from support.kubernetes.installation import JOB, OLDER, RELEASE, Installation
from support.postgres.statement_gate import gate

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(600)]
Measured = Callable[[str], None]
RUNTIME = "runtime"
CHART = "apiVersion: v2\nname: runtime\nversion: 0.1.0\n"
SERVERS = "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: servers }\n"
"""What stands for the servers: a chart of one object, which is there as soon as the second step begins."""


@pytest.fixture
def repo(installation: Installation, tmp_path: Path) -> Repository:
    """Return a repository with our chart and one that stands for the servers."""
    folder = Path(os.environ.get("SCHEMA_MIGRATOR_TEST_GIT_FOLDER") or tmp_path) / installation.namespace
    made = repository(folder)
    (folder / RUNTIME / "templates").mkdir(parents=True)
    (folder / RUNTIME / "Chart.yaml").write_text(CHART, encoding="utf-8")
    (folder / RUNTIME / "templates" / "servers.yaml").write_text(SERVERS, encoding="utf-8")
    (folder / RUNTIME / VALUES).write_text("{}\n", encoding="utf-8")
    made.commit(installation.values())
    return made


@pytest.fixture
def applicationset(cluster: Cluster, installation: Installation, repo: Repository) -> Iterator[Manifest]:
    """Return the example for this installation, not created yet; nothing of it stays."""
    made = copy.deepcopy(examples.one("ApplicationSet", "temporal"))
    name = made["metadata"]["name"] = installation.namespace
    for element, path in zip(made["spec"]["generators"][0]["list"]["elements"], (PLACE, RUNTIME), strict=True):
        element |= {"name": f"{name}-{element['step']}", "revision": "main", "path": path, "values": VALUES}
    spec = made["spec"]["template"]["spec"]
    spec["source"] |= {"repoURL": repo.url, "helm": {**spec["source"]["helm"], "releaseName": RELEASE}}
    spec["destination"]["namespace"] = name
    spec["syncPolicy"]["retry"] = {"limit": 0}
    yield made
    cluster.delete("ApplicationSet", name, ARGOCD)
    for element in made["spec"]["generators"][0]["list"]["elements"]:
        until(lambda name=element["name"]: not cluster.get("Application", name, ARGOCD), "deletion", 120)


def test_servers_come_after(
    cluster: Cluster, installation: Installation, applicationset: Manifest, measured: Measured
) -> None:
    """While the hook of the first step runs, nothing of the second is created; afterwards everything is."""
    with gate(installation.databases, "visibility", "CREATE TABLE executions_visibility") as stopped:
        cluster.apply(applicationset)
        stopped.await_arrival()
        assert phase(cluster, f"{installation.namespace}-migrations") == "Running"
        assert phase(cluster, f"{installation.namespace}-runtime") is None
        assert not cluster.get("ConfigMap", "servers", installation.namespace)
        stopped.open()
    until(lambda: cluster.get("ConfigMap", "servers", installation.namespace), "servers", 180)
    installation.assert_at(OLDER)
    measured("no operation of the runtime while the hook runs; synced after it, both stores proven")


def test_servers_stay_as_they_are(
    cluster: Cluster, installation: Installation, applicationset: Manifest, measured: Measured
) -> None:
    """A failed migration keeps the second step from starting; a fixed one, once synced, lets it start."""
    installation.secret("wrong")
    cluster.apply(applicationset)
    migrations = f"{installation.namespace}-migrations"
    until(lambda: phase(cluster, migrations) == "Failed", "failed migration", 120)
    assert phase(cluster, f"{installation.namespace}-runtime") is None
    assert not cluster.get("ConfigMap", "servers", installation.namespace)
    installation.secret()
    sync = {"initiatedBy": {"username": "test"}, "sync": {"syncStrategy": {"hook": {}}}}
    cluster.patch("Application", migrations, {"operation": sync}, ARGOCD)
    until(lambda: cluster.get("ConfigMap", "servers", installation.namespace), "servers", 180)
    found = cluster.get("Application", migrations, ARGOCD)
    assert found
    assert hooks(found["status"]["operationState"]) == {JOB: "Succeeded"}
    installation.assert_at(OLDER)
    measured("no operation of the runtime after the failure; synced after the repair")


def phase(cluster: Cluster, application: str) -> str | None:
    """Return how an Application's last operation stands; None where there was none."""
    status = (cluster.get("Application", application, ARGOCD) or {}).get("status") or {}
    return (status.get("operationState") or {}).get("phase")
