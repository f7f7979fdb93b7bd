"""Every problem that would stop a plan, each with its remedy, found before anything changes.

Objects of the user's own that depend on a change are in `dependents`; notices that stop nothing are in `notices`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from schema_migrator import events
from schema_migrator.catalog.namesakes import looks_up
from schema_migrator.catalog.owners import UNSEEN, quoted
from schema_migrator.diagnosis.prediction import REPAIR, Problem
from schema_migrator.errors import HarmfulDrift, PreflightFailed, RefusedError, RewriteBlocked
from schema_migrator.planning import dependents
from schema_migrator.postgres import activity, pooler, transactions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schema_migrator.catalog.facts import Facts
    from schema_migrator.catalog.owners import Ownership
    from schema_migrator.concurrency import Interrupt
    from schema_migrator.config.settings import StoreSettings
    from schema_migrator.diagnosis.state import Overview
    from schema_migrator.planning.plan import Plan
    from schema_migrator.postgres.connection import Connection

OLDEST_SERVER = 120000
"""server_version_num of PostgreSQL 12, the oldest that the vendor's folder v12 is written for."""

_LONG_SECONDS = 60
_SHOWN = 3
_EXTENSION = """
SELECT e.name IS NOT NULL AS available, coalesce(v.trusted, false) AS trusted, r.rolsuper AS superuser
FROM pg_catalog.pg_roles r
LEFT JOIN pg_catalog.pg_available_extensions e ON e.name = 'btree_gin'
LEFT JOIN pg_catalog.pg_available_extension_versions v ON v.name = e.name AND v.version = e.default_version
WHERE r.rolname = current_user
"""


