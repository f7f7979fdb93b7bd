"""Creates a cluster for `make test-e2e`: kind, both tags of the image, Argo CD, and a git daemon that Argo CD can read.

It needs Docker and kubectl. build/e2e/env gets the variables that the tests need; `make e2e-cluster` runs it, and
`make e2e-cluster-delete` removes everything again.
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import crds
import fetch

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / "build" / "e2e"
NAME = "temporal-migrations"
ARGOCD = "github.com/argoproj/argo-cd/v3"
NAMESPACE = "argocd"
PROGRESSIVE_SYNCS = {"data": {"applicationsetcontroller.enable.progressive.syncs": "true"}}


class ClusterError(Exception):
    """The cluster could not be created."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """What the steps share: the folder of their files, and the image."""

    place: Path
    image: str

    @property
    def kubeconfig(self) -> Path:
        """Return the file that kubectl and the tests read, beside the user's own."""
        return self.place / "kubeconfig"

    @property
    def repositories(self) -> Path:
        """Return the folder that the git daemon serves."""
        return self.place / "git"

    @property
    def pid_file(self) -> Path:
        """Return the file with the git daemon's process id."""
        return self.place / "git-daemon.pid"


def main() -> int:
    """Create the cluster, or delete it; the exit code is 1 after a failure, reported on stderr."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image", default="temporal-schema-migrator:dev", help="an image of the local Docker daemon")
    parser.add_argument("--delete", action="store_true", help="delete the cluster and stop the git daemon")
    args = parser.parse_args()
    cluster = Cluster(place=PLACE, image=args.image)
    try:
        delete(cluster) if args.delete else create(cluster)
    except (ClusterError, fetch.FetchError, OSError) as error:
        sys.stderr.write(f"e2e_cluster: {error}\n")
        return 1
    return 0


def create(cluster: Cluster) -> None:
    """Do all steps, and write the variables when the cluster is ready."""
    cluster.repositories.mkdir(parents=True, exist_ok=True)
    pin, manifest = argocd()
    run([kind(), "create", "cluster", "--name", NAME, "--kubeconfig", str(cluster.kubeconfig), "--wait", "180s"])
    load_image(cluster)
    install_argocd(cluster, manifest)
    host = gateway(run(["docker", "network", "inspect", "kind"], quiet=True))
    port = free_port(host)
    serve(cluster, host, port)
    text = "".join(f"{name}={shlex.quote(value)}\n" for name, value in variables(cluster, host, port, pin).items())
    (cluster.place / "env").write_text(text, encoding="utf-8")
    print(f"the cluster is ready; run: set -a; . {cluster.place / 'env'}; set +a; make test-e2e", flush=True)


def argocd() -> tuple[fetch.Pin, Path]:
    """Return the pinned release of Argo CD, and its manifest in Go's module cache."""
    (pin,) = (pin for pin in fetch.read_pins(crds.GO_SUM) if pin.module == ARGOCD)
    return pin, fetch.verified((pin,))[pin].folder / "manifests" / "install.yaml"


def load_image(cluster: Cluster) -> None:
    """Load both images into the cluster, the slim one under a second tag too."""
    again = f"{cluster.image}-again"
    run(["docker", "tag", cluster.image, again])
    run([kind(), "load", "docker-image", cluster.image, again, f"{cluster.image}-tools", "--name", NAME])


def install_argocd(cluster: Cluster, manifest: Path) -> None:
    """Install Argo CD with progressive syncs, and wait until it is ready."""
    kubectl(cluster, "create", "namespace", NAMESPACE)
    kubectl(cluster, "apply", "--server-side", "--filename", str(manifest))
    patch = json.dumps(PROGRESSIVE_SYNCS)
    kubectl(cluster, "patch", "configmap", "argocd-cmd-params-cm", "--type=merge", "--patch", patch)
    kubectl(cluster, "rollout", "restart", "deployment", "argocd-applicationset-controller")
    for workload in ("deployment", "statefulset"):
        kubectl(cluster, "rollout", "status", workload, "--timeout=300s")
    kubectl(cluster, "wait", "--for=create", "appproject/default", "--timeout=120s")


def kubectl(cluster: Cluster, *args: str) -> None:
    """Run kubectl in Argo CD's namespace of the cluster."""
    run(["kubectl", "--kubeconfig", str(cluster.kubeconfig), "--namespace", NAMESPACE, *args])


def gateway(inspected: str) -> str:
    """Return this machine's IPv4 address in kind's network, from what `docker network inspect` says."""
    (network,) = json.loads(inspected)
    for config in network["IPAM"]["Config"]:
        address = config.get("Gateway", "")
        if address and isinstance(ipaddress.ip_address(address), ipaddress.IPv4Address):
            return str(address)
    raise ClusterError(f"Docker's network kind has no IPv4 gateway: {network['IPAM']['Config']}")


def free_port(host: str) -> int:
    """Return a port of that address that nobody listens on."""
    with socket.create_server((host, 0)) as server:
        return int(server.getsockname()[1])


def serve(cluster: Cluster, host: str, port: int) -> None:
    """Start a git daemon that pods reach; it serves only the tests' repositories."""
    command = ["git", "daemon", "--detach", "--reuseaddr", "--export-all", f"--listen={host}", f"--port={port}"]
    run([*command, f"--pid-file={cluster.pid_file}", f"--base-path={cluster.repositories}", str(cluster.repositories)])


def variables(cluster: Cluster, host: str, port: int, argo: fetch.Pin) -> Mapping[str, str]:
    """Return the variables that `make test-e2e` needs."""
    return {
        "KUBECONFIG": str(cluster.kubeconfig),
        "SCHEMA_MIGRATOR_TEST_HOST": host,
        "SCHEMA_MIGRATOR_TEST_OURS_AGAIN": f"{cluster.image}-again",
        "SCHEMA_MIGRATOR_TEST_ARGOCD_NAMESPACE": NAMESPACE,
        "SCHEMA_MIGRATOR_TEST_ARGOCD_VERSION": argo.version,
        "SCHEMA_MIGRATOR_TEST_GIT_FOLDER": str(cluster.repositories),
        "SCHEMA_MIGRATOR_TEST_GIT_URL": f"git://{host}:{port}/{{name}}",
    }


def delete(cluster: Cluster) -> None:
    """Stop the git daemon, delete the cluster and the files."""
    if cluster.pid_file.exists():
        stop_daemon(cluster, cluster.pid_file.read_text(encoding="utf-8").strip())
    run([kind(), "delete", "cluster", "--name", NAME, "--kubeconfig", str(cluster.kubeconfig)])
    shutil.rmtree(cluster.place, ignore_errors=True)


def stop_daemon(cluster: Cluster, pid: str) -> None:
    """Stop the git daemon, unless it is gone and its process id is another program's now."""
    running = subprocess.run(["/bin/ps", "-o", "args=", "-p", pid], capture_output=True, text=True, check=False).stdout
    if str(cluster.repositories) in running:
        os.kill(int(pid), signal.SIGTERM)


def kind() -> str:
    """Return the command kind; make builds it and says where it is."""
    return os.environ.get("KIND") or "kind"


def run(command: Sequence[str], *, quiet: bool = False) -> str:
    """Run a command; return its output if it is not to be seen. Raises ClusterError if the command fails."""
    print(f"+ {shlex.join(command)}", flush=True)
    done = subprocess.run(command, stdout=subprocess.PIPE if quiet else None, text=True, check=False)
    if done.returncode:
        raise ClusterError(f"`{shlex.join(command)}` ended with {done.returncode}")
    return done.stdout or ""


if __name__ == "__main__":
    sys.exit(main())
