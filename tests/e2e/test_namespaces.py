"""Argo CD: Temporal's namespaces, after the servers."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from support.kubernetes.argocd import Application, hooks
from support.kubernetes.cluster import until
from support.kubernetes.installation import JOB, NEWER, OLDER, Installation
from support.program.command import run_process
from support.temporal.frontends import development_server, environment, free_port

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
Measured = Callable[[str], None]
NAMESPACES = f"{JOB}-namespaces"
AMEIDE = {"name": "ameide", "retention": "3d", "searchAttributes": {"CustomerId": "Keyword"}}


def bootstrap(address: str, **more: Any) -> Mapping[str, Any]:  # noqa: ANN401 - values
    """Return the values that make a namespace."""
    return {"namespaceBootstrap": {"enabled": True, "address": address, "namespaces": [AMEIDE], **more}}


def check(address: str, name: str) -> int:
    """Return the exit code of a client's question for its namespace."""
    return run_process(environment(TEMPORAL_ADDRESS=address), "namespaces", "--check", name).code


def test_made_after_the_servers(
    application: Application, installation: Installation, tmp_path: Path, measured: Measured
) -> None:
    """The namespaces' Job waits for a frontend that starts after the migration; a later sync changes nothing."""
    port = free_port()
    commit = application.commit(installation.values(bootstrap(f"{installation.host}:{port}")))
    application.create()
    until(lambda: installation.pods(NAMESPACES), "pod of the namespaces' Job")
    installation.assert_at(OLDER)
    assert application.operation()["phase"] == "Running"
    with development_server(tmp_path, installation.host, port) as address:
        assert hooks(application.ended(commit)) == {JOB: "Succeeded", NAMESPACES: "Succeeded"}
        assert (check(address, "ameide"), check(address, "default-of-nobody")) == (0, 41)
        commit = application.commit(installation.values({**bootstrap(address), "serverVersion": NEWER}))
        assert hooks(application.ended(commit)) == {JOB: "Succeeded", NAMESPACES: "Succeeded"}
        assert check(address, "ameide") == 0
    installation.assert_at(NEWER)
    measured("the pod waits until the frontend is there; both syncs succeed; a missing name is reported")


def test_a_refusal_is_told(
    application: Application, installation: Installation, tmp_path: Path, measured: Measured
) -> None:
    """A namespace that the server rejects fails the sync immediately, after the migration; its pod says why."""
    with development_server(tmp_path, installation.host) as address:
        wrong = bootstrap(address, namespaces=[{"name": "ameide", "retention": "1m"}])
        commit = application.commit(installation.values(wrong))
        application.create()
        assert application.ended(commit)["phase"] == "Failed"
        (said,) = installation.last_words(NAMESPACES)
    assert said.startswith('exit code 42: namespace "ameide": ')
    installation.assert_at(OLDER)
    measured(f"one pod, which says: {said.splitlines()[0]}")
