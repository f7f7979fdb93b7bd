"""Argo CD: syncs that fail, and how the next one succeeds."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import yaml

from support.kubernetes import examples
from support.kubernetes.argocd import AUTOMATED, Application, hooks, messages
from support.kubernetes.cluster import until
from support.kubernetes.helm import Manifest
from support.kubernetes.installation import JOB, NEWER, OLDER, PREFLIGHT, SECRET, Installation, merged
from support.kubernetes.nodes import cordoned, production
from support.postgres.statement_gate import gate

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
Measured = Callable[[str], None]
WRONG = "n0t-the-password"
LATE = {"preflight": {"activeDeadlineSeconds": 60}}
REFRESHED = {
    "automated": {"prune": True},
    "retry": {"limit": 3, "refresh": True, "backoff": {"duration": "10s", "factor": 2, "maxDuration": "2m"}},
}


def test_a_wrong_password(application: Application, installation: Installation, measured: Measured) -> None:
    """A wrong password fails the sync immediately, in one pod, and the cause is named; the right one fixes it."""
    installation.secret(WRONG)
    commit = application.commit(installation.values())
    application.create()
    ended = application.ended(commit)
    assert (ended["phase"], hooks(ended)) == ("Failed", {PREFLIGHT: "Failed"})
    assert "failed with exit code 10 matching FailJob rule" in messages(ended)
    assert (installation.started(PREFLIGHT), installation.started()) == (1, 0)
    (words,) = installation.last_words(PREFLIGHT)
    assert words.startswith("exit code 10: ")
    assert "make the Secret and the role's password the same" in words
    assert WRONG not in words + str(installation.cluster.items("Event", installation.namespace))
    installation.secret()
    application.sync()
    assert application.ended()["phase"] == "Succeeded"
    installation.assert_at(OLDER)
    measured(f"one pod; Argo CD: {messages(ended)}; the pod's last words: {words}")


def test_a_missing_secret(application: Application, installation: Installation, measured: Measured) -> None:
    """A missing Secret fails the sync within seconds, and the pod names it; once it exists, a sync succeeds."""
    installation.cluster.delete("Secret", SECRET, installation.namespace)
    began = time.monotonic()
    commit = application.commit(installation.values())
    application.create()
    ended = application.ended(commit)
    lasted = time.monotonic() - began
    assert (ended["phase"], hooks(ended)) == ("Failed", {PREFLIGHT: "Failed"})
    assert "failed with exit code 2 matching FailJob rule" in messages(ended)
    (words,) = installation.last_words(PREFLIGHT)
    assert f"there is no Secret {SECRET}, or it has no key password" in words
    installation.secret()
    application.sync()
    assert application.ended()["phase"] == "Succeeded"
    installation.assert_at(OLDER)
    measured(f"Failed after {lasted:.0f} s; Argo CD: {messages(ended)}; the pod's last words: {words}")


WRONG_AND_RIGHT = {
    "a node selector": {"nodeSelector": {"not": "there"}},
    "an image": {"image": {"repository": "localhost/not-there", "tag": "1"}},
    "a key of the Secret": {"connection": {"user": "", "userKey": "not-there"}},
    "a host": {"connection": {"host": "not-there.invalid"}, "preflight": {"waitTimeout": 20}},
}


@pytest.mark.parametrize("case", WRONG_AND_RIGHT)
def test_a_repair_by_a_commit(
    application: Application, installation: Installation, case: str, measured: Measured
) -> None:
    """A commit that repairs what kept the pod from starting is synced, and nobody touches Argo CD."""
    began = time.monotonic()
    application.commit(installation.values(merged(LATE, WRONG_AND_RIGHT[case])))
    application.create(REFRESHED)
    until(lambda: installation.started(PREFLIGHT) >= 1, "pod that cannot start", 90)
    repair = application.commit(installation.values(LATE))
    ended = application.ended(repair, 400)
    lasted = time.monotonic() - began
    assert ended["phase"] == "Succeeded", messages(ended)
    installation.assert_at(OLDER)
    measured(f"deadline {LATE['preflight']['activeDeadlineSeconds']} s: synced {lasted:.0f} s after the broken commit")


@pytest.mark.nodes
def test_a_taint_without_toleration(application: Application, installation: Installation, measured: Measured) -> None:
    """A taint without a toleration ends the sync at the deadline, and an event says so; new values fix it."""
    with production(installation.cluster):
        ended = at_the_deadline(application, installation, {})
        said = installation.cluster.events(installation.namespace, "FailedScheduling")
        assert any("untolerated taint" in one for one in said), said
        more = yaml.safe_load(examples.values("production").read_text())
        commit = application.commit(installation.values(more))
        assert application.ended(commit)["phase"] == "Succeeded"
    installation.assert_at(OLDER)
    measured(f"Argo CD: {messages(ended)}; event: {said[0]}")


def test_an_image_that_does_not_come(application: Application, installation: Installation, measured: Measured) -> None:
    """An image with a missing pull secret ends the sync at the deadline; both are named; new values fix it."""
    absent = {"image": {"repository": "localhost/not-there", "tag": "1"}, "imagePullSecrets": ["not-there"]}
    ended = at_the_deadline(application, installation, absent)
    assert any(
        "not-there" in one
        for one in installation.cluster.events(installation.namespace, "FailedToRetrieveImagePullSecret")
    )
    said = installation.cluster.events(installation.namespace, "Failed")
    assert any('Failed to pull image "localhost/not-there:1"' in one for one in said)
    commit = application.commit(installation.values())
    assert application.ended(commit)["phase"] == "Succeeded"
    installation.assert_at(OLDER)
    measured(f"Argo CD: {messages(ended)}")


def at_the_deadline(application: Application, installation: Installation, more: Mapping[str, Any]) -> dict[str, Any]:
    """Sync what cannot start; return the operation that the deadline ended."""
    began = time.monotonic()
    commit = application.commit(installation.values(merged(LATE, more)))
    application.create()
    ended = application.ended(commit, 200)
    assert (ended["phase"], hooks(ended)) == ("Failed", {PREFLIGHT: "Failed"})
    assert "Job was active longer than specified deadline" in messages(ended)
    assert time.monotonic() - began >= LATE["preflight"]["activeDeadlineSeconds"]
    assert installation.versions() == {"default": None, "visibility": None}
    return ended


def test_a_pod_deleted_in_the_middle(application: Application, installation: Installation, measured: Measured) -> None:
    """A pod deleted during an upgrade counts as one retry, and the Job continues in another pod."""
    first(application, installation)

    def delete(pod: Manifest) -> None:
        installation.cluster.delete("Pod", pod["metadata"]["name"], installation.namespace)
        gone(installation, pod)

    lost_in_the_middle(application, installation, 1, delete)
    measured("two pods for the upgrade with `backoffLimit: 1`, both stores proven")


@pytest.mark.nodes
def test_a_node_drained_in_the_middle(application: Application, installation: Installation, measured: Measured) -> None:
    """A node drained during an upgrade costs no retry, and the Job continues in another pod."""
    first(application, installation)

    def drain(pod: Manifest) -> None:
        with cordoned(installation.cluster, pod["spec"]["nodeName"]):
            installation.cluster.evict(pod["metadata"]["name"], installation.namespace)
            gone(installation, pod)
            until(installation.pods, "pod in its place", 90)

    lost_in_the_middle(application, installation, 0, drain)
    measured("two pods for the upgrade with `backoffLimit: 0`, both stores proven")


def lost_in_the_middle(
    application: Application, installation: Installation, tries: int, lose: Callable[[Manifest], None]
) -> None:
    """Upgrade with so many tries after the first, lose the pod in the middle, and assert that another one ends it."""
    with gate(installation.databases, "visibility", "by_temporal_external_payload_size_bytes ON") as stopped:
        commit = application.commit(installation.values({"serverVersion": NEWER, "backoffLimit": tries}))
        stopped.await_arrival()
        (pod,) = installation.pods()
        lose(pod)
        stopped.open()
        ended = application.ended(commit, 180)
    assert (ended["phase"], hooks(ended)) == ("Succeeded", {JOB: "Succeeded"}), messages(ended)
    installation.assert_at(NEWER)
    assert installation.started() == 3


def gone(installation: Installation, pod: Manifest) -> None:
    """Wait until a pod is gone."""
    name = pod["metadata"]["name"]
    until(lambda: not installation.cluster.get("Pod", name, installation.namespace), "end of the pod", 90)


def test_two_syncs_in_a_row(application: Application, installation: Installation, measured: Measured) -> None:
    """A commit that arrives while the hook runs gets its own hook, after the first one has ended."""
    first(application, installation)
    with gate(installation.databases, "visibility", "by_temporal_external_payload_size_bytes ON") as stopped:
        one = application.commit(installation.values({"serverVersion": NEWER}))
        stopped.await_arrival()
        two = application.commit(installation.values({"serverVersion": NEWER, "forceTrigger": "two"}))
        until(lambda: application.status()["sync"]["revision"] == two, "comparison with the second commit", 90)
        running = until(lambda: application.operation().get("syncResult"), "state of the first sync")
        assert (application.operation()["phase"], running["revision"]) == ("Running", one)
        assert len(installation.pods()) == 1
        stopped.open()
        ended = application.ended(two, 180)
    assert (ended["phase"], hooks(ended)) == ("Succeeded", {JOB: "Succeeded"}), messages(ended)
    installation.assert_at(NEWER)
    assert installation.started() == 3
    measured("one pod a commit, never two at once")


def first(application: Application, installation: Installation) -> None:
    """Sync for the first time."""
    commit = application.commit(installation.values())
    application.create(AUTOMATED)
    ended = application.ended(commit)
    assert ended["phase"] == "Succeeded", messages(ended)
    application.synced(commit)
