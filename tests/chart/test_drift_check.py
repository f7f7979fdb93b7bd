"""The CronJob that looks for drift: what it runs, as whom, where its metrics go."""

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from schema_migrator.cli import arguments
from schema_migrator.config import chart
from schema_migrator.config.values import labels
from schema_migrator.exit_codes import HOPELESS
from support.kubernetes.charts import one, refusal, render, set_json, variables
from support.kubernetes.helm import NEWEST, Manifest

pytestmark = pytest.mark.chart
ENABLED = ("--set", "driftCheck.enabled=true")


def cron(manifests: list[Manifest]) -> Manifest:
    """Return the only CronJob."""
    (found,) = [item for item in manifests if item["kind"] == "CronJob"]
    return found


def pod(manifests: list[Manifest]) -> dict[str, Any]:
    """Return the spec of its pods."""
    return dict(cron(manifests)["spec"]["jobTemplate"]["spec"]["template"]["spec"])


@pytest.mark.parametrize("values", ["minimal", "job"])
def test_what_it_runs(values: str) -> None:
    """The same comparison as `verify`, with JSON for its log; what no retry cures ends its Job at once."""
    manifests = render(values, *ENABLED)
    found = cron(manifests)
    (container,) = pod(manifests)["containers"]
    assert container["args"] == ["verify", "--output", "json"]
    assert variables(container)[chart.VARIABLE].split()[0] == container["name"] == "drift"
    assert not any(name.startswith(("helm.sh", "argocd")) for name in found["metadata"].get("annotations", {}))
    assert found["spec"]["concurrencyPolicy"] == "Forbid"
    job = found["spec"]["jobTemplate"]["spec"]
    assert (job["activeDeadlineSeconds"], job["backoffLimit"]) == (900, 2)
    assert "ttlSecondsAfterFinished" not in job
    disrupted, failed = job["podFailurePolicy"]["rules"]
    assert (disrupted["action"], failed["onExitCodes"]["values"]) == ("Ignore", list(HOPELESS))


@pytest.mark.parametrize(
    "args", [(), ("--set", "driftCheck.enabled=true,mode=prepare"), (*ENABLED, "--set", "enabled=false")]
)
def test_not_there(args: tuple[str, ...]) -> None:
    """It is off by default, and nothing of a release that only prepares."""
    assert not [item for item in render("minimal", *args) if item["kind"] == "CronJob"]


def test_all_its_values() -> None:
    """Each one arrives."""
    found = cron(render("everything"))["spec"]
    names = ("schedule", "timeZone", "suspend", "startingDeadlineSeconds", "failedJobsHistoryLimit")
    assert [found[name] for name in names] == ["0 4 * * 1-5", "Europe/Berlin", True, 600, 1]
    assert found["successfulJobsHistoryLimit"] == 0
    assert found["jobTemplate"]["spec"]["activeDeadlineSeconds"] == 300


def test_its_metrics() -> None:
    """The file is in the volume that is given, with the installation's names, which the program takes."""
    volume = {"metrics": {"volume": {"hostPath": {"path": "/var/lib/node_exporter"}}}}
    manifests = render("minimal", *ENABLED, *set_json(driftCheck=volume), "--namespace", "temporal")
    spec = pod(manifests)
    (container,) = spec["containers"]
    given = arguments.parse(container["args"])
    place = Path(given["SCHEMA_MIGRATOR_METRICS_FILE"])
    (mount,) = container["volumeMounts"]
    assert spec["volumes"] == [{"name": "metrics", "hostPath": {"path": "/var/lib/node_exporter"}}]
    assert (mount["name"], mount["mountPath"]) == ("metrics", str(place.parent))
    assert place.name == "temporal_release-temporal-migrations-drift.prom"
    given_labels = labels(given["SCHEMA_MIGRATOR_METRICS_LABELS"])
    assert given_labels == (("namespace", "temporal"), ("installation", "release"))
    for manifest in manifests:
        kubernetes_validate.validate(manifest, NEWEST, strict=True)


@pytest.mark.parametrize(
    ("mode", "annotations", "account"),
    [
        ("hook", {}, "default"),
        ("hook", {"role": "arn"}, "release-temporal-migrations"),
        ("job", {}, "release-temporal-migrations"),
    ],
)
def test_its_account_is_still_there(mode: str, annotations: dict[str, str], account: str) -> None:
    """A hook's account is deleted with the hook: only one with an identity stays, for the pods that need it."""
    created = set_json(mode=mode, serviceAccount={"create": True, "annotations": annotations})
    manifests = render("minimal", *ENABLED, *created)
    assert pod(manifests)["serviceAccountName"] == account
    policy = one(manifests, "ServiceAccount")["metadata"]["annotations"].get("helm.sh/hook-delete-policy")
    kept = {"hook": "before-hook-creation" if annotations else "before-hook-creation,hook-succeeded"}
    assert policy == kept.get(mode)


@pytest.mark.parametrize("length", [26, 27, 29, 45, 52])
def test_long_names(length: int) -> None:
    """Kubernetes takes 52 characters; names that differ at their ends stay different."""
    names = {cron(render("minimal", *ENABLED, release=f"{'a' * length}{end}"))["metadata"]["name"] for end in "xy"}
    assert len(names) == 2
    assert all(len(name) <= 52 and re.fullmatch(r"[a-z0-9-]+-drift", name) for name in names)


REFUSALS = {
    "driftCheck.schedule=daily": "at '/driftCheck/schedule': 'daily' does not match pattern",
    "driftCheck.schedule=17 3 * *": "at '/driftCheck/schedule': '17 3 * *' does not match pattern",
    "driftCheck.metrics.file=a/b.prom": "at '/driftCheck/metrics/file': 'a/b.prom' does not match pattern",
    "driftCheck.metrics.file=a.txt": "at '/driftCheck/metrics/file': 'a.txt' does not match pattern",
    "driftCheck.cron=x": "additional properties 'cron' not allowed",
}


@pytest.mark.parametrize("value", REFUSALS)
def test_refusals(value: str) -> None:
    """What would fail in the cluster, or what no collector would read."""
    assert REFUSALS[value] in refusal("--set-string", value)
