"""The CronJob that compares, and the NetworkPolicy."""

import json
from collections.abc import Callable

import pytest

from support.kubernetes.cluster import until
from support.kubernetes.helm import Manifest
from support.kubernetes.installation import JOB, OLDER, Installation, statuses
from support.program.store_driver import site

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
Measured = Callable[[str], None]
CHECK = {
    "driftCheck": {
        "enabled": True,
        "schedule": "* * * * *",
        "backoffLimit": 0,
        "metrics": {"volume": {"emptyDir": {}}},
    }
}


def ended(installation: Installation, condition: str) -> Manifest:
    """Wait for a Job of the CronJob that ends like this; return its pod."""

    def found() -> Manifest | None:
        for job in installation.cluster.items("Job", installation.namespace):
            name = job["metadata"]["name"]
            states = {item["type"] for item in job["status"].get("conditions") or [] if item["status"] == "True"}
            if name.startswith(f"{JOB}-drift-") and condition in states and (pods := installation.pods(name)):
                return pods[-1]
        return None

    return until(found, f"Job that is {condition}", 180)


def test_by_the_minute(installation: Installation, measured: Measured) -> None:
    """It succeeds while the schemas match; a manual change fails it, with the exit code and the change in its log."""
    done = installation.helm("install", values=installation.values(CHECK))
    assert done.returncode == 0, done.stderr
    installation.assert_at(OLDER)
    pod = ended(installation, "Complete")
    printed = json.loads(output(installation, pod))
    assert [store["equal"] for store in printed["stores"]] == [True, True]
    site(installation.databases, "default").run("ALTER TABLE executions DROP COLUMN data_encoding")
    pod = ended(installation, "Failed")
    ((status,), text) = statuses(pod), output(installation, pod)
    assert status["state"]["terminated"]["exitCode"] == 23
    assert "data_encoding" in text
    measured(
        f"complete, then failed with exit code 23 and these last words: {status['state']['terminated']['message']}"
    )


def output(installation: Installation, pod: Manifest) -> str:
    """Return what a pod has printed on standard output; the lines of its log are events."""
    lines = installation.cluster.logs(pod["metadata"]["name"], installation.namespace, "drift").splitlines()
    return "\n".join(line for line in lines if not line.startswith('{"') or '"event"' not in line)


def test_a_network_policy(installation: Installation, measured: Measured) -> None:
    """The API server takes it before the hooks, whose pods it selects, and the migration reaches its databases."""
    policy = {"networkPolicy": {"enabled": True, "databasePorts": [installation.databases.port]}}
    done = installation.helm("install", values=installation.values(policy))
    assert done.returncode == 0, done.stderr
    installation.assert_at(OLDER)
    (found,) = installation.cluster.items("NetworkPolicy", installation.namespace)
    assert found["spec"]["policyTypes"] == ["Ingress", "Egress"]
    measured("the migration runs under it")
