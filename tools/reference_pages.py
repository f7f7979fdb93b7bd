"""The pages of docs/reference on JSON output and events, from the JSON schemas; every function returns text.

The schemas in docs/ are what the tests hold the program to; each of their properties has a description.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
OUTPUT, EVENTS = ROOT / "docs" / "reports.schema.json", ROOT / "docs" / "events.schema.json"
SOURCE = ROOT / "src" / "schema_migrator"
LEVELS = frozenset({"debug", "info", "warning", "error", "edge", "say"})
EVENT = re.compile(r"[a-z_]+\.[a-z_]+")
COMMON = ("event", "level", "timestamp", "store")
SCALARS = ("string", "number", "integer", "boolean", "null")

Schema = Mapping[str, Any]


class UndocumentedError(Exception):
    """A schema and the program do not agree, or a property has no description."""


def output() -> str:
    """Return the sections of all results, then of the values that they share."""
    schema = read(OUTPUT)
    shared, shapes = schema["$defs"], [one for one in schema["anyOf"] if one["title"] != "stores"]
    per_store = [one["$ref"].rpartition("/")[2] for one in stores(schema)["anyOf"]]
    sections = [section(shared[name]) for name in per_store] + [section(one) for one in shapes]
    values = [section(one, "###") for name, one in shared.items() if name not in per_store and "properties" in one]
    states = ["### states", "", shared["state"]["description"]]
    return "\n\n".join([version(schema), *sections, "## Shared values", *values, "\n".join(states)])


def stores(schema: Schema) -> Schema:
    """Return the schema of one store's result."""
    found: Schema = next(one for one in schema["anyOf"] if one["title"] == "stores")["properties"]["stores"]["items"]
    return found


def events() -> str:
    """Return the fields that all events have, then every event with its own."""
    schema = read(EVENTS)
    common = table(schema["$defs"]["common"])
    rows = [
        f"| `{one['properties']['event']['const']}` | {levels(one)} | {one['description']} | {own_fields(one)} |"
        for one in schema["anyOf"]
    ]
    heads = ["| event | level | meaning | fields |", "| --- | --- | --- | --- |"]
    return "\n\n".join([version(schema), "## Common fields", common, "## All events", "\n".join([*heads, *rows])])


def version(schema: Schema) -> str:
    """Return the line that names the version of an interface."""
    return f"Version of this interface: **{schema['version']}**."


def levels(event: Schema) -> str:
    """Return the levels that an event can have."""
    found = event["properties"]["level"]
    return ", ".join([found["const"]] if "const" in found else found["enum"])


def own_fields(event: Schema) -> str:
    """Return an event's own fields in one cell, each with its type and meaning."""
    own = [(name, field) for name, field in fields(event) if name not in ("event", "level")]
    optional = {name for name, _ in own if "." not in name} - set(event["required"])
    return "<br>".join(
        f"`{name}` ({kind(field)}{', optional' if name in optional else ''}): {cell(field['description'])}"
        for name, field in own
    )


def section(schema: Schema, marks: str = "##") -> str:
    """Return one result as a heading, its description and the table of its fields."""
    return f"{marks} {schema['title']}\n\n{schema['description']}\n\n{table(schema)}"


def table(schema: Schema) -> str:
    """Return the table of all fields of an object, those within it by their path."""
    rows = [f"| `{path}` | {kind(field)} | {cell(field['description'])} |" for path, field in fields(schema)]
    return "\n".join(["| field | type | meaning |", "| --- | --- | --- |", *rows])


def fields(schema: Schema, above: str = "") -> Iterator[tuple[str, Schema]]:
    """Yield every field with its path, depth first."""
    for name, field in schema.get("properties", {}).items():
        yield f"{above}{name}", field
        yield from fields(field, f"{above}{name}.")
        yield from fields(field.get("items", {}), f"{above}{name}[].")


def kind(field: Schema) -> str:
    """Return the type of a field for people; a shared value links to its section."""
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return {"state": "string", "exit_code": "integer"}.get(name, f"[{name}](#{name})")
    if "anyOf" in field:
        return " or ".join(kind(one) for one in field["anyOf"])
    if "enum" in field:
        return " or ".join("null" if one is None else f"`{one}`" for one in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    return " or ".join(named(one, field) for one in listed(field["type"]))


def named(word: str, field: Schema) -> str:
    """Return one of a field's types for people."""
    if word == "array":
        return f"array of {kind(field['items'])}"
    if word == "object" and "additionalProperties" in field and "properties" not in field:
        return f"object of {kind(field['additionalProperties'])}"
    return "time" if field.get("format") == "date-time" else word


def listed(value: str | list[str]) -> list[str]:
    """Return one or several names as a list."""
    return [value] if isinstance(value, str) else value


def cell(text: str) -> str:
    """Return a text as a cell of a table takes it."""
    return text.replace("|", "\\|")


def read(path: Path) -> Schema:
    """Return a schema. Raises UndocumentedError for a property without a description."""
    schema: Schema = json.loads(path.read_text(encoding="utf-8"))
    objects = [*schema["$defs"].values(), *schema["anyOf"]]
    silent = [name for one in objects for name, field in fields(one) if not described(name, field)]
    if silent:
        raise UndocumentedError(f"{path.name} has properties without a description: {', '.join(silent)}")
    return schema


def described(name: str, field: Schema) -> bool:
    """Return whether a property has a description; an event's name and level need none."""
    return "description" in field or name in ("event", "level")


def differences() -> Iterator[str]:
    """Yield how the events in the code and those of the schema differ: names, and fields that the schema lacks."""
    documented = {one["properties"]["event"]["const"]: one for one in read(EVENTS)["anyOf"]}
    logged: dict[str, set[str]] = {}
    for name, given in calls():
        logged.setdefault(name, set()).update(given)
    yield from (f"{name} is logged, but not in {EVENTS.name}" for name in sorted(logged.keys() - documented.keys()))
    yield from (f"{name} is in {EVENTS.name}, but never logged" for name in sorted(documented.keys() - logged.keys()))
    for name in sorted(logged.keys() & documented.keys()):
        unknown = logged[name] - documented[name]["properties"].keys() - set(COMMON)
        yield from (f"{name} is logged with {field}, which {EVENTS.name} lacks" for field in sorted(unknown))


def calls() -> Iterator[tuple[str, set[str]]]:
    """Yield every name of an event in the code, with the fields that are given by name where it is logged."""
    for path in sorted(SOURCE.glob("**/*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield from ((name, {word.arg for word in node.keywords if word.arg}) for name in logged_by(node))
            elif isinstance(node, ast.IfExp):
                yield from ((name, set()) for name in names(node.body, node.orelse))


def logged_by(call: ast.Call) -> Iterable[str]:
    """Return the events that a call logs, or that a notice will."""
    if isinstance(call.func, ast.Attribute) and call.func.attr in LEVELS | {"log"}:
        return names(*call.args)
    return names(*(word.value for word in call.keywords if word.arg == "event"))


def names(*nodes: ast.expr) -> list[str]:
    """Return those of the nodes that are names of events."""
    texts = (node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return [text for text in texts if EVENT.fullmatch(text)]
