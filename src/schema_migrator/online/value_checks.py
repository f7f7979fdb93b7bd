"""Checks before the copy that every row fits what PostgreSQL computes or checks for it in the new structure.

Rows are inserted into a temporary table, some pages at a time, each time in a short transaction that leaves nothing
behind. Temporary tables write no WAL. Whether the functions involved can be called is checked in `function_checks`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import psycopg
from psycopg import sql

from schema_migrator import events
from schema_migrator.catalog import snapshot
from schema_migrator.catalog.snapshot import Key
from schema_migrator.errors import DoesNotFit, StatementFailed
from schema_migrator.online.source_table import column_list as listed
from schema_migrator.postgres import server_errors, transactions

if TYPE_CHECKING:
    from schema_migrator.catalog.snapshot import Snapshot
    from schema_migrator.online.source_table import SourceTable
    from schema_migrator.online.worker_pool import WorkerPool
    from schema_migrator.planning.plan import Online
    from schema_migrator.planning.rewrite_span import TargetShape
    from schema_migrator.postgres.connection import Connection

_PAGES = 1024
_TRIES = 3
_OF_VALUES = ("22", "23", "P0")
_COMPUTED = " GENERATED ALWAYS AS ("
_CAN_FAIL = (_COMPUTED, " NOT NULL", " DEFAULT ")
_FIRST_WITH_RANGES = 140000  # before, PostgreSQL read the whole table for each range of pages
_LEAST_ROW_BYTES = 28
_FACTS = """
SELECT has_database_privilege(current_database(), 'TEMP'), current_user::text, current_setting('block_size')::int,
  pg_relation_size(%s) / current_setting('block_size')::int
"""
_STORED = """
SELECT attname::text FROM pg_catalog.pg_attribute
WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum
"""
_PLACES = """
ctid = ANY (ARRAY(
  SELECT concat('(', p, ',', r, ')')::tid FROM generate_series({}, {}) p, generate_series(1, {}) r))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A column or a check that can reject a row, with its definition; `new`: the steps add it."""

    kind: Literal["column", "check"]
    name: str
    definition: str
    new: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What a trial of a table's rows needs: the parts, and the columns that supply their values.

    `begun`: see `check`.
    """

    live: SourceTable
    parts: tuple[Part, ...]
    columns: tuple[str, ...]
    target: str
    begun: bool = False


def check(pool: WorkerPool, live: SourceTable, online: Online, *, begun: bool = False) -> None:
    """Raise DoesNotFit, naming the row and the column, if a row does not fit the new structure.

    `begun`: the rewrite has started, so part of it stays after an error. If the role may not create temporary tables,
    a warning is logged and nothing is checked. Raises what a transaction raises.
    """
    assert online.shape is not None  # noqa: S101 - a plan with online steps has one
    conn, started = pool.conns[0], time.monotonic()
    with server_errors.translated(pool.work.store, pool.work.interrupt), pool.transaction(conn, live.schema):
        allowed, role, block, pages = conn.execute(_FACTS, [live.oid]).fetchone() or (False, "", 1, 0)
        stored = [name for (name,) in conn.execute(_STORED, [live.oid]).fetchall()]
        found = parts(online.shape, snapshot.take(conn, live.schema))
    if not found:
        return
    if not allowed:
        grant = f'GRANT TEMPORARY ON DATABASE "{pool.work.store.database}" TO "{role}"'
        events.logger().warning(
            "online.values_unchecked", table=live.table, reason="no TEMPORARY privilege", grant=grant
        )
        return
    columns = sources(online.shape, stored, found, live.key_names)
    trial = Trial(live=live, parts=found, columns=columns, target=str(online.versions[-1]), begun=begun)
    with server_errors.translated(pool.work.store, pool.work.interrupt):
        _put(pool, conn, trial, trial.parts, _at(()))  # an error without any row is not a row's fault
    rows: list[int] = []
    ranges = [_range(conn, first, first + _PAGES, block) for first in range(0, pages, _PAGES)]

    def run(conn: Connection, within: sql.Composed) -> None:
        rows.append(_try(pool, conn, trial, within))

    pool.share(ranges, run, pool.progress(live.table, "value checks", "page ranges", len(ranges)))
    events.logger().info(
        "online.values_checked", table=live.table, rows=sum(rows), seconds=round(time.monotonic() - started, 1)
    )


