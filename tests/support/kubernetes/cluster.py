"""The cluster of the current kubeconfig, as tests use it: by objects of plain dictionaries."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from kubernetes import config
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic.exceptions import ConflictError, NotFoundError

from support.kubernetes.helm import Manifest

T = TypeVar("T")
MANAGER = "schema-migrator-tests"
PATIENCE = 60.0
PAUSE = 0.3
APIS: Mapping[str, str] = {
    "Application": "argoproj.io/v1alpha1",
    "ApplicationSet": "argoproj.io/v1alpha1",
    "CronJob": "batch/v1",
    "CustomResourceDefinition": "apiextensions.k8s.io/v1",
    "Deployment": "apps/v1",
    "HelmRelease": "helm.toolkit.fluxcd.io/v2",
    "HelmRepository": "source.toolkit.fluxcd.io/v1",
    "Job": "batch/v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    "StatefulSet": "apps/v1",
}
"""Kinds that are not of the core API."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """What the API server does for us; a namespace is where namespaced kinds are looked for."""

    client: DynamicClient

    def kind(self, kind: str, api: str | None = None) -> Any:  # noqa: ANN401 - the client has no types
        """Return a kind's endpoint. Raises ResourceNotFoundError where the server does not know it."""
        return self.client.resources.get(api_version=api or APIS.get(kind, "v1"), kind=kind)

    def apply(self, manifest: Manifest, *, dry_run: bool = False) -> Manifest:
        """Let the server take a manifest, as server-side apply does: fields that it does not know are errors."""
        endpoint = self.kind(manifest["kind"], manifest["apiVersion"])
        options = {"dry_run": "All"} if dry_run else {}
        done = endpoint.server_side_apply(
            body=manifest,
            namespace=manifest["metadata"].get("namespace"),
            field_manager=MANAGER,
            force_conflicts=True,
            **options,
        )
        return dict(done.to_dict())

    def get(self, kind: str, name: str, namespace: str | None = None) -> Manifest | None:
        """Return an object, or None where it does not exist."""
        try:
            return dict(self.kind(kind).get(name=name, namespace=namespace).to_dict())
        except NotFoundError:
            return None

    def items(self, kind: str, namespace: str | None = None, selector: str | None = None) -> list[Manifest]:
        """Return the objects of a kind, of all labels unless the selector says some."""
        return list(self.kind(kind).get(namespace=namespace, label_selector=selector).to_dict()["items"])

    def patch(self, kind: str, name: str, body: Mapping[str, Any], namespace: str | None = None) -> None:
        """Merge a patch into an object; again where the server could not, for somebody else's change."""
        for _ in range(5):
            try:
                self.kind(kind).patch(
                    name=name, namespace=namespace, body=body, content_type="application/merge-patch+json"
                )
            except ConflictError:
                time.sleep(PAUSE)
            else:
                return

    def delete(self, kind: str, name: str, namespace: str | None = None) -> None:
        """Delete an object, and what belongs to it, in the background; nothing where it does not exist."""
        try:
            self.kind(kind).delete(name=name, namespace=namespace, body={"propagationPolicy": "Background"})
        except NotFoundError:
            return

    def evict(self, pod: str, namespace: str) -> None:
        """Evict a pod as `kubectl drain` does."""
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": namespace}}
        self.kind("Pod").subresources["eviction"].create(name=pod, namespace=namespace, body=body)

    def logs(self, pod: str, namespace: str, container: str) -> str:
        """Return what a container has written."""
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
        answer = self.client.request("get", path, query_params=[("container", container)], serialize=False)
        return bytes(answer.data).decode()

    def events(self, namespace: str, reason: str) -> list[str]:
        """Return the messages of a namespace's events of that reason."""
        return [str(item["message"]) for item in self.items("Event", namespace) if item["reason"] == reason]

    def version(self) -> str:
        """Return the server's version."""
        return str(self.client.version["kubernetes"]["gitVersion"]).removeprefix("v")


def connect() -> Cluster:
    """Return the cluster of the current kubeconfig."""
    return Cluster(client=DynamicClient(config.new_client_from_config()))


def until(found: Callable[[], T | None], what: str, patience: float = PATIENCE) -> T:
    """Look again and again until something is found; an AssertionError says for what it looked."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if now := found():
            return now
        time.sleep(PAUSE)
    raise AssertionError(f"no {what} within {patience:.0f} s")
