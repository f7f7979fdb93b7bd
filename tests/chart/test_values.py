"""The chart's values for everything that the program reads, and for what surrounds its pods."""

import json
from typing import Any

import kubernetes_validate
import pytest
import yaml

import chart_options
from schema_migrator.config import chart
from schema_migrator.config.options import client_options, run_options, sql_options
from support.kubernetes.charts import one, pod, render, set_json, variables
from support.kubernetes.crds import validate
from support.kubernetes.helm import CHART, NEWEST, Manifest

pytestmark = pytest.mark.chart
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
IDENTITY = ("--set", "serviceAccount.create=true")


def container(manifests: list[Manifest], suffix: str = "") -> Manifest:
    """Return the only container of a Job."""
    (found,) = pod(manifests, suffix)["containers"]
    return dict(found)


def test_every_setting_arrives() -> None:
    """With a value for each of them, the Jobs have a variable for each, but for those that other values stand for."""
    files = "namespaceBootstrap.namespacesFile=/namespaces.json,namespaceBootstrap.apiKeyFile=/key"
    manifests = render("everything", "--set", files)
    found = {name for job in ("", "-verify", "-namespaces") for name in variables(container(manifests, job))}
    run = {option.variable for option in run_options()}
    store = {f"DEFAULT_{option.variable}" for option in sql_options()} | {
        f"VISIBILITY_{option.variable}" for option in sql_options()
    }
    client = {option.variable for option in client_options()}
    lacking = {*run, *client, *(f"DEFAULT_{option.variable}" for option in sql_options())} - found
    assert lacking == ELSEWHERE
    assert found - run - store - client == {chart.VARIABLE, "PGSSLNEGOTIATION"}


ELSEWHERE = {
    "SCHEMA_MIGRATOR_SOURCES",  # schemaFiles.image
    *(f"SCHEMA_MIGRATOR_{name}" for name in ("HOLD_CUTOVER", "HOLD_TIMEOUT", "CUTOVER_WINDOW")),  # mode prepare
    *(f"{store}_TARGET_VERSION" for store in ("DEFAULT", "VISIBILITY", "SECONDARY_VISIBILITY")),  # cloudnativepg
    *("DEFAULT_SQL_URI", "DEFAULT_SQL_PASSWORD_COMMAND", "DEFAULT_SQL_PASSWORD_FILE"),  # in place of the Secret
    "DEFAULT_SQL_AUTH",  # in place of the Secret too
    "DEFAULT_SQL_TLS_DISABLE_HOST_VERIFICATION",
}
"""What the values file does not set, because it excludes something else, or is tried elsewhere."""


def test_every_setting_has_a_schema() -> None:
    """Each value that `make docs` writes has a default that its own schema takes, and is where the others are."""
    sections = {"settings": chart_options.settings(), "connection": chart_options.connection()}
    sections["namespaceBootstrap"] = chart_options.bootstrap()
    for section, those in sections.items():
        for value in those:
            assert VALUES[section][value.name] == value.default
            assert SCHEMA["properties"][section]["properties"][value.name] == value.schema
    names = [value.name for value in chart_options.connection()]
    for store in SCHEMA["properties"]["databases"]["properties"].values():
        assert set(names) < store["properties"]["connection"]["properties"].keys()
    assert VALUES["settings"].keys() == {value.name for value in chart_options.settings()}


def test_defaults_are_the_programs() -> None:
    """A value that is not changed becomes no variable: the program's own default applies."""
    assert not {name for name in variables(container(render("minimal"))) if name.startswith("SCHEMA_MIGRATOR_")} - {
        chart.VARIABLE,
        "SCHEMA_MIGRATOR_STORES",
        "SCHEMA_MIGRATOR_ALLOW_OLDER_TARGETS",
    }


TEXTS = {
    "off without quotes": ({"maxReplicaLag": False}, "MAX_REPLICA_LAG", "off"),
    "off": ({"maxSlotWal": "off"}, "MAX_SLOT_WAL", "off"),
    "bytes": ({"maxArchiveLag": 17179869184}, "MAX_ARCHIVE_LAG", "17179869184"),
    "a fraction": ({"ddlLockTimeout": 0.05}, "DDL_LOCK_TIMEOUT", "0.05"),
    "a large number": ({"statementTimeout": 2147483}, "STATEMENT_TIMEOUT", "2147483"),
    "zero": ({"maxCommitSeconds": 0}, "MAX_COMMIT_SECONDS", "0"),
    "a list": ({"ignoreReplicas": ["a", "b"]}, "IGNORE_REPLICAS", "a,b"),
    "pairs": ({"metricsLabels": {"b": "2", "a": "1"}}, "METRICS_LABELS", "a=1,b=2"),
    "a switch": ({"keepOld": True}, "KEEP_OLD", "true"),
    "the program's default": ({"heartbeat": 10}, "HEARTBEAT", None),
    "nothing": ({"diskFree": ""}, "DISK_FREE", None),
    "null": ({"maxChangeLog": None}, "MAX_CHANGE_LOG", None),
}


