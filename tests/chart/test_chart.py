"""The chart as helm renders it, as Kubernetes takes it, and as our program reads its variables."""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import kubernetes_validate
import pytest
import yaml

from schema_migrator.settings import read

CHART = Path(__file__).resolve().parents[2] / "charts" / "temporal-migrations"
CI = sorted(path.stem.removesuffix("-values") for path in (CHART / "ci").glob("*-values.yaml"))
VERSIONS = ("1.31", "1.32", "1.33", "1.34", "1.35", "1.36", "1.37")
NEWEST = VERSIONS[-1]
POLICY = "before-hook-creation,hook-succeeded"
pytestmark = pytest.mark.chart

Manifest = dict[str, Any]


def helm(*args: str) -> subprocess.CompletedProcess[str]:
    """Run helm; `make test-chart` builds it and says where it is. A version among the arguments beats this one."""
    return subprocess.run(
        [os.environ["HELM"], args[0], "--kube-version", NEWEST, *args[1:]], capture_output=True, text=True, check=False
    )


def render(values: str, *args: str, release: str = "release") -> list[Manifest]:
    """Return what helm makes of the chart with one of the values files in ci/."""
    done = helm("template", release, str(CHART), "--values", str(CHART / "ci" / f"{values}-values.yaml"), *args)
    assert done.returncode == 0, done.stderr
    return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]


def refusal(*args: str) -> str:
    """Return what helm says of values that it must not take."""
    done = helm("template", "release", str(CHART), "--values", str(CHART / "ci" / "minimal-values.yaml"), *args)
    assert done.returncode != 0
    return done.stderr


def one(manifests: list[Manifest], kind: str, suffix: str = "") -> Manifest:
    """Return the only manifest of a kind whose name ends so."""
    names = {item["metadata"]["name"]: item for item in manifests if item["kind"] == kind}
    (found,) = [name for name in names if name.endswith("-verify") == (suffix == "-verify")]
    return names[found]


def trigger(manifests: list[Manifest]) -> str:
    """Return the hash that Argo CD compares."""
    return str(one(manifests, "ConfigMap")["data"]["hash"])


def pod(manifests: list[Manifest]) -> Manifest:
    """Return the spec of the migration's pod."""
    return dict(one(manifests, "Job")["spec"]["template"]["spec"])


