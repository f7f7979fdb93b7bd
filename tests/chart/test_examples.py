"""The examples: each of its kind's form, and each consistent with the others and with the chart."""

import json
import os
from pathlib import Path
from unittest.mock import patch

import jsonschema
import pytest
import yaml

from schema_migrator.cli import arguments
from schema_migrator.config.settings import read
from support.kubernetes import examples
from support.kubernetes.charts import one
from support.kubernetes.crds import UnknownKindError, validate
from support.kubernetes.helm import CHART, Manifest, rendered
from support.postgres.databases import RELEASES

pytestmark = pytest.mark.chart
OF_THEIR_OWN = ("secrets/external-secrets", "secrets/csi", "identity/aws", "identity/gcp", "identity/azure")
"""The folders whose values need no others."""
HEAD = {"metadata": {"name": "a"}, "spec": {}}


@pytest.mark.parametrize("file", examples.manifests())
def test_is_of_its_kind(file: str) -> None:
    """Every manifest is valid against the definition of its kind, fields that this does not name refused."""
    assert examples.manifests()[file]
    for manifest in examples.manifests()[file]:
        validate(manifest)


def test_generated_applications_are_valid() -> None:
    """So is what the ApplicationSets make."""
    assert len(examples.applications()) == 54
    for application in examples.applications():
        validate(application)


@pytest.mark.parametrize("kind", [("example.com/v1", "Unheard"), ("v1", "Podd"), ("argoproj.io/v1", "Application")])
def test_an_unknown_kind_fails(kind: tuple[str, str]) -> None:
    """A kind that nobody defines is a failure, not a pass."""
    with pytest.raises(UnknownKindError) as refused:
        validate({"apiVersion": kind[0], "kind": kind[1], **HEAD})
    assert str(refused.value) == f"no schema for {kind[1]} of {kind[0]}: neither Kubernetes' nor in crds/"


