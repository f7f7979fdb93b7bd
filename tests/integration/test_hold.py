"""The cutover waits until somebody asks for it: by `rewrite swap`, by another migrate, or by the clock."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest

from schema_migrator.runs import advisory_lock
from support.postgres.databases import fresh
from support.postgres.engine import Connection, Engine
from support.postgres.holds import rows_held
from support.program.command import Completed, await_event, finish, killed_on_failure, run_cli
from support.visibility import rewriting
from support.visibility.executions import TABLE
from support.visibility.rewriting import SCHEMAS, Origin, events
from support.waiting import await_true

ROWS = 300
HOLD = ("--hold-cutover", "--heartbeat", "1")
WRITE = f"UPDATE {TABLE} SET task_queue = task_queue || 'x' WHERE ctid = (SELECT min(ctid) FROM {TABLE})"


@pytest.fixture(scope="module")
def origin(server: Engine) -> Iterator[Origin]:
    """Make a store at 1.12 with rows, to be copied."""
    with fresh(server) as databases:
        yield rewriting.origin(databases, "1.12", ROWS)


@contextmanager
def holding(origin: Origin, database: str, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Let a run come to the wait before its cutover; the block finishes it."""
    process = origin.migrate(database, *rewriting.ONLINE, *(options or HOLD))
    with killed_on_failure(process):
        await_event(process, "online.holding")
        yield process


def asked(origin: Origin, database: str, *words: str) -> Completed:
    """Run the command `rewrite`."""
    return run_cli(origin.env(database), "rewrite", *words)


def rewrite(origin: Origin, database: str) -> dict[str, Any]:
    """Return what `rewrite status` says of the only rewrite."""
    (store,) = json.loads(asked(origin, database, "status", "--output", "json").stdout)["stores"]
    found: dict[str, Any]
    (found,) = store["rewrites"]
    return found


@contextmanager
def in_backfill(origin: Origin, database: str, admin: Connection) -> Iterator[subprocess.Popen[str]]:
    """Hold a run up in its backfill while the block runs; the run will hold its cutover."""
    with rows_held(admin) as hold:
        hold.at("batches b SET rows")
        process = origin.migrate(database, *rewriting.ONLINE, *HOLD)
        hold.await_sleeper()
        yield process
        hold.open()


def await_empty_log(admin: Connection, ours: str) -> None:
    """Wait until all changes are replayed."""
    await_true(lambda: admin.execute(f"SELECT count(*) FROM {ours}.log".encode()).fetchone() == (0,))


def named(ended: Completed) -> list[object]:
    """Return the names of a run's events."""
    return [event["event"] for event in events(ended)]


def swapped(origin: Origin, database: str, process: subprocess.Popen[str]) -> Completed:
    """Ask for the cutover, and return how the run ended."""
    done = asked(origin, database, "swap")
    assert done.code == 0, done.stderr
    return finish(process)


def test_another_migrate_asks_for_it(origin: Origin) -> None:
    """The second run finds the work done; what was written in the meantime is there."""
    database = origin.copy()
    with origin.databases.connect_server(database) as writer, holding(origin, database) as process:
        for _ in range(3):
            writer.execute(WRITE.encode())
        before = writer.execute(f"SELECT max(length(task_queue)) FROM {TABLE}".encode()).fetchall()
        second = finish(origin.migrate(database))
        assert second.code == 0, second.stderr
        assert "online.swap_requested" in named(second)
        assert "online.started" not in named(second)
        first = finish(process)
        assert first.code == 0, first.stderr
        assert {"online.released", "online.cut_over"} <= set(named(first))
        assert writer.execute(f"SELECT max(length(task_queue)) FROM {TABLE}".encode()).fetchall() == before


def test_swap_pause_resume_and_jobs(origin: Origin) -> None:
    """Each request shows in `rewrite status`; while it is paused, nothing is replayed."""
    database = origin.copy()
    with origin.databases.admin(database) as admin, holding(origin, database) as process:
        found = rewrite(origin, database)
        assert (found["control"]["phase"], found["rows_copied"]) == ("waiting for the cutover", ROWS)
        assert found["run"].startswith("pid ")
        assert asked(origin, database, "pause").code == 0
        await_event(process, "online.paused")
        admin.execute(WRITE.encode())
        assert asked(origin, database, "jobs", "1").code == 0
        assert rewrite(origin, database)["control"] | {"phase_since": "", "begun_at": ""} == {
            "phase": "waiting for the cutover",
            "phase_since": "",
            "begun_at": "",
            "swap_requested": False,
            "paused": True,
            "jobs": 1,
        }
        for shown in (asked(origin, database, "status").stdout, run_cli(origin.env(database), "status").stdout):
            words = " ".join(shown.split())
            assert "waiting for the cutover since" in words
            assert "paused; 1 connection at most" in words
        log = f"{found['schema']}.log"
        assert admin.execute(f"SELECT count(*) FROM {log}".encode()).fetchone() == (1,)
        assert asked(origin, database, "resume").code == 0
        await_empty_log(admin, found["schema"])
        ended = swapped(origin, database, process)
    assert ended.code == 0, ended.stderr


