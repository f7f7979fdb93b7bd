"""Splits SQL text into statements, and derives from a statement's text how it may run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

_SUMMARY = 80
# Comments and string literals, where the word CONCURRENTLY means nothing. Quoted identifiers match as well, because
# they can contain the characters that begin a comment or a string.
_HIDDEN = re.compile(
    r"""--[^\n]* | /\*.*?\*/ | "[^"]*"
      | (?<!\w)[eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*'
      | (?<![\w$])\$(?P<tag>(?:[^\W\d]\w*)?)\$.*?\$(?P=tag)\$""",
    re.VERBOSE | re.DOTALL,
)
_NAME = r'(?:(?:"(?:[^"]|"")+"|[\w$]+)\s*\.\s*)?(?:"(?P<quoted>(?:[^"]|"")+)"|(?P<bare>[\w$]+))'
_CONCURRENTLY = re.compile(
    r"""(?: CREATE\s+(?:UNIQUE\s+)?INDEX
          | DROP\s+INDEX
          | REINDEX\s*(?:\([^)]*\)\s*)?(?:INDEX|TABLE|SCHEMA|DATABASE|SYSTEM)
          | ALTER\s+TABLE\b.*\bDETACH\s+PARTITION\s+\S+
        )\s+(?P<word>CONCURRENTLY)\b""",
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
_CONCURRENT_INDEX = re.compile(
    rf"CREATE\s+(?:UNIQUE\s+)?INDEX\s+CONCURRENTLY\s+(?:IF\s+NOT\s+EXISTS\s+)?(?!ON\b){_NAME}", re.IGNORECASE
)
_ENUM_VALUE = re.compile(r"ALTER\s+TYPE\s+\S+\s+ADD\s+VALUE\b", re.IGNORECASE)
_STRUCTURAL = re.compile(r"(ALTER\s+TABLE|(CREATE|DROP)\s+INDEX|DO)\b", re.IGNORECASE)
_CHANGES_ROWS = re.compile(r"\b(INSERT|UPDATE|DELETE|MERGE|TRUNCATE|COPY|CALL|PERFORM)\b", re.IGNORECASE)
_CREATE_INDEX = re.compile(
    rf"\bCREATE\s+(?:UNIQUE\s+)?INDEX\s+(?:CONCURRENTLY\s+)?(?:IF\s+NOT\s+EXISTS\s+)?(?!ON\b){_NAME}", re.IGNORECASE
)
# Statements that a step must not contain: they would end its transaction, or their effect would outlast it.
_LEAVES = re.compile(
    r"""(?: BEGIN | START\s+TRANSACTION | COMMIT | END | ROLLBACK | ABORT | SAVEPOINT | RELEASE | PREPARE | EXECUTE
      | DEALLOCATE | DISCARD | RESET | SET(?!\s+CONSTRAINTS\b)(?:\s+(?:SESSION|LOCAL))? | LISTEN | UNLISTEN
      | LOAD )\b""",
    re.VERBOSE | re.IGNORECASE,
)
_NEW_EXTENSION = re.compile(r"CREATE\s+EXTENSION(?!\s+IF\b)", re.IGNORECASE)
_DROP_TABLE = re.compile(rf"\bDROP\s+TABLE\s+(?:IF\s+EXISTS\s+)?{_NAME}", re.IGNORECASE)
# Statements that reach one table alone, unless they contain one of the words below.
_ON_ONE_TABLE = re.compile(
    rf"""(?:CREATE\s+(?:UNIQUE\s+)?INDEX\s+(?:CONCURRENTLY\s+)?(?:IF\s+NOT\s+EXISTS\s+)?[\w$]+\s+ON
        | ALTER\s+TABLE)\s+(?:ONLY\s+)?{_NAME}""",
    re.VERBOSE | re.IGNORECASE,
)
_NEW_TABLE = re.compile(r"CREATE\s+TABLE\b", re.IGNORECASE)
_BEYOND = re.compile(r"\b(REFERENCES|INHERITS?|LIKE|SELECT|PARTITION|ATTACH|OF|SCHEMA|RENAME|EXISTS)\b", re.IGNORECASE)
_CREATE_TABLE = re.compile(rf"\bCREATE\s+TABLE\s+(?:IF\s+NOT\s+EXISTS\s+)?{_NAME}", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One SQL statement of a file.

    `text` has no leading comments and no final semicolon, `file` is the name that messages use for the file, and
    `line` is its first line, counted from 1.
    """

    text: str
    file: str
    line: int

    @property
    def concurrent(self) -> bool:
        """Whether PostgreSQL refuses the statement in a transaction block because it says CONCURRENTLY."""
        return bool(_CONCURRENTLY.match(_code(self.text)))

    @property
    def code(self) -> str:
        """The text with comments and string literals blanked out."""
        return _code(self.text)

    @property
    def enum_value(self) -> bool:
        """Whether the statement adds a value to an enum, which no statement may use before that is committed."""
        return bool(_ENUM_VALUE.match(self.code))

    @property
    def changes_rows(self) -> bool:
        """Whether the statement may change rows, which a rehearsal on empty tables cannot show.

        The answer is no only if the statement begins like a change of structure and contains no keyword that changes
        rows. Comments do not count; the body of a DO block does.
        """
        text = _blanked(self.text, texts=False)
        return not _STRUCTURAL.match(text) or bool(_CHANGES_ROWS.search(text))

    @property
    def concurrent_index(self) -> str | None:
        """The name of the index that a CREATE INDEX CONCURRENTLY creates; None for any other statement."""
        found = _CONCURRENT_INDEX.match(_code(self.text))
        return _named(found) if found else None

    @property
    def plain(self) -> str:
        """The text that runs inside a transaction: without CONCURRENTLY, and with IF NOT EXISTS for an extension.

        Blanks replace the word CONCURRENTLY, so that the positions in PostgreSQL's errors stay correct. An extension
        belongs to the database, not to a schema: it may be there before the first step, and is in a rehearsal.
        """
        code = _code(self.text)
        extension = _NEW_EXTENSION.match(code)
        if extension is not None:
            return f"{self.text[: extension.end()]} IF NOT EXISTS{self.text[extension.end() :]}"
        found = _CONCURRENTLY.match(code)
        if found is None:
            return self.text
        start, end = found.span("word")
        return self.text[:start] + " " * (end - start) + self.text[end:]

    @property
    def summary(self) -> str:
        """The statement on one line, without comments, cut to at most 80 characters."""
        line = " ".join(_blanked(self.text, texts=False).split())
        return line if len(line) <= _SUMMARY else line[: _SUMMARY - 3] + "..."


