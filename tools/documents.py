"""Write the generated parts of the documents; --check only compares.

The chart has a value for every setting, and its README lists all values. docs/reference has the settings, the exit
codes, the text of --help, JSON output and events, CONTRIBUTING.md and docs/architecture.md the rooms, docs/catalogs.md
the register of PostgreSQL's catalogs, docs/connecting.md that of libpq's parameters, docs/monitoring.md the metrics,
docs/supported-versions.md its table. What names the version of the program gets the one of its source.
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

import chart_options
import metrics_page
import reference_pages
import supported_versions
from schema_migrator import __version__
from schema_migrator.catalog.table_register import REGISTER, Fate
from schema_migrator.cli.arguments import parser
from schema_migrator.config import chart
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
            "## The run",
            "",
            *table(run_options()),
            "",
            "## The databases",
            "",
            "Each of these settings also exists for one store, which then takes precedence: `DEFAULT_SQL_HOST`",
            "(`--default-sql-host`), `VISIBILITY_SQL_HOST` (`--visibility-sql-host`), `SECONDARY_VISIBILITY_SQL_HOST`",
            "(`--secondary-visibility-sql-host`), and so on.",
            "",
            *table(sql_options()),
            "",
            "## Temporal's frontend",
            "",
            "For `wait --for frontend` and `namespaces`:",
            "",
            *table(client_options()),
        ]
    )


def table(options: Iterable[Option]) -> list[str]:
    """Return the lines of a Markdown table."""
    values = chart.values()
    rows = (
        f"| `{option.flag}` | `{option.variable}` | {code(option.default)} | {escaped(option.meaning)} |"
        f" {in_chart(values[option.variable])} |"
        for option in options
    )
    return ["| flag | variable | default | meaning | in the chart |", "| --- | --- | --- | --- | --- |", *rows]


def in_chart(names: str) -> str:
    """Return the names of one or several of the chart's values in code type."""
    return ", ".join(code(name) for name in names.split(" and "))


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
    rows = [f"| `{name}` | {first_line(SOURCE / name)} | {contents(SOURCE / name)} |" for name in layers()]
    return "\n".join(["| room | what is in it | modules |", "| --- | --- | --- |", *rows])


def packages() -> str:
    """Return the rooms that are packages, in the same order, each with the first line of its docstring."""
    rows = [f"| `{name}` | {first_line(SOURCE / name)} |" for name in layers() if (SOURCE / name).is_dir()]
    return "\n".join(["| room | what is in it |", "| --- | --- |", *rows])


def layers() -> list[str]:
    """Return the names of the rooms, each below those that import it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contract = project["tool"]["importlinter"]["contracts"][0]
    return [name.strip() for layer in reversed(contract["layers"]) for name in layer.split("|")]


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


def stamped(text: str, pattern: str) -> str:
    """Return a text with this program's version where the group of a pattern matches."""

    def renewed(found: re.Match[str]) -> str:
        start, end = (place - found.start() for place in found.span(1))
        return found[0][:start] + __version__ + found[0][end:]

    return re.sub(pattern, renewed, text, flags=re.MULTILINE)


PARTS: dict[str, dict[str, Callable[[], str]]] = {
    "docs/reference/settings.md": {"settings": settings},
    "docs/reference/command-line.md": {"help": help_text},
    "docs/reference/exit-codes.md": {"exit-codes": exit_codes},
    "docs/reference/output.md": {"output": reference_pages.output},
    "docs/reference/events.md": {"events": reference_pages.events},
    "CONTRIBUTING.md": {"modules": rooms},
    "docs/architecture.md": {"rooms": packages},
    "docs/kubernetes.md": {"exit-codes": exit_codes},
    "docs/catalogs.md": {"register": register},
    "docs/connecting.md": {"attributes": connect_attributes},
    "docs/monitoring.md": {"metrics": metrics_page.table},
    "docs/supported-versions.md": {"supported-versions": supported_versions.table},
    "charts/temporal-migrations/README.md": {"values": chart_values},
}

NUMBER = r"(\d+\.\d+\.\d+)"
TAG = "temporal-schema-migrator:"
REVISION = rf"[rR]evision: v{NUMBER}"
STAMPS = {
    "README.md": rf"(?:{TAG}|--version ){NUMBER}",
    "compose.yaml": rf"{TAG}{NUMBER}",
    "docs/running.md": rf"(?:{TAG}|^VERSION=){NUMBER}",
    "docs/verify-release.md": rf"^VERSION={NUMBER}",
    "charts/temporal-migrations/Chart.yaml": rf'(?:^version: |^appVersion: "|{TAG}|/blob/v){NUMBER}',
    "charts/temporal-migrations/README.md": rf"(?:schema-migrator[:/]|--version |/blob/v){NUMBER}",
    "examples/argocd/application.yaml": REVISION,
    "examples/argocd/fleet.yaml": REVISION,
    "examples/argocd/rolling-sync.yaml": REVISION,
    "examples/official-chart/application.yaml": rf"{TAG}{NUMBER}",
}
"""Where this program's version is written beside its source, `__version__`."""


def generated(document: str, text: str) -> str:
    """Return the document with all parts as they have to be. Raises MarkersMissingError."""
    if document in chart_options.WRITERS:
        return chart_options.WRITERS[document](text)
    for name, make in PARTS.get(document, {}).items():
        place = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        part = make()
        text, count = place.subn(lambda found, part=part: f"{found[1]}\n{part}\n\n{found[2]}", text)
        if count != 1:
            raise MarkersMissingError(f'{document} has {count} places "<!-- {name} -->", expected one')
    return stamped(text, STAMPS[document]) if document in STAMPS else text


def main() -> None:
    """Write, or with --check end with 1 if there is something to write, or the program logs other events."""
    for document in dict.fromkeys((*chart_options.WRITERS, *PARTS, *STAMPS)):
        path = ROOT / document
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        after = generated(document, before)
        if "--check" not in sys.argv[1:]:
            path.write_text(after, encoding="utf-8")
        elif after != before:
            sys.exit(f"{document} is out of date: run `make docs`")
    sys.exit("\n".join(reference_pages.differences()) or None)


if __name__ == "__main__":
    main()
