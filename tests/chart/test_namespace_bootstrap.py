"""The chart's Job that makes namespaces: after the servers, with fields of its own, and as our program reads it."""

import os
from unittest.mock import patch

import pytest

from schema_migrator.config import chart
from schema_migrator.config.settings import read, read_client
from schema_migrator.exit_codes import HOPELESS
from schema_migrator.temporal.credentials import Credentials, credentials
from schema_migrator.temporal.namespace_spec import NamespaceSpec, read_specs
from support.kubernetes.charts import one, pod, refusal, render, set_json, trigger
from support.kubernetes.helm import Manifest

WAVE = "argocd.argoproj.io/sync-wave"
ON = ("--set", "namespaceBootstrap.enabled=true")
ADDRESS = ("--set", "namespaceBootstrap.address=frontend:7233")
NAMED = ("--set", "namespaceBootstrap.namespaces[0].name=ameide")
pytestmark = pytest.mark.chart


def bootstrap(manifests: list[Manifest]) -> Manifest:
    """Return the Job."""
    (found,) = [item for item in manifests if item["kind"] == "Job" and is_bootstrap(item)]
    return found


def is_bootstrap(job: Manifest) -> bool:
    """Whether a Job makes namespaces."""
    return bool(job["spec"]["template"]["spec"]["containers"][0]["name"] == "namespaces")


def told(job: Manifest) -> tuple[tuple[NamespaceSpec, ...], float]:
    """Return what our program reads from the Job's variables: the namespaces, and how long it waits."""
    with patch.dict(os.environ, variables(job), clear=True):
        return read_specs(read_client({})), read({}).run.wait_timeout


def variables(job: Manifest) -> dict[str, str]:
    """Return the container's variables; a Secret's value stands for itself."""
    (container,) = job["spec"]["template"]["spec"]["containers"]
    found = {item["name"]: item.get("value", "x") for item in container["env"]}
    return found | {chart.VARIABLE: "namespaces"}  # without its Secrets, whose files are not here


def test_off_by_default() -> None:
    """Nothing is made unless it is asked for."""
    assert not any(item["kind"] == "Job" and is_bootstrap(item) for item in render("minimal"))


def test_a_hook_after_the_servers() -> None:
    """Never before everything else: it would wait for a frontend that waits for it."""
    manifests = render("everything", *set_json(commonAnnotations={}))
    job = bootstrap(manifests)
    assert job["metadata"]["name"] == "release-temporal-migrations-namespaces"
    assert job["metadata"]["annotations"] == {
        "helm.sh/hook": "post-install,post-upgrade",
        "helm.sh/hook-weight": "10",
        "helm.sh/hook-delete-policy": "before-hook-creation",
    }
    account = one(manifests, "ServiceAccount")
    assert "post-install,post-upgrade" in account["metadata"]["annotations"]["helm.sh/hook"]
    assert job["spec"]["template"]["spec"]["serviceAccountName"] == account["metadata"]["name"]


def test_an_ordinary_job() -> None:
    """In mode job it comes in a later wave, with a hash of its own in its name."""
    manifests = render("job")
    job = bootstrap(manifests)
    hashed = one(manifests, "ConfigMap")["data"]["namespaces"]
    assert job["metadata"]["name"] == f"release-temporal-migrations-ns-{hashed[:10]}"
    assert job["metadata"]["annotations"] == {WAVE: "1"}


def test_what_it_is_told() -> None:
    """Our program reads the list as it was written, and where the frontend is."""
    job = bootstrap(render("everything"))
    those, patience = told(job)
    assert patience == 60
    assert [one.model_dump(exclude_unset=True) for one in those] == [
        {
            "name": "ameide",
            "description": 'orders "ö"',
            "owner": "ops@example.com",
            "retention": those[0].retention,
            "data": {"team": "a"},
            "search_attributes": {"CustomerId": "Keyword"},
        },
        {"name": "two words", "retention": those[1].retention},
    ]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["namespaces", "--update"]
    folder = "/etc/temporal-migrations/tls/frontend"
    assert {name: value for name, value in variables(job).items() if name.startswith("TEMPORAL_")} == {
        "TEMPORAL_ADDRESS": "temporal-frontend.temporal:7233",
        "TEMPORAL_API_KEY": "x",
        "TEMPORAL_TLS": "true",
        "TEMPORAL_TLS_SERVER_CA_CERT_PATH": f"{folder}/ca.crt",
        "TEMPORAL_TLS_CLIENT_CERT_PATH": f"{folder}/tls.crt",
        "TEMPORAL_TLS_CLIENT_KEY_PATH": f"{folder}/tls.key",
        "TEMPORAL_TLS_SERVER_NAME": "frontend.example",
    }
    (key,) = [item for item in container["env"] if item["name"] == "TEMPORAL_API_KEY"]
    assert key["valueFrom"] == {"secretKeyRef": {"name": "temporal-api-key", "key": "token", "optional": True}}
    volumes = job["spec"]["template"]["spec"]["volumes"]
    secret = {"secretName": "frontend-tls", "defaultMode": 0o440, "optional": True}
    assert volumes == [{"name": "tls-frontend", "secret": secret}]
    assert [mount["mountPath"] for mount in container["volumeMounts"]] == [folder]


