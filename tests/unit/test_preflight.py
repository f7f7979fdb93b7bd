from typing import Any

import pytest

from schema_migrator.diagnosis.state import Absent
from schema_migrator.planning.preflight import ExtensionRights, cannot_rehearse, problems
from support.program.factories import facts, planned

PUBLIC = (
    'it may not create tables in the schema "public", which "admin" owns (since PostgreSQL 15 only its owner may)',
    (
        'as its owner run: GRANT USAGE, CREATE ON SCHEMA "public" TO "temporal"; '
        "in a CloudNativePG Database: schemas: [{name: public, owner: temporal}]"
    ),
)
GIN = (
    "it may not create the extension btree_gin (that requires CREATE on the database)",
    (
        'as a superuser in "temporal_visibility" run: CREATE EXTENSION btree_gin; '
        "in a CloudNativePG Database: extensions: [{name: btree_gin}]"
    ),
)
NO_GIN = ("the server does not offer the extension btree_gin", "install PostgreSQL's contrib modules on the server")


def found(rights: ExtensionRights | None = None, **changes: Any) -> list[tuple[str, str]]:  # noqa: ANN401 - Facts
    """Return the problems of a fresh install."""
    made = problems(planned(Absent()), facts(**changes), rights)
    return [(problem.found, problem.remedy) for problem in made]


def rights(*, available: bool = True, trusted: bool = True, superuser: bool = False) -> ExtensionRights:
    """Return what a role may do about btree_gin."""
    return ExtensionRights(available=available, trusted=trusted, superuser=superuser)


def test_none_in_a_healthy_database() -> None:
    """A role with all rights meets no problem."""
    assert found() == []
    assert found(rights()) == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"server": 110022}, ("the server is PostgreSQL 11", "12 or newer is needed")),
        (
            {"read_only": True},
            (
                "the server is read-only (a standby, or default_transaction_read_only is on)",
                "connect to the primary server",
            ),
        ),
        ({"may_create_table": False, "schema_owner": "admin"}, PUBLIC),
        ({"schema": "t", "schema_exists": False}, ('the schema "t" does not exist', 'CREATE SCHEMA "t";')),
        (
            {"schema": None, "schema_exists": False},
            ("no schema of the search_path exists", "set search_path in its settings"),
        ),
        (
            {"elsewhere": ["a", "b"]},
            (
                "tables of the visibility store are also in the schema a, b",
                "name the right schema by search_path in SQL_CONNECT_ATTRIBUTES",
            ),
        ),
        (
            {"foreign_tables": ["a"]},
            (
                "it does not own one table of the schema: a",
                'run as the owner, or make it a member: GRANT <owner> TO "temporal";',
            ),
        ),
        (
            {"foreign_tables": ["a", "b", "c", "d"]},
            (
                "it does not own 4 tables of the schema: a, b, c, ...",
                'run as the owner, or make it a member: GRANT <owner> TO "temporal";',
            ),
        ),
    ],
)
def test_each_problem_has_its_remedy(changes: dict[str, Any], problem: tuple[str, str]) -> None:
    """What is wrong, and the line that cures it."""
    assert found(**changes) == [problem]


def test_a_missing_schema_hides_what_depends_on_it() -> None:
    """Rights on a schema that does not exist are no second problem."""
    assert len(found(schema="t", schema_exists=False, may_create_table=False)) == 1


@pytest.mark.parametrize(
    ("right", "may_create_schema", "expected"),
    [
        (rights(), True, []),
        (rights(), False, [GIN]),
        (rights(trusted=False), True, [GIN]),
        (rights(trusted=False, superuser=True), False, []),
        (rights(available=False, superuser=True), True, [NO_GIN]),
    ],
)
def test_btree_gin(right: ExtensionRights, *, may_create_schema: bool, expected: list[tuple[str, str]]) -> None:
    """A trusted extension takes CREATE on the database, any other one a superuser; none can be made of nothing."""
    assert found(right, may_create_schema=may_create_schema) == expected


def test_all_at_once() -> None:
    """One look finds everything."""
    made = found(
        rights(),
        server=110000,
        read_only=True,
        may_create_schema=False,
        may_create_table=False,
        schema_owner="admin",
        foreign_tables=["x"],
        elsewhere=["y"],
    )
    assert len(made) == 6


def test_names_are_quoted() -> None:
    """SQL of a remedy runs as it stands, whatever the names are like."""
    ((_, remedy),) = found(may_create_table=False, schema='my "schema"', role='ro"le')
    assert 'ON SCHEMA "my ""schema""" TO "ro""le";' in remedy


def test_rehearsing_takes_a_right() -> None:
    """Without CREATE on the database there is the grant; a comparison cannot do without a rehearsal."""
    problem = cannot_rehearse(facts(), "temporal")
    assert problem.found == 'it may not create the scratch schema of a rehearsal (that requires CREATE on "temporal")'
    assert problem.remedy == 'as its owner run: GRANT CREATE ON DATABASE "temporal" TO "temporal";'