WRONG = {
    "a misspelt field": ("Database", "temporal", "schemaz", [], "'schemaz' was unexpected"),
    "a wrong type": ("Database", "temporal", "owner", 5, "5 is not of type 'string'"),
    "an unknown field of an Application": (
        "Application",
        "temporal",
        "synchPolicy",
        {},
        "'synchPolicy' was unexpected",
    ),
    "an unknown field of a set": ("ApplicationSet", "temporal", "strategie", {}, "'strategie' was unexpected"),
    "an unknown field of the operator's": ("TemporalCluster", "temporal", "shards", 1, "'shards' was unexpected"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_field_fails(case: str) -> None:
    """The check can fail: each custom kind, with one field that it does not have."""
    kind, name, field, value, message = WRONG[case]
    found = examples.one(kind, name)
    with pytest.raises(jsonschema.ValidationError, match=message):
        validate({**found, "spec": {**found["spec"], field: value}})


def of_our_chart() -> list[Manifest]:
    """Return what Argo CD gives helm for the Applications of our chart."""
    sources = [item["spec"]["source"] for item in examples.applications()]
    return [source["helm"] for source in sources if source.get("path") == examples.CHART]


def values_files(given: Manifest) -> list[Path]:
    """Return the values files of an Application as Argo CD looks for them, from the chart."""
    named = [(CHART / file).resolve() for file in given.get("valueFiles", ())]
    return [file for file in named if file.exists() or not given.get("ignoreMissingValueFiles")]


def test_the_chart_takes_their_values() -> None:
    """Values in Applications and in files render to what Kubernetes takes and to settings of ours."""
    found = of_our_chart()
    assert len(found) == 52
    for given in (*found[:2], *found[-2:]):
        values = given.get("valuesObject", {})
        files = [word for file in values_files(given) for word in ("--values", str(file))]
        check(rendered(*files, *(f"--set-json={key}={json.dumps(values[key])}" for key in values)))
    base = examples.values("cloudnativepg")
    check(rendered("--values", str(base)))
    for more in ("production", "backup"):
        check(rendered("--values", str(base), "--values", str(examples.values(more))))
    for own in OF_THEIR_OWN:
        check(rendered("--values", str(examples.values(own))))


def test_values_files_are_where_applications_look() -> None:
    """A values file that an Application of our chart names is found as Argo CD looks for it, from the chart."""
    named = {file for given in of_our_chart() for file in values_files(given)}
    assert named == {examples.values("cloudnativepg"), examples.values("argocd/fleet")}


def check(manifests: list[Manifest]) -> None:
    """Assert that Kubernetes takes them, and our program its variables."""
    for manifest in manifests:
        validate(manifest)
    job = next(item for item in manifests if item["kind"] == "Job")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    settings(container["env"])


def settings(env: list[Manifest]) -> None:
    """Let our program read a container's variables."""
    with patch.dict(os.environ, {item["name"]: item.get("value", "x") for item in env}, clear=True):
        assert read({}).stores


def test_one_secret_of_one_role() -> None:
    """CloudNativePG's role, the migrations, the servers and the operator all take the same key of the same Secret."""
    secret = examples.one("Secret", "temporal-db")
    (role,) = examples.one("Cluster", "temporal-postgres")["spec"]["managed"]["roles"]
    assert secret["type"] == "kubernetes.io/basic-auth"
    assert (role["name"], role["passwordSecret"]["name"]) == (secret["stringData"]["username"], "temporal-db")
    used = {
        (item["name"], item["key"])
        for item in references(
            [
                *rendered("--values", str(examples.values("cloudnativepg"))),
                *examples.applications(),
                examples.one("TemporalCluster", "temporal"),
            ]
        )
    }
    assert used == {("temporal-db", "password"), ("temporal-db", "username")}
    stores = examples.one("Application", "temporal")["spec"]["source"]["helm"]["valuesObject"]["server"]["config"][
        "persistence"
    ]["datastores"]
    assert {(one["sql"]["existingSecret"], one["sql"]["secretKey"]) for one in stores.values()} == {
        ("temporal-db", "password")
    }


def test_secrets_of_others() -> None:
    """The chart's values name the Secret that the operator makes, and the file that the driver mounts."""
    made = examples.one("ExternalSecret", "temporal-db")["spec"]
    keys = {(made["target"]["name"], item["secretKey"]) for item in made["data"]}
    named = references(rendered("--values", str(examples.values("secrets/external-secrets"))))
    assert {(item["name"], item["key"]) for item in named} == keys
    manifests = rendered("--values", str(examples.values("secrets/csi")))
    assert references(manifests) == []
    spec = one(manifests, "Job")["spec"]["template"]["spec"]
    (volume,), ((mount,),) = spec["volumes"], [item["volumeMounts"] for item in spec["containers"]]
    given = examples.one("SecretProviderClass", volume["csi"]["volumeAttributes"]["secretProviderClass"])
    (file,) = yaml.safe_load(given["spec"]["parameters"]["objects"])
    env = {item["name"]: item.get("value") for item in spec["containers"][0]["env"]}
    assert env["DEFAULT_SQL_PASSWORD_FILE"] == f"{mount['mountPath']}/{file['objectName']}"


def references(part: object) -> list[dict[str, str]]:
    """Return all references to keys of Secrets, at any depth."""
    if isinstance(part, list):
        return [found for item in part for found in references(item)]
    if isinstance(part, dict):
        own = [part[key] for key in ("secretKeyRef", "passwordSecretRef") if key in part]
        return own + [found for item in part.values() for found in references(item)]
    return []


def test_the_databases_are_the_roles() -> None:
    """Both databases have the role as owner, and their `public` too; visibility's has btree_gin."""
    for name, database, extensions in (
        ("temporal", "temporal", []),
        ("temporal-visibility", "temporal_visibility", [{"name": "btree_gin"}]),
    ):
        spec = examples.one("Database", name)["spec"]
        assert (spec["name"], spec["owner"], spec["cluster"]["name"]) == (database, "temporal", "temporal-postgres")
        assert spec["schemas"] == [{"name": "public", "owner": "temporal"}]
        assert spec.get("extensions", []) == extensions


def test_migrations_come_before_the_runtime() -> None:
    """Each Application is in exactly one step, the migrations' before the servers'."""
    found = examples.one("ApplicationSet", "temporal")
    steps = [step["matchExpressions"][0]["values"] for step in found["spec"]["strategy"]["rollingSync"]["steps"]]
    assert steps == [["migrations"], ["runtime"]]
    assert [item["metadata"]["labels"]["step"] for item in examples.generated(found)] == ["migrations", "runtime"]


def test_the_fleet() -> None:
    """Fifty, each with a name and a namespace of its own, all in one step, five at a time."""
    found = examples.one("ApplicationSet", "temporal-migrations")
    made = examples.generated(found)
    assert len({item["metadata"]["name"] for item in made}) == 50
    assert len({item["spec"]["destination"]["namespace"] for item in made}) == 50
    (step,) = found["spec"]["strategy"]["rollingSync"]["steps"]
    assert step["maxUpdate"] == 5
    assert all(item["metadata"]["labels"]["fleet"] in step["matchExpressions"][0]["values"] for item in made)


def test_production_is_spelt_as_on_the_nodes() -> None:
    """The taint's word in the toleration, the label's in the selector, both in the Job."""
    files = [str(examples.values(name)) for name in ("cloudnativepg", "production")]
    manifests = rendered("--values", files[0], "--values", files[1])
    spec = one(manifests, "Job")["spec"]["template"]["spec"]
    assert spec["nodeSelector"] == {"example.com/pool": "prod"}
    assert [item["value"] for item in spec["tolerations"]] == ["production"]


def test_servers_wait_for_what_they_are() -> None:
    """The init container's command line is one of ours, and its version the servers' own and carried."""
    server = examples.one("Application", "temporal")["spec"]["source"]["helm"]["valuesObject"]["server"]
    (waiting,) = server["additionalInitContainers"]
    version = server["image"]["tag"]
    assert {item["name"]: item.get("value") for item in waiting["env"]}["TEMPORAL_VERSION"] == version
    assert (RELEASES / version).is_dir()
    settings(waiting["env"])
    assert arguments.parser().parse_args(waiting["args"]).command == "wait"
    pod = {"containers": [waiting], "initContainers": [waiting]}
    validate({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": pod})
    assert server["deploymentStrategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_the_operators_release_is_carried() -> None:
    """Its version's files are in the image."""
    assert (RELEASES / examples.one("TemporalCluster", "temporal")["spec"]["version"]).is_dir()


def test_a_repair_is_taken_by_itself() -> None:
    """Every Application of ours tries again, and each try is of the newest commit."""
    for application in examples.applications():
        assert application["spec"]["syncPolicy"]["retry"]["refresh"] is True


def test_values_files_are_no_manifests() -> None:
    """What the walk over manifests leaves out is rendered with the chart instead."""
    left = {str(path.parent.relative_to(examples.EXAMPLES)) for path in examples.EXAMPLES.rglob("values.yaml")}
    by_others = {"terraform", "umbrella"}  # test_gitops.py
    assert left == {"argocd/fleet", "backup", "cloudnativepg", "production", *OF_THEIR_OWN, *by_others}
    assert all("kind" not in yaml.safe_load(examples.values(folder).read_text()) for folder in left)