@pytest.mark.parametrize("case", TEXTS)
def test_texts(case: str) -> None:
    """Each kind of value becomes the text that the program reads."""
    given, name, text = TEXTS[case]
    found = variables(container(render("minimal", *set_json(settings=given))))
    assert found.get(f"SCHEMA_MIGRATOR_{name}") == text


def test_metrics_of_the_migration() -> None:
    """Its file is its own: the comparisons would replace it."""
    manifests = render("minimal", *set_json(settings={"metricsFile": "/m/migrate.prom"}, verify={"enabled": True}))
    for suffix, there in (("", True), ("-verify", False), ("-preflight", False)):
        assert ("SCHEMA_MIGRATOR_METRICS_FILE" in variables(container(manifests, suffix))) is there


def test_a_password_from_a_file() -> None:
    """It replaces the Secret and the command, and a store's own Secret replaces it."""
    connection = {"host": "db", "userKey": "username", "existingSecret": "temporal-db", "passwordFile": "/mnt/password"}
    databases = {"visibility": {"connection": {"existingSecret": "own"}}}
    found = variables(container(render("minimal", *set_json(connection=connection, databases=databases))))
    passwords = {name: value for name, value in found.items() if "_PASSWORD" in name}
    assert passwords == {
        "DEFAULT_SQL_PASSWORD_FILE": "/mnt/password",
        "VISIBILITY_SQL_PASSWORD": {"secretKeyRef": {"name": "own", "key": "password", "optional": True}},
    }


def test_where_to_rehearse() -> None:
    """The pods that compare know another server, and which Secret it comes from; the migration does without."""
    manifests = render("minimal", *set_json(rehearseOn={"existingSecret": "scratch"}, verify={"enabled": True}))
    place = {"secretKeyRef": {"name": "scratch", "key": "uri", "optional": True}}
    for suffix, expected in (("", None), ("-verify", place), ("-preflight", None)):
        found = variables(container(manifests, suffix))
        assert found.get("SCHEMA_MIGRATOR_REHEARSE_ON") == expected
        assert ("REHEARSE_ON=scratch/uri" in found[chart.VARIABLE]) is bool(expected)


def policy(*args: str) -> Manifest:
    """Return the NetworkPolicy."""
    (found,) = [
        item
        for item in render("minimal", "--set", "networkPolicy.enabled=true", *args)
        if item["kind"] == "NetworkPolicy"
    ]
    return found


def ports(found: Manifest) -> list[list[int]]:
    """Return the ports of each rule."""
    return [[item["port"] for item in rule["ports"]] for rule in found["spec"]["egress"]]


def test_a_network_policy() -> None:
    """The pods of this release, no connection to them, DNS and the databases from them; there before every hook."""
    found = policy()
    assert found["spec"]["podSelector"]["matchLabels"].items() <= pod_labels(render("minimal")).items()
    assert (found["spec"]["policyTypes"], "ingress" in found["spec"]) == (["Ingress", "Egress"], False)
    assert ports(found) == [[53, 53], [5432]]
    assert not any("to" in rule for rule in found["spec"]["egress"])
    annotations = found["metadata"]["annotations"]
    assert (annotations["helm.sh/hook-weight"], annotations["helm.sh/hook-delete-policy"]) == (
        "-10",
        "before-hook-creation",
    )
    assert not [item for item in render("minimal") if item["kind"] == "NetworkPolicy"]
    job = policy("--set", "mode=job")["metadata"]["annotations"]
    assert job == {"argocd.argoproj.io/sync-wave": "-2"}


def pod_labels(manifests: list[Manifest]) -> dict[str, str]:
    """Return the labels of the migration's pods."""
    return dict(one(manifests, "Job")["spec"]["template"]["metadata"]["labels"])


PORTS = {
    "of every store": (
        {"databases": {"visibility": {"connection": {"port": 6432, "directPort": "5433,5434"}}}},
        [[53, 53], [5432, 5433, 5434, 6432]],
    ),
    "of their own": ({"networkPolicy": {"enabled": True, "databasePorts": [7000]}}, [[53, 53], [7000]]),
    "the frontend's": (
        {"namespaceBootstrap": {"enabled": True, "address": "frontend:7233", "namespaces": [{"name": "a"}]}},
        [[53, 53], [5432], [7233]],
    ),
    "a cloud's": (
        {"connection": {"host": "db", "user": "a", "auth": "aws", "tls": {"enabled": True}}},
        [[53, 53], [5432], [80, 443, 988]],
    ),
    "of others": (
        {"networkPolicy": {"enabled": True, "extraEgress": [{"ports": [{"port": 443, "protocol": "TCP"}]}]}},
        [[53, 53], [5432], [443]],
    ),
}


@pytest.mark.parametrize("case", PORTS)
def test_ports_of_a_network_policy(case: str) -> None:
    """Those of the connections, past a pooler too, or what is given."""
    given, expected = PORTS[case]
    found = policy(*set_json(**given))
    assert ports(found) == expected
    kubernetes_validate.validate(found, NEWEST, strict=True)


