"""The chart as helm renders it, as Kubernetes takes it, and as our program reads its variables."""

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any
from unittest.mock import patch

import kubernetes_validate
import pytest
import yaml

from charts import POLICY, given, one, pod, refusal, render, set_json, trigger
from helm import CHART, NEWEST, VERSIONS, helm
from schema_migrator.exit_codes import HOPELESS
from schema_migrator.settings import read

CI = sorted(path.stem.removesuffix("-values") for path in (CHART / "ci").glob("*-values.yaml"))
pytestmark = pytest.mark.chart


@pytest.mark.parametrize("values", CI)
def test_lint(values: str) -> None:
    """Helm has nothing to say of it."""
    done = helm("lint", "--strict", "--kube-version", NEWEST, str(CHART), *given(values))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("values", CI)
def test_kubernetes_takes_it(values: str, version: str) -> None:
    """Every manifest is valid, strictly, and of a kind that Kubernetes has."""
    manifests = render(values, "--kube-version", version)
    kinds = {manifest["kind"] for manifest in manifests}
    assert ({"Job", "ConfigMap"} if values == "namespaces" else {"Job", "ConfigMap", "Pod"}) <= kinds
    for manifest in manifests:
        kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("values", [name for name in CI if name != "namespaces"])
def test_our_program_takes_its_variables(values: str) -> None:
    """Each variable of the Job is a setting of ours; a Secret's value stands for itself."""
    (container,) = pod(render(values))["containers"]
    secret = {"PORT": "5432", "URI": "postgresql://x:x@x:5432/x"}
    variables = {
        item["name"]: item.get("value", secret.get(item["name"].rpartition("_")[2], "x")) for item in container["env"]
    }
    with patch.dict(os.environ, variables, clear=True):
        settings = read({})
    stores = variables["SCHEMA_MIGRATOR_STORES"].split(",")
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
    assert annotations["helm.sh/hook"] == "pre-install,pre-upgrade,post-install,post-upgrade,test"
    assert (annotations["helm.sh/hook-weight"], annotations["helm.sh/hook-delete-policy"]) == ("-10", POLICY)
    verify = one(manifests, "Job", "-verify")
    assert verify["metadata"]["annotations"]["helm.sh/hook"] == "post-install,post-upgrade"
    assert pod(manifests)["serviceAccountName"] == account["metadata"]["name"]


def test_the_account_is_there_for_helm_test_too() -> None:
    """The account goes with the hook, so the test's pod needs it made again."""
    account = one(render("minimal", "--set", "serviceAccount.create=true"), "ServiceAccount")
    assert account["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade,test"


def test_an_ordinary_job() -> None:
    """Its name holds the hash, it comes before the trigger and after its account, and it is no hook."""
    manifests = render("job")
    job = one(manifests, "Job")
    assert job["metadata"]["name"] == f"release-temporal-migrations-{trigger(manifests)[:10]}"
    wave = "argocd.argoproj.io/sync-wave"
    waves = {item["kind"]: item["metadata"]["annotations"].get(wave) for item in manifests if "-ns-" not in str(item)}
    assert waves == {"ServiceAccount": "-2", "Job": "-1", "ConfigMap": "0", "Pod": None}
    assert "helm.sh/hook" not in job["metadata"]["annotations"]


CHANGES = {
    "the image": ("--set-string", "image.tag=2"),
    "the server's version": ("--set-string", "serverVersion=1.29.1"),
    "a target": ("--set-string", "databases.default.targetVersion=1.18"),
    "the trigger": ("--set", "forceTrigger=now"),
    "a host": ("--set", "connection.host=other"),
    "a toleration": ("--set", "tolerations[0].operator=Exists"),
    "an annotation": ("--set", "annotations.note=other"),
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
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "FailJob", "onExitCodes": {"containerName": "migrate", "operator": "In", "values": list(HOPELESS)}},
    ]


