"""The user's own objects that a plan would drop silently, or that would make one of its steps fail.

These are dependents of what a step drops or retypes, objects that already have a name that a step creates, and child
tables that cannot inherit a change. Rights, the server and the schema are checked in `preflight`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from schema_migrator.catalog import owners
from schema_migrator.diagnosis.prediction import Problem
from schema_migrator.postgres import queries, transactions

if TYPE_CHECKING:
    from collections.abc import Collection

    from schema_migrator.catalog.snapshot import Key
    from schema_migrator.diagnosis.prediction import Proof
    from schema_migrator.planning.plan import Plan, PlannedStep
    from schema_migrator.postgres.connection import Connection

_DEPENDENTS = queries.load(__file__, "dropped_dependents")
_DROPS = {
    "index": "DROP INDEX {name};",
    "column": "ALTER TABLE {table} DROP COLUMN {name};",
    "constraint": "ALTER TABLE {table} DROP CONSTRAINT {name};",
    "rule": "DROP RULE {name} ON {table};",
    "policy": "DROP POLICY {name} ON {table};",
    "statistics": "DROP STATISTICS {name};",
    "trigger": "DROP TRIGGER {name} ON {table};",
}
_BLOCKERS = queries.load(__file__, "drop_blockers")
# Tables, indexes, views, sequences and types share a namespace. An existing function of the same name could be called
# instead of the one that a step creates.
_TAKEN = """
SELECT 'relation', c.relname::text, pg_describe_object('pg_catalog.pg_class'::regclass, c.oid, 0)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relname = ANY (%(relations)s)
UNION ALL SELECT 'type', t.typname::text, pg_describe_object('pg_catalog.pg_type'::regclass, t.oid, 0)
FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
WHERE n.nspname = %(schema)s AND t.typname = ANY (%(tables)s) AND t.typrelid = 0 AND t.typelem = 0
UNION ALL SELECT 'function', p.proname::text, pg_describe_object('pg_catalog.pg_proc'::regclass, p.oid, 0)
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = %(schema)s AND p.proname = ANY (%(functions)s)
ORDER BY 2, 1, 3
"""


# PostgreSQL adds a parent's new column to its child tables too.
_CHILDREN = """
WITH RECURSIVE below AS (
  SELECT i.inhrelid AS oid, t.relname AS top FROM pg_catalog.pg_inherits i
  JOIN pg_catalog.pg_class t ON t.oid = i.inhparent
  JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace WHERE n.nspname = %s AND t.relname = ANY (%s)
  UNION SELECT i.inhrelid, b.top FROM pg_catalog.pg_inherits i JOIN below b ON b.oid = i.inhparent
)
SELECT b.top::text, c.oid::regclass::text, NOT pg_has_role(c.relowner, 'USAGE'), ARRAY(
  SELECT a.attname::text FROM pg_catalog.pg_attribute a JOIN unnest(%s::text[], %s::text[]) AS d(relname, attname)
    ON d.relname = b.top AND d.attname = a.attname WHERE a.attrelid = c.oid AND NOT a.attisdropped ORDER BY 1)
