"""The chart as helm renders it, as Kubernetes takes it, and as our program reads its variables."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import kubernetes_validate
import pytest
import yaml

from schema_migrator import __version__
from schema_migrator.cli import arguments
from schema_migrator.config import chart
from schema_migrator.config.settings import read
from schema_migrator.exit_codes import HOPELESS
from support.kubernetes.charts import POLICY, given, one, pod, refusal, render, set_json, trigger, variables
from support.kubernetes.helm import CHART, NEWEST, VERSIONS, helm

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
    told = variables[chart.VARIABLE].split()
    references = {item["name"] for item in container["env"] if "valueFrom" in item}
    assert references <= {word.partition("=")[0] for word in told}
    assert told[0] == container["name"]
    given_by_hand = {chart.VARIABLE, "PGSSLNEGOTIATION"}
    assert not variables.keys() - chart.values("migrate").keys() - given_by_hand  # messages name each one's value
    variables[chart.VARIABLE] = told[0]  # without its Secrets, whose files are not here
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
    kept = "before-hook-creation"  # for the CronJob
    assert (annotations["helm.sh/hook-weight"], annotations["helm.sh/hook-delete-policy"]) == ("-10", kept)
    verify = one(manifests, "Job", "-verify")
    assert verify["metadata"]["annotations"]["helm.sh/hook"] == "post-install,post-upgrade"
    assert verify["metadata"]["annotations"]["helm.sh/hook-delete-policy"] == "before-hook-creation"
    assert pod(manifests)["serviceAccountName"] == account["metadata"]["name"]


@pytest.mark.parametrize(("annotations", "hooks"), [({}, []), ({"role": "arn"}, ["test"])])
def test_helm_test_shows_one_test(annotations: dict[str, str], hooks: list[str]) -> None:
    """Helm lists each object that it makes for a test: the account is one only if it has an identity."""
    account = {"create": True, "annotations": annotations}
    manifests = render("minimal", *set_json(serviceAccount=account))
    made = one(manifests, "ServiceAccount")["metadata"]
    assert made["annotations"]["helm.sh/hook"].split(",") == ["pre-install", "pre-upgrade", *hooks]
    assert one(manifests, "Pod")["spec"]["serviceAccountName"] == (made["name"] if hooks else "default")


def test_an_ordinary_job() -> None:
    """Its name holds the hash, it comes before the trigger and after its account, and it is no hook."""
    manifests = render("job")
    job = one(manifests, "Job")
    assert job["metadata"]["name"] == f"release-temporal-migrations-{trigger(manifests)[:10]}"
    wave = "argocd.argoproj.io/sync-wave"
    those = [item for item in manifests if "-ns-" not in str(item)]
    waves = {item["kind"]: item["metadata"].get("annotations", {}).get(wave) for item in those}
    assert waves == {"ServiceAccount": "-2", "Job": "-1", "ConfigMap": "0", "CronJob": None, "Pod": None}
    assert "helm.sh/hook" not in job["metadata"]["annotations"]


def test_preparing() -> None:
    """An ordinary Job that holds the cutover for days, and nothing of what comes after a release."""
    manifests = render("prepare")
    (job,) = [item for item in manifests if item["kind"] == "Job"]
    assert job["metadata"]["name"] == f"release-temporal-migrations-prepare-{trigger(manifests)[:10]}"
    assert "helm.sh/hook" not in job["metadata"]["annotations"]
    assert job["spec"]["activeDeadlineSeconds"] == 691_200
    (container,) = pod(manifests)["containers"]
    told = {item["name"]: item.get("value") for item in container["env"]}
    assert (container["args"], told["SCHEMA_MIGRATOR_HOLD_CUTOVER"]) == (["migrate"], "true")
    assert told["SCHEMA_MIGRATOR_HOLD_TIMEOUT"] == "604800"
    assert told["SCHEMA_MIGRATOR_CUTOVER_WINDOW"] == "02:00-04:00 Europe/Berlin"
    large = render("prepare", *set_json(prepare={"holdTimeout": 1_000_000, "activeDeadlineSeconds": 2_000_000}))
    (container,) = pod(large)["containers"]
    assert {"name": "SCHEMA_MIGRATOR_HOLD_TIMEOUT", "value": "1000000"} in container["env"]


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
    assert (found["restartPolicy"], spec["activeDeadlineSeconds"], spec["backoffLimit"]) == ("Never", 3600, 4)
    assert spec["podFailurePolicy"]["rules"] == [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "FailJob", "onExitCodes": {"containerName": "migrate", "operator": "In", "values": list(HOPELESS)}},
    ]


def test_what_no_retry_cures_ends_the_job_whichever_container_meets_it() -> None:
    """The one that creates the databases comes first, and knows most of these causes first."""
    manifests = render("minimal", "--set", "createDatabase=true")
    for suffix in ("", "-preflight"):
        job, spec = one(manifests, "Job", suffix), pod(manifests, suffix)
        named = [rule["onExitCodes"] for rule in job["spec"]["podFailurePolicy"]["rules"][1:]]
        names = [container["name"] for container in [*spec["containers"], *spec["initContainers"]]]
        assert [(rule["containerName"], rule["values"]) for rule in named] == [(name, list(HOPELESS)) for name in names]


def test_a_preflight() -> None:
    """The migration's pod, before it and for a short while; it waits for the databases alone."""
    manifests = render("minimal", "--set", "preflight.activeDeadlineSeconds=60,preflight.waitTimeout=30")
    job, migration = one(manifests, "Job", "-preflight"), one(manifests, "Job")
    assert job["metadata"]["annotations"] == {
        "helm.sh/hook": "pre-install,pre-upgrade",
        "helm.sh/hook-weight": "-5",
        "helm.sh/hook-delete-policy": POLICY,
    }
    assert (job["spec"]["activeDeadlineSeconds"], job["spec"]["backoffLimit"]) == (60, 1)
    assert migration["spec"]["activeDeadlineSeconds"] == 3600
    first, second = pod(manifests, "-preflight"), pod(manifests)
    (looks,), (migrates,) = first.pop("containers"), second.pop("containers")
    assert first == second
    assert looks.pop("args") == ["wait", "--for", "database"]
    assert arguments.parser().parse_args(["wait", "--for", "database"]).targets == ["database"]
    assert migrates.pop("args") == ["migrate"]
    assert (looks.pop("name"), migrates.pop("name")) == ("preflight", "migrate")
    mine, theirs = variables(looks), variables(migrates)
    own = {name for name in mine if mine[name] != theirs.get(name)}
    assert own == {chart.VARIABLE, "SCHEMA_MIGRATOR_WAIT_TIMEOUT"}
    assert theirs.keys() <= mine.keys()
    assert mine["SCHEMA_MIGRATOR_WAIT_TIMEOUT"] == "30"
    assert looks | {"env": []} == migrates | {"env": []}


