"""Flux: its controllers run the chart, and the servers' release waits for the migrations'."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from support.kubernetes import crds, examples
from support.kubernetes.cluster import Cluster, until
from support.kubernetes.custom_kinds import custom_kinds
from support.kubernetes.flux import chart_repository, controllers
from support.kubernetes.helm import Manifest
from support.kubernetes.installation import NEWER, OLDER, Installation

# The kinds are added and taken away where those of the examples are.
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900), pytest.mark.xdist_group("examples")]
Measured = Callable[[str], None]
GROUP = "toolkit.fluxcd.io/"
PREFLIGHT = "temporal-migrations-preflight"
RETRY = {"strategy": {"name": "RetryOnFailure", "retryInterval": "5s"}}
SOON = {"interval": "1m", "timeout": "5m", "install": RETRY, "upgrade": RETRY}


@dataclass(frozen=True, slots=True, kw_only=True)
class Releases:
    """The examples' releases in a namespace, with our chart from a repository of the test's."""

    installation: Installation

    @property
    def cluster(self) -> Cluster:
        """The cluster."""
        return self.installation.cluster

    def apply(self, name: str, values: Mapping[str, Any]) -> None:
        """Let Flux take a release of the examples, with values of this place."""
        found = examples.one("HelmRelease", name)
        source = {"kind": "HelmRepository", "name": "charts"}
        chart = {"spec": {"chart": "temporal-migrations", "sourceRef": source}}
        metadata = {"name": name, "namespace": self.installation.namespace}
        spec = {**found["spec"], **SOON, "chart": chart, "values": self.installation.values(values)}
        self.cluster.apply({**found, "metadata": metadata, "spec": spec})

    def condition(self, name: str, kind: str = "Ready") -> Manifest:
        """Return a condition of a release: whether it is ready, and why; empty before Flux says anything."""
        found = (self.cluster.get("HelmRelease", name, self.installation.namespace) or {}).get("status") or {}
        said = [item for item in found.get("conditions") or [] if item["type"] == kind]
        return dict(said[0]) if said else {}

    def failure(self, name: str) -> str:
        """Return why a release could not be installed or upgraded; empty if it could, or before it was tried."""
        found = self.condition(name, "Released")
        return str(found["message"]) if found.get("status") == "False" else ""

    def await_ready(self, name: str) -> None:
        """Wait until Flux says that a release is ready as it was applied last."""

        def ready() -> bool:
            release = self.cluster.get("HelmRelease", name, self.installation.namespace) or {}
            said = self.condition(name)
            return said.get("status") == "True" and said["observedGeneration"] == release["metadata"]["generation"]

        until(ready, f"ready release {name}", 240)

    def delete(self) -> None:
        """Delete all releases, which Flux uninstalls, then their source: Flux has to be there to let them go."""
        for kind in ("HelmRelease", "HelmRepository"):
            for item in self.cluster.items(kind, self.installation.namespace):
                self.cluster.delete(kind, item["metadata"]["name"], self.installation.namespace)
            until(lambda kind=kind: not self.cluster.items(kind, self.installation.namespace), f"end of {kind}", 120)


@pytest.fixture(scope="module")
def repository(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run Flux; yield the URL of a repository with our chart."""
    kinds = {kind for crd in crds.found() for kind in crds.kinds(crd) if GROUP in kind[0]}
    folder = tmp_path_factory.mktemp("flux")
    charts = tmp_path_factory.mktemp("charts")
    with custom_kinds(cluster, kinds), controllers(folder), chart_repository(charts) as url:
        yield url


@pytest.fixture
def releases(installation: Installation, repository: str) -> Iterator[Releases]:
    """Return the namespace's releases, with the repository as their source."""
    source = {"apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "HelmRepository"}
    metadata = {"name": "charts", "namespace": installation.namespace}
    installation.cluster.apply({**source, "metadata": metadata, "spec": {"interval": "1m", "url": repository}})
    made = Releases(installation=installation)
    yield made
    made.delete()


def test_hook_mode(releases: Releases, installation: Installation, measured: Measured) -> None:
    """The servers' release waits while the migrations' fails, which says why; a correct Secret repairs both."""
    installation.secret("wrong")
    releases.apply("temporal-migrations", {})
    releases.apply("temporal", {"mode": "job", "verify": {"enabled": True}})
    said = until(lambda: releases.failure("temporal-migrations"), "failed release", 240)
    assert f"job {PREFLIGHT} failed: PodFailurePolicy" in said
    assert "exit code 10" in installation.last_words(PREFLIGHT)[-1]
    assert "temporal-migrations' is not ready" in releases.condition("temporal")["message"]
    installation.secret()
    began = time.monotonic()
    releases.await_ready("temporal-migrations")
    repaired = time.monotonic() - began
    installation.assert_at(OLDER)
    releases.await_ready("temporal")
    releases.apply("temporal-migrations", {"serverVersion": NEWER})
    releases.await_ready("temporal-migrations")
    installation.assert_at(NEWER)
    measured(f"Flux: {said}; ready {repaired:.0f} s after the Secret was corrected; then upgraded")


def test_job_mode(releases: Releases, installation: Installation, measured: Measured) -> None:
    """Flux waits for the Job, and an upgrade creates another one."""
    releases.apply("temporal-schema", {"mode": "job"})
    releases.await_ready("temporal-schema")
    installation.assert_at(OLDER)
    releases.apply("temporal-schema", {"mode": "job", "serverVersion": NEWER})
    releases.await_ready("temporal-schema")
    installation.assert_at(NEWER)
    measured("installed and upgraded")
