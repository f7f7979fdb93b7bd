"""Database, Secret, migrations and servers in one release."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.kubernetes import examples
from support.kubernetes.cluster import Cluster
from support.kubernetes.containers import IMAGE
from support.kubernetes.helm import helm
from support.kubernetes.installation import NEWER, OLDER, image, namespace, values_file

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
Measured = Callable[[str], None]
POSTGRES = os.environ.get("SCHEMA_MIGRATOR_TEST_POSTGRES_IMAGE") or "postgres:17"
SERVER = os.environ.get("SCHEMA_MIGRATOR_TEST_SERVER_IMAGE") or "temporalio/server"
WAITING = ("--wait", "--wait-for-jobs", "--timeout", "8m")


@pytest.fixture
def place(cluster: Cluster) -> Iterator[str]:
    """Return an empty namespace."""
    with namespace(cluster) as name:
        yield name


def values(version: str) -> dict[str, Any]:
    """Return the values for images that are in the cluster, and a database without a volume."""
    return {
        "password": "fifteen-letters",
        "postgres": {"image": POSTGRES, "storage": ""},
        "server": {"image": SERVER, "numHistoryShards": 4},
        "temporal-migrations": {"serverVersion": version, "image": image(IMAGE)},
    }


def test_from_nothing_to_servers(cluster: Cluster, place: str, tmp_path: Path, measured: Measured) -> None:
    """One `helm install` creates the database, migrates it and starts the servers; `helm test` compares."""
    chart = examples.umbrella(tmp_path)
    began = time.monotonic()
    with values_file(values(OLDER)) as given:
        done = helm("install", "temporal", str(chart), "--namespace", place, "--values", str(given), *WAITING)
    assert done.returncode == 0, done.stderr
    lasted = time.monotonic() - began
    found = cluster.get("Deployment", "temporal-server", place) or {}
    assert found["status"]["readyReplicas"] == 1
    (server,) = cluster.items("Pod", place, "app=temporal-server")
    assert [item["restartCount"] for item in server["status"]["containerStatuses"]] == [0]
    assert "schema.waiting" in cluster.logs(server["metadata"]["name"], place, "wait-for-schema")
    tested = helm("test", "temporal", "--namespace", place)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    measured(f"installed, migrated and serving after {lasted:.0f} s; the servers never restarted; `helm test`: exit 0")


def test_a_hook_would_wait_for_ever(cluster: Cluster, place: str, tmp_path: Path, measured: Measured) -> None:
    """In mode `hook` the preflight finds no Secret and ends; Helm has created neither it nor the database."""
    chart = examples.umbrella(tmp_path)
    hook = ("--set", "temporal-migrations.mode=hook,temporal-migrations.createDatabase=false")
    with values_file(values(NEWER)) as given:
        done = helm("install", "temporal", str(chart), "--namespace", place, "--values", str(given), *hook, *WAITING)
    assert done.returncode != 0
    assert cluster.items("StatefulSet", place) == []
    assert cluster.get("Secret", "temporal-db", place) is None
    pods = cluster.items("Pod", place)
    ends = [one["state"]["terminated"]["message"] for pod in pods for one in pod["status"]["containerStatuses"]]
    assert ends
    assert all("there is no Secret temporal-db, or it has no key password" in said for said in ends)
    measured(f"helm: {done.stderr.strip().splitlines()[-1]}; the pod: {ends[0]}")