@pytest.mark.parametrize("args", [("--set", "preflight.enabled=false"), ("--set", "mode=job")])
def test_no_preflight(args: tuple[str, ...]) -> None:
    """Not where it is not wanted, and not before an ordinary Job, whose pod waits for what is missing."""
    manifests = render("minimal", *args)
    assert [item["metadata"]["name"].split("-")[-1] for item in manifests if item["kind"] == "Job"] != ["preflight"]
    assert len([item for item in manifests if item["kind"] == "Job"]) == 1


def test_an_ordinary_jobs_pod_waits_for_its_secrets() -> None:
    """It is not run again after a failure, so that a Secret that comes later has to find it waiting."""
    (container,) = pod(render("job"))["containers"]
    references = [value["secretKeyRef"] for value in variables(container).values() if isinstance(value, dict)]
    assert references
    assert all("optional" not in reference for reference in references)


def test_what_the_program_is_told_of_its_secrets() -> None:
    """The names of Secrets and keys, of certificates too, so that it can say which does not exist."""
    (container,) = pod(render("everything", "--set", "databases.default.connection.auth="))["containers"]
    assert variables(container)[chart.VARIABLE].split() == [
        "migrate",
        "DEFAULT_SQL_PASSWORD=temporal-db/password",
        "DEFAULT_SQL_TLS_CA_FILE=db-tls/ca.crt",
        "DEFAULT_SQL_TLS_CERT_FILE=db-tls/tls.crt",
        "DEFAULT_SQL_TLS_KEY_FILE=db-tls/tls.key",
    ]
    job = one(render("everything"), "Job", "-namespaces")["spec"]["template"]["spec"]["containers"][0]
    assert variables(job)[chart.VARIABLE].split() == [
        "namespaces",
        "TEMPORAL_API_KEY=temporal-api-key/token",
        "TEMPORAL_TLS_CLIENT_CERT_PATH=frontend-tls/tls.crt",
        "TEMPORAL_TLS_CLIENT_KEY_PATH=frontend-tls/tls.key",
        "TEMPORAL_TLS_SERVER_CA_CERT_PATH=frontend-tls/ca.crt",
    ]