def test_secrets_are_only_referred_to() -> None:
    """CloudNativePG's Secrets as they are: role, password, host and port by key, one Secret a store."""
    (container,) = pod(render("cloudnativepg"))["containers"]
    found = {item["name"]: item for item in container["env"]}
    assert {name: item["valueFrom"]["secretKeyRef"] for name, item in found.items() if "valueFrom" in item} == {
        f"{store}_SQL_{name}": {"name": secret, "key": key}
        for store, secret in (("DEFAULT", "temporal-app"), ("VISIBILITY", "temporal-visibility-app"))
        for name, key in (("HOST", "host"), ("PORT", "port"), ("USER", "username"), ("PASSWORD", "password"))
    }
    assert found["DEFAULT_TARGET_VERSION"]["value"] == "1.18"


OWN = {
    "a host beats the common key": ({"hostKey": "host"}, {"host": "own"}, "HOST", "own"),
    "a role beats the common key": ({"userKey": "username"}, {"user": "own"}, "USER", "own"),
    "a port beats the common key": ({"portKey": "port"}, {"port": 6432}, "PORT", "6432"),
    "a Secret beats the common command": ({"passwordCommand": "token"}, {"existingSecret": "own"}, "PASSWORD", "own"),
    "a command beats the common Secret": ({}, {"passwordCommand": "token"}, "PASSWORD_COMMAND", "token"),
}


@pytest.mark.parametrize("case", OWN)
def test_a_stores_own_connection(case: str) -> None:
    """What a store says of itself leaves nothing of another way to say it."""
    common, own, name, value = OWN[case]
    connection = {"host": "db", "user": "temporal", "existingSecret": "temporal-db", **common}
    databases = {"visibility": {"connection": own}}
    found = pod(render("minimal", *set_json(connection=connection, databases=databases)))
    env = {item["name"]: item for item in found["containers"][0]["env"] if item["name"].startswith("VISIBILITY_SQL_")}
    item = env[f"VISIBILITY_SQL_{name}"]
    assert item.get("value", item.get("valueFrom")) in (
        value,
        {"secretKeyRef": {"name": value, "key": "password"}},
    )
    assert len({"VISIBILITY_SQL_PASSWORD", "VISIBILITY_SQL_PASSWORD_COMMAND"} & set(env)) == 1


def test_a_uri_says_it_all() -> None:
    """CloudNativePG's `uri`: neither host nor role nor password is asked for, and none is given beside it."""
    connection = {"existingSecret": "temporal-app", "uriKey": "uri", "host": "", "user": ""}
    (container,) = pod(render("minimal", *set_json(connection=connection)))["containers"]
    env = {item["name"]: item for item in container["env"] if item["name"].startswith("DEFAULT_SQL_")}
    assert set(env) == {"DEFAULT_SQL_URI", "DEFAULT_SQL_DATABASE"}
    assert env["DEFAULT_SQL_URI"]["valueFrom"]["secretKeyRef"] == {"name": "temporal-app", "key": "uri"}


def test_a_clients_key_is_not_for_everybody() -> None:
    """Libpq refuses one that all may read: root and the pod's group may."""
    found = pod(render("everything"))
    (volume,) = [item for item in found["volumes"] if item["name"] == "tls-default"]
    assert volume["secret"] == {"secretName": "db-tls", "defaultMode": 0o440}
    assert found["securityContext"]["fsGroup"] == 65532


def test_labels_can_be_replaced() -> None:
    """A pod's label of one's own beats the chart's; no key stands twice."""
    labels = set_json(podLabels={"app.kubernetes.io/version": "mine"})
    (made, *_) = (item for item in render("minimal", *labels) if item["kind"] == "Job")
    assert made["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/version"] == "mine"


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


def test_names_that_look_like_numbers() -> None:
    """YAML would take them for numbers."""
    numbers = set_json(
        fullnameOverride="123",
        nameOverride="1",
        serviceAccount={"create": True, "name": "7"},
        imagePullSecrets=["5", {"name": "6"}],
        priorityClassName="8",
        serverVersion=None,
    )
    for manifest in render("minimal", *numbers, "--namespace", "12", release="34"):
        kubernetes_validate.validate(manifest, NEWEST, strict=True)


