"""An ApplicationSet for fifty installations."""

import copy
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import examples
from argocd import ARGOCD
from cluster import Cluster, until
from gitrepo import PLACE, repository
from helm import Manifest
from installation import NEWER, OLDER, Installation, namespace
from migrations import STORES
from stores import Databases, unique

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(2400)]
Measured = Callable[[str], None]
PATIENCE = 1500.0


def test_one_failure_stops_nobody(
    cluster: Cluster, databases: Databases, host: str, tmp_path: Path, measured: Measured
) -> None:
    """Fifty installations from one list: one fails and stays so, all others are migrated, then upgraded five at a time.

    New Applications may for a moment be twice as many: Argo CD counts one anew as it first sees its revision.
    """
    example = copy.deepcopy(examples.one("ApplicationSet", "temporal-migrations"))
    elements = example["spec"]["generators"][0]["list"]["elements"]
    bound = example["spec"]["strategy"]["rollingSync"]["steps"][0]["maxUpdate"]
    with ExitStack() as stack:
        fleet = [member(cluster, stack.enter_context(namespace(cluster)), databases, host) for _ in elements]
        fleet[0].secret("wrong")
        folder = Path(os.environ.get("SCHEMA_MIGRATOR_TEST_GIT_FOLDER") or tmp_path) / unique("fleet")
        repo = repository(folder)
        repo.commit({})
        name = unique("fleet").replace("_", "-")
        stack.callback(remove, cluster, name, fleet)
        made, first = rollout(cluster, adapted(example, name, repo.url, fleet, OLDER), fleet, OLDER)
        upgraded, then = rollout(cluster, adapted(example, name, repo.url, fleet, NEWER), fleet, NEWER)
        assert (1 < first <= 2 * bound, 1 < then <= bound) == (True, True)
        assert fleet[0].versions() == {"default": None, "visibility": None}
    count = f"{len(fleet) - 1} of {len(fleet)}"
    measured(
        f"{count} installed in {made:.0f} s, at most {first} Jobs at a time; "
        f"upgraded in {upgraded:.0f} s, at most {then} at a time"
    )


def rollout(cluster: Cluster, fleets: Manifest, fleet: list[Installation], version: str) -> tuple[float, int]:
    """Apply the set; return the seconds until all but the broken one are there, and how many Jobs ran at a time."""
    began = time.monotonic()
    cluster.apply(fleets)
    most = max(running(cluster, fleet, version))
    lasted = time.monotonic() - began
    for one in fleet[1:]:
        one.assert_at(version)
    return lasted, most


def member(cluster: Cluster, name: str, databases: Databases, host: str) -> Installation:
    """Return an installation with two databases of its own."""
    own = replace(databases, default=databases.create(), visibility=databases.create())
    made = Installation(cluster=cluster, namespace=name, databases=own, host=host)
    made.secret()
    return made


def adapted(example: Manifest, name: str, url: str, fleet: list[Installation], version: str) -> Manifest:
    """Return the example for these installations: its strategy and template, our addresses."""
    example = copy.deepcopy(example)
    example["metadata"]["name"] = name
    spec = example["spec"]
    spec["generators"][0]["list"]["elements"] = [
        {"name": one.namespace, "serverVersion": version, **{store: one.databases.name(store) for store in STORES}}
        for one in fleet
    ]
    source = spec["template"]["spec"]["source"]
    source |= {"repoURL": url, "targetRevision": "main", "path": PLACE}
    values = fleet[0].values()
    values["databases"] = {store: {"database": f"{{{{ .{store} }}}}"} for store in STORES}
    source["helm"]["valuesObject"] |= {**values, "serverVersion": "{{ .serverVersion }}"}
    spec["template"]["spec"]["syncPolicy"]["retry"] = {"limit": 0}
    return example


def running(cluster: Cluster, fleet: list[Installation], version: str) -> Iterator[int]:
    """Yield how many hooks run, until all are done: all but the first one synced, and that one failed."""
    names = {one.namespace: f"{one.namespace}-migrations" for one in fleet}
    deadline = time.monotonic() + PATIENCE
    until(
        lambda: cluster.get("Application", names[fleet[0].namespace], ARGOCD), "Application; is there a controller", 90
    )
    while time.monotonic() < deadline:
        jobs = [job for job in cluster.items("Job") if job["metadata"]["namespace"] in names]
        yield sum(1 for job in jobs if (job.get("status") or {}).get("active"))
        found = {item["metadata"]["name"]: item.get("status") or {} for item in cluster.items("Application", ARGOCD)}
        states = {place: summary(found.get(name, {}), version) for place, name in names.items()}
        failed = states.pop(fleet[0].namespace) == "Failed"
        if failed and set(states.values()) == {"Synced"}:
            return
    raise AssertionError(f"not done within {PATIENCE:.0f} s: {states}")


def summary(status: dict[str, Any], version: str) -> str:
    """Return Synced or Failed, of that version, or anything else."""
    sync = status.get("sync") or {}
    values = sync.get("comparedTo", {}).get("source", {}).get("helm", {}).get("valuesObject", {})
    if values.get("serverVersion") != version:
        return "of another version"
    phase = str((status.get("operationState") or {}).get("phase"))
    return phase if phase == "Failed" else str(sync.get("status"))


def remove(cluster: Cluster, name: str, fleet: list[Installation]) -> None:
    """Delete the set; its controller deletes the Applications."""
    cluster.delete("ApplicationSet", name, ARGOCD)
    for one in fleet:
        until(lambda one=one: not cluster.get("Application", f"{one.namespace}-migrations", ARGOCD), "deletion", 300)