@pytest.mark.parametrize(("suffix", "there"), [("", True), ("-preflight", True), ("-verify", False)])
def test_databases_are_created_before(suffix: str, there: bool) -> None:  # noqa: FBT001
    """By the same image, in the first pod that connects to them; only where that is asked for."""
    spec = pod(render("everything"), suffix)
    containers = spec.get("initContainers", [])
    made = [container["args"] for container in containers if container["name"] == "create-database"]
    assert made == ([["create-database"]] if there else [])
    assert "initContainers" not in pod(render("minimal"))


SAID = {
    "nothing": ((), {"TEMPORAL_VERSION": "1.32.2", "SCHEMA_MIGRATOR_ALLOW_OLDER_TARGETS": "false"}),
    "the image's version": (("--set", "serverVersion=image"), {"SCHEMA_MIGRATOR_ALLOW_OLDER_TARGETS": "false"}),
    "targets alone": (
        ("--set-string", "serverVersion=,databases.default.targetVersion=1.18,databases.visibility.targetVersion=1.9"),
        {"SCHEMA_MIGRATOR_ALLOW_OLDER_TARGETS": "true"},
    ),
    "a target that is meant": (
        ("--set", "settings.allowOlderTargets=true"),
        {"TEMPORAL_VERSION": "1.32.2", "SCHEMA_MIGRATOR_ALLOW_OLDER_TARGETS": "true"},
    ),
}


@pytest.mark.parametrize("case", SAID)
def test_what_is_said_of_the_servers(case: str) -> None:
    """A target below what they need has to be said twice, unless nothing else is said."""
    args, expected = SAID[case]
    found = variables(pod(render("minimal", *args))["containers"][0])
    names = ("TEMPORAL_VERSION", "SCHEMA_MIGRATOR_ALLOW_OLDER_TARGETS")
    assert {name: found[name] for name in names if name in found} == expected


def test_the_trigger_tells_the_upgrade() -> None:
    """A diff shows the servers' version, the targets and the image, and turning on the verifying Job runs it."""
    data = one(render("cloudnativepg"), "ConfigMap")["data"]
    plain = {name: data[name] for name in data if name != "hash"}
    assert plain == {
        "serverVersion": "1.29.1",
        "image": f"temporal-schema-migrator:{__version__}",
        "default": "1.18",
        "visibility": "1.9",
        "verify": "false",
    }
    image = one(render("job"), "ConfigMap")["data"]
    assert (image["serverVersion"], image["default"]) == ("that of the image", "the version that the servers need")
    assert one(render("cloudnativepg", "--set", "verify.enabled=true"), "ConfigMap")["data"]["verify"] == "true"


def test_nothing_unless_enabled() -> None:
    """As a part of another chart it is switched off by its condition, and by the value itself."""
    assert render("everything", "--set", "enabled=false") == []


@pytest.mark.parametrize("wanted", [True, False])
def test_a_part_of_another_chart(tmp_path: Path, *, wanted: bool) -> None:
    """A condition switches it off; the other chart's registry and pull secrets count."""
    whole = tmp_path / "platform"
    shutil.copytree(CHART, whole / "charts" / CHART.name)
    needed = {"name": CHART.name, "version": __version__, "condition": f"{CHART.name}.enabled"}
    described = {"apiVersion": "v2", "name": "platform", "version": "1.0.0", "dependencies": [needed]}
    (whole / "Chart.yaml").write_text(yaml.safe_dump(described))
    mine = yaml.safe_load((CHART / "ci" / "minimal-values.yaml").read_text())
    common = {"imageRegistry": "mirror.example", "imagePullSecrets": ["platform"], "theirs": 1}
    (whole / "values.yaml").write_text(yaml.safe_dump({"global": common, CHART.name: {**mine, "enabled": wanted}}))
    done = helm("template", "release", str(whole), "--kube-version", NEWEST)
    assert done.returncode == 0, done.stderr
    manifests = [found for found in yaml.safe_load_all(done.stdout) if found]
    assert bool(manifests) is wanted
    if wanted:
        assert pod(manifests)["imagePullSecrets"] == [{"name": "platform"}]
        assert pod(manifests)["containers"][0]["image"] == f"mirror.example/temporal-schema-migrator:{__version__}"


def test_common_labels() -> None:
    """On every object and every pod; the chart's own stay, because people select by them."""
    for manifest in render("everything", *set_json(extraObjects=[])):
        found = [manifest["metadata"]["labels"]]
        if manifest["kind"] == "Job":
            found.append(manifest["spec"]["template"]["metadata"]["labels"])
        if manifest["kind"] == "CronJob":
            template = manifest["spec"]["jobTemplate"]
            found += [template["metadata"]["labels"], template["spec"]["template"]["metadata"]["labels"]]
        assert {labels["team"] for labels in found} == {"platform"}
        assert {labels["app.kubernetes.io/name"] for labels in found} == {"temporal-migrations"}


