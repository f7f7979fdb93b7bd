"""Roles and servers that cannot do what a migration needs: every problem at once, each with its remedy."""

from dataclasses import replace

import pytest

from support.postgres.databases import Databases
from support.program.command import run_cli
from support.program.refusals import Refusals


def heading(databases: Databases, store: str) -> str:
    """Return the first line of a preflight's refusal."""
    return (
        f'error: {store}: role "{databases.user}" cannot migrate database "{databases.name(store)}"; '
        "problems, and how to fix each:"
    )


def test_read_only_server(refusals: Refusals, databases: Databases) -> None:
    """A database that takes no writes is found before anything is tried."""
    refusals.sql("default", f'ALTER DATABASE "{databases.default}" SET default_transaction_read_only = on')
    assert refusals.refused(12, "--store", "default") == [
        heading(databases, "default"),
        "  - the server is read-only (a standby, or default_transaction_read_only is on)",
        "    connect to the primary server",
    ]


def test_no_create_on_schema_public(refusals: Refusals, databases: Databases) -> None:
    """PostgreSQL 15's public schema: the SQL and CloudNativePG's lines that give the right are shown."""
    refusals.sql("default", "ALTER SCHEMA public OWNER TO CURRENT_USER")
    user = databases.user
    assert refusals.refused(12) == [
        heading(databases, "default"),
        (
            f'  - it may not create tables in the schema "public", which "{refusals.server.user}" owns '
            "(since PostgreSQL 15 only its owner may)"
        ),
        (
            f'    as its owner run: GRANT USAGE, CREATE ON SCHEMA "public" TO "{user}"; '
            f"in a CloudNativePG Database: schemas: [{{name: public, owner: {user}}}]"
        ),
    ]


def test_the_remedy_for_schema_public_works(refusals: Refusals, databases: Databases) -> None:
    """With the right that the refusal asks for, the migration goes through."""
    refusals.sql(
        "default",
        "ALTER SCHEMA public OWNER TO CURRENT_USER",
        f'GRANT USAGE, CREATE ON SCHEMA "public" TO "{databases.user}";',
    )
    assert run_cli(databases.env(), "migrate", "--store", "default").code == 0


def not_owner(refusals: Refusals, databases: Databases) -> None:
    """Take from the role all rights on the visibility database but those on its schema public."""
    refusals.sql(
        "visibility",
        f'ALTER DATABASE "{databases.visibility}" OWNER TO CURRENT_USER',
        f'GRANT USAGE, CREATE ON SCHEMA public TO "{databases.user}"',
    )


def test_no_right_to_create_btree_gin(refusals: Refusals, databases: Databases) -> None:
    """A role without CREATE on the database cannot create the extension; an installation takes no rehearsal."""
    not_owner(refusals, databases)
    name = databases.visibility
    problem = [
        "  - it may not create the extension btree_gin (that requires CREATE on the database)",
        (
            f'    as a superuser in "{name}" run: CREATE EXTENSION btree_gin; '
            "in a CloudNativePG Database: extensions: [{name: btree_gin}]"
        ),
    ]
    assert refusals.refused(12, "--no-verify") == [heading(databases, "visibility"), *problem]
    assert refusals.refused(12) == [heading(databases, "visibility"), *problem]


def test_the_remedy_for_btree_gin_works(refusals: Refusals, databases: Databases) -> None:
    """With the extension there, a role that may create in the schema and nothing more installs the store."""
    not_owner(refusals, databases)
    refusals.sql("visibility", "CREATE EXTENSION btree_gin")
    refusals.migrate("--store", "visibility")
    assert run_cli(databases.env(), "status", "--check", "--store", "visibility").code == 0


def test_tables_of_another_role(refusals: Refusals, databases: Databases) -> None:
    """Tables that the role does not own are counted and named."""
    refusals.migrate("--store", "visibility", VISIBILITY_TARGET_VERSION="1.1")
    refusals.sql("visibility", "ALTER TABLE executions_visibility OWNER TO CURRENT_USER")
    assert refusals.refused(12, "--store", "visibility") == [
        heading(databases, "visibility"),
        "  - it does not own one table of the schema: executions_visibility",
        f'    run as the owner, or make it a member: GRANT <owner> TO "{databases.user}";',
    ]


