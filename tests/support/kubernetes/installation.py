"""A namespace of the cluster with two databases outside it, and the chart's values for them."""

import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from support.kubernetes.cluster import Cluster, until
from support.kubernetes.containers import IMAGE
from support.kubernetes.helm import CHART, Manifest, helm, rendered
from support.postgres.databases import STORES, Databases, unique
from support.program.command import Completed
from support.program.store_driver import site

OTHER_IMAGE = os.environ.get("SCHEMA_MIGRATOR_TEST_OURS_AGAIN") or f"{IMAGE}-again"
RELEASE = "temporal"
JOB = "temporal-temporal-migrations"
PREFLIGHT = f"{JOB}-preflight"
TRIGGER = f"{JOB}-trigger"
SECRET = "temporal-db"
OLDER, NEWER = "1.29.1", "1.32.2"
VERSIONS = {OLDER: {"default": "1.18", "visibility": "1.9"}, NEWER: {"default": "1.19", "visibility": "1.14"}}
THEIRS = {"ConfigMap/kube-root-ca.crt", "ServiceAccount/default", f"Secret/{SECRET}"}
"""What is in a namespace before the chart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """Where the chart goes; `host` is the databases' server as pods see it."""

    cluster: Cluster
    namespace: str
    databases: Databases
    host: str

    def values(self, more: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the chart's values, with more of them laid over."""
        return merged(
            {
                "serverVersion": OLDER,
                "image": image(IMAGE),
                "connection": {
                    "host": self.host,
                    "port": self.databases.port,
                    "user": self.databases.user,
                    "existingSecret": SECRET,
                },
                "databases": {name: {"database": self.databases.name(name)} for name in STORES},
                "settings": {"waitTimeout": 20, "lockTimeout": 60},
                "activeDeadlineSeconds": 300,
                "terminationGracePeriodSeconds": 20,
            },
            more or {},
        )

    def secret(self, password: str | None = None) -> None:
        """Make the Secret, with the role's password unless another one is said."""
        self.cluster.apply(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": SECRET, "namespace": self.namespace},
                "stringData": {"password": password or self.databases.password, "username": self.databases.user},
            }
        )

    def versions(self) -> dict[str, str | None]:
        """Return the recorded versions; None for a store that has none."""
        return {store: self._version(store) for store in STORES}

    def _version(self, store: str) -> str | None:
        with self.databases.connect(store) as connection:
            if connection.execute("SELECT to_regclass('schema_version')").fetchone() == (None,):
                return None
            row = connection.execute("SELECT curr_version FROM schema_version").fetchone()
            return str(row[0]) if row else None

    def assert_at(self, release: str) -> None:
        """Assert that both stores are at a release's versions, and look like them."""
        assert self.versions() == VERSIONS[release]
        for store in STORES:
            assert site(self.databases, store, TEMPORAL_VERSION=release).verify().equal

    def pods(self, job: str = JOB) -> list[Manifest]:
        """Return a Job's pods, the oldest first."""
        found = self.cluster.items("Pod", self.namespace, f"batch.kubernetes.io/job-name={job}")
        return sorted(found, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))

    def started(self, job: str = JOB) -> int:
        """Return how many pods have been made for a Job, whether they are there or not."""
        found = self.cluster.items("Event", self.namespace)
        made = [
            item for item in found if item["reason"] == "SuccessfulCreate" and item["involvedObject"]["name"] == job
        ]
        return sum(item.get("count") or 1 for item in made)

    def runs(self, job: str = JOB) -> int:
        """Return how many Jobs of a name have started a pod; each may have started several."""
        found = self.cluster.items("Event", self.namespace)
        made = [item["involvedObject"] for item in found if item["reason"] == "SuccessfulCreate"]
        return len({one["uid"] for one in made if one["name"] == job})

    def last_words(self, job: str = JOB) -> list[str]:
        """Return what the Job's pods said as they ended."""
        ends = [one.get("state", {}).get("terminated") for pod in self.pods(job) for one in statuses(pod)]
        return [str(end.get("message", "")) for end in ends if end]

    def left(self) -> set[str]:
        """Return what is in the namespace beside what was there before the chart."""
        kinds = ("Job", "Pod", "ConfigMap", "Secret", "ServiceAccount")
        found = {
            f"{kind}/{item['metadata']['name']}" for kind in kinds for item in self.cluster.items(kind, self.namespace)
        }
        return found - THEIRS

    def run(self, *args: str, name: str = "by-hand", more: Mapping[str, Any] | None = None) -> Completed:
        """Run our program in a pod with the migration's variables, as somebody does who wants to know."""
        with values_file(merged(self.values(more), {"preflight": {"enabled": False}})) as path:
            manifests = rendered("--values", str(path), "--namespace", self.namespace, release=RELEASE)
        job = next(item for item in manifests if item["kind"] == "Job")
        spec = job["spec"]["template"]["spec"]
        spec["containers"][0] |= {"args": list(args), "name": "run"}
        self.cluster.apply(
            {"apiVersion": "v1", "kind": "Pod", "spec": spec, "metadata": {"name": name, "namespace": self.namespace}}
        )
        return self.finished(name)

    def finished(self, pod: str) -> Completed:
        """Wait for a pod's end, and delete it."""

        def ended() -> Manifest | None:
            found = self.cluster.get("Pod", pod, self.namespace)
            return found if found and found["status"].get("phase") in {"Succeeded", "Failed"} else None

        (status,) = statuses(until(ended, f"end of pod {pod}", 120))
        written = self.cluster.logs(pod, self.namespace, status["name"])
        self.cluster.delete("Pod", pod, self.namespace)
        return Completed(code=status["state"]["terminated"]["exitCode"], stdout=written, stderr=written)

    def helm(
        self, command: str, *args: str, values: Mapping[str, Any] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run helm on the release; with values it gets the chart too."""
        place = ("--namespace", self.namespace)
        if values is None:
            return helm(command, RELEASE, *place, *args)
        with values_file(values) as path:
            return helm(command, RELEASE, str(CHART), *place, "--values", str(path), "--timeout", "4m", *args)


@contextmanager
def namespace(cluster: Cluster, **labels: str) -> Iterator[str]:
    """Make a namespace for the block."""
    name = unique("migrator").replace("_", "-")
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    until(lambda: cluster.get("ServiceAccount", "default", name), "service account")
    try:
        yield name
    finally:
        cluster.delete("Namespace", name)


@contextmanager
def values_file(values: Mapping[str, Any]) -> Iterator[Path]:
    """Yield a file that holds the values."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(yaml.safe_dump(dict(values)))
        file.flush()
        yield Path(file.name)


def image(name: str) -> dict[str, str]:
    """Return the values for an image that is in the cluster already."""
    repository, _, tag = name.rpartition(":")
    return {"repository": repository, "tag": tag, "pullPolicy": "IfNotPresent"}


def statuses(pod: Manifest) -> list[Manifest]:
    """Return the states of a pod's containers, those that run first left out."""
    return list((pod.get("status") or {}).get("containerStatuses") or [])


def merged(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with more of them laid over, at any depth."""
    found = dict(base)
    for key, value in more.items():
        both = isinstance(value, Mapping) and isinstance(found.get(key), Mapping)
        found[key] = merged(found[key], value) if both else value
    return found
