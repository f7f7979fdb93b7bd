"""SIGTERM in every phase: exit code 143, nothing of ours works on, and the next run resumes."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import psycopg
import pytest

from schema_migrator.concurrency import Interrupt
from schema_migrator.config.settings import read
from schema_migrator.postgres import connection
from support.postgres.databases import Databases, fresh
from support.postgres.engine import Connection, Engine
from support.postgres.holds import Hold, ddl_held, rows_held
from support.program.command import Completed, await_event, finish, start_cli
from support.visibility import rewriting
from support.visibility.executions import TABLE, fill
from support.visibility.rewriting import Origin, events

ROWS = 300
LARGE = 3000
"""Rows that make a measuring worth while."""
COUNT = f"SELECT count(*) FROM {TABLE}"
LEFT = "SELECT nspname FROM pg_namespace WHERE nspname ~ '^schema_migrator'"
BACKUP_COMMAND = "SCHEMA_MIGRATOR_BACKUP_COMMAND"
GRACE = 20
"""Seconds until a run that does not end by itself has failed; that it takes fewer than three is measured."""


@pytest.fixture(scope="module")
def origin(server: Engine) -> Iterator[Origin]:
    """Make a store at 1.9 with rows, to be copied."""
    with fresh(server) as databases:
        yield rewriting.origin(databases, "1.9", ROWS)


SWALLOWING = """
import os, signal, threading, time
from schema_migrator.concurrency import Interrupt
class Slow:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
with Interrupt().on_signals():
    Slow()
    time.sleep(60)
"""


def test_in_a_destructor() -> None:
    """Python swallows what a destructor raises: the interruption comes again, and nothing is said of the first one."""
    done = subprocess.run(
        [sys.executable, "-c", SWALLOWING], capture_output=True, text=True, check=False, timeout=GRACE
    )
    assert "schema_migrator.errors.Stopped" in done.stderr.splitlines()[-1]
    assert "Exception ignored" not in done.stderr


def stopped(process: subprocess.Popen[str], record: Callable[[str, object], None]) -> Completed:
    """Send SIGTERM; see that the run ends with 143 and says so."""
    started = time.monotonic()
    process.terminate()
    ended = finish(process, timeout=GRACE)
    record("seconds", round(time.monotonic() - started, 2))
    assert ended.code == 143, ended.stderr
    assert "Traceback" not in ended.stderr
    return ended


def idle(process: subprocess.Popen[str]) -> None:
    """Wait until a process has used no time for a while: it waits for something."""
    before = -1.0
    while (used := sum(map(float, Path(f"/proc/{process.pid}/stat").read_text().split()[13:15]))) != before:
        before = used
        time.sleep(0.5)


LOADING = """
import os, signal, sys, time
from schema_migrator import start
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "schema_migrator.cli.main":
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
sys.meta_path.insert(0, Finder())
start.main()
"""


def test_while_it_loads() -> None:
    """As process 1 of a container, which ignores what it does not handle, from its first moment on."""
    done = subprocess.run([sys.executable, "-c", LOADING], capture_output=True, check=False, timeout=GRACE)
    assert (done.returncode, done.stderr) == (143, b"")


def without_password(origin: Origin) -> dict[str, str]:
    """Return the environment without the password."""
    return {name: value for name, value in origin.databases.env().items() if name != "SQL_PASSWORD"}


def test_a_pipe_that_nobody_writes_to(origin: Origin, tmp_path: Path, record_property: Callable[..., None]) -> None:
    """A file that is a pipe is waited for; that ends at once."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    process = start_cli(without_password(origin) | {"SQL_PASSWORD_FILE": str(pipe)}, "status")
    idle(process)
    stopped(process, record_property)


NOHUP = "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); os.execvp(sys.executable, sys.argv[1:])"