def of_values(error: BaseException | None) -> bool:
    """Return whether the error means that PostgreSQL, or a function, rejects a value."""
    return isinstance(error, psycopg.Error) and (error.sqlstate or "").startswith(_OF_VALUES)


def parts(shape: TargetShape, live: Snapshot) -> tuple[Part, ...]:
    """Return what PostgreSQL computes or checks for each row; empty if none of it can reject a row."""
    kept = {
        key.name: text
        for key, text in sorted(live.objects.items())
        if (key.kind, key.parent) == ("column", shape.table) and key.name not in shape.gone and _COMPUTED in text
    }
    found = [Part(kind="column", name=name, definition=text, new=False) for name, text in kept.items()]
    found += [Part(kind="column", name=name, definition=text) for name, text in shape.added]
    for name, text in shape.checks:
        new = Key("constraint", shape.table, name) not in live.objects
        found.append(Part(kind="check", name=name, definition=text, new=new))
    can_fail = any(part.kind == "check" or any(mark in part.definition for mark in _CAN_FAIL) for part in found)
    return tuple(found) if can_fail else ()


def sources(shape: TargetShape, stored: Sequence[str], found: Sequence[Part], key: Sequence[str]) -> tuple[str, ...]:
    """Return the columns to read: the key, and every column whose name is in a definition, even as part of a word."""
    stay = [name for name in stored if name not in shape.gone]
    texts = [part.definition for part in found]
    if _mentioned(shape.table, texts):  # a definition may use the whole row
        return tuple(stay)
    return tuple(name for name in stay if name in key or _mentioned(name, texts))


def _mentioned(name: str, texts: Sequence[str]) -> bool:
    return any(name.replace('"', '""') in text for text in texts)


