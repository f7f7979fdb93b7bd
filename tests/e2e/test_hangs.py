"""Argo CD: hooks that hang or fail, retries, and deletion."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from support.kubernetes.argocd import Application, messages
from support.kubernetes.cluster import until
from support.kubernetes.installation import OLDER, Installation, merged

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
Measured = Callable[[str], None]
DEADLINE = 60
SILENT = {
    "settings": {"waitTimeout": 3600},
    "connection": {"host": "not-there.invalid"},
    "activeDeadlineSeconds": DEADLINE,
    "preflight": {"enabled": False},
}
"""Values that let the hook wait for a server that never answers, until the Job's deadline."""
WRONG = {"connection": {"user": "nobody-of-that-name"}, "preflight": {"enabled": False}}
"""Values that fail the hook at once."""
ONCE: Mapping[str, Any] = {"automated": {"prune": True}, "retry": {"limit": 0}}
QUICK = {"duration": "5s", "factor": 2, "maxDuration": "3m"}


def test_a_hook_that_hangs(application: Application, installation: Installation, measured: Measured) -> None:
    """A hook that hangs ends at its deadline; without retries a fix pushed before that is synced immediately."""
    began = time.monotonic()
    commit = application.commit(installation.values(SILENT))
    application.create(ONCE)
    until(lambda: application.operation().get("phase") == "Running", "running sync")
    repair = application.commit(installation.values())
    ended = until(lambda: no_longer_running(application, commit), "end of the first sync", DEADLINE + 90)
    lasted = time.monotonic() - began
    assert lasted >= DEADLINE
    if ended["phase"] == "Failed":  # the repair's sync may have begun by then
        assert "Job was active longer than specified deadline" in messages(ended)
    said = installation.cluster.events(installation.namespace, "DeadlineExceeded")
    assert said == ["Job was active longer than specified deadline"]
    assert application.ended(repair, 120)["phase"] == "Succeeded"
    healed = time.monotonic() - began - lasted
    assert installation.runs() == 2
    installation.assert_at(OLDER)
    measured(f"deadline {DEADLINE} s: Failed after {lasted:.0f} s; the repair was synced {healed:.0f} s later")


def no_longer_running(application: Application, commit: str) -> Mapping[str, Any] | None:
    """Return the operation once that commit's is over: it is kept only until the next one begins, at once."""
    state = application.operation()
    over = state.get("phase") != "Running" or (state.get("syncResult") or {}).get("revision") not in {None, commit}
    return state if over else None


def test_retries_of_the_commit_that_failed(
    application: Application, installation: Installation, measured: Measured
) -> None:
    """By default the hook runs six times, always with the commit that failed, and a fix waits until then."""
    began = time.monotonic()
    application.commit(installation.values(WRONG))
    application.create({"automated": {"prune": True}})
    until(lambda: installation.started() == 1, "first run")
    repair = application.commit(installation.values())
    ended = application.ended(repair, 700)
    lasted = time.monotonic() - began
    assert ended["phase"] == "Succeeded"
    assert installation.runs() == 7
    installation.assert_at(OLDER)
    measured(f"six runs of the broken commit, the repair's run ended {lasted:.0f} s after the first began")


def test_retries_that_refresh(application: Application, installation: Installation, measured: Measured) -> None:
    """With `retry.refresh` the next attempt picks up the fix."""
    began = time.monotonic()
    application.commit(installation.values(WRONG))
    application.create({"automated": {"prune": True}, "retry": {"limit": 5, "refresh": True, "backoff": QUICK}})
    until(lambda: installation.started() == 1, "first run")
    repair = application.commit(installation.values())
    ended = application.ended(repair, 300)
    lasted = time.monotonic() - began
    assert ended["phase"] == "Succeeded"
    runs = installation.runs()
    assert runs < 6
    installation.assert_at(OLDER)
    measured(f"{runs} runs, the repair's ended {lasted:.0f} s after the first began")


def test_deletion(application: Application, installation: Installation, measured: Measured) -> None:
    """Deleting the Application removes everything of ours from the cluster and leaves the databases alone."""
    commit = application.commit(installation.values({"serviceAccount": {"create": True}}))
    application.create(ONCE)
    assert application.ended(commit)["phase"] == "Succeeded"
    began = time.monotonic()
    application.delete()
    application.gone()
    lasted = time.monotonic() - began
    assert installation.left() == set()
    installation.assert_at(OLDER)
    measured(f"gone after {lasted:.1f} s, nothing left")


def test_deletion_after_a_failure(application: Application, installation: Installation, measured: Measured) -> None:
    """A failed hook Job, which Argo CD keeps for inspection, is deleted with the Application."""
    commit = application.commit(installation.values(WRONG))
    application.create(ONCE)
    assert application.ended(commit)["phase"] == "Failed"
    assert installation.left()
    application.delete()
    application.gone()
    assert until(lambda: not installation.left(), "end of what was left")
    measured("nothing left")


def test_deletion_during_a_hang(application: Application, installation: Installation, measured: Measured) -> None:
    """A hook that hangs delays the deletion of its Application until its deadline, and no longer."""
    application.commit(installation.values(SILENT))
    application.create(ONCE)
    until(installation.pods, "pod of the hook")
    began = time.monotonic()
    application.delete()
    application.gone(DEADLINE + 120)
    lasted = time.monotonic() - began
    assert until(lambda: not installation.left(), "end of what was left")
    measured(f"deadline {DEADLINE} s: gone {lasted:.0f} s after it was deleted, nothing left")


def test_terminated(application: Application, installation: Installation, measured: Measured) -> None:
    """Terminating the sync unblocks a deletion that a hanging hook delays, whatever the deadline."""
    application.commit(installation.values(merged(SILENT, {"activeDeadlineSeconds": 3600})))
    application.create(ONCE)
    until(installation.pods, "pod of the hook")
    application.delete()
    time.sleep(5)
    assert application.get()
    began = time.monotonic()
    application.terminate()
    application.gone(120)
    lasted = time.monotonic() - began
    assert until(lambda: not installation.left(), "end of what was left")
    measured(f"deadline 3600 s: gone {lasted:.1f} s after `terminate-op`, nothing left")