def test_missing_schema(refusals: Refusals, databases: Databases) -> None:
    """A schema that search_path names and that does not exist is not made silently."""
    assert refusals.refused(12, "--store", "default", SQL_CONNECT_ATTRIBUTES="search_path=temporal") == [
        heading(databases, "default"),
        '  - the schema "temporal" does not exist',
        '    CREATE SCHEMA "temporal";',
    ]


def test_tables_in_another_schema_too(refusals: Refusals, databases: Databases) -> None:
    """Tables of the store in a second schema leave open which ones the server uses."""
    refusals.migrate("--store", "visibility", VISIBILITY_TARGET_VERSION="1.1")
    refusals.sql("visibility", "CREATE SCHEMA temporal", "CREATE TABLE temporal.executions_visibility (a int)")
    assert refusals.refused(12, "--store", "visibility") == [
        heading(databases, "visibility"),
        "  - tables of the visibility store are also in the schema temporal",
        "    name the right schema by search_path in SQL_CONNECT_ATTRIBUTES",
    ]


def test_all_problems_at_once(refusals: Refusals, databases: Databases) -> None:
    """Whatever stands in the way of either store is found in one run."""
    refusals.sql("default", f'ALTER DATABASE "{databases.default}" SET default_transaction_read_only = on')
    refusals.sql("default", "ALTER SCHEMA public OWNER TO CURRENT_USER")
    not_owner(refusals, databases)
    found = refusals.refused(12)
    assert [line for line in found if line.startswith("error: ")] == [
        heading(databases, "default"),
        heading(databases, "visibility"),
    ]
    assert sum(line.startswith("  - ") for line in found) == 3


@pytest.mark.parametrize("command", ["plan", "migrate"])
def test_plan_refuses_as_migrate_does(refusals: Refusals, databases: Databases, command: str) -> None:
    """A plan that could not be carried out is not shown as one."""
    refusals.sql("default", f'ALTER DATABASE "{databases.default}" SET default_transaction_read_only = on')
    assert refusals.refused(12, "--store", "default", command=command)[0] == heading(databases, "default")


def test_status_needs_no_such_rights(refusals: Refusals, databases: Databases) -> None:
    """Looking is possible wherever reading is."""
    refusals.sql("default", f'ALTER DATABASE "{databases.default}" SET default_transaction_read_only = on')
    not_owner(refusals, databases)
    assert run_cli(databases.env(), "status").code == 0


def test_a_standby_behind_its_target(refusals: Refusals, databases: Databases) -> None:
    """Where nothing can be written, and so nothing rehearsed, status goes by the version row, and the rest refuses."""
    refusals.migrate("--store", "default", TEMPORAL_VERSION="1.29.1")
    refusals.sql("default", f'ALTER DATABASE "{databases.default}" SET default_transaction_read_only = on')
    found = run_cli(databases.env(), "status", "--store", "default")
    assert (found.code, "behind: upgrades it" in " ".join(found.stdout.split())) == (0, True), found
    said = "the server is read-only (a standby, or default_transaction_read_only is on)"
    for command in ("migrate", "plan"):
        assert refusals.refused(12, "--store", "default", command=command) == [
            heading(databases, "default"),
            f"  - {said}",
            "    connect to the primary server",
        ]
    hint = "connect to the primary server; or rehearse on another server: --rehearse-on"
    assert refusals.refused(12, "--store", "default", command="verify") == [
        f'error: default: role "{databases.user}": {said}; {hint}'
    ]


def test_roles_with_awkward_names(refusals: Refusals, databases: Databases) -> None:
    """The SQL of a remedy quotes names so that it runs as it stands."""
    refusals.picture()  # the databases are created before their owner gets another name
    awkward = databases.user + ' "ö"'
    refusals.sql("default", f"""ALTER ROLE "{databases.user}" RENAME TO "{awkward.replace('"', '""')}" """)
    try:
        refusals.sql("default", "ALTER SCHEMA public OWNER TO CURRENT_USER")
        role = awkward.replace('"', '""')
        found = replace(refusals).refused(12, "--store", "default", SQL_USER=awkward)
        assert f'GRANT USAGE, CREATE ON SCHEMA "public" TO "{role}";' in found[2]
    finally:
        refusals.sql("default", f"""ALTER ROLE "{awkward.replace('"', '""')}" RENAME TO "{databases.user}" """)
