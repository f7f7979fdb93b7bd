"""Custom kinds that a test needs in a cluster."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from support.kubernetes import crds
from support.kubernetes.cluster import Cluster, until


@contextmanager
def custom_kinds(cluster: Cluster, needed: Collection[tuple[str, str]]) -> Iterator[None]:
    """Add the kinds that the cluster lacks, each with its API version, for the block."""
    until(lambda: not leaving(cluster), "end of kinds that go")
    there = {item["metadata"]["name"] for item in cluster.items("CustomResourceDefinition")}
    made = [
        crd for crd in crds.found() if crd["metadata"]["name"] not in there and crds.kinds(crd).intersection(needed)
    ]
    for crd in made:
        cluster.apply(crd)
        until(lambda name=crd["metadata"]["name"]: established(cluster, name), "new kind")
    cluster.client.resources.invalidate_cache()
    try:
        yield
    finally:
        for crd in made:
            cluster.delete("CustomResourceDefinition", crd["metadata"]["name"])


def leaving(cluster: Cluster) -> list[str]:
    """Return the custom kinds that are being deleted, as an earlier run has left them."""
    found = cluster.items("CustomResourceDefinition")
    return [item["metadata"]["name"] for item in found if item["metadata"].get("deletionTimestamp")]


def established(cluster: Cluster, name: str) -> bool:
    """Tell whether the server serves a custom kind."""
    found = (cluster.get("CustomResourceDefinition", name) or {}).get("status") or {}
    return any((one["type"], one["status"]) == ("Established", "True") for one in found.get("conditions") or [])