def test_nobody_asks(origin: Origin) -> None:
    """At the deadline the run ends with 35; the copy is kept, and the next run continues."""
    database = origin.copy()
    ended = origin.run(database, "--hold-cutover", "--hold-timeout", "1")
    assert (ended.code, "nobody asked for the cutover" in ended.stderr) == (35, True), ended.stderr
    assert "migrate --abandon" in ended.stderr
    again = origin.run(database)
    assert (again.code, "online.resumed" in named(again)) == (0, True), again.stderr


def window(origin: Origin, hours: float) -> str:
    """Return a window of two hours whose middle is so many hours from now, in UTC."""
    with origin.databases.admin() as admin:
        ((now,),) = admin.execute("SELECT now() AT TIME ZONE 'UTC'").fetchall()
    middle: datetime = now + timedelta(hours=hours)
    return f"{middle - timedelta(hours=1):%H:%M}-{middle + timedelta(hours=1):%H:%M}"


def test_a_window(origin: Origin) -> None:
    """Outside of it the run waits, and a request still counts; inside it does not wait."""
    database = origin.copy()
    with holding(origin, database, "--cutover-window", window(origin, 6)) as process:
        assert swapped(origin, database, process).code == 0
    here = f"{window(origin, 0)} UTC"
    ended = origin.run(origin.copy(), "--cutover-window", here)
    assert (ended.code, "online.holding" in named(ended)) == (0, False), ended.stderr
    assert [event["reason"] for event in events(ended) if event["event"] == "online.released"] == [
        f"the window {here} is open"
    ]


@pytest.mark.parametrize("zone", ["Europe/Atlantis", "Europe/Berlin2", "UTC+2"])
def test_an_unknown_zone(origin: Origin, zone: str) -> None:
    """A zone that pg_timezone_names lacks is refused before any change, even one that PostgreSQL parses as POSIX."""
    database = origin.copy()
    ended = origin.run(database, "--cutover-window", f"02:00-04:00 {zone}")
    assert (ended.code, f'the time zone "{zone}"' in ended.stderr) == (2, True), ended.stderr
    with origin.databases.admin(database) as admin:
        assert admin.execute(SCHEMAS.encode()).fetchall() == []


def test_killed_while_it_waits(origin: Origin) -> None:
    """Writes are logged on; a request finds no run, and the next migrate continues."""
    database = origin.copy()
    with origin.databases.connect_server(database) as writer, holding(origin, database) as process:
        process.kill()
        finish(process)
        writer.execute(WRITE.encode())
    await_true(lambda: rewrite(origin, database)["run"] is None)
    refused = asked(origin, database, "swap")
    assert (refused.code, "no run works on the online rewrite" in refused.stderr) == (3, True)
    again = origin.run(database)
    assert (again.code, "online.resumed" in named(again)) == (0, True), again.stderr


def test_two_windows(origin: Origin) -> None:
    """A run that would wait for the same hours asks for nothing."""
    database = origin.copy()
    closed = ("--cutover-window", window(origin, 6))
    with holding(origin, database, *closed) as process:
        second = origin.run(database, *closed, "--lock-timeout", "1")
        assert (second.code, "online.swap_requested" in named(second)) == (4, False), second.stderr
        assert swapped(origin, database, process).code == 0


def test_it_asks_when_the_other_run_comes_to_it(origin: Origin) -> None:
    """A migrate that waits asks again and again: at first the other run has no rewrite, or has just resumed one."""
    database = origin.copy()
    with origin.databases.admin(database) as admin:
        with in_backfill(origin, database, admin) as first:
            ours = rewrite(origin, database)["schema"]
            admin.execute(f"UPDATE {ours}.control SET runner = 1".encode())
            refused = asked(origin, database, "swap")
            assert (refused.code, "if a run has just started, try again" in refused.stderr) == (3, True)
            second = origin.migrate(database)
            await_event(second, "lock.waiting")
            admin.execute(f"UPDATE {ours}.control SET runner = {advisory_lock.HOLDER}".encode())
            await_event(second, "online.swap_requested")
        done, waited = finish(first), finish(second)
    assert (done.code, waited.code) == (0, 0), (done.stderr, waited.stderr)


