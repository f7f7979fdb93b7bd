"""Helm, and our chart as it renders it."""

import os
import subprocess
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "charts" / "temporal-migrations"
VERSIONS = ("1.31", "1.32", "1.33", "1.34", "1.35", "1.36", "1.37")
NEWEST = VERSIONS[-1]

Manifest = dict[str, Any]


def helm(command: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Run helm; `make` builds it and says where it is."""
    return subprocess.run([os.environ["HELM"], command, *args], capture_output=True, text=True, check=False)


def template(*args: str, release: str = "release") -> subprocess.CompletedProcess[str]:
    """Let helm render our chart, for the newest Kubernetes unless the arguments say another."""
    return helm("template", release, str(CHART), "--kube-version", NEWEST, *args)


def rendered(*args: str, release: str = "release") -> list[Manifest]:
    """Return what helm makes of our chart."""
    done = template(*args, release=release)
    assert done.returncode == 0, done.stderr
    return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]
