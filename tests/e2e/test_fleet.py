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

from support.kubernetes import examples
from support.kubernetes.argocd import ARGOCD, Application
from support.kubernetes.cluster import PAUSE, Cluster, until
from support.kubernetes.gitrepo import PLACE, VALUES, repository
from support.kubernetes.helm import Manifest
from support.kubernetes.installation import NEWER, OLDER, Installation, namespace
from support.postgres.databases import STORES, Databases, unique

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(2400)]
Measured = Callable[[str], None]
PATIENCE = 600.0


def test_one_failure_stops_nobody(
    cluster: Cluster, databases: Databases, host: str, tmp_path: Path, measured: Measured
) -> None:
    """Fifty installations from one list: one keeps failing, all others are migrated, and upgraded by a commit.

    About five at a time: Argo CD acts on a status that may be outdated, and lets up to twice as many start.
    """
    example = copy.deepcopy(examples.one("ApplicationSet", "temporal-migrations"))
    elements = example["spec"]["generators"][0]["list"]["elements"]
    bound = example["spec"]["strategy"]["rollingSync"]["steps"][0]["maxUpdate"]
    with ExitStack() as stack:
        fleet = [member(cluster, stack.enter_context(namespace(cluster)), databases, host) for _ in elements]
        fleet[0].secret("wrong")
        folder = Path(os.environ.get("SCHEMA_MIGRATOR_TEST_GIT_FOLDER") or tmp_path) / unique("fleet")
        repo = repository(folder)
        commit = repo.commit({"serverVersion": OLDER})
        name = unique("fleet").replace("_", "-")
        stack.callback(remove, cluster, name, fleet)
        cluster.apply(adapted(example, name, repo.url, fleet))
        made, first = rollout(cluster, fleet, commit, OLDER)
        commit = repo.commit({"serverVersion": NEWER})
        for one in fleet:  # as a webhook does
            Application(cluster=cluster, name=application(one), repository=repo).refresh()
        upgraded, then = rollout(cluster, fleet, commit, NEWER)
        assert (1 < first <= 2 * bound, 1 < then <= 2 * bound) == (True, True), (first, then)
        assert fleet[0].versions() == {"default": None, "visibility": None}
    count = f"{len(fleet) - 1} of {len(fleet)}"
    measured(
        f"{count} installed in {made:.0f} s, at most {first} Jobs at a time; "
        f"upgraded in {upgraded:.0f} s, at most {then} at a time"
    )


def rollout(cluster: Cluster, fleet: list[Installation], commit: str, version: str) -> tuple[float, int]:
    """Return the seconds until all but the broken one are there, and how many Jobs ran at a time."""
    began = time.monotonic()
    most = max(running(cluster, fleet, commit))
    lasted = time.monotonic() - began
    for one in fleet[1:]:
        one.assert_at(version)
    return lasted, most


def member(cluster: Cluster, name: str, databases: Databases, host: str) -> Installation:
    """Return an installation with two databases of its own."""
    names = {store: databases.create() for store in STORES}
    own = replace(databases, names=names, made=set(names.values()))
    made = Installation(cluster=cluster, namespace=name, databases=own, host=host)
    made.secret()
    return made


def application(one: Installation) -> str:
    """Return the name of an installation's Application."""
    return f"{one.namespace}-migrations"


def adapted(example: Manifest, name: str, url: str, fleet: list[Installation]) -> Manifest:
    """Return the example for these installations: its strategy and template, our addresses."""
    example["metadata"]["name"] = name
    spec = example["spec"]
    spec["generators"][0]["list"]["elements"] = [
        {"name": one.namespace, **{store: one.databases.name(store) for store in STORES}} for one in fleet
    ]
    source = spec["template"]["spec"]["source"]
    source |= {"repoURL": url, "targetRevision": "main", "path": PLACE}
    values = fleet[0].values()
    values["databases"] = {store: {"database": f"{{{{ .{store} }}}}"} for store in STORES}
    del values["serverVersion"]
    source["helm"]["valuesObject"] |= values
    source["helm"]["valueFiles"] = [VALUES]
    spec["template"]["spec"]["syncPolicy"]["retry"] = {"limit": 0}
    return example


def running(cluster: Cluster, fleet: list[Installation], commit: str) -> Iterator[int]:
    """Yield how many hooks run, until all are done: all but the first one synced, and that one failed."""
    places = {one.namespace for one in fleet}
    deadline = time.monotonic() + PATIENCE
    until(lambda: cluster.get("Application", application(fleet[0]), ARGOCD), "Application; is there a controller", 90)
    states: dict[str, str] = {}
    while time.monotonic() < deadline:
        jobs = [job for job in cluster.items("Job") if job["metadata"]["namespace"] in places]
        yield sum(1 for job in jobs if (job.get("status") or {}).get("active"))
        found = {item["metadata"]["name"]: item.get("status") or {} for item in cluster.items("Application", ARGOCD)}
        states = {one.namespace: summary(found.get(application(one), {}), commit) for one in fleet}
        broken = states.pop(fleet[0].namespace)
        if broken == "Failed" and set(states.values()) == {"Synced"}:
            return
        time.sleep(PAUSE)
    raise AssertionError(f"not done within {PATIENCE:.0f} s: {states}")


def summary(status: dict[str, Any], commit: str) -> str:
    """Return Synced or Failed, as to that commit, or anything else."""
    operation, sync = status.get("operationState") or {}, status.get("sync") or {}
    if operation.get("phase") == "Failed":
        same = (operation.get("syncResult") or {}).get("revision") == commit
        return "Failed" if same else "Failed before"
    return str(sync.get("status")) if sync.get("revision") == commit else "at another commit"


def remove(cluster: Cluster, name: str, fleet: list[Installation]) -> None:
    """Delete the set; its controller deletes the Applications."""
    cluster.delete("ApplicationSet", name, ARGOCD)
    for one in fleet:
        until(lambda one=one: not cluster.get("Application", application(one), ARGOCD), "deletion", 300)