def test_what_is_ignored_stays_ignored(origin: Origin, tmp_path: Path) -> None:
    """As of nohup: a terminal that closes ends nothing."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    env = without_password(origin) | {"SQL_PASSWORD_FILE": str(pipe), "SCHEMA_MIGRATOR_STORES": "visibility"}
    command = [sys.executable, "-c", NOHUP, sys.executable, "-m", "schema_migrator", "status"]
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    idle(process)
    process.send_signal(signal.SIGHUP)
    pipe.write_text(origin.databases.env()["SQL_PASSWORD"])
    ended = finish(process)
    assert ended.code == 0, ended.stderr


@pytest.mark.parametrize(("name", "command"), [("SQL_PASSWORD_COMMAND", "status"), (BACKUP_COMMAND, "migrate")])
def test_a_command_that_hangs(
    origin: Origin, name: str, command: str, tmp_path: Path, record_property: Callable[..., None]
) -> None:
    """One that prints the password, or reports backups, is ended too."""
    script, pid = tmp_path / "command", tmp_path / "pid"
    script.write_text(f"#!/bin/sh\necho $$ > {pid}.new\nmv {pid}.new {pid}\nexec sleep 600\n")
    script.chmod(0o755)
    env = origin.env(origin.copy()) | {"SCHEMA_MIGRATOR_REQUIRE_BACKUP_WITHIN": "1d", BACKUP_COMMAND: "true"}
    if name == "SQL_PASSWORD_COMMAND":
        del env["SQL_PASSWORD"]
    process = start_cli(env | {name: str(script), "PATH": os.environ["PATH"]}, command)
    while not pid.exists():
        assert process.poll() is None, finish(process)
        time.sleep(0.05)
    stopped(process, record_property)
    assert not Path(f"/proc/{pid.read_text().strip()}").exists()


@pytest.mark.parametrize("phase", ["rehearsal", "measuring", "step"])
def test_in_a_statement_of_a_step(origin: Origin, phase: str, record_property: Callable[..., None]) -> None:
    """Rehearsed, measured or applied: the statement is cancelled, and the database is as it was."""
    database = origin.copy()
    with origin.databases.admin(database) as admin, ddl_held(admin, phase) as hold:
        fill(admin, LARGE, 1)
        env = {"SCHEMA_MIGRATOR_MAX_LOCK_SECONDS": "600"} if phase == "measuring" else {}
        process = origin.migrate(database, "--rewrite", "in-place", **env)
        hold.await_sleeper()
        stopped(process, record_property)
        hold.await_quiet()
        assert admin.execute(LEFT.encode()).fetchall() == []
        ((version,),) = admin.execute("SELECT curr_version FROM schema_version").fetchall()
    assert version == ("1.12" if phase == "step" else "1.9")
    assert finish(origin.migrate(database, "--rewrite", "in-place")).code == 0


def test_plan_in_a_measuring(origin: Origin, record_property: Callable[..., None]) -> None:
    """It does not print an estimate that was broken off."""
    database = origin.copy()
    with origin.databases.admin(database) as admin, ddl_held(admin, "measuring") as hold:
        fill(admin, LARGE, 1)
        process = start_cli(origin.env(database), "plan")
        hold.await_sleeper()
        assert stopped(process, record_property).stdout == ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """Texts of statements that a run is held up at one after the other; something happens at the last but one."""

    texts: tuple[str, ...]
    meanwhile: str = ""
    waits: str = ""
    begun: bool = True


WRITE = f"UPDATE {TABLE} SET task_queue = 'meanwhile'"
LOCKED_LOG = (
    "SELECT FROM pg_locks l WHERE NOT l.granted AND l.relation = (SELECT oid FROM pg_class WHERE relname = 'log')"
)
SLEEPING_IN = """
SELECT FROM pg_stat_activity
WHERE query LIKE '%{text}%' AND pid <> pg_backend_pid() AND wait_event = 'PgSleep'
"""
PHASES = {
    "check": Phase(texts=('INSERT INTO "pg_temp"',), begun=False),
    "backfill": Phase(texts=("batches b SET rows",)),
    "index": Phase(texts=("CREATE INDEX own_slow",)),
    "drain": Phase(texts=("CREATE INDEX own_slow", "schema_migrator_turn IN"), meanwhile=WRITE),
    "vacuum": Phase(texts=("VACUUM (ANALYZE)",)),
    "proof": Phase(texts=("VACUUM (ANALYZE)", "nothing"), meanwhile="BEGIN; LOCK TABLE {log}", waits=LOCKED_LOG),
}


@pytest.mark.parametrize("phase", PHASES.values(), ids=PHASES)
def test_in_an_online_rewrite(origin: Origin, phase: Phase, record_property: Callable[..., None]) -> None:
    """The copy is kept from the moment that its trigger stands, the message says so, and the next run resumes."""
    database = origin.copy()
    with origin.databases.admin(database) as admin, origin.databases.admin(database) as other:
        with rows_held(admin) as hold:
            ended = ended_in(origin, database, phase, hold, other, record_property)
            hold.await_quiet()
        other.execute("ROLLBACK")
        assert bool(admin.execute(LEFT.encode()).fetchall()) == phase.begun
        assert ("migrate --abandon" in ended.stderr.splitlines()[-1]) == phase.begun
        hold.open()
        again = origin.run(database)
        assert again.code == 0, again.stderr
        assert ("online.started" not in [event["event"] for event in events(again)]) == phase.begun
        assert admin.execute(COUNT.encode()).fetchone() == (ROWS,)


def ended_in(
    origin: Origin, database: str, phase: Phase, hold: Hold, other: Connection, record: Callable[..., None]
) -> Completed:
    """Let a run come to a phase, and stop it there."""
    hold.at(phase.texts[0])
    process = origin.migrate(database, *rewriting.ONLINE)
    try:
        hold.await_sleeper()
        if phase.meanwhile:
            ((log,),) = hold.admin.execute(f"{LEFT} LIMIT 1".encode()).fetchall()
            other.execute(phase.meanwhile.format(log=f"{log}.log").encode())
            hold.at(phase.texts[1])
            if phase.waits:
                hold.await_rows(phase.waits)
            else:
                hold.await_rows(SLEEPING_IN.format(text=phase.texts[1]))
        return stopped(process, record)
    finally:
        process.kill()


def test_a_last_look_is_not_cancelled(databases: Databases) -> None:
    """A signal cancels a connection's statements again and again, but not those that say what the run leaves."""
    interrupt, over = Interrupt(), threading.Event()

    def cancel() -> None:
        while not over.is_set():
            interrupt.cancel_all()

    with patch.dict(os.environ, databases.env()):
        settings = read({}).stores[0]
    with closing(connection.connect(settings, interrupt, patience=5)) as conn:
        thread = threading.Thread(target=cancel)
        thread.start()
        try:
            with interrupt.sparing(conn):
                conn.execute("SELECT pg_sleep(1)")
            with pytest.raises(psycopg.errors.QueryCanceled):
                conn.execute("SELECT pg_sleep(10)")
        finally:
            over.set()
            thread.join()


