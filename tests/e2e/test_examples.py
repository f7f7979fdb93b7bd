"""The examples on a real API server."""

from collections.abc import Callable, Iterator

import pytest
from kubernetes.dynamic.exceptions import DynamicApiError, ResourceNotFoundError

from support.kubernetes import examples
from support.kubernetes.cluster import Cluster
from support.kubernetes.custom_kinds import custom_kinds
from support.kubernetes.helm import Manifest
from support.kubernetes.installation import namespace

# One process adds the kinds and takes them away.
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900), pytest.mark.xdist_group("examples")]
Measured = Callable[[str], None]
FIELD = "there-is-no-such-field"


@pytest.fixture(scope="module")
def place(cluster: Cluster) -> Iterator[str]:
    """Make a namespace, and the kinds that the cluster lacks; those go again."""
    needed = {(item["apiVersion"], item["kind"]) for item in examples.every()}
    with custom_kinds(cluster, needed), namespace(cluster) as name:
        yield name


def moved(manifest: Manifest, namespace: str) -> Manifest:
    """Return a manifest for another namespace."""
    return {**manifest, "metadata": {**manifest["metadata"], "namespace": namespace}}


@pytest.mark.parametrize("file", examples.manifests())
def test_is_taken(cluster: Cluster, place: str, measured: Measured, file: str) -> None:
    """The API server accepts every manifest of the file, and refuses it with a field that its kind lacks."""
    for manifest in examples.manifests()[file]:
        taken = cluster.apply(moved(manifest, place), dry_run=True)
        assert taken["metadata"]["uid"]
        key = "spec" if "spec" in manifest else "data"
        wrong = {**manifest, key: {**manifest.get(key, {}), FIELD: {"a": "b"}}}
        with pytest.raises(DynamicApiError):
            cluster.apply(moved(wrong, place), dry_run=True)
    measured(", ".join(dict.fromkeys(manifest["kind"] for manifest in examples.manifests()[file])))


def test_the_applications_of_the_fleet_are_taken(cluster: Cluster, place: str, measured: Measured) -> None:
    """It also accepts the Applications that the ApplicationSets create."""
    made = [
        item for found in examples.every() if found["kind"] == "ApplicationSet" for item in examples.generated(found)
    ]
    for item in made:
        assert cluster.apply(moved(item, place), dry_run=True)["metadata"]["uid"]
    measured(f"{len(made)} Applications")


def test_an_unknown_kind_is_not_taken(cluster: Cluster, place: str) -> None:
    """A kind that the server does not know is a failure, not a pass."""
    with pytest.raises(ResourceNotFoundError):
        cluster.apply(
            moved({"apiVersion": "example.com/v1", "kind": "Unheard", "metadata": {"name": "a"}}, place), dry_run=True
        )
