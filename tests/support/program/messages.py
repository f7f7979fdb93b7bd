"""The sentences in our code that a person can meet: errors, hints, remedies, help and reports, as templates."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

WORDS = re.compile(r"[a-z]{2,}[,;:]? [a-z(\"'{]")
QUERY = re.compile(
    r"\s*(--|SELECT|WITH|INSERT|UPDATE|DELETE|CREATE|ALTER|DROP|SET|LOCK|COPY|BEGIN|VACUUM|UNION)\b"
    r"|.*?\b(SELECT|FROM pg_|pg_catalog\.)",
    re.DOTALL,
)
PATTERN = re.compile(r"\(\?|\\[a-z]")
REGISTERS = ("attributes.py", "table_register.py")
"""Modules whose texts are tables of documents of their own, and compared there."""


def sentences(folder: Path) -> list[str]:
    """Return them, each once, in alphabetical order; what is filled in stands in braces, by its name if it has one."""
    paths = [path for path in folder.glob("**/*.py") if path.name not in REGISTERS]
    found = {one for path in paths for one in _of(ast.parse(path.read_text(encoding="utf-8")))}
    return sorted(found, key=lambda text: (text.lower(), text))


def _of(tree: ast.AST) -> Iterator[str]:
    for node in _without_docstrings(tree):
        match node:
            case ast.Constant(value=str() as text):
                said = text
            case ast.JoinedStr():
                said = "".join(_part(value) for value in node.values)
            case _:
                continue
        if WORDS.search(said) and not QUERY.match(said) and not PATTERN.search(said):
            yield said.replace("\n", "\\n")


def _without_docstrings(tree: ast.AST) -> Iterator[ast.AST]:
    """Go through a tree; the texts in an f-string are parts of it, and an expression that is a text alone is none."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(tree, ast.JoinedStr) and isinstance(child, ast.Constant):
            continue
        if not (isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)):
            yield child
            yield from _without_docstrings(child)


def _part(value: ast.expr) -> str:
    if isinstance(value, ast.Constant):
        return str(value.value)
    assert isinstance(value, ast.FormattedValue)
    plain = all(isinstance(node, ast.Name | ast.Attribute | ast.Load) for node in ast.walk(value.value))
    return "{" + (ast.unparse(value.value) if plain else "...") + "}"
