"""What `make e2e-cluster` does, with a real git daemon, and commands that only note how they were called."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fetch
import pytest

import e2e_cluster
from support.waiting import await_true

IMAGE = "temporal-schema-migrator:0.2.0"
NETWORK = json.dumps([{"IPAM": {"Config": [{"Gateway": "fc00:f853:ccd:e793::1"}, {"Gateway": "127.0.0.1"}]}}])
PIN = fetch.Pin(module=e2e_cluster.ARGOCD, version="3.5.7", zip_hash=None, mod_hash=None)
STUB = """#!{python}
import json, sys
with open({log!r}, "a") as log:
    log.write(json.dumps([{name!r}, *sys.argv[1:]]) + "\\n")
print({answer!r} if sys.argv[1] == "network" else "")
sys.exit({name!r} == {failing!r})
"""


def stubs(folder: Path, monkeypatch: pytest.MonkeyPatch, failing: str = "") -> None:
    """Put commands first on the path that do nothing."""
    (folder / "bin").mkdir()
    for name in ("docker", "kind", "kubectl"):
        path = folder / "bin" / name
        values = {"python": sys.executable, "log": str(folder / "calls"), "answer": NETWORK, "failing": failing}
        path.write_text(STUB.format(name=name, **values))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
    monkeypatch.delenv("KIND", raising=False)
    monkeypatch.setattr(e2e_cluster, "argocd", lambda: (PIN, folder / "install.yaml"))


def called(folder: Path) -> list[list[str]]:
    """Return how the commands were called."""
    return [json.loads(line) for line in (folder / "calls").read_text().splitlines()]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[e2e_cluster.Cluster]:
    """Return a cluster of commands that do nothing; its git daemon ends with the test."""
    stubs(tmp_path, monkeypatch)
    made = e2e_cluster.Cluster(place=tmp_path / "e2e", image=IMAGE)
    yield made
    if made.place.exists():
        e2e_cluster.delete(made)


def variables(cluster: e2e_cluster.Cluster) -> dict[str, str]:
    """Return the variables as a shell reads them."""
    show = f'"{sys.executable}" -c "import json, os; print(json.dumps(dict(os.environ)))"'
    script = f'set -a; . "{cluster.place / "env"}"; {show}'
    done = subprocess.run(["bash", "-c", script], env={}, capture_output=True, text=True, check=True)  # noqa: S607
    return {name: value for name, value in json.loads(done.stdout).items() if name.startswith(("KUBE", "SCHEMA_"))}


def test_creates_a_cluster(tmp_path: Path, cluster: e2e_cluster.Cluster) -> None:
    """A kubeconfig of its own, both tags, the whole of Argo CD, and only then the variables."""
    e2e_cluster.create(cluster)
    kubeconfig = str(tmp_path / "e2e" / "kubeconfig")
    kubectl = ["kubectl", "--kubeconfig", kubeconfig, "--namespace", "argocd"]
    calls = called(tmp_path)
    assert calls[:3] == [
        ["kind", "create", "cluster", "--name", "temporal-migrations", "--kubeconfig", kubeconfig, "--wait", "180s"],
        ["docker", "tag", IMAGE, f"{IMAGE}-again"],
        ["kind", "load", "docker-image", IMAGE, f"{IMAGE}-again", f"{IMAGE}-tools", "--name", "temporal-migrations"],
    ]
    assert [*kubectl, "apply", "--server-side", "--filename", str(tmp_path / "install.yaml")] in calls
    assert all(call[: len(kubectl)] == kubectl for call in calls if call[0] == "kubectl")
    assert calls[-1] == ["docker", "network", "inspect", "kind"]
    url = variables(cluster).pop("SCHEMA_MIGRATOR_TEST_GIT_URL")
    assert variables(cluster) == {
        "KUBECONFIG": kubeconfig,
        "SCHEMA_MIGRATOR_TEST_HOST": "127.0.0.1",
        "SCHEMA_MIGRATOR_TEST_OURS_AGAIN": f"{IMAGE}-again",
        "SCHEMA_MIGRATOR_TEST_ARGOCD_NAMESPACE": "argocd",
        "SCHEMA_MIGRATOR_TEST_ARGOCD_VERSION": "3.5.7",
        "SCHEMA_MIGRATOR_TEST_GIT_FOLDER": str(tmp_path / "e2e" / "git"),
        "SCHEMA_MIGRATOR_TEST_GIT_URL": url,
    }


def test_serves_the_repositories(cluster: e2e_cluster.Cluster) -> None:
    """A repository that is made later can be read at the address in the variables, and after the end no more."""
    e2e_cluster.create(cluster)
    folder = cluster.repositories / "one"
    git = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@t.example"]
    subprocess.run(["git", "init", "--quiet", "--initial-branch=main", str(folder)], check=True)  # noqa: S607
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "--message", "x"], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    ask = ["git", "ls-remote", variables(cluster)["SCHEMA_MIGRATOR_TEST_GIT_URL"].format(name="one"), "main"]
    found = await_true(lambda: subprocess.run(ask, capture_output=True, text=True, check=False).stdout)
    assert found == f"{head}\trefs/heads/main\n"
    e2e_cluster.delete(cluster)
    await_true(lambda: subprocess.run(ask, capture_output=True, check=False).returncode)
    assert not cluster.place.exists()


def test_says_which_command_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing follows the command that failed."""
    stubs(tmp_path, monkeypatch, failing="kubectl")
    with pytest.raises(e2e_cluster.ClusterError, match=r"^`kubectl .* create namespace argocd` ended with 1$"):
        e2e_cluster.create(e2e_cluster.Cluster(place=tmp_path / "e2e", image=IMAGE))
    assert not (tmp_path / "e2e" / "env").exists()


def test_refuses_a_network_without_ipv4() -> None:
    """Pods of kind have IPv4 addresses only."""
    with pytest.raises(e2e_cluster.ClusterError, match=r"^Docker's network kind has no IPv4 gateway: "):
        e2e_cluster.gateway(json.dumps([{"IPAM": {"Config": [{"Subnet": "172.18.0.0/16"}, {"Gateway": "fc00::1"}]}}]))


def test_another_program_with_the_daemons_process_id_lives(tmp_path: Path) -> None:
    """After a reboot the recorded id may be that of anything."""
    cluster = e2e_cluster.Cluster(place=tmp_path, image=IMAGE)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as other:
        e2e_cluster.stop_daemon(cluster, str(other.pid))
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(timeout=1)
        other.kill()
    e2e_cluster.stop_daemon(cluster, str(other.pid))  # gone: nothing to stop
