from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schema_migrator.releases import statements
from schema_migrator.releases.statements import Statement, created_tables, point_at, split
from support.postgres.databases import RELEASES

# Statements and files of each release's default and visibility store.
COUNTS = {
    "1.25.1": {"temporal": (61, 20), "visibility": (86, 10)},
    "1.29.1": {"temporal": (67, 24), "visibility": (95, 13)},
    "1.30.9": {"temporal": (67, 24), "visibility": (135, 18)},
    "1.31.5": {"temporal": (68, 25), "visibility": (139, 19)},
    "1.32.2": {"temporal": (68, 25), "visibility": (139, 19)},
}


def texts(sql: str) -> list[str]:
    """Return the texts of the statements."""
    return [statement.text for statement in split(sql, "f.sql")]


def one(sql: str) -> Statement:
    """Return the only statement."""
    (statement,) = split(sql, "f.sql")
    return statement


@pytest.fixture
def afresh() -> None:
    """Forget what earlier tests have split, so that the same texts are split again."""
    for cached in (statements.split, statements.created_tables, statements._code):
        cached.cache_clear()


def vendor_files(release: str, folder: str) -> list[Path]:
    """Return the vendor's SQL files of a store."""
    return sorted((RELEASES / release / "postgresql" / "v12" / folder / "versioned").rglob("*.sql"))


@pytest.mark.parametrize("release", COUNTS)
@pytest.mark.parametrize("folder", ["temporal", "visibility"])
def test_splits_the_vendors_files(release: str, folder: str) -> None:
    """Each release gives the known number of statements."""
    files = vendor_files(release, folder)
    found = {file: len(texts(file.read_text())) for file in files}
    assert (sum(found.values()), len(found)) == COUNTS[release][folder]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("", []),
        (" ;\n; -- nothing\n;", []),
        ("SELECT 1", ["SELECT 1"]),
        ("SELECT 1;SELECT 2;", ["SELECT 1", "SELECT 2"]),
        ("SELECT ';' || \"a;b\" || E'\\';' || '''; ';", ["SELECT ';' || \"a;b\" || E'\\';' || '''; '"]),
        ("DO $$ BEGIN a; b; END $$; SELECT 2", ["DO $$ BEGIN a; b; END $$", "SELECT 2"]),
        ("DO $x$ a; $$ b; $$ $x$;", ["DO $x$ a; $$ b; $$ $x$"]),
        ("SELECT $1; SELECT a$b; SELECT c$b", ["SELECT $1", "SELECT a$b", "SELECT c$b"]),
        ("-- a; b\n/* c; d; */ SELECT '-- x' /* ; */; -- f;", ["SELECT '-- x'"]),
        ("CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2); SELECT 3", 2),
        ("CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END; SELECT 3", 2),
        ("CREATE OR REPLACE PROCEDURE p() BEGIN ATOMIC SELECT 1; END; SELECT 3", 2),
        ("BEGIN; SELECT 1; END; SELECT 2", ["BEGIN", "SELECT 1", "END", "SELECT 2"]),
        ('SELECT a AS "b--c"; SELECT "/*", "*/";', ['SELECT a AS "b--c"', 'SELECT "/*", "*/"']),
        ("SELECT E'it\\'s -- no'; SELECT 'a\\'; SELECT 2", ["SELECT E'it\\'s -- no'", "SELECT 'a\\'", "SELECT 2"]),
        ("SELECT naïve$a$ ; SELECT $ä$;$ä$", ["SELECT naïve$a$", "SELECT $ä$;$ä$"]),
    ],
)
@pytest.mark.usefixtures("afresh")
def test_splits_as_psql_does(sql: str, expected: list[str] | int) -> None:
    """A semicolon ends a statement except in quotes, comments, parentheses and bodies of routines."""
    assert (len(texts(sql)) if isinstance(expected, int) else texts(sql)) == expected


