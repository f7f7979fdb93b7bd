"""The other executor: the vendor's binary, one call per step, under our lock and with our proof.

It is for operators whose policy allows only the vendor's program to change the schema. The binary works in
autocommit, and its exit status says little (go.temporal.io/server, tools/sql: with --quiet it is 0 after a
failure), so the database is asked after each call. The next run completes natively what a call left half done.
"""

from __future__ import annotations

import mmap
import re
import subprocess
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import psycopg

from schema_migrator import events
from schema_migrator.diagnosis import state
from schema_migrator.errors import NotAsRehearsed, SettingsError, ToolFailed
from schema_migrator.execution import native
from schema_migrator.execution.native import Outcome
from schema_migrator.execution.tool_process import converse, environment_of
from schema_migrator.postgres import transactions
from schema_migrator.releases.source import UNVERSIONED
from schema_migrator.runs import guarded, handover

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from packaging.version import Version

    from schema_migrator.catalog.snapshot import Snapshot
    from schema_migrator.config.settings import Settings
    from schema_migrator.planning.plan import Plan, PlannedStep
    from schema_migrator.runs.context import RunContext

_END_WORKERS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = %s AND pid <> pg_backend_pid()
  AND usesysid = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = session_user)  -- a name proves nothing
"""
_SETTING = "SCHEMA_MIGRATOR_SQL_TOOL"
_MODULE = re.compile(rb"\tgo\.temporal\.io/server\tv([0-9.]+)\t")


def check(settings: Settings) -> None:
    """Raise SettingsError unless the binary exists and is of the release whose files it should run.

    Each release reads only its own files: 1.29.1 cannot parse the files of 1.32.2.
    """
    run = settings.run
    if run.executor != "sql-tool":
        return
    if run.rewrite == "online":
        raise SettingsError(
            "the executor is sql-tool, which writes tables in place, but SCHEMA_MIGRATOR_REWRITE is online",
            hint="remove one of them",
        )
    release, path = settings.release, run.sql_tool
    if path is None:
        raise SettingsError(
            f"the executor is sql-tool, but {_SETTING} is not set", hint="set it to the path of the vendor's binary"
        )
    found = _release_of(path)
    if found is None:
        raise SettingsError(
            f'{_SETTING} "{path}" does not report its version as temporal-sql-tool does',
            hint=f"name the vendor's binary of release {release.version}",
        )
    if found != release.version:
        raise SettingsError(
            f'{_SETTING} "{path}" is from release {found}, expected {release.version} like the files',
            hint=f"set TEMPORAL_VERSION={found}, or name another binary",
        )


def _built_from(path: Path) -> str | None:
    """Return the version of the Go module that a binary was built from, if any: 1.25.1 reports itself as 0.0.1."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as binary:
        found = _MODULE.search(binary)
        return found[1].decode() if found else None


def _release_of(path: Path) -> str | None:
    """Return the release of a binary, by its Go module or its --version. Raises SettingsError if it cannot be run."""
    try:
        done = subprocess.run([path, "--version"], capture_output=True, errors="replace", check=False, timeout=30)
        built = _built_from(path)
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = error.strerror if isinstance(error, OSError) else "it does not end"
        raise SettingsError(f'{_SETTING} "{path}" cannot be run ({reason})', hint=f"correct {_SETTING}") from error
    reported = re.search(r"version v?([0-9][0-9.]*)\s*$", done.stdout)
    return built or (reported[1] if reported else None)


def run(work: RunContext, plan: Plan) -> tuple[Outcome, ...]:
    """Apply the plan's steps with the vendor's binary, and natively a step that was started before.

    Raises ToolFailed if a call did not reach its version, and what `native.run` raises.
    """
    if plan.adopt is not None:
        native.adopt(work, plan, plan.adopt)
    if plan.setup and not (plan.steps and plan.steps[0].resumed):
        _call(work, plan, ["setup-schema", "--version", str(UNVERSIONED)], UNVERSIONED)
    return tuple(_run_step(work, plan, step) for step in plan.steps)


def _run_step(work: RunContext, plan: Plan, step: PlannedStep) -> Outcome:
    if step.resumed:
        return native.run_step(work, plan, step)
    started = time.monotonic()
    if step.proof is not None:
        _assert_equal(work, plan, step, step.proof.start, "starts")
    folder = work.release.source(plan.store).folder
    _call(
        work,
        plan,
        ["update-schema", "--schema-dir", str(folder), "--version", str(step.step.version)],
        step.step.version,
    )
    if step.proof is not None:
        _assert_equal(work, plan, step, step.proof.end, "ended")
    seconds = time.monotonic() - started
    events.logger().info(
        "step.applied", version=str(step.step.version), seconds=round(seconds, 2), by="temporal-sql-tool"
    )
    return Outcome(version=step.step.version, seconds=seconds)


def _assert_equal(work: RunContext, plan: Plan, step: PlannedStep, expected: Snapshot, when: str) -> None:
    assert step.proof is not None  # noqa: S101 - the callers check this
    with transactions.transaction(work.conn, plan.schema, work.limits, name=work.lock.worker):
        wrong = guarded.deviations(work.conn, plan.schema, step.proof.touched, expected)
    if wrong:
        raise NotAsRehearsed(
            f"step {step.step.version} by the vendor's tool {when} differently from its rehearsal: {wrong}",
            hint="see schema-migrator verify",
        )


def _call(work: RunContext, plan: Plan, arguments: Sequence[str], reached: Version) -> None:
    """Call the binary under the lock, then check that the version that it should reach is recorded."""
    with transactions.look(work.conn, name=work.lock.worker):
        work.lock.assert_held(work.lock.ask(work.conn))
        before = handover.things(work.conn, plan.schema)
    lines, code = converse(work, [str(work.settings.run.sql_tool), *arguments], environment_of(work, plan))
    if work.interrupt.event.is_set():
        _end_statement(work)
    work.interrupt.check()
    if plan.heir:
        with transactions.transaction(work.conn, plan.schema, work.limits, name=work.lock.worker):
            handover.give(work.conn, plan.schema, plan.heir, before)
    with transactions.look(work.conn, name=work.lock.worker):
        recorded = state.look(work.conn, work.release, work.store, [plan.schema]).recorded
    if recorded == reached:
        return
    errors = [line for line in lines if line.level == "error"]
    words = "; ".join(str(line.values.get("error") or line.message) for line in errors) or f"exit code {code}"
    raise ToolFailed(
        f'the vendor\'s tool left "{plan.database}" at {recorded or "no version"}, expected {reached}: {words}',
        hint="run this again: what it left half-applied is completed by the native executor, or named",
    )


def _end_statement(work: RunContext) -> None:
    """End the statement that the server still runs for the tool, which has died: it would continue without a client."""
    with suppress(psycopg.Error):  # the next run looks for it too, before it starts
        work.conn.execute("SET ROLE NONE")  # if the login acts as another role, that role could not end it
        transactions.ask(work.conn, _END_WORKERS, [work.lock.worker])
