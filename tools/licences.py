"""Check the licences of all components of the SBOMs and write docs/licences.md; `make licences` runs it.

A component may be under any licence of ALLOWED, or under one that EXCEPTIONS has for it. The packages of the image's
base are the base's, so they are counted and not checked.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parent.parent / "docs" / "licences.md"
ALLOWED = frozenset(
    {
        *("MIT", "MIT-0", "0BSD", "BSD-1-Clause", "BSD-2-Clause", "BSD-3-Clause", "BSD-3-Clause-Attribution", "ISC"),
        *(
            "Apache-2.0",
            "Apache-2.0 WITH LLVM-exception",
            "Zlib",
            "bzip2-1.0.6",
            "Unlicense",
            "PostgreSQL",
            "OLDAP-2.8",
        ),
        *("BSD License", "PSF-2.0", "Python-2.0", "Unicode-3.0", "Unicode-DFS-2016", "CDLA-Permissive-2.0"),
    }
)
"""The licences that any component may have: all permit use, change and redistribution and ask for their notices.

"BSD License" is how the metadata of Python packages name several of them.
"""
NAMES: Mapping[str, str] = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache Software License": "Apache-2.0",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}
"""SPDX ids of licences that packages name in their own words."""
EXCEPTIONS: Mapping[str, tuple[str, str]] = {
    "psycopg": ("LGPL-3.0-only", "unmodified, a separate package that can be replaced"),
    "psycopg-binary": ("LGPL-3.0-only", "unmodified, a separate package that can be replaced"),
    "certifi": ("MPL-2.0", "unmodified, a list of certificates whose source is public on PyPI"),
    "github.com/go-sql-driver/mysql": ("MPL-2.0", "unmodified, its source is public under its module's name"),
    "github.com/nexus-rpc/nexus-proto-annotations": ("", "published without a licence; part of the vendor's program"),
    "option-ext": ("MPL-2.0", "unmodified, its source is public on crates.io"),
    "libxcrypt": ("LGPL-2.1-or-later", "unmodified, a shared library that can be replaced"),
    "keyutils-libs": ("LGPL-2.0-or-later", "unmodified, a shared library that can be replaced"),
}
"""Components under another licence, with the reason why that is acceptable."""
GROUPS: Mapping[str, str] = {
    "pypi": "Python packages",
    "native": "Libraries in psycopg's wheel",
    "golang": "Go modules of the vendor's temporal-sql-tool",
    "cargo": "Rust crates in the wheels of pydantic-core and temporalio",
}
BASE = ("deb", "base")
HEAD = """# Licences

Written by `make licences`, which checks the components of the wheel and of the images. Do not edit it by hand. The
SBOMs of a release have the versions.

temporal-schema-migrator itself is under the [Apache License 2.0](../LICENSE). Temporal's SQL files are under the MIT
licence, which is beside them in the image. The image's base is Debian and Python: its packages, of which many are under
the GPL, are used as they are, and their licences are in `/usr/share/doc` in the image. The licence files of
the Go modules are in `/usr/share/doc/temporal-schema-migrator` in the image with the vendor's tool.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """A component of an SBOM; `licence` is an SPDX expression, empty where none is known."""

    group: str
    name: str
    licence: str


