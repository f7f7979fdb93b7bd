"""Argo CD: syncs that run the migration."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from support.kubernetes import examples
from support.kubernetes.argocd import AUTOMATED, Application, hooks, messages
from support.kubernetes.cluster import until
from support.kubernetes.installation import JOB, NEWER, OLDER, OTHER_IMAGE, TRIGGER, Installation, image
from support.program.store_driver import site

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
Measured = Callable[[str], None]
MANUAL: Mapping[str, Any] = {"retry": {"limit": 0}}


def test_first_sync(application: Application, installation: Installation, measured: Measured) -> None:
    """The first automated sync of the example's Application migrates empty databases before it creates the rest."""
    example = copy.deepcopy(examples.one("Application", "temporal-migrations"))
    commit = application.commit(installation.values())
    application.create(base=example)
    ended = application.ended(commit)
    assert (ended["phase"], hooks(ended)) == ("Succeeded", {JOB: "Succeeded"}), messages(ended)
    assert application.synced(commit)
    assert application.status()["health"]["status"] == "Healthy"
    installation.assert_at(OLDER)
    assert installation.left() == {f"ConfigMap/{TRIGGER}"}
    measured(f"{installation.started()} pod, both stores at {OLDER}'s versions, only the trigger is left")


def test_unchanged(application: Application, installation: Installation, measured: Measured) -> None:
    """Nothing runs for a commit without changes; a manual full sync runs the hook, which changes nothing."""
    first(application, installation)
    pictures = [site(installation.databases, store).picture() for store in ("default", "visibility")]
    commit = application.commit(installation.values())
    application.synced(commit)
    assert installation.started() == 1
    application.sync()
    assert hooks(application.ended(commit)) == {JOB: "Succeeded"}
    assert installation.started() == 2
    assert [site(installation.databases, store).picture() for store in ("default", "visibility")] == pictures
    measured("no pod for the commit, one for the sync; dumps of both databases equal")


BUMPS: Mapping[str, Mapping[str, Any]] = {
    "the server's version": {"serverVersion": NEWER},
    "both targets": {
        "serverVersion": NEWER,
        "databases": {"default": {"targetVersion": "1.19"}, "visibility": {"targetVersion": "1.14"}},
    },
    "the image": {"image": image(OTHER_IMAGE)},
    "forceTrigger": {"forceTrigger": "again"},
}


@pytest.mark.parametrize("bump", BUMPS)
def test_bumps(application: Application, installation: Installation, measured: Measured, bump: str) -> None:
    """A commit that changes what the migration depends on runs the hook, before the trigger changes."""
    first(application, installation)
    before = trigger(installation)
    commit = application.commit(installation.values(BUMPS[bump]))
    ended = application.ended(commit)
    assert (ended["phase"], hooks(ended)) == ("Succeeded", {JOB: "Succeeded"}), messages(ended)
    installation.assert_at(NEWER if "serverVersion" in BUMPS[bump] else OLDER)
    assert trigger(installation) != before
    assert installation.started() == 2
    measured("one more pod")


def test_a_selective_sync_is_noticed(application: Application, installation: Installation, measured: Measured) -> None:
    """A selective sync changes the trigger and skips the hook: `wait` and `verify` detect it; a full sync migrates."""
    first(application, installation, MANUAL)
    commit = application.commit(installation.values({"serverVersion": NEWER}))
    until(lambda: application.status()["sync"]["revision"] == commit, "comparison")
    application.sync({"kind": "ConfigMap", "name": TRIGGER})
    assert hooks(application.ended(commit)) == {}
    assert application.synced(commit)
    installation.assert_at(OLDER)
    more = {"serverVersion": NEWER, "settings": {"waitTimeout": 3}}
    waited = installation.run("wait", "--for", "schema", more=more)
    assert waited.code == 1, waited.stderr
    assert "1.18" in waited.stderr
    assert installation.run("status", "--check", more=more).code == 25
    application.sync()
    assert hooks(application.ended(commit)) == {JOB: "Succeeded"}
    installation.assert_at(NEWER)
    assert installation.run("wait", "--for", "schema", more=more).code == 0
    measured("Synced at the old versions; `wait` ends with 1, `status --check` with 3; after a full sync with 0")