@given(st.text(alphabet="ab ;'\"$()-/*\\\nEö"))
def test_loses_nothing(sql: str) -> None:
    """Whatever the text, its statements stand in it, in order, each at its line."""
    position = 0
    for statement in split(sql, "f.sql"):
        position = sql.index(statement.text, position)
        assert statement.text == statement.text.strip() != ""
        assert sql.count("\n", 0, position) <= statement.line - 1 or statement.line == 1
        position += len(statement.text)


def test_tells_equal_statements_apart() -> None:
    """A statement's line is its own, also where the same text stands before it in a comment or a statement."""
    assert [statement.line for statement in split("-- SELECT 1\nSELECT 1;\nSELECT 1;\n\nSELECT 1;", "f")] == [2, 3, 5]


@pytest.mark.usefixtures("afresh")
def test_knows_each_statements_line() -> None:
    """Lines count from 1, at the statement itself and not at the comment before it."""
    sql = "-- one\n\nSELECT 1; SELECT 2; -- two\n\n/* three\n*/ SELECT 3\n;\n\tSELECT 4"
    assert [(s.text, s.line, s.file) for s in split(sql, "f.sql")] == [
        ("SELECT 1", 3, "f.sql"),
        ("SELECT 2", 3, "f.sql"),
        ("SELECT 3", 6, "f.sql"),
        ("SELECT 4", 8, "f.sql"),
    ]


@pytest.mark.parametrize(
    ("sql", "name"),
    [
        ("CREATE INDEX CONCURRENTLY i ON t (a)", "i"),
        ("create unique index concurrently IF NOT EXISTS By_A on t (a)", "by_a"),
        ('CREATE INDEX\n\tCONCURRENTLY "By A" ON t (a)', "By A"),
        ("CREATE /* x */ INDEX CONCURRENTLY -- y\n i ON t (a)", "i"),
        ("CREATE INDEX CONCURRENTLY ON t (a)", None),
        ("DROP INDEX CONCURRENTLY IF EXISTS i", None),
        ("REINDEX INDEX CONCURRENTLY i", None),
        ("REINDEX (VERBOSE) TABLE CONCURRENTLY t", None),
        ("ALTER TABLE t DETACH PARTITION p CONCURRENTLY", None),
    ],
)
def test_recognises_concurrently(sql: str, name: str | None) -> None:
    """Every form that refuses a transaction is known, with its index; without the word it keeps its positions."""
    statement = one(sql)
    assert statement.concurrent
    assert statement.concurrent_index == name
    assert len(statement.plain) == len(sql)
    assert "CONCURRENTLY" not in statement.plain.upper()
    assert statement.plain.split() == [word for word in sql.split() if word.upper() != "CONCURRENTLY"]


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE INDEX i ON t (a)",
        "CREATE INDEX i ON t (concurrently)",
        "CREATE INDEX /* CONCURRENTLY */ i ON t (a)",
        "SELECT 'CREATE INDEX CONCURRENTLY i ON t (a)'",
        "DO $$ CREATE INDEX CONCURRENTLY i ON t (a) $$",
        "CREATE TABLE concurrently_done (a int)",
        "REFRESH MATERIALIZED VIEW CONCURRENTLY v",
    ],
)
def test_leaves_other_statements_alone(sql: str) -> None:
    """The word in a comment, a text, a body or another command changes nothing."""
    statement = one(sql)
    assert not statement.concurrent
    assert statement.concurrent_index is None
    assert statement.plain == sql


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("CREATE EXTENSION btree_gin", "CREATE EXTENSION IF NOT EXISTS btree_gin"),
        ("create  extension\nbtree_gin", "create  extension IF NOT EXISTS\nbtree_gin"),
        ('CREATE EXTENSION "if" SCHEMA x', 'CREATE EXTENSION IF NOT EXISTS "if" SCHEMA x'),
        ("CREATE EXTENSION IF NOT EXISTS btree_gin", "CREATE EXTENSION IF NOT EXISTS btree_gin"),
        ("DO $$ BEGIN CREATE EXTENSION btree_gin; END $$", "DO $$ BEGIN CREATE EXTENSION btree_gin; END $$"),
    ],
)
def test_an_extension_may_be_there(sql: str, expected: str) -> None:
    """Visibility 1.2 of Temporal 1.20 creates an extension that a database may have, and that a rehearsal has."""
    assert one(sql).plain == expected