def test_two_that_hold(origin: Origin) -> None:
    """The second one asks for nothing, and gives up; the first one waits on."""
    database = origin.copy()
    with holding(origin, database) as process:
        second = origin.run(database, *HOLD, "--lock-timeout", "1")
        assert second.code == 4, second.stderr
        assert rewrite(origin, database)["control"]["swap_requested"] is False
        assert swapped(origin, database, process).code == 0


def test_an_older_target_asks_for_nothing(origin: Origin) -> None:
    """What leads further than a run's own target is not its business."""
    database = origin.copy()
    with holding(origin, database) as process:
        older = ("--visibility-target-version", "1.13", "--allow-older-targets", "--lock-timeout", "1")
        second = finish(origin.migrate(database, *older))
        assert (second.code, "online.swap_requested" in named(second)) == (4, False), second.stderr
        assert swapped(origin, database, process).code == 0


def test_a_change_log_at_its_limit(origin: Origin) -> None:
    """The copy is removed, with the trigger that logs: a log that grows for ever would fill the disk."""
    database = origin.copy()
    with origin.databases.admin(database) as admin, holding(origin, database, *HOLD, "--max-change-log", "64kB") as run:
        asked(origin, database, "pause")
        await_event(run, "online.paused")
        for _ in range(2):
            admin.execute(f"UPDATE {TABLE} SET task_queue = 'x'".encode())
        ended = finish(run)
        assert (ended.code, "the change log of" in ended.stderr) == (32, True), ended.stderr
        assert admin.execute(SCHEMAS.encode()).fetchall() == []
    assert origin.run(database).code == 0


def test_nothing_to_ask(origin: Origin) -> None:
    """Without a rewrite `status` says so, and a request is refused."""
    database = origin.copy()
    assert asked(origin, database, "status").stdout == "no store has an unfinished online rewrite\n"
    refused = asked(origin, database, "swap")
    assert (refused.code, "no store has an unfinished online rewrite" in refused.stderr) == (3, True)


@pytest.mark.parametrize("words", [("jobs",), ("jobs", "0"), ("jobs", "3000000000"), ("swap", "2"), ("stop",)])
def test_nonsense(origin: Origin, words: tuple[str, ...]) -> None:
    """It is refused as wrong usage."""
    assert asked(origin, origin.database, *words).code == 2


def test_a_pause_counts(origin: Origin) -> None:
    """The deadline of the wait holds during a pause too."""
    database = origin.copy()
    with holding(origin, database, "--hold-cutover", "--hold-timeout", "8") as process:
        assert asked(origin, database, "pause").code == 0
        ended = finish(process)
    assert ended.code == 35, ended.stderr


def test_a_pause_withdraws_a_request(origin: Origin) -> None:
    """What was asked of a run that is not ready yet can be taken back."""
    database = origin.copy()
    with origin.databases.admin(database) as admin:
        with in_backfill(origin, database, admin) as process:
            for request in ("swap", "pause", "resume"):
                assert asked(origin, database, request).code == 0
        await_event(process, "online.holding")
        assert swapped(origin, database, process).code == 0


def test_readers_of_before_a_pause_are_waited_for(origin: Origin) -> None:
    """A transaction that began before rows were replayed would see them as they were: the cutover waits for its end."""
    database = origin.copy()
    with (
        origin.databases.connect_server(database) as reader,
        origin.databases.admin(database) as admin,
        holding(origin, database) as process,
    ):
        asked(origin, database, "pause")
        await_event(process, "online.paused")
        admin.execute(f"UPDATE {TABLE} SET task_queue = 'changed'".encode())
        reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT 1")
        asked(origin, database, "swap")
        await_event(process, "online.waiting_for_snapshots")
        seen = f"SELECT count(*) FROM {TABLE} WHERE task_queue = 'changed'"
        assert reader.execute(seen.encode()).fetchone() == (ROWS,)
        reader.execute("COMMIT")
        ended = finish(process)
    assert ended.code == 0, ended.stderr


def test_a_table_that_changes_while_it_waits(origin: Origin) -> None:
    """It is noticed now, not at the release; the next run starts again."""
    database = origin.copy()
    with origin.databases.connect(database) as owner, holding(origin, database) as process:
        owner.execute(f"ALTER TABLE {TABLE} ADD COLUMN own text".encode())
        ended = finish(process)
    assert (ended.code, "was truncated or altered" in ended.stderr) == (1, True), ended.stderr


