"""The accepted differences: a value that becomes a file, which each pod that compares schemas finds in time."""

from pathlib import Path

import pytest
import yaml

from schema_migrator.config import accepted
from support.kubernetes.charts import given, one, pod, render, set_json, variables
from support.kubernetes.helm import Manifest, rendered

pytestmark = pytest.mark.chart
FILE = "/etc/temporal-migrations/accepted/accepted.toml"
MOUNT = {"name": "accepted", "mountPath": "/etc/temporal-migrations/accepted", "readOnly": True}
NAME = "release-temporal-migrations-accepted"


def config_map(manifests: list[Manifest], name: str) -> Manifest:
    """Return a ConfigMap by its name."""
    (found,) = [item for item in manifests if (item["kind"], item["metadata"]["name"]) == ("ConfigMap", name)]
    return found


@pytest.mark.parametrize(
    ("job", "mode", "name"),
    [
        ("", "hook", f"{NAME}-hook"),
        ("-preflight", "hook", f"{NAME}-hook"),
        ("-verify", "hook", NAME),
        ("", "job", NAME),
        ("-verify", "job", NAME),
    ],
)
def test_each_job_finds_the_file(tmp_path: Path, job: str, mode: str, name: str) -> None:
    """A pod before the release reads what is a hook itself; all others read what belongs to the release."""
    manifests = render("accepted", *set_json(mode=mode))
    found = pod(manifests, job)
    (container,) = found["containers"]
    assert variables(container)["SCHEMA_MIGRATOR_ACCEPTED"] == FILE
    assert container["volumeMounts"] == [MOUNT]
    assert found["volumes"] == [{"name": "accepted", "configMap": {"name": name}}]
    file = tmp_path / "accepted.toml"
    file.write_text(config_map(manifests, name)["data"]["accepted.toml"])
    assert [entry.object for entry in accepted.read(file)] == ["index executions_visibility.by_status"]
    assert ("helm.sh/hook" in config_map(manifests, name)["metadata"]["annotations"]) == name.endswith("hook")


def test_helm_test_reads_what_belongs_to_the_release() -> None:
    """Its pod runs long after the hooks."""
    spec = one(render("accepted"), "Pod")["spec"]
    assert spec["volumes"] == [{"name": "accepted", "configMap": {"name": NAME}}]


def test_without_the_value_there_is_nothing() -> None:
    """Neither a file nor a variable; nor for the Job that creates namespaces."""
    assert "accepted" not in str(render("minimal"))
    assert "accepted" not in str(render("minimal", "--set-json", "accepted=null"))
    own = yaml.safe_load(Path(given("accepted")[1]).read_text())["accepted"]
    assert "accepted" not in str(pod(render("namespaces", *set_json(accepted=own)), "-namespaces"))


def test_another_text_runs_the_migration_again(tmp_path: Path) -> None:
    """A Job has another name, and a hook another hash; a file gives the text as a value does."""
    text = yaml.safe_load(Path(given("accepted")[1]).read_text())["accepted"]
    file = tmp_path / "accepted.toml"
    file.write_text(text)
    before = one(render("accepted", *set_json(mode="job")), "Job")["metadata"]["name"]
    after = one(render("accepted", *set_json(mode="job", accepted=f"{text}# more\n")), "Job")["metadata"]["name"]
    assert before != after
    filed = rendered(*given("minimal"), "--set-file", f"accepted={file}")
    assert config_map(filed, NAME)["data"]["accepted.toml"] == text
