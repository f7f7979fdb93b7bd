from collections.abc import Callable

import pytest

from support.postgres.databases import Databases, bookkeeping, dump
from support.postgres.engine import Engine
from support.vendor.tool import VendorTool


def test_databases_are_empty_and_owned(databases: Databases) -> None:
    """The awkward password works, and the role may do in its databases what an owner may."""
    for store in ("default", "visibility"):
        with databases.connect(store) as connection:
            assert bookkeeping(connection) == {}
            connection.execute("CREATE EXTENSION btree_gin; CREATE TABLE t (id int)")
            assert connection.execute("SELECT current_user, current_database()").fetchone() == (
                databases.user,
                databases.name(store),
            )


def test_env_hides_the_callers_settings(databases: Databases, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the caller has exported for our program, the vendor's or libpq does not reach the test."""
    for name in (
        "PGHOST",
        "SQL_TLS",
        "VISIBILITY_SQL_USER",
        "SCHEMA_MIGRATOR_OUTPUT",
        "DEFAULT_TARGET_VERSION",
    ):
        monkeypatch.setenv(name, "x")
    environment = databases.env()
    assert environment["SQL_PASSWORD"] == databases.password
    assert "x" not in environment.values()


def test_vendor_tool_migrates_as_the_owner(
    server: Engine, databases: Databases, vendor_tool: Callable[[str], VendorTool]
) -> None:
    """Two of its runs, one stopped in between, end in the same dump and the same records."""
    tool, other = vendor_tool("1.29.1"), databases.create()
    tool.migrate("visibility")
    tool.migrate("visibility", "1.3", database=other)
    tool.update("visibility", database=other)
    assert dump(server, databases.visibility) == dump(server, other)
    assert f"OWNER TO {databases.user}" in dump(server, other)
    with databases.connect("visibility") as one, databases.connect(other) as two:
        records = bookkeeping(one)
        assert records == bookkeeping(two)
    assert records["schema_version"] == [(0, "<database>", "1.9", "0.1")]
    assert [row[-1] for row in records["schema_update_history"]][:3] == ["0.0", "1.0", "1.1"]