def main(args: list[str] | None = None) -> None:
    """Write the page; end with 1 if a licence is not allowed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", type=Path, default=PAGE, help="the page to write (docs/licences.md)")
    parser.add_argument("sboms", nargs="+", type=Path, help="SBOMs as CycloneDX JSON")
    given = parser.parse_args(args)
    documents = [json.loads(path.read_text(encoding="utf-8")) for path in given.sboms]
    found = sorted({entry for document in documents for entry in components(document)}, key=order)
    if refused := [text for entry in found if (text := problem(entry))]:
        sys.exit("\n".join(refused))
    given.page.write_text(page(found), encoding="utf-8")


def order(component: Component) -> tuple[str, str, str]:
    """Return the key by which components are sorted."""
    return component.group, component.name.lower(), component.licence


def components(document: Mapping[str, Any]) -> Iterator[Component]:
    """Yield the components of an SBOM, the one that it describes left out."""
    described = document["metadata"]["component"]["name"]
    for entry in document["components"]:
        group = group_of(entry)
        if entry["name"] != described and group not in BASE:
            yield Component(group=group, name=entry["name"], licence=expression(entry.get("licenses", ())))


def group_of(component: Mapping[str, Any]) -> str:
    """Return the kind of package that a component is."""
    if component["type"] == "operating-system" or component["name"] == "python":
        return "base"
    if component["bom-ref"].startswith("native:") or component.get("purl", "").startswith(("pkg:rpm/", "pkg:generic/")):
        return "native"
    return re.split("[:/]", component["purl"])[1]


def expression(licences: Iterable[Mapping[str, Any]]) -> str:
    """Return the licences of a component as one SPDX expression; several of them all apply."""
    found = {
        " ".join(text.split()): None
        for entry in licences
        if (text := entry.get("expression") or spdx_id(entry["license"]))
    }
    return (
        next(iter(found))
        if len(found) == 1
        else " AND ".join(f"({text})" if " OR " in text else text for text in found)
    )


def spdx_id(licence: Mapping[str, str]) -> str:
    """Return the SPDX id of a licence; the name that the package gives it if that is unknown."""
    return licence.get("id") or NAMES.get(licence["name"], licence["name"])


def problem(component: Component) -> str:
    """Return the sentence about a licence that is not allowed."""
    excepted = {licence for name, (licence, _) in EXCEPTIONS.items() if name == component.name}
    if permitted(component.licence, ALLOWED | excepted):
        return ""
    kind = GROUPS.get(component.group, component.group)
    return (
        f'{component.name} ({kind}) has the licence "{component.licence}", expected {", ".join(sorted(ALLOWED))};'
        " replace it, or add it to EXCEPTIONS in tools/licences.py with the reason"
    )


def permitted(licence: str, allowed: Iterable[str]) -> bool:
    """Tell whether an SPDX expression can be met by allowed licences alone."""
    if licence in allowed:
        return True
    words = {name.replace(" ", "_"): "True" for name in allowed}
    joined = reduce(lambda text, name: text.replace(name, name.replace(" ", "_")), allowed, licence)
    known = {**words, "AND": "and", "OR": "or", "(": "(", ")": ")"}
    text = " ".join(known.get(token, "False") for token in re.findall(r"[()]|[^\s()]+", joined))
    try:
        return bool(text) and bool(eval(text))  # noqa: S307 - the text has True, False, and, or, and parentheses alone
    except SyntaxError:  # a licence in words of its own
        return False


def page(found: Iterable[Component]) -> str:
    """Return the text of docs/licences.md."""
    lines = [HEAD]
    for group, title in GROUPS.items():
        chosen = [entry for entry in found if entry.group == group]
        lines += [f"## {title}", "", *(summary(chosen) if group == "cargo" else table(chosen)), ""]
    return "\n".join(lines)


def table(found: Iterable[Component]) -> Iterator[str]:
    """Yield the lines of a table: each licence with its components."""
    names: dict[str, dict[str, None]] = {}
    for entry in found:
        names.setdefault(entry.licence, {})[entry.name] = None
    yield from ("| licence | components |", "| --- | --- |")
    for licence in sorted(names):
        yield f"| {licence or 'none'} | {', '.join(with_reason(name) for name in names[licence])} |"


def summary(found: Iterable[Component]) -> Iterator[str]:
    """Yield the lines for components that are too many to be named."""
    yield "The SBOM of the image names the crates, of all platforms, as these wheels declare them. Their licences:"
    yield ""
    yield from sorted({f"- {entry.licence}" for entry in found})


def with_reason(name: str) -> str:
    """Return a component's name, with the reason of its exception."""
    return f"{name} ({EXCEPTIONS[name][1]})" if name in EXCEPTIONS else name


if __name__ == "__main__":
    main()