def test_a_superuser_does_not_resume_what_others_own(origin: Origin) -> None:
    """The owner could have given our tables triggers, or have replaced one by a view: they would run as a superuser."""
    database, engine = origin.copy(), origin.databases.engine
    superuser = origin.env(database) | {"SQL_USER": engine.user, "SQL_PASSWORD": engine.password}
    with holding(origin, database) as process:
        process.kill()
        finish(process)
    ours = rewrite(origin, database)["schema"]
    with origin.databases.connect(database) as owner:
        owner.execute("CREATE TABLE ran (as_role text)")
        owner.execute(
            "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN INSERT INTO public.ran VALUES (current_user); RETURN NEW; END $$"
        )
        owner.execute(
            f"CREATE TRIGGER tell BEFORE INSERT OR UPDATE ON {ours}.control FOR EACH ROW"
            " EXECUTE FUNCTION tell()".encode()
        )
        owner.execute(
            "CREATE FUNCTION told() RETURNS bigint LANGUAGE sql AS"
            " $$ INSERT INTO public.ran VALUES (current_user) RETURNING 1::bigint $$"
        )
        owner.execute(f"ALTER TABLE {ours}.batches RENAME TO kept".encode())
        owner.execute(f"CREATE VIEW {ours}.batches AS SELECT 1 AS number, told() AS rows".encode())
        for args in (("status",), ("rewrite", "status"), ("rewrite", "swap"), ("migrate", *rewriting.ONLINE)):
            done = run_cli(superuser, *args)
            assert owner.execute("SELECT * FROM ran").fetchall() == [], args
        assert done.code == 12, done.stderr
        assert "whose triggers would run as the superuser" in done.stderr
        owner.execute(f"DROP VIEW {ours}.batches; ALTER TABLE {ours}.kept RENAME TO batches".encode())
        again = run_cli(superuser, "migrate", *rewriting.ONLINE)
        assert (again.code, owner.execute("SELECT * FROM ran").fetchall()) == (12, []), again.stderr


def test_another_role_asks(origin: Origin) -> None:
    """An update would run the owner's triggers as a superuser: it is refused, and names the role."""
    database = origin.copy()
    with holding(origin, database) as process:
        engine = origin.databases.engine
        superuser = origin.env(database) | {"SQL_USER": engine.user, "SQL_PASSWORD": engine.password}
        refused = run_cli(superuser, "rewrite", "swap")
        assert (refused.code, "would run as the superuser" in refused.stderr) == (12, True), refused.stderr
        assert rewrite(origin, database)["control"]["swap_requested"] is False
        assert swapped(origin, database, process).code == 0


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("NEW.task_queue := 'spoilt'; RETURN NEW;", "a row of the copy differs"),
        ("DELETE FROM {shadow} WHERE run_id = NEW.run_id; RETURN NULL;", "the copy lacks a row"),
    ],
    ids=["differs", "is missing"],
)
def test_a_replayed_row_that(origin: Origin, body: str, said: str) -> None:
    """Rows that are replayed after the proof of all rows are proven too."""
    database = origin.copy()
    rarely = ("--hold-cutover", "--heartbeat", "60")  # at a heartbeat the trigger itself would be noticed
    with origin.databases.admin(database) as admin, holding(origin, database, *rarely) as process:
        ours = rewrite(origin, database)["schema"]
        for _ in range(2):  # the second write is replayed after the comparison of the first round
            admin.execute(WRITE.encode())
            await_empty_log(admin, ours)
        shadow = f"{ours}.schema_migrator_shadow"
        make = "CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {} END $$"
        admin.execute(make.format(body.format(shadow=shadow)).encode())
        spoil = "CREATE TRIGGER spoil BEFORE INSERT OR UPDATE ON {} FOR EACH ROW EXECUTE FUNCTION spoil()"
        admin.execute(spoil.format(shadow).encode())
        admin.execute(WRITE.encode())
        ended = finish(process)
    assert (ended.code, said in ended.stderr) == (24, True), ended.stderr


def test_a_rewrite_without_a_control_row(origin: Origin) -> None:
    """A version before it began the rewrite: `status` and `rewrite` work, and migrate continues."""
    database = origin.copy()
    with origin.databases.admin(database) as admin, holding(origin, database) as process:
        process.kill()
        finish(process)
        ours = rewrite(origin, database)["schema"]
        admin.execute(f"DROP TABLE {ours}.control, {ours}.replayed".encode())
    assert run_cli(origin.env(database), "status").code == 0
    assert rewrite(origin, database)["control"] is None
    again = origin.run(database)
    assert (again.code, "online.resumed" in named(again)) == (0, True), again.stderr
