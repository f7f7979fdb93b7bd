"""Checks of the functions that a table's indexes, checks and generated columns call: the copy calls them per row too.

Our transactions run with their own search_path and as our role. A function that needs another role or another
search_path would abort the copy, or give it other values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from schema_migrator.catalog import function_calls
from schema_migrator.errors import RewriteBlocked
from schema_migrator.postgres import transactions

if TYPE_CHECKING:
    from schema_migrator.catalog.function_calls import Call
    from schema_migrator.online.source_table import SourceTable
    from schema_migrator.planning.plan import Online
    from schema_migrator.runs.context import RunContext


def check(work: RunContext, online: Online, live: SourceTable) -> None:
    """Raise RewriteBlocked if the copy could not call a function as the live table does; nothing was changed."""
    assert online.shape is not None  # noqa: S101 - a plan with online steps has one
    parts = function_calls.TableCalls(
        table=live.oid,
        schema=live.schema,
        indexes=tuple(name for name, _ in online.shape.indexes),
        checks=tuple(name for name, _ in online.shape.checks),
        gone=tuple(online.shape.gone),
    )
    with transactions.look(work.conn):
        called = function_calls.look(work.conn, parts, function_calls.created(work.release.source(work.store.store)))
    found = problems(called)
    if found:
        raise RewriteBlocked(
            f'"{live.table}" cannot be rewritten online in its current form; nothing was changed',
            hint="problems, and how to fix each:",
            detail="\n".join(f"  - {what}\n    {remedy}" for what, remedy in found),
        )


def problems(called: Sequence[Call]) -> tuple[tuple[str, str], ...]:
    """Return (problem, remedy) for each function call that blocks the copy."""
    denied = {
        f'{call.what} calls {call.function}, which the role "{call.role}" may not execute': (
            f'as its owner run: GRANT EXECUTE ON FUNCTION {call.function} TO "{call.role}";'
        )
        for call in called
        if not call.allowed
    }
    unsettled = {
        f"{call.what} calls {call.function}, which finds other objects under another search_path": (
            f"as its owner run: ALTER FUNCTION {call.function} SET search_path = <the schemas that its body needs>;"
        )
        for call in called
        if not call.settled
    }
    endangered = {
        f'{call.what} calls {call.function} of the role "{call.owner}", which would run as the superuser'
        f' "{call.role}"': (
            f'migrate as "{call.owner}" or as another role that is not a superuser; or inspect it, then take ownership:'
            f' ALTER FUNCTION {call.function} OWNER TO "{call.role}";'
        )
        for call in called
        if call.endangered
    }
    return tuple({**denied, **unsettled, **endangered}.items())
