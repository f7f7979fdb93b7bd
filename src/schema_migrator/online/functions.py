"""Functions that a table's indexes, checks and computed columns call, and that the copy calls for every row too.

Our transactions run with a search_path of their own and in our role, so a function that another role or another
search_path is needed for would end the copy, or give it other values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from psycopg.rows import class_row

from schema_migrator.catalog.calls import CALLED, Call, created
from schema_migrator.errors import RewriteBlocked
from schema_migrator.postgres import database

if TYPE_CHECKING:
    from schema_migrator.online.shadow import Live
    from schema_migrator.planning.plan import Online, Plan
    from schema_migrator.runs.work import Work


def check(work: Work, plan: Plan, online: Online, live: Live) -> None:
    """Raise RewriteBlocked where the copy could not call a function as the live table does; nothing was changed."""
    assert online.shape is not None  # noqa: S101 - a plan has no online steps without
    values = {
        "table": live.oid,
        "schema": live.schema,
        "gone": list(online.shape.gone),
        "indexes": [name for name, _ in online.shape.indexes],
        "checks": [name for name, _ in online.shape.checks],
        "vendors": sorted(created(work.release.source(plan.store))),
    }
    found = problems(database.ask(work.conn, CALLED, values, row=class_row(Call)))
    if found:
        raise RewriteBlocked(
            f'"{live.table}" cannot be rewritten online as it is, and nothing was changed',
            hint="what stands against it, each with its remedy:",
            detail="\n".join(f"  - {what}\n    {remedy}" for what, remedy in found),
        )


def problems(calls: Sequence[Call]) -> tuple[tuple[str, str], ...]:
    """Return what stands against the copy, each with its remedy."""
    denied = {
        f'{one.what} calls {one.function}, which the role "{one.role}" may not execute': (
            f'as its owner run: GRANT EXECUTE ON FUNCTION {one.function} TO "{one.role}";'
        )
        for one in calls
        if not one.allowed
    }
    unsettled = {
        f"{one.what} calls {one.function}, which finds other objects under another search_path": (
            f"as its owner run: ALTER FUNCTION {one.function} SET search_path = <the schemas that its body needs>;"
        )
        for one in calls
        if not one.settled
    }
    endangered = {
        f'{one.what} calls {one.function} of the role "{one.owner}", which would run as the superuser "{one.role}"': (
            f'migrate as "{one.owner}" or another role that is no superuser; or look what it does, then take it:'
            f' ALTER FUNCTION {one.function} OWNER TO "{one.role}";'
        )
        for one in calls
        if one.endangered
    }
    return tuple({**denied, **unsettled, **endangered}.items())
