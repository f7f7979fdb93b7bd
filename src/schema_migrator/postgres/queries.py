"""Long queries, each in a file that psql can run: `psql -v schema=public -f dropped_dependents.sql`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, LiteralString

if TYPE_CHECKING:
    from collections.abc import Iterator

VARIABLE = re.compile(r"(?<!:):'(\w+)'")
"""A variable of psql's, quoted as a literal; psycopg's placeholder of that name takes its place."""


def load(module: str, name: str) -> LiteralString:
    """Return the query in the file `name`.sql beside a module (its __file__), with psycopg's placeholders."""
    text = "".join(_statement(Path(module).with_name(f"{name}.sql")))
    return VARIABLE.sub(r"%(\1)s", text.replace("%", "%%"))


def _statement(path: Path) -> Iterator[str]:
    """Yield the lines of a file without its comments and its last semicolon."""
    lines = path.read_text(encoding="utf-8").rstrip().removesuffix(";").splitlines(keepends=True)
    return (line for line in lines if not line.startswith("--"))
