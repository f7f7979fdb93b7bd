"""Files of a release that the image does not have, from another image."""

import pytest

from support.kubernetes.charts import one, pod, refusal, render, set_json, variables
from support.kubernetes.helm import Manifest

pytestmark = pytest.mark.chart
FOLDER = "/etc/temporal-migrations/schema"
OURS = "/usr/share/temporal-schema-migrator/releases"
IMAGE = "temporalio/admin-tools:1.33.0"
JOBS = ("", "-preflight", "-verify")


def volume(found: Manifest) -> Manifest:
    """Return the pod's volume of files."""
    (made,) = [volume for volume in found["volumes"] if volume["name"] == "schema-files"]
    return dict(made)


@pytest.mark.parametrize("job", JOBS)
def test_an_init_container_copies_the_files(job: str) -> None:
    """It runs in every Job that reads files, before all of our containers; the files come before the image's own."""
    found = pod(render("files"), job)
    first, *rest = found["initContainers"]
    assert (first["name"], first["image"]) == ("schema-files", IMAGE)
    assert first["command"] == ["sh", "-c", f'cp -R "$1"/. {FOLDER}/', "sh", "/etc/temporal/schema"]
    assert first["securityContext"]["readOnlyRootFilesystem"] is True
    assert first["volumeMounts"] == [{"name": "schema-files", "mountPath": FOLDER}]
    assert volume(found) == {"name": "schema-files", "emptyDir": {"sizeLimit": "64Mi"}}
    for container in (*rest, *found["containers"]):
        assert variables(container)["SCHEMA_MIGRATOR_SOURCES"] == f"{FOLDER}:{OURS}"
        assert {"name": "schema-files", "mountPath": FOLDER, "readOnly": True} in container["volumeMounts"]


@pytest.mark.parametrize("job", JOBS)
def test_an_image_volume_needs_no_container(job: str) -> None:
    """The image itself is mounted, and its folder is named below the mount."""
    found = pod(render("files", *set_json(**{"schemaFiles.imageVolume": True, "schemaFiles.path": "/srv/schema"})), job)
    assert all(container["name"] != "schema-files" for container in found.get("initContainers", []))
    assert volume(found) == {"name": "schema-files", "image": {"reference": IMAGE, "pullPolicy": "IfNotPresent"}}
    (container,) = found["containers"]
    assert variables(container)["SCHEMA_MIGRATOR_SOURCES"] == f"{FOLDER}/srv/schema:{OURS}"


def test_namespaces_need_no_files() -> None:
    """The Job that creates namespaces reads none."""
    found = pod(render("files"), "-namespaces")
    assert "initContainers" not in found
    assert "schema-files" not in str(found)


def test_without_an_image_nothing_is_mounted() -> None:
    """The image's own files need no setting."""
    assert "schema-files" not in str(render("minimal"))
    assert "SCHEMA_MIGRATOR_SOURCES" not in str(render("minimal"))


def test_values_of_an_older_chart_suffice() -> None:
    """`helm upgrade --reuse-values` gives values that lack the section."""
    assert one(render("minimal", "--set-json", "schemaFiles=null"), "Job")


@pytest.mark.parametrize("version", ["", "image"])
def test_files_need_a_version(version: str) -> None:
    """The files do not say which version of the servers they are of."""
    told = refusal(*set_json(schemaFiles={"image": IMAGE}, serverVersion=version))
    assert "schemaFiles.image is set, but serverVersion does not say which version its files have: " in told