FROM below b JOIN pg_catalog.pg_class c ON c.oid = b.oid WHERE c.relkind IN ('r', 'p', 'f') ORDER BY 1, 2
"""


def find(conn: Connection, plan: Plan) -> list[Problem]:
    """Return a Problem for each of the user's objects that a step would drop silently or fail on.

    All steps are checked before the first one runs. Steps without a proof are not checked, and an installation has no
    such objects.
    """
    if plan.together:
        return []
    proofs = [(step, step.proof) for step in plan.steps if step.proof]
    dropped = [problem for step, proof in proofs for problem in _going_along(conn, plan, step, proof)]
    blocked = [problem for step, proof in proofs for problem in _blocked(conn, plan, step, proof)]
    existing = {key for _, proof in proofs for key in proof.start.objects if key not in proof.created}
    clashes = [problem for step, proof in proofs for problem in _taken(conn, plan, step, proof.created - existing)]
    children = [problem for step, proof in proofs for problem in _inheriting(conn, plan, step, proof)]
    return [*dropped, *blocked, *clashes, *children]


def _going_along(conn: Connection, plan: Plan, step: PlannedStep, proof: Proof) -> list[Problem]:
    """Find the user's objects that PostgreSQL would drop silently with a column or table."""
    if not proof.dropped:
        return []
    dropped = sorted(proof.dropped)
    tables = [key.parent or key.name for key in dropped]
    columns = [key.name if key.parent else None for key in dropped]
    rows = transactions.ask(conn, _DEPENDENTS, {"tables": tables, "columns": columns, "schema": plan.schema})
    unknown = {(kind, table, name) for kind, table, name in rows if (kind, table, name) not in proof.known}
    return [
        Problem(
            found=f'step {step.step.version} drops what your {kind} "{name}" on "{table}" depends on',
            remedy="if you no longer need it, drop it first: "
            + _DROPS[kind].format(table=owners.quoted(table), name=owners.quoted(name)),
        )
        for kind, table, name in sorted(unknown)
    ]


def _blocked(conn: Connection, plan: Plan, step: PlannedStep, proof: Proof) -> list[Problem]:
    """Find the objects because of which PostgreSQL would refuse a statement of the step."""
    wanted = sorted([(key, True) for key in proof.dropped] + [(key, False) for key in proof.retyped])
    if not wanted:
        return []
    tables = [key.parent or key.name for key, _ in wanted]
    columns = [key.name if key.parent else None for key, _ in wanted]
    names = {"tables": tables, "columns": columns, "dropped": [goes for _, goes in wanted], "schema": plan.schema}
    rows = transactions.ask(conn, _BLOCKERS, names)
    return [
        Problem(
            found=f"step {step.step.version} changes or drops {_place(table, column)}, which your {what} depends on",
            remedy="drop it first, and recreate it afterwards if you still need it",
        )
        for table, column, what in rows
    ]


def _place(table: str, column: str | None) -> str:
    return f'the column "{column}" of "{table}"' if column else f'the table "{table}"'


def _taken(conn: Connection, plan: Plan, step: PlannedStep, created: Collection[Key]) -> list[Problem]:
    """Find objects that already have the name of something that a step creates."""
    functions = [key.name.partition("(")[0] for key in created if key.kind == "function"]
    tables = [key.name for key in created if key.kind == "table"]
    relations = [key.name for key in created if key.kind in ("table", "index", "constraint", "view", "sequence")]
    if not relations and not functions:
        return []
    names = {"schema": plan.schema, "relations": relations, "tables": tables, "functions": functions}
    return [
        Problem(
            found=f'step {step.step.version} creates "{name}", but your {what} has that name',
            remedy="rename it, or drop it",
        )
        for _, name, what in transactions.ask(conn, _TAKEN, names)
    ]


def _inheriting(conn: Connection, plan: Plan, step: PlannedStep, proof: Proof) -> list[Problem]:
    """Find child tables that cannot inherit a change: another role owns them, or they have a column of that name."""
    tables = [lock.table for lock in step.locks]
    added = sorted(key for key in proof.created if key.kind == "column" and key.parent in tables)
    names = [key.parent for key in added], [key.name for key in added]
    rows = transactions.ask(conn, _CHILDREN, [plan.schema, tables, *names]) if tables else []
    begin = f"step {step.step.version} changes"
    conflicts = [(top, child, "which this role does not own") for top, child, foreign, _ in rows if foreign]
    conflicts += [(top, child, f'which has its own column "{name}"') for top, child, _, own in rows for name in own]
    return [
        Problem(
            found=f'{begin} "{top}" and its child {child}, {why}',
            remedy=f"detach it first: ALTER TABLE {child} NO INHERIT {owners.quoted(top)};",
        )
        for top, child, why in conflicts
    ]
