"""Which statements may run twice, and in which form."""

import pytest

from schema_migrator.releases.repetition import inserted_into, repeatable
from schema_migrator.releases.statements import Statement

KEYS = [frozenset({"id"}), frozenset({"a", "b"})]
AS_IT_IS = [
    "ALTER TABLE t ADD COLUMN a INT",
    "CREATE INDEX i ON t (a)",
    "COMMENT ON TABLE t IS 'UPDATE t SET a = a'",
    "DO $$ BEGIN DROP INDEX i; END $$",
    "UPDATE t SET a = 1",
    "UPDATE t SET a = b, c = 2 WHERE a IS NULL OR a = 3",
    "UPDATE t SET a = coalesce(b, 'set a = a')",
    "INSERT INTO t (id, c) VALUES (1, 2) ON CONFLICT DO NOTHING",
    "insert into t (id, c) values (1, 2) on conflict do nothing",
]
NEVER = [
    "UPDATE t SET a = a + 1",
    "UPDATE t SET a = b, b = c",
    "UPDATE t SET a = A + 1",
    "UPDATE t SET (a, b) = (1, 2)",
    "UPDATE t SET a = random()",
    "UPDATE t SET a = 1 WHERE random() < 0.5",
    "UPDATE t SET a = (SELECT max(b) FROM t)",
    "UPDATE t SET a = current_timestamp",
    "UPDATE t SET a = 1 RETURNING b",
    "DELETE FROM t",
    "DO $$ BEGIN UPDATE t SET a = 1; END $$",
    "SELECT setval('s', 1)",
    "INSERT INTO t VALUES (1)",
    "INSERT INTO t (a) VALUES (1)",
    "INSERT INTO t (id) VALUES (gen_random_uuid())",
    "INSERT INTO t (id) VALUES (DEFAULT)",
    "INSERT INTO t (id, c) VALUES (1, 2) ON CONFLICT (id) DO UPDATE SET c = t.c + 1",
    "INSERT INTO t (id, c) VALUES (1, 2) ON CONFLICT ON CONSTRAINT t_pkey DO UPDATE SET c = 3",
    "INSERT INTO t (id, c) VALUES (1, 2) RETURNING id",
    "insert into t (id, c) values (1, 2) returning id",
]
LEFT_ALONE = [
    "INSERT INTO t (id, c) VALUES (1, 'x'), (2, 'y')",
    "INSERT INTO t (b, a) VALUES (1, 2)",
    "INSERT INTO t (id) SELECT id FROM u",
]


def again(text: str) -> str | None:
    """Return the form in which a statement may run again."""
    found = repeatable(Statement(text=text, file="f.sql", line=1), KEYS)
    return found.text if found else None


@pytest.mark.parametrize("text", AS_IT_IS)
def test_as_it_is(text: str) -> None:
    """It changes no rows, or gives them the same values again."""
    assert again(text) == text


@pytest.mark.parametrize("text", NEVER)
def test_never(text: str) -> None:
    """It could change rows twice, or that cannot be told."""
    assert again(text) is None


@pytest.mark.parametrize("text", LEFT_ALONE)
def test_rows_with_the_same_key_are_left_alone(text: str) -> None:
    """An INSERT that names a whole key."""
    assert again(text) == f"{text} ON CONFLICT DO NOTHING"


@pytest.mark.parametrize(
    ("text", "table"),
    [
        ("INSERT INTO orders (id) VALUES (1)", "orders"),
        ("insert into shop.Orders (id, day) VALUES (1, '(2)')", "orders"),
        ("INSERT INTO orders VALUES (1)", None),
        ("UPDATE orders SET id = 1", None),
    ],
)
def test_where_an_insert_writes(text: str, table: str | None) -> None:
    """The table's name is known, in lower case, if the columns are listed."""
    assert inserted_into(Statement(text=text, file="f.sql", line=1)) == table
