"""Manifests against the schemas of their kinds: Kubernetes' own, and the definitions of custom ones."""

import os
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

from support.kubernetes.helm import NEWEST, ROOT, Manifest

OURS = Path(__file__).resolve().parents[2] / "data" / "crds"
FETCHED = ROOT / "crds"
METADATA = {"type": "object", "required": ["name"]}


class UnknownKindError(Exception):
    """No schema is known for a manifest's kind."""


def validate(manifest: Manifest, version: str = NEWEST) -> None:
    """Raise ValidationError where a manifest is not of its kind's form, UnknownKindError where the kind is unknown."""
    kind = (str(manifest["apiVersion"]), str(manifest["kind"]))
    if kind in definitions():
        jsonschema.Draft202012Validator(definitions()[kind]).validate(manifest)
        return
    try:
        kubernetes_validate.validate(manifest, version, strict=True)
    except kubernetes_validate.SchemaNotFoundError as error:
        raise UnknownKindError(f"no schema for {kind[1]} of {kind[0]}: neither Kubernetes' nor in crds/") from error


@cache
def definitions() -> Mapping[tuple[str, str], dict[str, Any]]:
    """Return each custom kind's schema; a folder of SCHEMA_MIGRATOR_TEST_CRDS beats what is in the repository."""
    return {kind: schema for crd in found() for kind, schema in schemas(crd)}


@cache
def found() -> tuple[Manifest, ...]:
    """Return the definitions, each name's once."""
    given = os.environ.get("SCHEMA_MIGRATOR_TEST_CRDS")
    folders = [OURS, FETCHED, *([Path(given)] if given else [])]
    return tuple({crd["metadata"]["name"]: crd for folder in folders for crd in files(folder)}.values())


def files(folder: Path) -> Iterator[Manifest]:
    """Yield the definitions in a folder."""
    for path in sorted(folder.rglob("*.yaml")):
        for document in yaml.load_all(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader):
            if document and document["kind"] == "CustomResourceDefinition":
                yield document


def kinds(crd: Manifest) -> set[tuple[str, str]]:
    """Return the kinds that a definition defines, each with its API version."""
    return {kind for kind, _ in schemas(crd)}


def schemas(crd: Manifest) -> Iterator[tuple[tuple[str, str], dict[str, Any]]]:
    """Yield a definition's versions, each with its schema."""
    spec = crd["spec"]
    for version in spec["versions"]:
        schema = closed(version["schema"]["openAPIV3Schema"])
        schema["properties"] |= {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": METADATA}
        yield (f"{spec['group']}/{version['name']}", spec["names"]["kind"]), schema


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema as the API server takes it: fields that it does not name are errors."""
    found = {key: nested(key, value) for key, value in schema.items()}
    if schema.get("x-kubernetes-int-or-string"):
        found["type"] = ["integer", "string"]
        found.pop("anyOf", None)
    if schema.get("nullable"):
        found["type"] = [found["type"], "null"]
    free = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if "properties" in schema and not free:
        found["additionalProperties"] = False
    return found


def nested(key: str, value: Any) -> Any:  # noqa: ANN401 - JSON
    """Close what stands below a keyword of a schema."""
    if key == "properties":
        return {name: closed(schema) for name, schema in value.items()}
    if key in {"items", "additionalProperties"} and isinstance(value, dict):
        return closed(value)
    return value
