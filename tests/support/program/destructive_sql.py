"""What of a text, pasted into psql, could destroy something: each statement but comments, also within a DO block."""

import re
from functools import cache

import sqlparse

_BLOCK = re.compile(r"DO \$(?P<tag>\w+)\$ BEGIN (?P<inner>.*)\nEND \$(?P=tag)\$;?", re.DOTALL)
_HARMLESS = r"(?!\s+(?:NOT\s+NULL|DEFAULT|EXPRESSION)\b)"
_DESTROYING = re.compile(
    rf"""\b(?:DROP\b{_HARMLESS}|TRUNCATE|DELETE|UPDATE|CASCADE|DISABLE|NO\s+FORCE|SET\s+UNLOGGED|DETACH|REVOKE
       |SET\s+SCHEMA|EXECUTE|PERFORM)\b""",
    re.IGNORECASE | re.VERBOSE,
)


@cache
def statements(text: str) -> list[str]:
    """Return the statements that psql would send, comments left out, a DO block as those within it."""
    found = []
    code = sqlparse.format(text, strip_comments=True) if "--" in text or "/*" in text else text
    for statement in sqlparse.split(code):
        block = _BLOCK.fullmatch(statement)
        found += sqlparse.split(block["inner"]) if block else [statement]
    return [statement for statement in found if statement.strip("; \n")]


def destroying(text: str) -> list[str]:
    """Return the statements that could lose a value or something of the user's own, or open a table."""
    return [statement for statement in statements(text) if _DESTROYING.search(statement)]
