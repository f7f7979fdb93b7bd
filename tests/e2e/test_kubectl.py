"""Without Helm in the cluster: `helm template` and `kubectl apply`."""

import shutil
import subprocess
from collections.abc import Callable

import pytest

from support.kubernetes.helm import CHART, helm
from support.kubernetes.installation import NEWER, OLDER, RELEASE, Installation, values_file

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
Measured = Callable[[str], None]
JOBS = f"app.kubernetes.io/instance={RELEASE},app.kubernetes.io/name=temporal-migrations"


def kubectl(*args: str, given: str = "") -> str:
    """Run kubectl and return what it printed."""
    program = shutil.which("kubectl")
    assert program, "kubectl is not on PATH"
    done = subprocess.run([program, *args], input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def apply(installation: Installation, version: str) -> None:
    """Render the chart, apply it, and wait for the Job, as the documents say."""
    with values_file(installation.values({"serverVersion": version, "mode": "job"})) as given:
        place = ("--namespace", installation.namespace)
        # Only a published helm knows a Kubernetes of its own time.
        version = ("--kube-version", installation.cluster.version())
        made = helm("template", RELEASE, str(CHART), "--no-hooks", *place, *version, "--values", str(given))
    assert made.returncode == 0, made.stderr
    kubectl("apply", "--filename", "-", given=made.stdout)
    kubectl("wait", *place, "--for", "condition=complete", "job", "--selector", JOBS, "--timeout", "4m")


def test_render_and_apply(installation: Installation, measured: Measured) -> None:
    """Each version has its Job, which `kubectl wait` waits for; to apply the same again changes nothing."""
    apply(installation, OLDER)
    installation.assert_at(OLDER)
    apply(installation, OLDER)
    assert len(installation.cluster.items("Job", installation.namespace)) == 1
    apply(installation, NEWER)
    installation.assert_at(NEWER)
    assert len(installation.cluster.items("Job", installation.namespace)) == 2
    measured("one Job for each version; the finished one stays until somebody deletes it")