@pytest.mark.parametrize("mode", ["hook", "job"])
def test_long_names(mode: str) -> None:
    """Releases whose long names differ only at their ends share no object, and each name can be a label."""
    values = set_json(mode=mode, serviceAccount={"create": True}, verify={"enabled": True})
    names = [
        {(item["kind"], item["metadata"]["name"]) for item in render("minimal", *values, release=f"{'a.' * 25}{end}")}
        for end in ("one", "two")
    ]
    assert len(names[0]) == len(names[1]) == 5
    assert not names[0] & names[1]
    assert all(len(name) <= 63 for _, name in names[0])


def test_a_wave_of_ones_own() -> None:
    """In mode `job` the waves can be said."""
    wave = "argocd.argoproj.io/sync-wave"
    accounts = {"create": True, "annotations": {wave: "-7"}}
    manifests = render("minimal", *set_json(mode="job", annotations={wave: "-5"}, serviceAccount=accounts))
    found = {item["kind"]: (item["metadata"].get("annotations") or {}).get(wave) for item in manifests}
    assert (found["Job"], found["ServiceAccount"]) == ("-5", "-7")


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
    ("--set", "databases.default.enabled=false,databases.visibility.enabled=false"): (
        "no store is enabled: set databases.default.enabled or databases.visibility.enabled"
    ),
    ("--set", "mode=job,ttlSecondsAfterFinished=600"): (
        "ttlSecondsAfterFinished is set in mode job: Argo CD would make the Job again as soon as it is gone; unset it"
    ),
    ("--set-string", "extraEnv[0].name=SCHEMA_MIGRATOR_ADOPT,extraEnv[0].value=true"): (
        "extraEnv has SCHEMA_MIGRATOR_ADOPT, which the chart sets itself: use its value in place of extraEnv"
    ),
    ("--set-json", 'annotations={"helm.sh/hook":"pre-install"}'): (
        "annotations has helm.sh/hook, which the chart sets itself: take it out"
    ),
    ("--set-json", 'serviceAccount.annotations={"helm.sh/hook-weight":"1"}'): (
        "serviceAccount.annotations has helm.sh/hook-weight, which the chart sets itself: take it out"
    ),
    ("--set-json", 'extraEnv=[{"name":"A","value":1}]'): "at '/extraEnv/0/value': got number, want string",
    ("--set", "connection.tls.enabled=true,connection.tls.caKey=ca.crt"): (
        "the default store names keys of certificates, but no Secret: set connection.tls.existingSecret"
    ),
    ("--set", "connection.tls.existingSecret=db-tls"): (
        "the default store has certificates, but TLS is off: set connection.tls.enabled"
    ),
    ("--set", "settings=null"): "missing property 'settings'",
    ("--set", "connection.tls=null"): "missing property 'tls'",
    ("--set", "settings.waitTimeout=null"): "missing property 'waitTimeout'",
    ("--set", "databases.visibility=null"): "missing property 'visibility'",
    ("--set-string", "connection.port=99999"): "at '/connection/port': '99999' does not match pattern",
    ("--set", "extraEnv[0].value=x"): "at '/extraEnv/0': missing property 'name'",
    ("--set", "fullnameOverride=Bad_Name"): "at '/fullnameOverride': 'Bad_Name' does not match pattern",
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

    def said(values: Mapping[str, Any]) -> Iterator[str]:
        for name, value in values.items():
            yield name
            yield from (f"{name}.{below}" for below in said(value)) if isinstance(value, dict) else ()

    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    free = ("podSecurityContext.", "securityContext.", "resources.")
    assert {name for name in said(values) if not name.startswith(free)} == {
        name for name in keys(schema) if ".connection." not in name
    }
