"""The examples for other ways than Argo CD: Flux, an umbrella chart, Terraform, kubectl."""

import json
import os
from pathlib import Path
from unittest.mock import patch

import pytest
import yaml

from schema_migrator.cli import arguments
from schema_migrator.config.settings import read
from support.kubernetes import examples
from support.kubernetes.charts import set_json
from support.kubernetes.crds import validate
from support.kubernetes.helm import NEWEST, Manifest, helm, rendered

pytestmark = pytest.mark.chart
HOOK = "helm.sh/hook"


def seconds(text: str) -> int:
    """Return a duration of Flux' in whole minutes as seconds."""
    return int(text.removesuffix("m")) * 60


def values(release: Manifest) -> tuple[str, ...]:
    """Return the arguments that give helm a release's values."""
    return set_json(**release["spec"]["values"])


@pytest.mark.parametrize("release", examples.releases(), ids=lambda item: str(item["metadata"]["name"]))
def test_flux_waits_for_the_job(release: Manifest) -> None:
    """Its timeout is longer than the Job's, and a failure is neither rolled back nor uninstalled."""
    manifests = rendered(*values(release))
    for manifest in manifests:
        validate(manifest)
    deadlines = [item["spec"]["activeDeadlineSeconds"] for item in manifests if item["kind"] == "Job"]
    assert seconds(release["spec"]["timeout"]) > max(deadlines)
    for action in ("install", "upgrade"):
        assert release["spec"][action]["strategy"]["name"] == "RetryOnFailure"


def test_flux_releases_refer_to_each_other() -> None:
    """Each source is one of the examples', and the servers depend on the migrations."""
    found = [item for item in examples.every() if item["kind"] == "HelmRelease"]
    assert len(found) == 3
    for release in found:
        source = release["spec"]["chart"]["spec"]["sourceRef"]
        assert examples.one(source["kind"], source["name"])["metadata"]["namespace"] == release["metadata"]["namespace"]
    servers = examples.one("HelmRelease", "temporal")
    (dependency,) = servers["spec"]["dependsOn"]
    migrations = examples.one("HelmRelease", dependency["name"])
    assert servers["spec"]["values"]["server"]["image"]["tag"] == migrations["spec"]["values"]["serverVersion"]
    assert examples.one("HelmRelease", "temporal-schema")["spec"]["values"]["mode"] == "job"


@pytest.fixture(scope="module")
def umbrella(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the umbrella chart with our chart in it."""
    return examples.umbrella(tmp_path_factory.mktemp("charts"))


def umbrella_manifests(chart: Path, *args: str) -> list[Manifest]:
    """Return what helm makes of the umbrella chart."""
    done = helm("template", "temporal", str(chart), "--kube-version", NEWEST, "--set", "password=secret", *args)
    assert done.returncode == 0, done.stderr
    return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]


def named(manifests: list[Manifest], kind: str, name: str = "") -> Manifest:
    """Return the only object of a kind, of a name if one is given."""
    (found,) = [item for item in manifests if item["kind"] == kind and name in ("", item["metadata"]["name"])]
    return found


def test_an_umbrella_has_no_hook_that_waits(umbrella: Path) -> None:
    """Everything but the test is created together: a hook would wait for what Helm creates after it."""
    manifests = umbrella_manifests(umbrella)
    for manifest in manifests:
        validate(manifest)
    hooks = {item["metadata"].get("annotations", {}).get(HOOK) for item in manifests}
    assert hooks == {None, "test"}
    assert {item["kind"] for item in manifests} >= {"Secret", "StatefulSet", "Deployment", "Job", "Service"}
    assert helm("template", "temporal", str(umbrella)).stderr.count("set password") == 1


def test_an_umbrella_has_one_of_each(umbrella: Path) -> None:
    """One Secret and one address for the database, the Job, and the servers; one version for the last two."""
    manifests = umbrella_manifests(umbrella)
    secret, config = named(manifests, "Secret", "temporal-db"), named(manifests, "Secret", "temporal-server")
    server = named(manifests, "Deployment")["spec"]["template"]["spec"]
    (waiting,), (temporal,) = server["initContainers"], server["containers"]
    (migrating,) = named(manifests, "Job")["spec"]["template"]["spec"]["containers"]
    told = {"name": "SCHEMA_MIGRATOR_CHART", "value": migrating["env"][0]["value"]}
    assert migrating["env"] == [told, *waiting["env"]]
    assert migrating["image"] == waiting["image"]
    env = {item["name"]: item.get("value", item.get("valueFrom")) for item in waiting["env"]}
    assert env["DEFAULT_SQL_PASSWORD"]["secretKeyRef"]["name"] == secret["metadata"]["name"]
    stores = yaml.safe_load(config["stringData"]["umbrella.yaml"])["persistence"]["datastores"]
    for store, place in stores.items():
        scope = f"{store.upper()}_SQL_"
        assert place["sql"]["connectAddr"] == f"{env[f'{scope}HOST']}:{env[f'{scope}PORT']}"
        assert (place["sql"]["databaseName"], place["sql"]["user"]) == (env[f"{scope}DATABASE"], env[f"{scope}USER"])
        assert place["sql"]["password"] == secret["stringData"]["password"]
    assert temporal["image"].rpartition(":")[2] == env["TEMPORAL_VERSION"]
    service = named(manifests, "Service", env["DEFAULT_SQL_HOST"])
    database = named(manifests, "StatefulSet")["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= database.items()


def test_the_servers_of_an_umbrella_wait(umbrella: Path) -> None:
    """Their init container's command line is one of ours, and its variables too."""
    server = named(umbrella_manifests(umbrella), "Deployment")["spec"]["template"]["spec"]
    (waiting,) = server["initContainers"]
    assert arguments.parser().parse_args(waiting["args"]).command == "wait"
    with patch.dict(os.environ, {item["name"]: item.get("value", "x") for item in waiting["env"]}, clear=True):
        assert len(read({}).stores) == 2


@pytest.mark.parametrize("storage", ["", "1Gi"])
def test_the_database_of_an_umbrella(umbrella: Path, storage: str) -> None:
    """It has a volume, which lasts as long as the pod if none is asked for."""
    spec = named(umbrella_manifests(umbrella, "--set", f"postgres.storage={storage}"), "StatefulSet")["spec"]
    claims = [item["metadata"]["name"] for item in spec.get("volumeClaimTemplates", [])]
    volumes = [item["name"] for item in spec["template"]["spec"].get("volumes", [])]
    assert (claims, volumes) == ((["data"], []) if storage else ([], ["data"]))


def test_what_kubectl_applies() -> None:
    """In mode `job` nothing is a hook but the test, which `helm template --no-hooks` leaves out."""
    given = examples.one("HelmRelease", "temporal-schema")
    manifests = rendered(*values(given), "--no-hooks", release="temporal")
    assert [item["kind"] for item in manifests] == ["ConfigMap", "Job"]
    assert not any(HOOK in json.dumps(item) for item in manifests)


def test_terraforms_values() -> None:
    """The chart takes the values file, with the version that the configuration adds."""
    file = examples.values("terraform")
    manifests = rendered("--values", str(file), "--set", "serverVersion=1.29.1")
    for manifest in manifests:
        validate(manifest)
    text = (file.parent / "main.tf").read_text()
    (timeout,) = [int(line.partition("=")[2]) for line in text.splitlines() if line.split()[:1] == ["timeout"]]
    assert timeout > max(item["spec"]["activeDeadlineSeconds"] for item in manifests if item["kind"] == "Job")
