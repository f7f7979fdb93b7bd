"""What the chart says of itself to Helm, Artifact Hub and people who look for it."""

import re
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import pytest
import yaml

from schema_migrator import __version__
from support.kubernetes.helm import CHART, ROOT

pytestmark = pytest.mark.chart
DESCRIPTION: dict[str, Any] = yaml.safe_load((CHART / "Chart.yaml").read_text())
ARTIFACT_HUB = {
    name.removeprefix("artifacthub.io/"): yaml.safe_load(value) for name, value in DESCRIPTION["annotations"].items()
}
README = (CHART / "README.md").read_text()
FILES = f"{DESCRIPTION['home']}/blob/v{__version__}/"
LINK = re.compile(r"\]\(([^)\s]+)\)")
YAML = sorted([ROOT / "artifacthub-repo.yml", *CHART.glob("*.yaml"), *CHART.glob("ci/*.yaml")])


def strict(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    """Return a schema of an object that has no other properties."""
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def listed(items: dict[str, Any]) -> dict[str, Any]:
    """Return a schema of a list that is not empty."""
    return {"type": "array", "items": items, "minItems": 1}


TEXT = {"type": "string", "minLength": 1}
ADDRESS = {"type": "string", "pattern": r"^https://[\w.-]+/\S+$"}
VERSION = {"type": "string", "pattern": r"^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$"}
FLAG = {"type": "boolean"}
PERSON = strict(
    {"name": TEXT, "email": {"type": "string", "pattern": r"^\S+@[\w.-]+$"}, "url": ADDRESS}, "name", "email"
)
HELM = {
    "apiVersion": {"const": "v2"},
    "name": {"const": CHART.name},
    "description": {"type": "string", "minLength": 20, "maxLength": 150},
    "type": {"const": "application"},
    "version": VERSION,
    "appVersion": VERSION,
    "kubeVersion": TEXT,
    "home": ADDRESS,
    "sources": listed(ADDRESS),
    "icon": {"type": "string", "pattern": "^data:image/svg[+]xml,"},
    "maintainers": listed(PERSON),
    "keywords": listed(TEXT),
    "annotations": {"type": "object", "additionalProperties": TEXT},
}
IMAGE = strict({"name": TEXT, "image": TEXT, "platforms": listed(TEXT)}, "name", "image", "platforms")
KINDS = ["added", "changed", "deprecated", "removed", "fixed", "security"]
NAMED = strict({"name": TEXT, "url": ADDRESS}, "name", "url")
HUB = {
    "license": {"const": "Apache-2.0"},
    "category": {"const": "database"},
    "operator": {"const": False},
    "prerelease": FLAG,
    "containsSecurityUpdates": FLAG,
    "images": listed(IMAGE),
    "links": listed(NAMED),
    "changes": listed(
        strict({"kind": {"enum": KINDS}, "description": TEXT, "links": listed(NAMED)}, "kind", "description")
    ),
    "signKey": strict(
        {"fingerprint": {"type": "string", "pattern": "^[0-9A-F]{40}$"}, "url": ADDRESS}, "fingerprint", "url"
    ),
}


def test_helms_fields() -> None:
    """Chart.yaml has the fields that chart-testing asks for, in their forms, and no others."""
    optional = {"kubeVersion"}
    jsonschema.validate(DESCRIPTION, strict(HELM, *(HELM.keys() - optional)))


def test_artifact_hubs_annotations() -> None:
    """Each annotation is one that Artifact Hub reads, with a value that it accepts."""
    assert all(name.startswith("artifacthub.io/") for name in DESCRIPTION["annotations"])
    jsonschema.validate(ARTIFACT_HUB, strict(HUB, "license", "category", "prerelease", "images", "links", "changes"))


WRONG: dict[str, tuple[str, object]] = {
    "a category that Artifact Hub lacks": ("category", "databases"),
    "a kind of change that it lacks": ("changes", [{"kind": "new", "description": "x"}]),
    "an image without platforms": ("images", [{"name": "x", "image": "x"}]),
    "a key without an address": ("signKey", {"fingerprint": "A" * 40}),
    "an annotation that it lacks": ("licence", "Apache-2.0"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_annotation_fails(case: str) -> None:
    """The check can fail."""
    name, value = WRONG[case]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**ARTIFACT_HUB, name: value}, strict(HUB))


def test_versions() -> None:
    """The chart, the program and both images have one version, and Artifact Hub learns what kind it is."""
    assert (DESCRIPTION["version"], DESCRIPTION["appVersion"]) == (__version__, __version__)
    tags = [image["image"].partition(":")[2] for image in ARTIFACT_HUB["images"]]
    assert tags == [__version__, f"{__version__}-tools"]
    assert ARTIFACT_HUB["prerelease"] is ("-" in __version__)
    secures = any(change["kind"] == "security" for change in ARTIFACT_HUB["changes"])
    assert ARTIFACT_HUB.get("containsSecurityUpdates", False) is secures


def test_the_icon_is_an_image() -> None:
    """It is in the file itself, so it is shown without a server."""
    root = ET.fromstring(urllib.parse.unquote(DESCRIPTION["icon"].partition(",")[2]))  # noqa: S314 - our own text
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert len(root) == 2


def test_the_owner_of_the_repository_is_a_maintainer() -> None:
    """Artifact Hub lets the owners claim the repository; their addresses are the chart's."""
    found = yaml.safe_load((ROOT / "artifacthub-repo.yml").read_text())
    jsonschema.validate(found, strict({"owners": listed(PERSON), "repositoryID": TEXT}, "owners"))
    known = {(person["name"], person["email"]) for person in DESCRIPTION["maintainers"]}
    assert {(person["name"], person["email"]) for person in found["owners"]} <= known


def test_links_work_outside_the_repository() -> None:
    """Artifact Hub shows the README alone: each link is an address, or leads to a heading of the README."""
    links = LINK.findall(README)
    assert len(links) >= 4
    assert all(urllib.parse.urlsplit(link).scheme == "https" or link[1:] in anchors(README) for link in links)


def links_into_the_repository() -> list[str]:
    """Return the links of README and annotations to files of this version."""
    addresses = [*LINK.findall(README), *(link["url"] for link in ARTIFACT_HUB["links"])]
    return sorted({address for address in addresses if "/blob/" in address})


@pytest.mark.parametrize("address", links_into_the_repository())
def test_links_lead_to_files_of_this_version(address: str) -> None:
    """File and heading exist in this commit, which the tag of the version will name."""
    assert address.startswith(FILES)
    name, _, heading = address.removeprefix(FILES).partition("#")
    assert (ROOT / name).is_file()
    assert not heading or heading in anchors((ROOT / name).read_text())


def anchors(text: str) -> set[str]:
    """Return the anchors of a document's headings."""
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", YAML, ids=lambda path: path.name)
def test_yaml_reads_the_same_everywhere(path: Path) -> None:
    """No key stands twice, no word is a boolean in one version of YAML only, no stray space at an end."""
    text = path.read_text()
    assert not list(faults(yaml.compose(text)))
    assert not re.findall(r"[ \t]+$", text, re.MULTILINE)
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


@pytest.mark.parametrize("text", ["{a: 1, a: 2}", "{a: {b: 1, b: 2}}", "[a: yes]", "{off: 1}"])
def test_faults_are_found(text: str) -> None:
    """The check can fail."""
    assert len(list(faults(yaml.compose(text)))) == 1


def faults(node: yaml.Node) -> Iterator[str]:
    """Yield keys that stand twice in one mapping, and words that are booleans for some readers only."""
    if isinstance(node, yaml.MappingNode):
        names = [key.value for key, _ in node.value]
        yield from (f"{name} stands twice" for name in set(names) if names.count(name) > 1)
        for pair in node.value:
            for part in pair:
                yield from faults(part)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from faults(item)
    elif node.tag == "tag:yaml.org,2002:bool" and node.value not in ("true", "false"):
        yield f"{node.value} is a boolean for some readers only"