def test_secrets_are_only_referred_to() -> None:
    """CloudNativePG's Secrets as they are: role, password, host and port by key, one Secret a store."""
    (container,) = pod(render("cloudnativepg"))["containers"]
    found = {item["name"]: item for item in container["env"]}
    assert {name: item["valueFrom"]["secretKeyRef"] for name, item in found.items() if "valueFrom" in item} == {
        f"{store}_SQL_{name}": {"name": secret, "key": key, "optional": True}
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
    "a command beats the common cloud": ({"auth": "aws"}, {"passwordCommand": "token"}, "PASSWORD_COMMAND", "token"),
    "a cloud beats the common Secret": ({}, {"auth": "gcp"}, "AUTH", "gcp"),
    "a cloud beats the common command": ({"passwordCommand": "token"}, {"auth": "gcp"}, "AUTH", "gcp"),
    "a Secret beats the common cloud": ({"auth": "aws"}, {"existingSecret": "own"}, "PASSWORD", "own"),
    "the server's form of a command": (
        {"passwordCommand": {"command": "common", "timeout": "1m"}},
        {"passwordCommand": {"command": "own", "args": ["a b"]}},
        "PASSWORD_COMMAND",
        '{"args":["a b"],"command":"own"}',
    ),
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
        {"secretKeyRef": {"name": value, "key": "password", "optional": True}},
    )
    assert len({f"VISIBILITY_SQL_{name}" for name in ("PASSWORD", "PASSWORD_COMMAND", "AUTH")} & set(env)) == 1


def test_a_uri_says_it_all() -> None:
    """CloudNativePG's `uri`: neither host nor role nor password is asked for, and none is given beside it."""
    connection = {"existingSecret": "temporal-app", "uriKey": "uri", "host": "", "user": ""}
    (container,) = pod(render("minimal", *set_json(connection=connection)))["containers"]
    env = {item["name"]: item for item in container["env"] if item["name"].startswith("DEFAULT_SQL_")}
    assert set(env) == {"DEFAULT_SQL_URI", "DEFAULT_SQL_DATABASE"}
    reference = {"name": "temporal-app", "key": "uri", "optional": True}
    assert env["DEFAULT_SQL_URI"]["valueFrom"]["secretKeyRef"] == reference


def test_a_clients_key_is_not_for_everybody() -> None:
    """Libpq refuses one that all may read: root and the pod's group may."""
    found = pod(render("everything"))
    (volume,) = [item for item in found["volumes"] if item["name"] == "tls-default"]
    assert volume["secret"] == {"secretName": "db-tls", "defaultMode": 0o440, "optional": True}
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
        "minimal": f"temporal-schema-migrator:{__version__}",
        "everything": f"mirror.example/temporal-schema-migrator@{digest}",
    }
    for values, image in found.items():
        assert pod(render(values))["containers"][0]["image"] == image
    assert pod(render("everything"))["imagePullSecrets"] == [{"name": name} for name in ("two", "three", "one")]


TAGS = {
    "the program's own statements": ((), __version__),
    "the vendor's binary": (("--set", "settings.executor=sql-tool"), f"{__version__}-tools"),
    "a tag of one's own": (("--set", "settings.executor=sql-tool", "--set-string", "image.tag=2"), "2"),
}


@pytest.mark.parametrize("case", TAGS)
def test_the_vendors_binary_is_in_another_image(case: str) -> None:
    """Its executor selects the image with the tools, in every pod and in the trigger, unless a tag is given."""
    args, tag = TAGS[case]
    manifests = render("minimal", *args)
    image = f"temporal-schema-migrator:{tag}"
    assert {pod(manifests, suffix)["containers"][0]["image"] for suffix in ("", "-preflight")} == {image}
    assert one(manifests, "ConfigMap")["data"]["image"] == image