@cache
def split(sql: str, file: str) -> tuple[Statement, ...]:
    """Split a file's text into statements, without leading comments and without pieces that hold only comments."""
    import sqlparse  # noqa: PLC0415 - slow to load, and a run with nothing to do never needs it

    statements: list[Statement] = []
    position = 0
    for piece in sqlparse.split(sql):
        start = sql.index(piece, position)
        position = start + len(piece)
        lead, end = _inner(piece)
        if lead < end:
            line = sql.count("\n", 0, start + lead) + 1
            statements.append(Statement(text=piece[lead:end], file=file, line=line))
    return tuple(statements)


@cache
def created_tables(sql: str) -> frozenset[str]:
    """Return the names of the tables that a file's text creates: enough to tell the two stores apart."""
    return frozenset(_named(found) for found in _CREATE_TABLE.finditer(_code(sql)))


@cache
def dropped_tables(sql: str) -> frozenset[str]:
    """Return the names of the tables that a statement drops: the first one of each DROP TABLE."""
    return frozenset(_named(found) for found in _DROP_TABLE.finditer(_code(sql)))


@cache
def created_indexes(sql: str) -> frozenset[str]:
    """Return the names of the indexes that a file's text creates with CREATE INDEX."""
    return frozenset(_named(found) for found in _CREATE_INDEX.finditer(_code(sql)))


@cache
def own_tables(sql: str) -> frozenset[str] | None:
    """Return the existing table that a statement reaches, or none if it creates one; None if it may reach others."""
    code = _code(sql)
    found = _ON_ONE_TABLE.match(code)
    if _BEYOND.search(code[found.end() :] if found else code):
        return None
    if found:
        return frozenset({_named(found)})
    return frozenset() if _NEW_TABLE.match(code) else None


@cache
def leaves_transaction(sql: str) -> tuple[int, str] | None:
    """Return line and keywords of the first statement that reaches beyond its transaction; None if there is none."""
    code = re.sub(r'"[^"]*"', lambda name: re.sub(r"[^\n]", "x", name.group()), _code(sql))
    for piece in re.finditer(r"[^;]+", code):
        start = piece.start() + len(piece.group()) - len(piece.group().lstrip())
        found = _LEAVES.match(code, start)
        if found:
            return code.count("\n", 0, start) + 1, " ".join(found.group().upper().split())
    return None


def point_at(statement: Statement, position: int) -> str:
    """Return the text that shows an error's position: file, line number, the line itself and a caret.

    `position` counts the statement's characters from 1, as PostgreSQL does.
    """
    before = statement.text[: position - 1]
    line_start = before.rfind("\n") + 1
    line_end = statement.text.find("\n", line_start)
    line = statement.text[line_start : line_end if line_end >= 0 else None].rstrip("\r")
    number = statement.line + before.count("\n")
    pad = "".join("\t" if char == "\t" else " " for char in before[line_start:])
    return f"{statement.file}:{number}\n  {line}\n  {pad}^"


def _inner(piece: str) -> tuple[int, int]:
    """Return the start and end of a statement in a piece, excluding its semicolon and the comments around it."""
    bare = _blanked(piece, texts=False)
    return len(bare) - len(bare.lstrip("; \t\r\n\f\v")), len(bare.rstrip("; \t\r\n\f\v"))


@cache
def _code(sql: str) -> str:
    """Return the text with comments and string literals blanked out; every position stays the same."""
    return _blanked(sql, texts=True)


def _blanked(sql: str, *, texts: bool) -> str:
    """Return the text with comments blanked out, and with `texts` also string literals; quoted identifiers stay."""

    def blank(found: re.Match[str]) -> str:
        hidden = found.group()
        gone = hidden[0] != '"' if texts else hidden[:2] in ("--", "/*")
        return re.sub(r"[^\n]", " ", hidden) if gone else hidden

    return _HIDDEN.sub(blank, sql)


def _named(found: re.Match[str]) -> str:
    """Return the matched identifier as PostgreSQL stores it: folded to lower case unless quoted."""
    return found["quoted"].replace('""', '"') if found["quoted"] else found["bare"].lower()