def test_self_heal_is_noticed(application: Application, installation: Installation, measured: Measured) -> None:
    """Self-heal restores the trigger of an emptied database and skips the hook: `wait` detects it."""
    first(application, installation)
    application.create({"automated": {"prune": True, "selfHeal": True}, "retry": {"limit": 0}})
    for store in ("default", "visibility"):
        with installation.databases.admin(installation.databases.name(store)) as admin:
            admin.execute("DROP SCHEMA public CASCADE")
            admin.execute("CREATE SCHEMA public")
            admin.execute(f'ALTER SCHEMA public OWNER TO "{installation.databases.user}"')
    installation.cluster.delete("ConfigMap", TRIGGER, installation.namespace)
    until(lambda: installation.cluster.get("ConfigMap", TRIGGER, installation.namespace), "healed trigger", 120)
    application.synced()
    assert installation.versions() == {"default": None, "visibility": None}
    assert installation.run("wait", "--for", "schema", more={"settings": {"waitTimeout": 3}}).code == 1
    assert installation.started() == 1
    application.sync()
    assert hooks(application.ended()) == {JOB: "Succeeded"}
    installation.assert_at(OLDER)
    measured("Synced over empty databases, no pod; `wait` ends with 1; a full sync migrates")


def test_partial_state(application: Application, installation: Installation, measured: Measured) -> None:
    """A sync repairs a database that a killed run of the vendor's tool left half-applied, without manual steps."""
    site(installation.databases, "default").half_install("1.0", 21, OLDER)
    site(installation.databases, "visibility").half_install("1.2", 37, OLDER)
    first(application, installation)
    installation.assert_at(OLDER)
    assert installation.started() == 1
    measured("default at 0.0 with 21 statements done, visibility at 1.1 with 37 of 1.2: one pod, both proven")


def test_the_verifying_job(application: Application, installation: Installation, measured: Measured) -> None:
    """With `verify.enabled` a second hook compares after the sync; a manual change fails it and is named."""
    values = {"verify": {"enabled": True}, "serviceAccount": {"create": True}}
    commit = application.commit(installation.values(values))
    application.create()
    ended = application.ended(commit)
    assert (ended["phase"], hooks(ended)) == ("Succeeded", {JOB: "Succeeded", f"{JOB}-verify": "Succeeded"})
    assert installation.left() == {f"ConfigMap/{TRIGGER}"}
    site(installation.databases, "default").run("ALTER TABLE executions DROP COLUMN data_encoding")
    application.sync()
    ended = application.ended()
    assert (ended["phase"], hooks(ended)) == ("Failed", {JOB: "Succeeded", f"{JOB}-verify": "Failed"})
    assert "exit code 23" in messages(ended)
    measured("a lost column: the PostSync Job ends with 23, the operation is Failed")


def test_job_mode(application: Application, installation: Installation, measured: Measured) -> None:
    """In mode `job` the Job is an ordinary resource: waited for, recreated by a change, and the old one pruned."""
    values = {"mode": "job", "serviceAccount": {"create": True}}
    commit = application.commit(installation.values(values))
    application.create()
    assert application.ended(commit)["phase"] == "Succeeded"
    installation.assert_at(OLDER)
    (job,) = installation.cluster.items("Job", installation.namespace)
    commit = application.commit(installation.values({**values, "serverVersion": NEWER}))
    assert application.ended(commit)["phase"] == "Succeeded"
    installation.assert_at(NEWER)
    (other,) = until(lambda: only(installation, job["metadata"]["name"]), "pruned Job")
    assert other["metadata"]["name"] != job["metadata"]["name"]
    measured("one Job, a new one for the new version, the old one pruned")


def only(installation: Installation, gone: str) -> list[dict[str, Any]]:
    """Return the Jobs once that one is not among them."""
    found = installation.cluster.items("Job", installation.namespace)
    return found if gone not in {item["metadata"]["name"] for item in found} else []


def first(application: Application, installation: Installation, policy: Mapping[str, Any] = AUTOMATED) -> str:
    """Sync for the first time."""
    commit = application.commit(installation.values())
    application.create(policy)
    if "automated" not in policy:
        until(lambda: application.status().get("sync"), "first comparison")
        application.sync()
    ended = application.ended(commit)
    assert (ended["phase"], hooks(ended)) == ("Succeeded", {JOB: "Succeeded"}), messages(ended)
    application.synced(commit)
    return commit


def trigger(installation: Installation) -> str:
    """Return the hash in the cluster."""
    found = installation.cluster.get("ConfigMap", TRIGGER, installation.namespace)
    assert found
    return str(found["data"]["hash"])