@pytest.mark.parametrize("values", CI)
def test_lint(values: str) -> None:
    """Helm has nothing to say of it."""
    done = helm("lint", "--strict", str(CHART), "--values", str(CHART / "ci" / f"{values}-values.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("values", CI)
def test_kubernetes_takes_it(values: str, version: str) -> None:
    """Every manifest is valid, strictly, and of a kind that Kubernetes has."""
    manifests = render(values, "--kube-version", version)
    assert {"Job", "ConfigMap", "Pod"} <= {manifest["kind"] for manifest in manifests}
    for manifest in manifests:
        kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("values", CI)
def test_our_program_takes_its_variables(values: str) -> None:
    """Each variable of the Job is a setting of ours; a Secret's value stands for itself."""
    (container,) = pod(render(values))["containers"]
    given = {
        item["name"]: item.get("value", "5432" if item["name"].endswith("_PORT") else "x") for item in container["env"]
    }
    with patch.dict(os.environ, given, clear=True):
        settings = read({})
    stores = given["SCHEMA_MIGRATOR_STORES"].split(",")
    assert [str(store.store) for store in settings.stores] == stores
    assert all(store.sql.host and store.sql.user for store in settings.stores)


def test_a_hook() -> None:
    """A constant name, both delete policies, before everything else; what Argo CD compares is no hook."""
    manifests = render("minimal")
    job, seen = one(manifests, "Job"), one(manifests, "ConfigMap")
    assert job["metadata"]["name"] == "release-temporal-migrations"
    assert job["metadata"]["annotations"] == {
        "helm.sh/hook": "pre-install,pre-upgrade",
        "helm.sh/hook-weight": "0",
        "helm.sh/hook-delete-policy": POLICY,
    }
    assert not any(name.startswith("helm.sh/hook") for name in seen["metadata"]["annotations"])
    assert "ttlSecondsAfterFinished" not in job["spec"]
    assert not [item for item in manifests if item["kind"] == "ServiceAccount"]


def test_a_hooks_account_is_there_before_it() -> None:
    """The account is a hook of lower weight, of the verifying Job too, and of nobody else."""
    manifests = render("everything")
    account = one(manifests, "ServiceAccount")
    annotations = account["metadata"]["annotations"]
    assert annotations["helm.sh/hook"] == "pre-install,pre-upgrade,post-install,post-upgrade"
    assert (annotations["helm.sh/hook-weight"], annotations["helm.sh/hook-delete-policy"]) == ("-10", POLICY)
    verify = one(manifests, "Job", "-verify")
    assert verify["metadata"]["annotations"]["helm.sh/hook"] == "post-install,post-upgrade"
    assert pod(manifests)["serviceAccountName"] == account["metadata"]["name"]


def test_an_ordinary_job() -> None:
    """Its name holds the hash, it comes before the trigger and after its account, and it is no hook."""
    manifests = render("job")
    job = one(manifests, "Job")
    assert job["metadata"]["name"] == f"release-temporal-migrations-{trigger(manifests)[:10]}"
    waves = {item["kind"]: item["metadata"]["annotations"].get("argocd.argoproj.io/sync-wave") for item in manifests}
    assert waves == {"ServiceAccount": "-2", "Job": "-1", "ConfigMap": "0", "Pod": None}
    assert "helm.sh/hook" not in job["metadata"]["annotations"]


CHANGES = {
    "the image": ("--set-string", "image.tag=2"),
    "the server's version": ("--set-string", "serverVersion=1.29.1"),
    "a target": ("--set-string", "databases.default.targetVersion=1.18"),
    "the trigger": ("--set", "forceTrigger=now"),
    "a host": ("--set", "connection.host=other"),
    "a toleration": ("--set", "tolerations[0].operator=Exists"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("values", ["minimal", "job"])
def test_the_hash_changes_with(values: str, change: str) -> None:
    """Whatever the migration depends on runs it again."""
    assert trigger(render(values, *CHANGES[change])) != trigger(render(values))


def test_the_hash_stays() -> None:
    """It is the same at every rendering, for an installation and an upgrade, and whatever does not matter."""
    assert trigger(render("minimal")) == trigger(render("minimal", "--is-upgrade", "--set", "verify.enabled=true"))


def test_the_pod_is_restricted() -> None:
    """What the restricted pod security standard asks for, no token, no service links, a policy on exit codes."""
    manifests = render("minimal")
    spec, found = one(manifests, "Job")["spec"], pod(manifests)
    (container,) = found["containers"]
    assert found["securityContext"]["runAsNonRoot"] is True
    assert found["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert (found["automountServiceAccountToken"], found["enableServiceLinks"]) == (False, False)
    assert (found["restartPolicy"], spec["activeDeadlineSeconds"], spec["backoffLimit"]) == ("Never", 14400, 4)
    assert spec["podFailurePolicy"]["rules"] == [
        {"action": "FailJob", "onExitCodes": {"containerName": "migrate", "operator": "In", "values": [2, 3]}},
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    ]


def test_secrets_are_only_referred_to() -> None:
    """CloudNativePG's Secrets as they are: role, password, host and port by key, one Secret a store."""
    (container,) = pod(render("cloudnativepg"))["containers"]
    given = {item["name"]: item for item in container["env"]}
    assert {name: item["valueFrom"]["secretKeyRef"] for name, item in given.items() if "valueFrom" in item} == {
        f"{store}_SQL_{name}": {"name": secret, "key": key}
        for store, secret in (("DEFAULT", "temporal-app"), ("VISIBILITY", "temporal-visibility-app"))
        for name, key in (("HOST", "host"), ("PORT", "port"), ("USER", "username"), ("PASSWORD", "password"))
    }
    assert given["DEFAULT_TARGET_VERSION"]["value"] == "1.18"


def test_images() -> None:
    """A registry for all, a registry of its own, a tag, a digest."""
    digest = "sha256:" + "0123456789abcdef" * 4
    found = {
        "minimal": "temporal-schema-migrator:0.1.0",
        "everything": f"mirror.example/temporal-schema-migrator@{digest}",
    }
    for values, image in found.items():
        assert pod(render(values))["containers"][0]["image"] == image
    assert pod(render("everything"))["imagePullSecrets"] == [{"name": "one"}, {"name": "two"}]


REFUSALS: Mapping[tuple[str, ...], str] = {
    ("--set-json", "databases.default.targetVersion=1.10"): (
        "databases.default.targetVersion is the number 1.1: quote it, because YAML takes 1.10 for 1.1"
    ),
    ("--set-json", "serverVersion=1.29"): "serverVersion is the number 1.29: quote it",
    ("--set", "connection.host="): (
        "the default store has no host: set connection.host, or connection.hostKey to a key of the Secret"
    ),
    ("--set", "connection.user="): (
        "the default store has no role: set connection.user, or connection.userKey to a key of the Secret"
    ),
    ("--set", "connection.existingSecret=,connection.userKey=username"): (
        "the default store names keys of a Secret, but no Secret: set connection.existingSecret"
    ),
    ("--set", "databases.default.enabled=false,databases.visibility.enabled=false"): "no store is enabled",
    ("--set", "mode=job,ttlSecondsAfterFinished=600"): "ttlSecondsAfterFinished is set in mode job",
    ("--set", "tolerationz=x"): "additional properties 'tolerationz' not allowed",
    ("--set", "connection.hots=x"): "additional properties 'hots' not allowed",
    ("--set", "mode=cron"): "value must be one of 'hook', 'job'",
    ("--set", "activeDeadlineSeconds=null"): "missing property 'activeDeadlineSeconds'",
    ("--set", "activeDeadlineSeconds=5"): "minimum: got 5, want 60",
}


@pytest.mark.parametrize("args", REFUSALS, ids=lambda args: args[-1])
def test_refusals(args: tuple[str, ...]) -> None:
    """Values that would fail in the cluster fail before, with a sentence."""
    assert REFUSALS[args] in refusal(*args)


def test_every_value_is_in_the_schema() -> None:
    """No value without a rule, and no rule without a value."""

    def keys(rules: Mapping[str, Any]) -> Iterator[str]:
        for name, rule in rules.get("properties", {}).items():
            yield name
            yield from (f"{name}.{below}" for below in keys(rule))

    def given(values: Mapping[str, Any]) -> Iterator[str]:
        for name, value in values.items():
            yield name
            yield from (f"{name}.{below}" for below in given(value)) if isinstance(value, dict) else ()

    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    free = ("podSecurityContext.", "securityContext.", "resources.")
    assert {name for name in given(values) if not name.startswith(free)} == {
        name for name in keys(schema) if ".connection." not in name
    }
