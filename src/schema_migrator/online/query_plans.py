"""Checks how the server will read a table: a query's plan is asserted before its result is believed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg import sql

from schema_migrator.errors import NotAsRehearsed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from schema_migrator.online.source_table import SourceTable
    from schema_migrator.postgres.connection import Connection

PHYSICAL = ""
"""Used in place of an index's name: the table is read in physical order."""
_PHYSICAL = ("Seq Scan", "Tid Range Scan")


def assert_scans(conn: Connection, live: SourceTable, query: sql.Composed, expected: Mapping[str, str]) -> None:
    """Raise NotAsRehearsed unless each alias is read as expected: by the index of that name, or in physical order.

    The live table must not be read under any other alias. Call this in the transaction that will run the query, with
    the same planner settings.
    """
    row = conn.execute(sql.SQL("EXPLAIN (VERBOSE, FORMAT JSON) {}").format(query)).fetchone()
    if wrong := deviation(row[0][0]["Plan"] if row else {}, (live.schema, live.table), expected):
        raise NotAsRehearsed(
            f'the server would verify the rows of "{live.table}" with another plan, in which a damaged index could '
            f"hide a row; the table was not replaced and is unchanged: {wrong}",
            hint="use --rewrite in-place, and please report this",
        )


def deviation(plan: Mapping[str, Any], table: tuple[str, str], expected: Mapping[str, str]) -> str:
    """Return in words how a plan reads a table (schema and name) in an unexpected way; empty if it does not."""
    seen = set()
    for node in _nodes(plan):
        alias, reads_table = str(node.get("Alias")), (node.get("Schema"), node.get("Relation Name")) == table
        if "Relation Name" not in node or not (reads_table or alias in expected):
            continue
        seen.add(alias)
        index = node.get("Index Name") if node["Node Type"] == "Index Scan" else None
        by = PHYSICAL if node["Node Type"] in _PHYSICAL else index
        if alias not in expected or by != expected[alias]:
            using = f" using {node['Index Name']}" if "Index Name" in node else ""
            return f"{alias} by {node['Node Type']}{using}, expected {_named(expected.get(alias))}"
    unseen = sorted(expected.keys() - seen)
    return f"{unseen[0]} by no scan, expected {_named(expected[unseen[0]])}" if unseen else ""


def _nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from _nodes(part)


def _named(expected: str | None) -> str:
    if expected is None:
        return "none"
    return f"Index Scan using {expected}" if expected else " or ".join(_PHYSICAL)