_READ_ONLY = Problem(
    found="the server is read-only (a standby, or default_transaction_read_only is on)",
    remedy="connect to the primary server",
    of_role=True,
)
UNPROTECTED = Problem(
    found="without a rehearsal nothing shows whether a step would undo an accepted difference",
    remedy="let the role rehearse (CREATE on the database), or run it without --accepted",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtensionRights:
    """Whether this role can create btree_gin on this server."""

    available: bool
    trusted: bool
    superuser: bool


def check(
    conn: Connection,
    plan: Plan,
    overview: Overview,
    *,
    verify: bool,
    way: Sequence[Problem] = (),
    blockers: Sequence[Problem] = (),
) -> None:
    """Raise PreflightFailed, naming every problem that would stop a plan; for an empty plan, what Temporal lacks.

    `verify`: the run ends with a rehearsal, which needs CREATE on the database. `way`: problems of the connection, such
    as a pooler. `blockers`: problems that block an online rewrite. On a connection that only looks, what our role lacks
    stops nothing: another role will migrate.
    Raises RewriteBlocked or HarmfulDrift instead if all problems are of that kind. Logs long transactions as a warning.
    """
    facts = overview.facts
    if plan.empty and not facts.keyless:
        return
    rights = _extension_rights(conn) if _needs_btree_gin(plan) and not facts.btree_gin else None
    found = [*problems(plan, facts, rights, whose=overview.whose), *dependents.find(conn, plan), *way, *blockers]
    rehearsed = verify and not plan.together  # an installation is read back instead
    if rehearsed and (plan.steps or plan.setup or plan.adopt) and not facts.may_create_schema:
        problem = _no_scratch_schema(facts, plan.database)
        remedy = f"{problem.remedy} or skip verification and online rewrites: --no-verify"
        found.append(replace(problem, remedy=remedy))
    if conn.read_only:
        found = [problem for problem in found if not problem.of_role]
    if found:
        raise _kind(plan, facts, found, blockers)(
            f'role "{facts.role}" cannot migrate database "{plan.database}"',
            hint="problems, and how to fix each:",
            detail="\n".join(f"  - {problem.found}\n    {problem.remedy}" for problem in found),
            store=plan.store,
        )
    if not plan.together:
        _warn_of_long_transactions(conn)


def role_lacks(plan: Plan, facts: Facts, whose: Ownership) -> tuple[Problem, ...]:
    """Return what our role, or this server, lacks for the plan, as far as that shows without a query."""
    found = [] if plan.empty else list(problems(plan, facts, None, whose=whose))
    if plan.steps and not plan.together and not facts.may_create_schema:
        found.append(_no_scratch_schema(facts, plan.database))
    return tuple(problem for problem in found if problem.of_role)


def _kind(plan: Plan, facts: Facts, found: Sequence[Problem], blockers: Sequence[Problem]) -> type[RefusedError]:
    """Return the error's class: that of the one cause that all problems have, otherwise PreflightFailed."""
    if all(problem in blockers for problem in found):
        return RewriteBlocked
    drift = [*plan.problems, *_keys(plan, facts)]
    return HarmfulDrift if all(problem in drift for problem in found) else PreflightFailed


def problems(
    plan: Plan, facts: Facts, rights: ExtensionRights | None, *, whose: Ownership = UNSEEN
) -> tuple[Problem, ...]:
    """Return every problem that follows from the plan, the facts and the rights, without a query."""
    found = [] if plan.empty else [*_server(facts), *_schema(plan, facts, whose), *_ownership(facts)]
    found += [*plan.problems, *_keys(plan, facts), *_taken(plan, whose)]
    if rights is not None:
        found += _extension(plan, facts, rights)
    return tuple(found)


def session(conn: Connection, plan: Plan, settings: StoreSettings, interrupt: Interrupt) -> list[Problem]:
    """Return what keeps the plan from having a session of its own, if it needs one.

    It has one on a connection past the pooler, or through a pooler in session mode; this is tried out.
    """
    if not plan.by_tool and not any(step.concurrently or step.online for step in plan.steps):
        return []
    what = "the vendor's tool" if plan.by_tool else "CREATE INDEX CONCURRENTLY and VACUUM"
    found = pooler.problem(conn, settings, interrupt, what)
    return [Problem(found=found[0], remedy=found[1])] if found else []


def cannot_rehearse(facts: Facts, database: str) -> Problem:
    """Return the Problem why no scratch schema can be created: a read-only server, or no CREATE on the database."""
    return _READ_ONLY if facts.read_only else _no_scratch_schema(facts, database)


def _no_scratch_schema(facts: Facts, database: str) -> Problem:
    return Problem(
        found=f'it may not create the scratch schema of a rehearsal (that requires CREATE on "{database}")',
        remedy=f"as its owner run: GRANT CREATE ON DATABASE {quoted(database)} TO {quoted(facts.role)};",
        of_role=True,
    )


def _keys(plan: Plan, facts: Facts) -> list[Problem]:
    """Name the tables without a primary key, such as an interrupted pg_restore leaves.

    A table that the plan names or gives a key is left out.
    """
    named = " ".join(problem.found for problem in plan.problems)
    ends = [step.proof.end.objects.items() for step in plan.steps if step.proof]
    given = {key.parent for end in ends for key, text in end if text.startswith("PRIMARY KEY ")}
    return [
        Problem(found=f'the table "{name}" has no primary key, and Temporal cannot work without it', remedy=REPAIR)
        for name in facts.keyless
        if f"the constraint {name}." not in named and name not in given
    ]


def _server(facts: Facts) -> list[Problem]:
    found = []
    if facts.server < OLDEST_SERVER:
        found.append(Problem(found=f"the server is PostgreSQL {facts.server // 10000}", remedy="12 or newer is needed"))
    return [*found, _READ_ONLY] if facts.read_only else found


def _schema(plan: Plan, facts: Facts, whose: Ownership) -> list[Problem]:
    if not facts.schema_exists:
        named = f'the schema "{facts.schema}"' if facts.schema else "no schema of the search_path"
        wanted = f"CREATE SCHEMA {quoted(facts.schema)};" if facts.schema else "set search_path in its settings"
        return [Problem(found=f"{named} {'does not exist' if facts.schema else 'exists'}", remedy=wanted)]
    found = []
    if not facts.may_create_table:
        found.append(
            Problem(
                found=f'it may not create tables in the schema "{facts.schema}", which "{facts.schema_owner}" owns'
                " (since PostgreSQL 15 only its owner may)",
                remedy=f"as its owner run: GRANT USAGE, CREATE ON SCHEMA {quoted(facts.schema or '')}"
                f" TO {quoted(facts.role)};"
                f" in a CloudNativePG Database: schemas: [{{name: {facts.schema}, owner: {facts.role}}}]",
                of_role=True,
            )
        )
    if facts.elsewhere and not whose.chosen:
        found.append(
            Problem(
                found=f"tables of the {plan.store} store are also in the schema {', '.join(facts.elsewhere)}",
                remedy="name the right schema by search_path in SQL_CONNECT_ATTRIBUTES",
            )
        )
    if facts.elsewhere and plan.by_tool and looks_up(statement for step in plan.steps for statement in step.statements):
        found.append(
            Problem(
                found=f"the vendor's tool looks {plan.store} tables up by their names alone, and the schema"
                f" {', '.join(facts.elsewhere)} has them too",
                remedy="use the native executor",
            )
        )
    if (plan.setup or plan.together) and not whose.named and not whose.trusted:
        found.append(
            Problem(
                found=f'search_path leads to the schema "{facts.schema}" only by "$user" or by default, and it belongs'
                f' to "{whose.schema_owner}", who could drop or read whatever is installed there',
                remedy="name the schema that is meant by search_path in SQL_CONNECT_ATTRIBUTES: search_path=public",
            )
        )
    return found


def _taken(plan: Plan, whose: Ownership) -> list[Problem]:
    """Find foreign schemas that have a name that the online rewrite needs."""
    if plan.online is None or plan.online.shape is None:
        return []
    return [
        Problem(
            found=f'the online rewrite of "{plan.online.table}" needs the name of the schema "{foreign.name}", which'
            f" already exists and is not ours: {foreign.why}",
            remedy=f'have "{foreign.owner}" rename or drop it: ALTER SCHEMA {quoted(foreign.name)} RENAME TO ...;'
            " or use --rewrite in-place",
        )
        for foreign in whose.foreign_schemas
        if foreign.wanted == plan.online.table
    ]


def _ownership(facts: Facts) -> list[Problem]:
    if not facts.foreign_tables:
        return []
    shown = ", ".join(facts.foreign_tables[:_SHOWN]) + (", ..." if len(facts.foreign_tables) > _SHOWN else "")
    count = "one table" if len(facts.foreign_tables) == 1 else f"{len(facts.foreign_tables)} tables"
    return [
        Problem(
            found=f"it does not own {count} of the schema: {shown}",
            remedy=f"run as the owner, or make it a member: GRANT <owner> TO {quoted(facts.role)};",
            of_role=True,
        )
    ]


def _extension(plan: Plan, facts: Facts, rights: ExtensionRights) -> list[Problem]:
    if not rights.available:
        return [
            Problem(
                found="the server does not offer the extension btree_gin",
                remedy="install PostgreSQL's contrib modules on the server",
            )
        ]
    if rights.superuser or (rights.trusted and facts.may_create_schema):
        return []
    return [
        Problem(
            found="it may not create the extension btree_gin (that requires CREATE on the database)",
            remedy=f'as a superuser in "{plan.database}" run: CREATE EXTENSION btree_gin;'
            " in a CloudNativePG Database: extensions: [{name: btree_gin}]",
            of_role=True,
        )
    ]


def _needs_btree_gin(plan: Plan) -> bool:
    return any("btree_gin" in statement.text for step in plan.steps for statement in step.statements)


def _extension_rights(conn: Connection) -> ExtensionRights:
    ((available, trusted, superuser),) = transactions.ask(conn, _EXTENSION)
    return ExtensionRights(available=available, trusted=trusted, superuser=superuser)


def _warn_of_long_transactions(conn: Connection) -> None:
    for pid, role, application, seconds in transactions.ask(conn, activity.LONG_TRANSACTIONS, [_LONG_SECONDS]):
        events.logger().warning("transaction.long", pid=pid, role=role, application=application, seconds=seconds)
