"""A git repository with our chart in it, for Argo CD to read."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from support.kubernetes.helm import CHART

VALUES = "values-of-the-test.yaml"
PLACE = "charts/temporal-migrations"


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """A repository on this machine; `url` is its address for Argo CD."""

    folder: Path
    url: str

    def commit(self, values: Mapping[str, Any]) -> str:
        """Commit the values of the chart, the same ones too; return the commit's name."""
        (self.folder / PLACE / VALUES).write_text(yaml.safe_dump(dict(values)), encoding="utf-8")
        self._git("add", "--all")
        self._git("commit", "--quiet", "--allow-empty", "--message", "values")
        return self._git("rev-parse", "HEAD").strip()

    def _git(self, *args: str) -> str:
        identity = ("-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "gc.auto=0")
        done = subprocess.run(["git", *identity, *args], cwd=self.folder, capture_output=True, text=True, check=True)  # noqa: S607
        return done.stdout


def repository(folder: Path) -> Repository:
    """Make a repository of our chart."""
    shutil.copytree(CHART, folder / PLACE)
    address = os.environ.get("SCHEMA_MIGRATOR_TEST_GIT_URL") or "file://{folder}"
    made = Repository(folder=folder, url=address.format(folder=folder, name=folder.name))
    made._git("init", "--quiet", "--initial-branch=main")
    return made
