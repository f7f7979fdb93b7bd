"""The files under examples/, and what a tool would make of them."""

import re
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from support.kubernetes.helm import ROOT, Manifest, helm

EXAMPLES = ROOT / "examples"
UMBRELLA = EXAMPLES / "umbrella"
CHART = "charts/temporal-migrations"


@cache
def manifests() -> dict[str, list[Manifest]]:
    """Return the manifests by their files' names; files called values.yaml are for charts, and UMBRELLA is a chart."""
    return {
        str(path.relative_to(EXAMPLES)): [found for found in yaml.safe_load_all(path.read_text()) if found]
        for path in sorted(EXAMPLES.rglob("*.yaml"))
        if path.name != "values.yaml" and UMBRELLA not in path.parents
    }


def every() -> Iterator[Manifest]:
    """Yield each manifest."""
    for found in manifests().values():
        yield from found


def one(kind: str, name: str) -> Manifest:
    """Return the example of a kind and a name."""
    (found,) = (item for item in every() if item["kind"] == kind and item["metadata"]["name"] == name)
    return found


def values(folder: str) -> Path:
    """Return the values file of a folder."""
    return EXAMPLES / folder / "values.yaml"


def generated(applicationset: Manifest) -> list[Manifest]:
    """Return the Applications that the controller makes of a list of elements and a template of plain fields."""
    spec = applicationset["spec"]
    ((_, generator),) = spec["generators"][0].items()
    header = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Application"}
    return [header | filled(spec["template"], element) for element in generator["elements"]]


def filled(part: Any, element: dict[str, str]) -> Any:  # noqa: ANN401 - YAML
    """Return a part of the template with the element's fields in their places; a field that is missing is an error."""
    if isinstance(part, dict):
        return {key: filled(value, element) for key, value in part.items()}
    if isinstance(part, list):
        return [filled(value, element) for value in part]
    if isinstance(part, str):
        return re.sub(r"\{\{ \.(\w+) \}\}", lambda found: element[found[1]], part)
    return part


def applications() -> list[Manifest]:
    """Return all Applications, those of ApplicationSets too."""
    made = [item for found in every() if found["kind"] == "ApplicationSet" for item in generated(found)]
    return [found for found in every() if found["kind"] == "Application"] + made


def releases() -> list[Manifest]:
    """Return Flux' releases of our chart."""
    found = [item for item in every() if item["kind"] == "HelmRelease"]
    return [item for item in found if item["spec"]["chart"]["spec"]["chart"] == CHART]


def umbrella(folder: Path) -> Path:
    """Return a copy of the umbrella chart in a folder, with our chart in its charts/."""
    copy = folder / "umbrella"
    shutil.copytree(UMBRELLA, copy, ignore=shutil.ignore_patterns("charts", "Chart.lock"))
    definition = yaml.safe_load((copy / "Chart.yaml").read_text())
    (dependency,) = definition["dependencies"]
    dependency["repository"] = (UMBRELLA / dependency["repository"].removeprefix("file://")).resolve().as_uri()
    (copy / "Chart.yaml").write_text(yaml.safe_dump(definition))
    done = helm("dependency", "build", str(copy))
    assert done.returncode == 0, done.stderr
    return copy