def test_summary_is_one_short_line() -> None:
    """A summary has no comments and no line breaks, and is cut."""
    assert one("SELECT -- all\n  *\n FROM t").summary == "SELECT * FROM t"
    long = one("SELECT " + "a, " * 50 + "b").summary
    assert len(long) == 80
    assert long.endswith("...")


@pytest.mark.usefixtures("afresh")
def test_finds_created_tables() -> None:
    """Names come without schema and quotes, folded as PostgreSQL folds them; comments do not count."""
    sql = """
      CREATE TABLE Executions (a int); create table if not exists public."Big ""One"" x" (a int);
      -- CREATE TABLE no1 (a int)
      /* CREATE TABLE no2 (a int) */ SELECT 'CREATE TABLE no3';
    """
    assert created_tables(sql) == {"executions", 'Big "One" x'}


@pytest.mark.parametrize(
    ("sql", "word", "shown"),
    [
        ("SELECT\n  nix;", "nix", "f.sql:2\n    nix\n    ^"),
        ("-- ö\nSELECT 1;\n\n SELECT 'öß', nix;", "nix", "f.sql:4\n  SELECT 'öß', nix\n               ^"),
        ("SELECT 1,\r\n\tö,\tnix\r\n;", "nix", "f.sql:2\n  \tö,\tnix\n  \t  \t^"),
    ],
)
def test_points_at_a_place(sql: str, word: str, shown: str) -> None:
    """File, line and a caret under the character, also after tabs and letters of several bytes."""
    statement = split(sql, "f.sql")[-1]
    assert point_at(statement, statement.text.index(word) + 1) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("SELECT 1,\n  2,\n  nix, \n  4,\n  5", "f.sql:5\n    nix, \n    ^"),
        ("SELECT nix,\r\n  2", "f.sql:3\n  SELECT nix,\n         ^"),
        ("SELECT 1,\n  nix AS X\nFROM t", "f.sql:4\n    nix AS X\n    ^"),
    ],
)
def test_points_at_a_line_among_others(text: str, shown: str) -> None:
    """Only the line itself is shown, as it is but for its end."""
    assert point_at(Statement(text=text, file="f.sql", line=3), text.index("nix") + 1) == shown


def test_points_at_the_end() -> None:
    """A statement that ends too early is shown with a caret behind its last character."""
    assert point_at(one("SELECT 1 +;\n"), 11) == "f.sql:1\n  SELECT 1 +\n            ^"


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("ALTER TABLE t ADD COLUMN c int", False),
        ("/* UPDATE t */ CREATE INDEX i ON t (c)", False),
        ("DROP INDEX IF EXISTS i", False),
        ("DO $$ BEGIN ALTER TABLE t ADD c int; END $$", False),
        ("DO $$ BEGIN -- DELETE\n ALTER TABLE t ADD c int; END $$", True),  # what is in a body is not told apart
        ("DO $$ BEGIN UPDATE t SET c = 1; END $$", True),
        ("DO $$ BEGIN PERFORM f(); END $$", True),
        ("INSERT INTO t VALUES (1)", True),
        ("update t SET c = 1", True),
        ("WITH x AS (SELECT 1) DELETE FROM t", True),
        ("SELECT f()", True),
        ("TRUNCATE t", True),
    ],
)
def test_what_may_change_rows(sql: str, *, expected: bool) -> None:
    """Only what begins as a change of structure and has no word for a change of rows is sure not to."""
    assert one(sql).changes_rows == expected
