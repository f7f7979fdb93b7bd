"""Write the generated parts of the documents; --check only compares.

README.md has the tables of settings and exit codes and the text of --help, CONTRIBUTING.md the list of rooms, the
chart's README its values, docs/catalogs.md the register of PostgreSQL's catalogs, docs/connecting.md that of libpq's
parameters.
"""

from __future__ import annotations

import ast
import json
import os
import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import yaml

from schema_migrator.catalog.table_register import REGISTER, Fate
from schema_migrator.cli.arguments import parser
from schema_migrator.config.attributes import REGISTER as ATTRIBUTES
from schema_migrator.config.options import Option, client_options, run_options, sql_options
from schema_migrator.exit_codes import CODES

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "schema_migrator"
CHART = ROOT / "charts" / "temporal-migrations"


class MarkersMissingError(Exception):
    """A document has no place for a generated part."""


def settings() -> str:
    """Return the tables of all options."""
    return "\n".join(
        [
            *table(run_options()),
            "",
            "Where the databases are. Each of these also exists for one store alone, which beats the common one:",
            "`DEFAULT_SQL_HOST` (`--default-sql-host`) and `VISIBILITY_SQL_HOST` (`--visibility-sql-host`), and so on.",
            "",
            *table(sql_options()),
            "",
            "Where Temporal's frontend is, for `wait --for frontend` and `namespaces`, and what is to be there:",
            "",
            *table(client_options()),
        ]
    )


def table(options: Iterable[Option]) -> list[str]:
    """Return the lines of a Markdown table."""
    rows = (
        f"| `{option.flag}` | `{option.variable}` | {code(option.default)} | {escaped(option.meaning)} |"
        for option in options
    )
    return ["| flag | variable | default | meaning |", "| --- | --- | --- | --- |", *rows]


def code(text: str) -> str:
    """Return the text in code type; nothing for nothing."""
    return f"`{text}`" if text else ""


def escaped(text: str) -> str:
    """Return the text as a cell of a table takes it."""
    return text.replace("|", "\\|")


def help_text() -> str:
    """Return what --help prints, at a width that fits a page."""
    os.environ["COLUMNS"] = "100"
    return f"```console\n$ schema-migrator --help\n{parser().format_help().rstrip()}\n```"


def exit_codes() -> str:
    """Return the table of exit codes."""
    helps = {None: "", True: "yes", False: "no"}
    rows = (f"| {one.number} | {one.name} | {escaped(one.meaning)} | {helps[one.retry]} |" for one in CODES)
    return "\n".join(["| code | name | meaning | a retry helps |", "| --- | --- | --- | --- |", *rows])


def rooms() -> str:
    """Return the rooms in the order of their layers, each with the first line of its docstring and its modules."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contract = project["tool"]["importlinter"]["contracts"][0]
    names = [name.strip() for layer in reversed(contract["layers"]) for name in layer.split("|")]
    rows = [f"| `{name}` | {first_line(SOURCE / name)} | {contents(SOURCE / name)} |" for name in names]
    return "\n".join(["| room | what is in it | modules |", "| --- | --- | --- |", *rows])


def first_line(place: Path) -> str:
    """Return the first line of the docstring of a package or module."""
    path = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    return escaped((ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0])


def contents(place: Path) -> str:
    """Return the names of a package's modules."""
    return ", ".join(f"`{path.stem}`" for path in sorted(place.glob("[a-z]*.py")))


def chart_values() -> str:
    """Return the table of the chart's values, each with the `# --` line above it."""
    lines = (CHART / "values.yaml").read_text(encoding="utf-8").splitlines()
    rows = [
        f"| `{name}` | {code(default)} | {escaped(meaning)} |"
        for name, default, meaning in described(yaml.compose("\n".join(lines)), lines)
    ]
    return "\n".join(["| value | default | meaning |", "| --- | --- | --- |", *rows])


def described(node: yaml.MappingNode, lines: list[str], above: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield each value's name, default and meaning; a block of values has a row only where it is described itself."""
    for key, value in node.value:
        comment = lines[key.start_mark.line - 1].strip()
        meaning = comment.removeprefix("# -- ") if comment.startswith("# -- ") else ""
        block = isinstance(value, yaml.MappingNode) and not value.flow_style
        if block and not meaning:
            yield from described(value, lines, f"{above}{key.value}.")
        else:
            default = yaml.safe_load(yaml.serialize(value))
            yield f"{above}{key.value}", json.dumps(default), meaning


def register() -> str:
    """Return the table of what becomes of each property of a table."""
    rows: dict[tuple[str, str, str], list[str]] = {}
    for entry in REGISTER:
        why = entry.why.replace("_", " ") if entry.fate is Fate.BLOCKER else entry.why
        rows.setdefault((entry.catalog, entry.fate.value, why), []).append(f"`{entry.column}`")
    lines = (
        f"| `{catalog}` | {', '.join(columns)} | {fate} | {escaped(why)} |"
        for (catalog, fate, why), columns in rows.items()
    )
    return "\n".join(["| catalog | columns | fate | by what, or why |", "| --- | --- | --- | --- |", *lines])


def connect_attributes() -> str:
    """Return the table of what becomes of each connection parameter."""
    rows: dict[tuple[str, str], list[str]] = {}
    for one in ATTRIBUTES:
        also = f": `SQL_{one.setting}`" if one.setting else ""
        rows.setdefault((one.fate.value, one.why + also), []).append(f"`{one.name}`")
    lines = (f"| {', '.join(names)} | {fate} | {escaped(why)} |" for (fate, why), names in rows.items())
    return "\n".join(["| parameter | fate | how, or why |", "| --- | --- | --- |", *lines])


PARTS: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {"settings": settings, "help": help_text, "exit-codes": exit_codes},
    "CONTRIBUTING.md": {"modules": rooms},
    "docs/kubernetes.md": {"exit-codes": exit_codes},
    "docs/catalogs.md": {"register": register},
    "docs/connecting.md": {"attributes": connect_attributes},
    "charts/temporal-migrations/README.md": {"values": chart_values},
}


def generated(document: str, text: str) -> str:
    """Return the document with all parts as they have to be. Raises MarkersMissingError."""
    for name, make in PARTS[document].items():
        place = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        part = make()
        text, count = place.subn(lambda found, part=part: f"{found[1]}\n{part}\n\n{found[2]}", text)
        if count != 1:
            raise MarkersMissingError(f'{document} has {count} places "<!-- {name} -->", expected one')
    return text


def main() -> None:
    """Write, or with --check end with 1 if there is something to write."""
    for document in PARTS:
        path = ROOT / document
        before = path.read_text(encoding="utf-8")
        after = generated(document, before)
        if "--check" not in sys.argv[1:]:
            path.write_text(after, encoding="utf-8")
        elif after != before:
            sys.exit(f"{document} is not as the program is: run `make docs`")


if __name__ == "__main__":
    main()