def test_namespaces_alone_need_no_database() -> None:
    """A release that only creates namespaces reaches the frontend and nothing else."""
    manifests = render("namespaces", "--set", "networkPolicy.enabled=true")
    (found,) = [item for item in manifests if item["kind"] == "NetworkPolicy"]
    assert ports(found) == [[53, 53], [7233]]


def test_extra_objects() -> None:
    """As manifests and as texts, with the templates of the chart."""
    found = {item["metadata"]["name"]: item for item in render("everything") if item["kind"] == "ConfigMap"}
    assert found["release-extra"]["data"]["hash"] == found["release-temporal-migrations-trigger"]["data"]["hash"]
    assert "release-text" in found
    assert render("everything", "--set", "enabled=false") == []


def test_common_annotations() -> None:
    """On every object and every pod; a more specific one counts, and none takes a hook's place."""
    for manifest in render("everything"):
        if manifest["metadata"]["name"] in ("release-extra", "release-text"):
            continue
        assert manifest["metadata"]["annotations"]["owner"] == "platform"
        spec = manifest["spec"].get("jobTemplate", manifest)["spec"] if manifest["kind"] in ("Job", "CronJob") else {}
        if spec:
            assert spec["template"]["metadata"]["annotations"] == {"owner": "platform", "note": "yes"}
    minimal = render("minimal", *set_json(commonAnnotations={"argocd.argoproj.io/sync-wave": "5", "a": "b"}))
    job = one(minimal, "Job")["metadata"]["annotations"]
    assert (job["a"], job["helm.sh/hook"]) == ("b", "pre-install,pre-upgrade")
    assert one(minimal, "ConfigMap")["metadata"]["annotations"]["argocd.argoproj.io/sync-wave"] == "0"


CLOUDS = {
    "awsRoleArn": ("arn:aws:iam::123456789012:role/a", "eks.amazonaws.com/role-arn"),
    "gcpServiceAccount": ("a@b.iam.gserviceaccount.com", "iam.gke.io/gcp-service-account"),
    "azureClientId": ("01234567-89ab-cdef-0123-456789abcdef", "azure.workload.identity/client-id"),
}


@pytest.mark.parametrize("cloud", CLOUDS)
def test_identities(cloud: str) -> None:
    """Each cloud's annotation at the account of every pod; no token of the cluster is mounted for it."""
    value, annotation = CLOUDS[cloud]
    args = ("--set", f"serviceAccount.identity.{cloud}={value},driftCheck.enabled=true")
    manifests = render("minimal", *IDENTITY, *args)
    account = one(manifests, "ServiceAccount")
    assert account["metadata"]["annotations"][annotation] == value
    label = {"azure.workload.identity/use": "true"} if cloud == "azureClientId" else {}
    for item in manifests:
        template = {"Job": item, "CronJob": item["spec"]["jobTemplate"] if item["kind"] == "CronJob" else {}}
        if item["kind"] == "Pod" or item["kind"] in template:
            pods = item if item["kind"] == "Pod" else template[item["kind"]]["spec"]["template"]
            assert pods["spec"]["serviceAccountName"] == account["metadata"]["name"]
            assert pods["spec"]["automountServiceAccountToken"] is False
            own = {name: text for name, text in pods["metadata"]["labels"].items() if name.startswith("azure.")}
            assert own == label


def test_a_token_where_it_is_needed() -> None:
    """It is mounted only if that is asked for, into the pods of the account, and not to create namespaces."""
    assert pod(render("minimal", *IDENTITY))["automountServiceAccountToken"] is False
    bootstrap = {"enabled": True, "address": "frontend:7233", "namespaces": [{"name": "a"}]}
    asked = set_json(serviceAccount={"create": True, "automountToken": True}, namespaceBootstrap=bootstrap)
    manifests = render("minimal", *asked)
    assert [pod(manifests, suffix)["automountServiceAccountToken"] for suffix in ("", "-preflight", "-namespaces")] == [
        True,
        True,
        False,
    ]
    assert one(manifests, "ServiceAccount")["automountServiceAccountToken"] is False
    assert one(manifests, "Pod")["spec"]["automountServiceAccountToken"] is True


def test_a_disrupted_pod_is_left_out_first() -> None:
    """In every Job, whatever its container: an evicted pod counts neither as a failure nor as a retry."""
    manifests = render("everything")
    jobs = [item["spec"] for item in manifests if item["kind"] == "Job"]
    jobs += [item["spec"]["jobTemplate"]["spec"] for item in manifests if item["kind"] == "CronJob"]
    assert len(jobs) == 5
    for job in jobs:
        first, *others = job["podFailurePolicy"]["rules"]
        assert first == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
        assert others
        assert {rule["action"] for rule in others} == {"FailJob"}


@pytest.mark.parametrize("mode", ["hook", "job", "prepare"])
def test_all_of_it_in_every_mode(mode: str) -> None:
    """Kubernetes takes it strictly."""
    own = ("--set", f"mode={mode}", "--set-json", "ttlSecondsAfterFinished=null")
    for manifest in render("everything", *own):
        validate(manifest)