def _range(conn: Connection, first: int, end: int, block: int) -> sql.Composed:
    """Return the condition that selects the rows of the pages from `first` (inclusive) to `end` (exclusive)."""
    if conn.info.server_version >= _FIRST_WITH_RANGES:
        within = sql.SQL("ctid >= {}::tid AND ctid < {}::tid")
        return within.format(sql.Literal(f"({first},0)"), sql.Literal(f"({end},0)"))
    return sql.SQL(_PLACES).format(sql.Literal(first), sql.Literal(end - 1), sql.Literal(block // _LEAST_ROW_BYTES))


def _at(places: Sequence[str]) -> sql.Composed:
    return sql.SQL("ctid = ANY ({}::tid[])").format(sql.Literal(list(places)))


def _try(pool: WorkerPool, conn: Connection, trial: Trial, within: sql.Composed) -> int:
    """Return the number of rows, all of which fit. Raises DoesNotFit, and errors that are not a row's fault."""
    for left in reversed(range(_TRIES)):
        outcome = _outcome(pool, conn, trial, trial.parts, within)
        if isinstance(outcome, int):
            return outcome
        refusal = _narrowed(pool, conn, trial, within)
        if refusal or not left:
            raise refusal or outcome from outcome
    return 0


def _narrowed(pool: WorkerPool, conn: Connection, trial: Trial, within: sql.Composed) -> DoesNotFit | None:
    """Return the refusal that names a row that does not fit, and the part; None if all rows fit by now."""
    with pool.transaction(conn, trial.live.schema), _by_place(conn):
        query = sql.SQL("SELECT ctid::text FROM {} WHERE {}").format(_table(trial), within)
        places = [place for (place,) in conn.execute(query).fetchall()]
    while len(places) > 1:
        half = places[: len(places) // 2]
        fits = isinstance(_outcome(pool, conn, trial, trial.parts, _at(half)), int)
        places = places[len(half) :] if fits else half
    row = _key(pool, conn, trial, places)
    for part in trial.parts if row else ():
        error = _outcome(pool, conn, trial, _with(trial, part), _at(places))
        if row and not isinstance(error, int):
            return _refusal(trial, part, row, error)
    return None


def _with(trial: Trial, part: Part) -> tuple[Part, ...]:
    """Return a part with the parts that it needs: a check may mention any column."""
    return (part,) if part.kind == "column" else (*(other for other in trial.parts if other.kind == "column"), part)


def _key(pool: WorkerPool, conn: Connection, trial: Trial, places: Sequence[str]) -> tuple[str, ...] | None:
    texts = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(name)) for name in trial.live.key_names)
    with pool.transaction(conn, trial.live.schema):
        query = sql.SQL("SELECT {} FROM {} WHERE {}").format(texts, _table(trial), _at(places))
        found: tuple[str, ...] | None = conn.execute(query).fetchone()
    return found


def _refusal(trial: Trial, part: Part, row: Sequence[str], error: psycopg.Error) -> DoesNotFit:
    table = trial.live.table
    named = ", ".join(f"{name} '{value}'" for name, value in zip(trial.live.key_names, row, strict=True))
    origin = f"which {trial.target} adds" if part.new else "which PostgreSQL recomputes"
    mentioned = [name for name in trial.columns if _mentioned(name, [part.definition])]
    what = f"its {' or '.join(mentioned)}" if mentioned else "that row"
    stays = "the next migrate resumes it; or run migrate --abandon" if trial.begun else "nothing was changed"
    return DoesNotFit(
        f'a row of "{table}" does not fit the {part.kind} "{part.name}", {origin}: '
        f"{error.diag.message_primary} (the row: {named})",
        hint=f"correct {what} or delete the row, then run this again; {stays}",
    )


def _outcome(
    pool: WorkerPool, conn: Connection, trial: Trial, chosen: Sequence[Part], within: sql.Composed
) -> int | psycopg.Error:
    """Return the number of rows if all fit, otherwise the error. Raises an error that is not a row's fault."""
    try:
        return _put(pool, conn, trial, chosen, within)
    except psycopg.Error as error:
        if isinstance(server_errors.explain(error, pool.work.store), StatementFailed):
            return error
        raise


def _put(pool: WorkerPool, conn: Connection, trial: Trial, chosen: Sequence[Part], within: sql.Composed) -> int:
    """Insert rows into a temporary table that has the parts, undo it all, and return the number of rows."""
    live, columns = trial.live, listed(trial.columns)
    own = sql.Identifier("pg_temp", live.table)  # under the table's name, which definitions may mention
    with pool.transaction(conn, live.schema):
        conn.execute("SAVEPOINT schema_migrator_fits")  # so that what an event trigger writes is undone too
        make = sql.SQL("CREATE TEMP TABLE {} AS SELECT {} FROM {} WITH NO DATA")
        conn.execute(make.format(own, columns, _table(trial)))
        with transactions.store_path(conn, transactions.path_of(conn, live.schema)):
            add = sql.SQL(", ").join(map(_addition, chosen))
            conn.execute(sql.SQL("ALTER TABLE {} {}").format(own, add))
        with _by_place(conn):
            fill = sql.SQL("INSERT INTO {} ({}) SELECT {} FROM {} WHERE {}")
            filled = conn.execute(fill.format(own, columns, columns, _table(trial), within))
        conn.execute("ROLLBACK TO SAVEPOINT schema_migrator_fits")
    return filled.rowcount


def _addition(part: Part) -> sql.Composed:
    add = "ADD COLUMN {} {}" if part.kind == "column" else "ADD CONSTRAINT {} {}"
    return sql.SQL(add).format(sql.Identifier(part.name), sql.SQL(part.definition))


def _by_place(conn: Connection) -> AbstractContextManager[None]:
    """Make the block's statements read pages by ctid, whatever the statistics say."""
    return transactions.planner(conn, seqscan="off")


def _table(trial: Trial) -> sql.Identifier:
    return sql.Identifier(trial.live.schema, trial.live.table)