def test_names_that_look_like_numbers() -> None:
    """YAML would take them for numbers."""
    numbers = set_json(
        fullnameOverride="123",
        nameOverride="1",
        serviceAccount={"create": True, "name": "7"},
        imagePullSecrets=["5", {"name": "6"}],
        priorityClassName="8",
        serverVersion="image",
        commonLabels={"cost": "12"},
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
    assert len(names[0]) == len(names[1]) == (6 if mode == "hook" else 5)
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
        "databases.default.targetVersion is the number 1.1: quote it, because YAML reads 1.10 as 1.1"
    ),
    ("--set-json", "serverVersion=1.29"): "serverVersion is the number 1.29: quote it",
    ("--set", "serverVersion="): (
        "serverVersion is empty, so any new image would upgrade the schemas: set it to the version of the"
        ' servers, such as "1.29.1", or to image if you want that'
    ),
    ("--set-string", "serverVersion=,databases.default.targetVersion=1.18"): "serverVersion is empty",
    ("--set-string", "serverVersion=latest"): "at '/serverVersion': 'latest' does not match pattern",
    ("--set", "hookDeletePolicy=hook-succeeded"): "at '/hookDeletePolicy': 'hook-succeeded' does not match pattern",
    ("--set", "preflight=null"): "missing property 'preflight'",
    ("--set", "settings.rewrite=offline"): "at '/settings/rewrite': value must be one of",
    ("--set-json", "enabled=null"): "missing property 'enabled'",
    ("--set-json", 'commonLabels={"a":1}'): "at '/commonLabels/a': got number, want string",
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
        "ttlSecondsAfterFinished is set, but mode is not hook: Argo CD would recreate the Job as soon as it is deleted;"
        " unset it"
    ),
    ("--set-string", "extraEnv[0].name=SCHEMA_MIGRATOR_ADOPT,extraEnv[0].value=true"): (
        "extraEnv has SCHEMA_MIGRATOR_ADOPT, which the chart sets itself: use its value instead of extraEnv"
    ),
    ("--set-string", "extraEnv[0].name=SCHEMA_MIGRATOR_JOBS,extraEnv[0].value=2"): (
        "extraEnv has SCHEMA_MIGRATOR_JOBS, which the chart sets itself: use its value instead of extraEnv"
    ),
    ("--set-json", 'annotations={"helm.sh/hook":"pre-install"}'): (
        "annotations has helm.sh/hook, which the chart sets itself: remove it"
    ),
    ("--set-json", 'serviceAccount.annotations={"helm.sh/hook-weight":"1"}'): (
        "serviceAccount.annotations has helm.sh/hook-weight, which the chart sets itself: remove it"
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
    ("--set-json", "settings.waitTimeout=-1"): "at '/settings/waitTimeout': minimum: got -1, want 0",
    ("--set-json", "settings.maxReplicaLag=true"): "at '/settings/maxReplicaLag': 'not' failed",
    ("--set", "settings.maxSlotWal=some"): "at '/settings/maxSlotWal': 'some' does not match pattern",
    (
        "--set-string",
        "settings.requireBackupWithin=24",
    ): "at '/settings/requireBackupWithin': '24' does not match pattern",
    ("--set", "settings.walTimeout=1"): "additional properties 'walTimeout' not allowed",
    (
        "--set",
        "serviceAccount.identity.awsRoleArn=role",
    ): "at '/serviceAccount/identity/awsRoleArn': 'role' does not match",
    ("--set", "serviceAccount.identity.gcpServiceAccount=a@b.iam.gserviceaccount.com"): (
        "serviceAccount.identity is set, but the chart creates no account: set serviceAccount.create, or annotate your"
        " own"
    ),
    ("--set-json", 'commonAnnotations={"helm.sh/hook":"x"}'): (
        "commonAnnotations has helm.sh/hook, which the chart sets itself: remove it"
    ),
    ("--set", "networkPolicy.egress=1"): "additional properties 'egress' not allowed",
    ("--set-json", "networkPolicy.databasePorts=[0]"): "at '/networkPolicy/databasePorts/0': minimum: got 0, want 1",
    ("--set", "databases.visibility=null"): "missing property 'visibility'",
    ("--set-string", "connection.port=99999"): "at '/connection/port': '99999' does not match pattern",
    ("--set", "extraEnv[0].value=x"): "at '/extraEnv/0': missing property 'name'",
    ("--set", "fullnameOverride=Bad_Name"): "at '/fullnameOverride': 'Bad_Name' does not match pattern",
    ("--set", "tolerationz=x"): "additional properties 'tolerationz' not allowed",
    ("--set", "connection.hots=x"): "additional properties 'hots' not allowed",
    ("--set", "mode=cron"): "value must be one of 'hook', 'job', 'prepare'",
    ("--set", "mode=prepare,prepare.activeDeadlineSeconds=604800"): (
        "prepare.activeDeadlineSeconds ends the Job before prepare.holdTimeout: set it higher"
    ),
    ("--set", "prepare.cutoverWindow=at night"): "at '/prepare/cutoverWindow': 'at night' does not match pattern",
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
    free = ("podSecurityContext.", "securityContext.", "resources.", "settings.metricsLabels.")
    assert {name for name in said(values) if not name.startswith(free)} == {
        name for name in keys(schema) if ".connection." not in name
    }