def test_without_tls() -> None:
    """No key, no TLS: as a frontend inside a cluster is by default."""
    job = bootstrap(render("job"))
    with patch.dict(os.environ, variables(job), clear=True):
        assert credentials(read_client({})) == Credentials(address="frontend:7233", api_key=None, tls=None)


def test_it_has_nothing_of_the_databases() -> None:
    """No password and no volume of the migration's, and the same restrictions."""
    manifests = render("everything")
    found = bootstrap(manifests)["spec"]["template"]["spec"]
    assert not [item["name"] for item in found["containers"][0]["env"] if "SQL" in item["name"]]
    assert "envFrom" not in found["containers"][0]
    assert "initContainers" not in found
    migration = pod(manifests)
    assert found["containers"][0]["securityContext"] == migration["containers"][0]["securityContext"]
    assert found["containers"][0]["image"] == migration["containers"][0]["image"]


@pytest.mark.parametrize(("values", "word"), [("everything", "warn"), ("job", "fail")])
def test_differences_fail_it(values: str, word: str) -> None:
    """By default: a warning in the log of a pod that is gone reaches nobody."""
    assert variables(bootstrap(render(values)))["SCHEMA_MIGRATOR_ON_DRIFT"] == word


def test_nodes_of_its_own() -> None:
    """Its own selector and tolerations; those of the migration where it has none."""
    own = bootstrap(render("everything"))["spec"]
    assert own["template"]["spec"]["nodeSelector"] == {"environment": "workers"}
    assert "tolerations" not in own["template"]["spec"]
    assert (own["activeDeadlineSeconds"], own["backoffLimit"]) == (300, 1)
    assert bootstrap(render("job"))["spec"]["template"]["spec"]["nodeSelector"] == {"environment": "dev"}
    rule = own["podFailurePolicy"]["rules"][1]
    assert rule == {
        "action": "FailJob",
        "onExitCodes": {"containerName": "namespaces", "operator": "In", "values": list(HOPELESS)},
    }


def test_what_argo_cd_compares() -> None:
    """Another list changes the trigger and leaves the migration's hash as it is."""
    before = render("minimal", *ON, *ADDRESS, *NAMED)
    after = render("minimal", *ON, *ADDRESS, "--set", "namespaceBootstrap.namespaces[0].name=other")
    assert one(before, "ConfigMap")["data"]["namespaces"] != one(after, "ConfigMap")["data"]["namespaces"]
    assert trigger(before) == trigger(after) == trigger(render("minimal"))


def test_namespaces_alone() -> None:
    """Without a store only the namespaces are made, as a release of their own beside that of the servers."""
    manifests = render("namespaces")
    assert [item["kind"] for item in manifests] == ["ConfigMap", "Job"]
    assert is_bootstrap(manifests[1])
    assert manifests[0]["data"].keys() == {"namespaces"}


REFUSALS = {
    (*ON, *NAMED): (
        "namespaceBootstrap has no address: set namespaceBootstrap.address to the frontend's, such as "
        "temporal-frontend:7233"
    ),
    (*ON, *ADDRESS): "namespaceBootstrap has no namespaces: set namespaceBootstrap.namespaces",
    (*ON, *ADDRESS, *NAMED, "--set", "namespaceBootstrap.tls.enabled=true,namespaceBootstrap.tls.caKey=ca.crt"): (
        "namespaceBootstrap.tls names keys of a Secret, but no Secret: set namespaceBootstrap.tls.existingSecret"
    ),
    (*ON, *NAMED, "--set", "namespaceBootstrap.address=frontend"): "does not match pattern",
    (*ON, *ADDRESS, "--set", "namespaceBootstrap.namespaces[0].retention=3d"): "missing property 'name'",
    (*ON, *ADDRESS, *NAMED, "--set", "namespaceBootstrap.namespaces[0].retention=3 days"): "does not match pattern",
    (*ON, *ADDRESS, *set_json(**{"namespaceBootstrap.namespaces": ["ameide"]})): "got string, want object",
    (*ON, *ADDRESS, *set_json(**{"namespaceBootstrap.namespaces": [{"name": "a", "searchAttributes": {"x": "y"}}]})): (
        "value must be one of 'Text', 'Keyword'"
    ),
}


@pytest.mark.parametrize("args", REFUSALS, ids=lambda args: args[-1])
def test_refusals(args: tuple[str, ...]) -> None:
    """Values that would fail in the cluster fail before, with a sentence."""
    assert REFUSALS[args] in refusal(*args)
