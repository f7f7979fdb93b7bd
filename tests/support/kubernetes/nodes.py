"""Nodes with the taint and the label of the example that do not say the same word, and nodes that are drained."""

from collections.abc import Iterator
from contextlib import contextmanager

from support.kubernetes.cluster import Cluster

TAINT = {"key": "example.com/environment", "value": "production", "effect": "NoSchedule"}
LABEL = {"example.com/pool": "prod"}


@contextmanager
def production(cluster: Cluster) -> Iterator[None]:
    """Give all nodes the example's taint and label, for the block."""
    before = {item["metadata"]["name"]: item["spec"].get("taints") or [] for item in cluster.items("Node")}
    try:
        for name, taints in before.items():
            cluster.patch("Node", name, {"metadata": {"labels": LABEL}, "spec": {"taints": [*taints, TAINT]}})
        yield
    finally:
        for name, taints in before.items():
            gone = dict.fromkeys(LABEL)
            cluster.patch("Node", name, {"metadata": {"labels": gone}, "spec": {"taints": taints or None}})


@contextmanager
def cordoned(cluster: Cluster, node: str) -> Iterator[None]:
    """Let nothing new onto a node, for the block, as `kubectl drain` begins."""
    cluster.patch("Node", node, {"spec": {"unschedulable": True}})
    try:
        yield
    finally:
        cluster.patch("Node", node, {"spec": {"unschedulable": None}})
