"""Files of a release that the image does not have, from another image."""

from collections.abc import Callable

import pytest
import trees

from support.kubernetes.containers import TOOLS_IMAGE
from support.kubernetes.installation import NEWER, PREFLIGHT, Installation

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
Measured = Callable[[str], None]
UNKNOWN = "1.99.0"
# Our tools image stands in for the vendor's: it has files at the vendor's path, `sh` and `cp`.
FILES = {"serverVersion": UNKNOWN, "schemaFiles": {"image": TOOLS_IMAGE}}


def test_a_release_without_files_is_refused(installation: Installation, measured: Measured) -> None:
    """An unknown server version fails the preflight, whose last words name the chart's value."""
    done = installation.helm("install", values=installation.values({"serverVersion": UNKNOWN}))
    assert done.returncode != 0
    words = " ".join(installation.last_words())
    assert f'release "{UNKNOWN}" is not available' in words
    assert "SCHEMA_MIGRATOR_SOURCES (in the chart: schemaFiles.image)" in words
    assert installation.versions() == {"default": None, "visibility": None}
    measured("refused with exit code 2; the pod's last words name `schemaFiles.image`")


def test_an_init_container_brings_the_files(installation: Installation, measured: Measured) -> None:
    """With an image that has the files, the same version is installed, and verified with them."""
    done = installation.helm("install", values=installation.values({**FILES, "verify": {"enabled": True}}))
    assert done.returncode == 0, done.stderr + str(installation.last_words())
    installation.assert_at(NEWER)
    told = installation.run("status", more=FILES)
    assert told.code == 0, told.stdout
    assert '"files": "/etc/temporal-migrations/schema"' in told.stdout
    measured("installed and verified with the files that the init container copied")


def test_an_image_without_files_is_named(installation: Installation, measured: Measured) -> None:
    """A folder that the image does not have fails the preflight, and the pod says which."""
    files = {"image": TOOLS_IMAGE, "path": "/no/such/folder"}
    done = installation.helm("install", values=installation.values({**FILES, "schemaFiles": files}))
    assert done.returncode != 0
    (pod, *_) = installation.pods(PREFLIGHT)
    (copying,) = pod["status"]["initContainerStatuses"]
    assert "/no/such/folder" in copying["state"]["terminated"]["message"]
    measured("the init container's last words name the folder")


def test_an_image_volume_brings_the_files(installation: Installation, measured: Measured) -> None:
    """Where the cluster has image volumes, the image itself is mounted."""
    if not has_image_volumes(installation):
        # Neither the chart nor the program can do anything about it; tests/chart shows the manifest.
        pytest.skip("the cluster has no image volumes: they need Kubernetes 1.35, or the feature gate ImageVolume")
    path = f"/usr/share/temporal-schema-migrator/releases/trees/{trees.read_table()[NEWER]}"
    files = {"image": TOOLS_IMAGE, "path": path, "imageVolume": True}
    done = installation.helm("install", values=installation.values({**FILES, "schemaFiles": files}))
    assert done.returncode == 0, done.stderr + str(installation.last_words())
    installation.assert_at(NEWER)
    measured("installed with the files of the mounted image")


def has_image_volumes(installation: Installation) -> bool:
    """Whether the API server keeps an image volume: without the feature it makes an empty folder of it."""
    volume = {"name": "files", "image": {"reference": TOOLS_IMAGE}}
    spec = {"containers": [{"name": "any", "image": TOOLS_IMAGE}], "volumes": [volume]}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "try", "namespace": installation.namespace},
        "spec": spec,
    }
    pods = installation.cluster.client.resources.get(kind="Pod", api_version="v1")
    made = pods.create(body=pod, namespace=installation.namespace, dry_run="All").to_dict()
    return any(volume.get("image") for volume in made["spec"]["volumes"])
