"""Check texts for phrases that read as translated; `make lint` runs it. Arguments name the scopes to check.

Quotations of the program, which stand in code type or between the markers of a generated part, belong to the scopes
`messages` and `source`.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PHRASES: Mapping[str, str] = {
    r"anew": "again",
    r"hangs? on": "depends on",
    r"as it has to be": "matches",
    r"as it should be": "matches, correct",
    r"(what|which) stands?": "name the thing",
    r"stands? (in|on|at|below|above|between)": "is",
    r"in the way of": "blocks",
    r"in its way": "blocks it",
    r"those who": "name them: sessions, roles, users",
    r"nobody knows": "unknown",
    r"meanwhile(?!,)": "in the meantime, during the run, or nothing",
    r"lets? us (in|not)": "accepts the connection, denies the request",
    r"goes? along": "is carried over",
    r"carr(y|ies) on": "continue",
    r"carried on": "continued",
    r"is told": "is reported",
    r"unless (said|told)": "by default",
    r"a (step|store|test|run|release|transaction) each": "per",
    r"(transaction|release|image|row|line|record) a (step|store|statement|release|test|call)": "per",
    r"held? up (writers|readers|a step|everybody)": "block",
    r"think better of": "change your mind",
    r"foretells?": "estimates",
    r"made good": "repaired",
    r"put right": "fixed",
    r"the like": "similar",
    r"open since \d+ s": "open for ... s",
    r"since \d+ s": "for ... s",
    r"whatever it does": "say what it is for",
    r"tries after the first": "retries",
    r"at once for every": "immediately for every",
    r"by whom(ever)?": "name the actor",
    r"is (?:to|not to) be had": "is available",
    r"becomes? of it": "happens to it",
}
PATTERNS = {re.compile(rf"\b{phrase}\b", re.IGNORECASE): instead for phrase, instead in PHRASES.items()}
OTHERS = ("Makefile", "Dockerfile", "compose.yaml", "charts", "examples", ".github")
GENERATED = re.compile(r"<!-- ([\w-]+) -->.*?<!-- /\1 -->", re.DOTALL)
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)


def main() -> None:
    """Print what is found, with what to write instead; end with 1 if there is something."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scopes", nargs="*", default=["documents"], help=f"of {', '.join(SCOPES)} (documents)")
    wanted = parser.parse_args().scopes
    texts = {place: text for scope in wanted for place, text in SCOPES[scope]()}
    sys.exit("\n".join(found for place, text in texts.items() for found in problems(place, text)) or None)


def problems(place: str, text: str) -> Iterator[str]:
    """Yield each phrase that a text should not have, with its line."""
    for pattern, instead in PATTERNS.items():
        for found in pattern.finditer(text):
            yield f'{place}:{text.count(chr(10), 0, found.start()) + 1}: "{found[0]}": {instead}'


def documents() -> Iterator[tuple[str, str]]:
    """Yield the documents, and the other files that people read, without what is generated or quoted."""
    for name in tracked("*.md", *OTHERS):
        if Path(name).name == "values.schema.json":
            continue
        text = GENERATED.sub(blank, (ROOT / name).read_text(encoding="utf-8"))
        yield name, CODE.sub(blank, text) if name.endswith(".md") else text


def blank(found: re.Match[str]) -> str:
    """Return the empty lines that keep the numbers of the lines after them."""
    return "\n" * found[0].count("\n")


def messages() -> Iterator[tuple[str, str]]:
    """Yield the golden files of the program's messages."""
    for name in tracked("tests/data/messages", "tests/data/reports"):
        yield name, (ROOT / name).read_text(encoding="utf-8")


def source() -> Iterator[tuple[str, str]]:
    """Yield the docstrings, texts and comments of the program."""
    yield from modules("src/*.py")


def tools() -> Iterator[tuple[str, str]]:
    """Yield those of the tools, but for the phrases above."""
    yield from (found for found in modules("tools/*.py", "vendor/*.py") if not __file__.endswith(found[0]))


def modules(*patterns: str) -> Iterator[tuple[str, str]]:
    """Yield what is written for people in modules, on the lines where it is."""
    yield from ((name, spoken((ROOT / name).read_text(encoding="utf-8"))) for name in tracked(*patterns))


def spoken(code: str) -> str:
    """Return what is written for people in a module, each text on its line."""
    lines = [""] * (code.count("\n") + 2)
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            for shift, line in enumerate(node.value.splitlines()):
                lines[min(node.lineno - 1 + shift, len(lines) - 1)] += f" {line}"
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type == tokenize.COMMENT:
            lines[token.start[0] - 1] += f" {token.string}"
    return "\n".join(lines)


def tracked(*patterns: str) -> list[str]:
    """Return the files of the repository that match, those not yet committed too."""
    command = ("git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns)
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [name for name in dict.fromkeys(found) if (ROOT / name).exists()]


SCOPES = {"documents": documents, "tools": tools, "messages": messages, "source": source}


if __name__ == "__main__":
    main()