def test_at_the_cutover(origin: Origin, record_property: Callable[..., None]) -> None:
    """While it waits for the table: the copy is kept."""
    database = origin.copy()
    with origin.held(database) as held:
        stopped(held.process, record_property)
    ended = origin.run(database)
    assert (ended.code, "online.resumed" in ended.stderr) == (0, True), ended.stderr


def test_while_it_waits_for_old_transactions(origin: Origin, record_property: Callable[..., None]) -> None:
    """Those that could not see the copied rows."""
    database = origin.copy()
    with origin.databases.connect_server(database) as reader:
        reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT 1")
        process = origin.migrate(database, *rewriting.ONLINE, SCHEMA_MIGRATOR_HEARTBEAT="1")
        await_event(process, "online.waiting_for_snapshots")
        stopped(process, record_property)
    assert origin.run(database).code == 0


def test_in_a_removal(origin: Origin, record_property: Callable[..., None]) -> None:
    """The old table that was kept is in use: it stays, and goes with the next --abandon."""
    database = origin.copy()
    assert origin.run(database, "--keep-old").code == 0
    with origin.databases.connect(database) as holder:
        ((schema,),) = holder.execute(LEFT.encode()).fetchall()
        holder.execute("BEGIN")
        holder.execute(f"LOCK TABLE {schema}.{schema} IN ACCESS SHARE MODE".encode())
        process = origin.migrate(database, "--abandon")
        await_event(process, "table.busy")
        stopped(process, record_property)
        holder.execute("ROLLBACK")
        assert finish(origin.migrate(database, "--abandon")).code == 0
        assert holder.execute(LEFT.encode()).fetchall() == []


@contextmanager
def invalid_index(origin: Origin, database: str) -> Iterator[Connection]:
    """Let an index of the vendor's be invalid, and a transaction be open that its rebuild waits for."""
    with origin.databases.admin(database) as admin, origin.databases.connect_server(database) as reader:
        admin.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'by_status'::regclass")
        reader.execute("BEGIN")
        reader.execute(COUNT.encode())
        yield admin
        with suppress(psycopg.OperationalError):  # some tests end it
            reader.execute("ROLLBACK")


def test_a_rebuild_that_somebody_runs_is_left_alone(origin: Origin) -> None:
    """What a REINDEX CONCURRENTLY has beside an index while it runs is not what an interrupted one left."""
    database = origin.copy()
    with invalid_index(origin, database) as admin, origin.databases.admin(database) as other:
        admin.execute("UPDATE pg_index SET indisvalid = true WHERE indexrelid = 'by_status'::regclass")
        rebuild = threading.Thread(target=other.execute, args=("REINDEX INDEX CONCURRENTLY by_status",))
        rebuild.start()
        Hold(admin=admin).await_rows("SELECT FROM pg_index WHERE NOT indisvalid AND indislive")
        done = finish(origin.migrate(database, "--visibility-target-version", "1.9"))
        assert done.code == 0, done.stderr
        assert "index.invalid" not in [event["event"] for event in events(done)]
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE %s", [f"{COUNT}%"])
        rebuild.join()
        assert admin.execute("SELECT FROM pg_index WHERE NOT indisvalid").fetchall() == []


def test_in_a_rebuild_of_an_index(origin: Origin, record_property: Callable[..., None]) -> None:
    """Built CONCURRENTLY: what is left of it is dropped by the next run."""
    database = origin.copy()
    with invalid_index(origin, database) as admin:
        process = origin.migrate(database, "--visibility-target-version", "1.9")
        hold = Hold(admin=admin)
        hold.await_rows(
            "SELECT FROM pg_stat_activity WHERE query LIKE 'REINDEX%' AND wait_event_type = 'Lock'"
            " AND datname = current_database()"
        )
        stopped(process, record_property)
        hold.await_quiet()
    ended = finish(origin.migrate(database, "--visibility-target-version", "1.9"))
    assert ended.code == 0, ended.stderr
    with origin.databases.admin(database) as admin:
        assert admin.execute("SELECT relname FROM pg_class WHERE relname ~ '_ccnew'").fetchall() == []
        invalid = "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid"
        assert admin.execute(invalid).fetchall() == [], ended.stderr
