"""How the server is going to read a table: the plan of a query, asserted before its result is believed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg import sql

from schema_migrator.errors import NotAsRehearsed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from schema_migrator.online.source_table import SourceTable
    from schema_migrator.postgres.connection import Connection

PHYSICAL = ""
"""Instead of an index: the table is read as it lies on the disk."""
_PHYSICAL = ("Seq Scan", "Tid Range Scan")


def assert_scans(conn: Connection, live: SourceTable, query: sql.Composed, expected: Mapping[str, str]) -> None:
    """Raise NotAsRehearsed unless each alias is read by the index expected of it, or as the table lies on the disk.

    Nor may the live table be read under any other alias. To be called in the transaction in which the query runs,
    with the planner's switches as they will be then.
    """
    row = conn.execute(sql.SQL("EXPLAIN (VERBOSE, FORMAT JSON) {}").format(query)).fetchone()
    if wrong := deviation(row[0][0]["Plan"] if row else {}, (live.schema, live.table), expected):
        raise NotAsRehearsed(
            f'the server would verify the rows of "{live.table}" with another plan, in which a damaged index could '
            f"hide a row; the table was not replaced and is unchanged: {wrong}",
            hint="use --rewrite in-place, and please report this",
        )


def deviation(plan: Mapping[str, Any], table: tuple[str, str], expected: Mapping[str, str]) -> str:
    """Return how a plan reads a table (schema and name) otherwise than expected; empty where it does not."""
    seen = set()
    for node in _nodes(plan):
        alias, here = str(node.get("Alias")), (node.get("Schema"), node.get("Relation Name")) == table
        if "Relation Name" not in node or not (here or alias in expected):
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
