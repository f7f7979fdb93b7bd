"""An Application of our chart in a running Argo CD, and what Argo CD says of it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from support.kubernetes.cluster import Cluster, until
from support.kubernetes.gitrepo import PLACE, VALUES, Repository
from support.kubernetes.helm import Manifest

ARGOCD = os.environ.get("SCHEMA_MIGRATOR_TEST_ARGOCD_NAMESPACE") or "argocd"
AUTOMATED: Mapping[str, Any] = {"automated": {"prune": True}, "retry": {"limit": 0}}
FINALIZER = "resources-finalizer.argocd.argoproj.io"


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """An Application; its name is its namespace's, which is the test's own."""

    cluster: Cluster
    name: str
    repository: Repository

    def create(self, policy: Mapping[str, Any] = AUTOMATED, base: Manifest | None = None) -> None:
        """Create it, from an example or from nothing; it reads what is committed."""
        made = base or {"apiVersion": "argoproj.io/v1alpha1", "kind": "Application", "metadata": {}, "spec": {}}
        source = {
            "repoURL": self.repository.url,
            "targetRevision": "main",
            "path": PLACE,
            "helm": {"valueFiles": [VALUES], "releaseName": "temporal"},
        }
        spec = {
            "project": "default",
            "destination": {"server": "https://kubernetes.default.svc", "namespace": self.name},
            "syncPolicy": dict(policy),
            **made["spec"],
            "source": source,
        }
        spec["destination"] = {**spec["destination"], "namespace": self.name}
        metadata = {"finalizers": [FINALIZER], **made["metadata"], "name": self.name, "namespace": ARGOCD}
        self.cluster.apply({**made, "metadata": metadata, "spec": spec})

    def commit(self, values: Mapping[str, Any]) -> str:
        """Commit values, and let Argo CD look if it is there; return the commit."""
        made = self.repository.commit(values)
        if self.get():
            self.refresh()
        return made

    def refresh(self) -> None:
        """Let Argo CD compare now."""
        self._patch({"metadata": {"annotations": {"argocd.argoproj.io/refresh": "normal"}}})

    def sync(self, *resources: Mapping[str, str]) -> None:
        """Sync as a person does: all, or selected resources."""
        what: dict[str, Any] = {"prune": True, "syncStrategy": {"hook": {}}}
        if resources:
            what["resources"] = [dict(one) for one in resources]
        until(self._idle, "end of what runs")
        self._patch({"operation": {"initiatedBy": {"username": "test"}, "sync": what}})
        until(lambda: self.get().get("operation") is None, "taken operation")

    def terminate(self) -> None:
        """End what runs, as `argocd app terminate-op` does."""
        self._patch({"status": {"operationState": {"phase": "Terminating"}}})

    def get(self) -> Manifest:
        """Return the object; empty where it is gone."""
        return self.cluster.get("Application", self.name, ARGOCD) or {}

    def status(self) -> Manifest:
        """Return its status."""
        return dict(self.get().get("status") or {})

    def operation(self) -> Manifest:
        """Return the last operation's state."""
        return dict(self.status().get("operationState") or {})

    def ended(self, commit: str | None = None, patience: float = 120) -> Manifest:
        """Wait for the end of an operation, of that commit if one is said; return its state."""

        def found() -> Manifest | None:
            state = self.operation()
            done = state.get("phase") in {"Succeeded", "Failed", "Error"} and not self.get().get("operation")
            same = commit is None or (state.get("syncResult") or {}).get("revision") == commit
            return state if done and same else None

        return until(found, f"ended sync of {self.name}", patience)

    def synced(self, commit: str | None = None, patience: float = 120) -> Manifest:
        """Wait until it is synced to that commit, or to any; return the last operation's state."""

        def found() -> bool:
            sync = self.status().get("sync") or {}
            return sync.get("status") == "Synced" and commit in {None, sync.get("revision")}

        until(found, f"synced {self.name}", patience)
        return self.operation()

    def delete(self) -> None:
        """Delete it, and by its finalizer what it made."""
        self.cluster.delete("Application", self.name, ARGOCD)

    def gone(self, patience: float = 60) -> None:
        """Wait until it is gone."""
        until(lambda: not self.get(), f"deletion of {self.name}", patience)

    def _idle(self) -> bool:
        return self.operation().get("phase") not in {"Running", "Terminating"} and not self.get().get("operation")

    def _patch(self, body: Mapping[str, Any]) -> None:
        self.cluster.patch("Application", self.name, body, ARGOCD)


def hooks(operation: Manifest) -> dict[str, str]:
    """Return the hook Jobs of an operation, each with how it ended; a preflight that succeeded is left out."""
    ends = {job["name"]: job["hookPhase"] for job in _hook_jobs(operation)}
    return {name: end for name, end in ends.items() if not (name.endswith("-preflight") and end == "Succeeded")}


def messages(operation: Manifest) -> str:
    """Return what Argo CD shows of an operation: its own message, and what it says of each hook Job."""
    said = [str(job.get("message", "")) for job in _hook_jobs(operation)]
    return "; ".join([str(operation.get("message", "")), *said])


def _hook_jobs(operation: Manifest) -> list[Manifest]:
    found = (operation.get("syncResult") or {}).get("resources") or []
    return [resource for resource in found if resource.get("hookType") and resource["kind"] == "Job"]
