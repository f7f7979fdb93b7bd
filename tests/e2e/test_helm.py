"""Helm without Argo CD."""

from collections.abc import Callable

import pytest

from support.kubernetes.installation import JOB, NEWER, OLDER, PREFLIGHT, TRIGGER, Installation
from support.program.store_driver import site

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
Measured = Callable[[str], None]
ACCOUNT = {"serviceAccount": {"create": True}}


def test_a_life(installation: Installation, measured: Measured) -> None:
    """Install, a failed upgrade, a good one, a rollback, uninstall: each migrates or says why not; nothing remains."""
    done = installation.helm("install", values=installation.values(ACCOUNT))
    assert done.returncode == 0, done.stderr
    installation.assert_at(OLDER)
    assert installation.left() == {f"ConfigMap/{TRIGGER}", *records(1)}
    installation.secret("wrong")
    done = installation.helm("upgrade", values=installation.values({**ACCOUNT, "serverVersion": NEWER}))
    assert done.returncode != 0
    assert "pre-upgrade hooks failed" in done.stderr
    assert "PodFailurePolicy" in done.stderr
    said = installation.last_words(PREFLIGHT)
    assert len(said) == 1, said
    assert "make the Secret and the role's password the same" in said[0]
    installation.assert_at(OLDER)
    installation.secret()
    done = installation.helm("upgrade", values=installation.values({**ACCOUNT, "serverVersion": NEWER}))
    assert done.returncode == 0, done.stderr
    installation.assert_at(NEWER)
    done = installation.helm("rollback", "1")
    assert done.returncode == 0, done.stderr
    installation.assert_at(NEWER)
    done = installation.helm("uninstall")
    assert done.returncode == 0, done.stderr
    assert installation.left() == set()
    measured(
        "a failed upgrade: helm says `PodFailurePolicy`, the pod's last words the cause; a rollback runs no hook and "
        "leaves the newer schema; nothing is left after uninstall"
    )


def records(revisions: int) -> set[str]:
    """Return the Secrets in which helm keeps its releases."""
    return {f"Secret/sh.helm.release.v1.temporal.v{number + 1}" for number in range(revisions)}


def test_helm_test(installation: Installation, measured: Measured) -> None:
    """`helm test` passes on a schema that matches; otherwise its pod names the manual change, and stays."""
    done = installation.helm("install", values=installation.values(ACCOUNT))
    assert done.returncode == 0, done.stderr
    done = installation.helm("test")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("TEST SUITE:") == 1
    site(installation.databases, "default").run("ALTER TABLE executions DROP COLUMN data_encoding")
    assert installation.helm("test").returncode != 0
    assert "data_encoding" in installation.cluster.logs(f"{JOB}-test", installation.namespace, "verify")
    assert installation.helm("uninstall").returncode == 0
    # What failed stays to be looked at; helm deletes no hooks with a release.
    assert installation.left() == {f"Pod/{JOB}-test"}
    measured("exit 0, then exit 1 with the lost column in the pod's logs")


def test_notes(installation: Installation, measured: Measured) -> None:
    """The notes after an installation name the Job, the hash in the cluster, and the two commands for a stuck sync."""
    done = installation.helm("install", values=installation.values())
    assert done.returncode == 0, done.stderr
    found = installation.cluster.get("ConfigMap", TRIGGER, installation.namespace)
    assert found
    assert found["data"]["hash"][:10] in done.stdout
    assert "argocd app terminate-op APPLICATION && argocd app sync APPLICATION" in done.stdout
    assert f"kubectl -n {installation.namespace} patch job {JOB} --type=merge -p" in done.stdout
    assert installation.helm("uninstall").returncode == 0
    measured("as rendered")


def test_job_mode(installation: Installation, measured: Measured) -> None:
    """In mode `job` helm can wait for the Job, an upgrade creates another one, and nothing remains."""
    values = {"mode": "job", **ACCOUNT}
    waiting = ("--wait", "--wait-for-jobs")
    done = installation.helm("install", *waiting, values=installation.values(values))
    assert done.returncode == 0, done.stderr
    installation.assert_at(OLDER)
    done = installation.helm("upgrade", *waiting, values=installation.values({**values, "serverVersion": NEWER}))
    assert done.returncode == 0, done.stderr
    installation.assert_at(NEWER)
    assert installation.helm("uninstall").returncode == 0
    assert {one for one in installation.left() if not one.startswith("Pod/")} == set()
    measured("installed, upgraded, uninstalled; nothing left")
