"""What has to be so before an online rewrite begins, and while it runs: room, load, transactions; or it is refused."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.version import Version
from psycopg import sql

from schema_migrator.config.fields import RunSettings
from schema_migrator.demo.embedded_postgres import give_tree, private_server
from schema_migrator.errors import MigratorError, NoSpace, PreflightFailed, ServerBusy, TableLockTimeout
from schema_migrator.online import cutover, disk, prechecks, throttle
from schema_migrator.online.archive import Archive
from schema_migrator.online.disk import Free, Need
from schema_migrator.online.prechecks import ServerConditions
from schema_migrator.online.replicas import Replica, Replicas, Slot
from schema_migrator.planning.plan import Online
from schema_migrator.postgres import activity
from support.postgres.databases import Databases, fresh
from support.postgres.engine import Connection, Engine
from support.postgres.watcher import MEMORY
from support.program.command import await_event, finish, run_cli
from support.program.store_driver import Site, site
from support.visibility import rewriting
from support.visibility.rewriting import SCHEMAS, Origin, events

ROWS = 200
MB = 1024 * 1024
LONG = """
UPDATE executions_visibility
SET memo = (SELECT decode(string_agg(md5(n || run_id), ''), 'hex') FROM generate_series(1, 400) n)
"""
ONLINE = Online(table="orders", size=300 * MB, rewrites=2, versions=(Version("1.14"),), forecast=100 * MB)
FOUND = ServerConditions(role='a"b', sees_all=False)
LATE = Replica(name="standby2", slot=None, pid=7, behind=512 * MB)
SLOT = Slot(name="of_2", kept=1, idle=True)
ARCHIVE = "see archive_command and the server's log; --max-archive-lag sets the limit, off: not watched"
LEAVE_OUT = "wait for it to catch up, or exclude it by name: --ignore-replica; --max-replica-lag sets the limit"
CIRCUMSTANCES: dict[str, tuple[dict[str, str], ServerConditions, type[MigratorError], str]] = {
    "space": (
        {},
        replace(FOUND, free=Free(data=239 * MB)),
        NoSpace,
        (
            'the server\'s disk has 239 MB free, expected 240 MB for the rewrite with its WAL of "orders"; '
            "free disk space there, or use --rewrite in-place, which locks the table and needs as much space"
        ),
    ),
    "space for WAL": (
        {},
        replace(FOUND, free=Free(data=120 * MB, wal=119 * MB)),
        NoSpace,
        (
            'the disk of pg_wal has 119 MB free, expected 120 MB for the rewrite\'s WAL of "orders"; '
            "free disk space there, or use --rewrite in-place, which locks the table and needs as much space"
        ),
    ),
    "a replica": (
        {},
        replace(FOUND, replicas=Replicas(seen=(replace(LATE, behind=1), LATE))),
        ServerBusy,
        (
            'the replica "standby2" is 512 MB behind, the limit is 256 MB, and the rewrite of "orders" would add to it;'
            f" {LEAVE_OUT}"
        ),
    ),
    "a replica unseen": (
        {},
        replace(FOUND, replicas=Replicas(seen=(replace(LATE, behind=None),))),
        PreflightFailed,
        (
            'the role "a"b" cannot see how far behind the replica "standby2" (pid 7) is, so the rewrite of "orders" '
            'does not begin; as a superuser run: GRANT pg_monitor TO "a""b"; or let the replica use a slot, exclude it '
            "by name (--ignore-replica), or disable the check: --max-replica-lag off"
        ),
    ),
    "load unseen": (
        {"SCHEMA_MIGRATOR_MAX_LOAD": "3"},
        FOUND,
        PreflightFailed,
        (
            '--max-load cannot be kept: the role "a"b" does not see what the sessions of other roles do, so the '
            'rewrite of "orders" does not begin; '
            'as a superuser run: GRANT pg_read_all_stats TO "a""b"; or drop --max-load'
        ),
    ),
    "a slot that nothing reads": (
        {},
        replace(FOUND, replicas=Replicas(slots=(replace(SLOT, kept=17 << 30),))),
        ServerBusy,
        (
            'the slot "of_2", which nothing reads, retains 17.0 GB of WAL, the limit is 16.0 GB, and the rewrite of '
            '"orders" would add to it; find out what it is for: a slot that nothing needs can be dropped; or exclude '
            "it by name: --ignore-replica of_2; --max-slot-wal sets the limit"
        ),
    ),
    "a slot in danger": (
        {},
        replace(FOUND, replicas=Replicas(slots=(replace(SLOT, idle=False, left=200 * MB, limit=8 << 30),))),
        ServerBusy,
        (
            'the slot "of_2" loses its WAL after another 200 MB (max_slot_wal_keep_size), and the rewrite of "orders" '
            "would add to it; let its reader catch up, or exclude it by name: --ignore-replica of_2"
        ),
    ),
    "an archive that fails": (
        {},
        replace(FOUND, archive=Archive(failed="000000010000000000000042", seconds=90)),
        ServerBusy,
        (
            "the server has archived no WAL for 90 s: its last attempt, 000000010000000000000042, failed, and the "
            f'rewrite of "orders" would add to it; {ARCHIVE}'
        ),
    ),
    "an archive behind": (
        {},
        replace(FOUND, archive=Archive(behind=2 << 30)),
        ServerBusy,
        (
            'the WAL archive is 2.0 GB behind, the limit is 1.0 GB, and the rewrite of "orders" would add to it; '
            f"{ARCHIVE}"
        ),
    ),
    "a transaction": (
        {},
        replace(FOUND, old=(77, "pg_dump", 900)),
        TableLockTimeout,
        (
            'a transaction is 900 s old, and "orders" cannot be cut over until it ends: pid 77 (pg_dump); '
            "end it or wait for it, then run this again"
        ),
    ),
    "a prepared one": (
        {},
        replace(FOUND, old=(0, "prepared transaction x", 900)),
        TableLockTimeout,
        (
            'a transaction is 900 s old, and "orders" cannot be cut over until it ends: prepared transaction x; '
            "end it or wait for it, then run this again"
        ),
    ),
}


@pytest.mark.parametrize(("given", "found", "kind", "said"), CIRCUMSTANCES.values(), ids=CIRCUMSTANCES)
def test_circumstances_are_refused(
    given: dict[str, str], found: ServerConditions, kind: type[Exception], said: str
) -> None:
    """Too little room, a replica behind or unseen, unseen load, an old transaction: each is one sentence."""
    with pytest.raises(kind) as refusal:
        prechecks.judge(ONLINE, RunSettings.model_validate(given), found)
    assert str(refusal.value) == said


FINE = {
    "nothing known": FOUND,
    "room": replace(FOUND, free=Free(data=240 * MB)),
    "room on two disks": replace(FOUND, free=Free(data=120 * MB, wal=120 * MB)),
    "a slot at its limit": replace(FOUND, replicas=Replicas(slots=(replace(SLOT, kept=16 << 30),))),
    "a slot with a small limit": replace(FOUND, replicas=Replicas(slots=(replace(SLOT, left=20 * MB, limit=64 * MB),))),
    "an archive near enough": replace(FOUND, archive=Archive(behind=1 << 30)),
    "an archive of which nothing is known": replace(FOUND, archive=Archive()),
    "a replica near enough": replace(FOUND, replicas=Replicas(seen=(replace(LATE, behind=256 * MB),))),
}


@pytest.mark.parametrize("found", FINE.values(), ids=FINE)
def test_nothing_speaks_against_it(found: ServerConditions) -> None:
    """Up to the limits the rewrite begins."""
    prechecks.judge(ONLINE, RunSettings.model_validate({}), found)


def test_what_a_rewrite_takes() -> None:
    """By the forecast with a margin, else by the size, more than the bench has ever seen; ever less as it goes on."""
    assert disk.need(ONLINE) == Need(data=120 * MB, wal=120 * MB)
    assert disk.need(replace(ONLINE, forecast=None)).total == 2 * 510 * MB
    table, peak, wal = 1.60, 4.28, 2.59  # GB, docs/performance.md: 200,000 rows from 1.2
    assert disk.need(replace(ONLINE, size=round(table * 1024 * MB), forecast=None)).total > (peak - table + wal) * 1e9
    assert Need(data=120, wal=60).left(60) == Need(data=60, wal=30)
    assert Need(data=120, wal=60).left(500) == Need(data=6, wal=3)


@pytest.fixture(scope="module")
def origin(server: Engine) -> Iterator[Origin]:
    """Make a store at 1.12 with rows, to be copied."""
    with fresh(server) as databases:
        yield rewriting.origin(databases, "1.12", ROWS)


@pytest.fixture
def store(origin: Origin) -> Site:
    """Return a copy, for a plain owner."""
    return site(origin.databases, "visibility").at(origin.copy()).given(SCHEMA_MIGRATOR_REWRITE="online")


def by_superuser(store: Site) -> Site:
    """Return the same store, for a superuser."""
    engine = store.databases.engine
    return store.given(SQL_USER=engine.user, SQL_PASSWORD=engine.password)


@contextmanager
def granted(databases: Databases, role: str) -> Iterator[None]:
    """Give the owner a right of the server's for the block."""
    owner, what = sql.Identifier(databases.user), sql.Identifier(role)
    with databases.admin() as admin:
        admin.execute(sql.SQL("GRANT {} TO {}").format(what, owner))
        yield
        admin.execute(sql.SQL("REVOKE {} FROM {}").format(what, owner))


def test_too_little_room_is_refused_before_anything(store: Site) -> None:
    """What is said to be free counts: below what `plan` foretells with its margin nothing is begun."""
    store.run(LONG)
    seen = store.foresee(SCHEMA_MIGRATOR_DISK_FREE="1MB")
    assert seen.plan.online is not None
    assert seen.plan.online.forecast
    need = disk.need(seen.plan.online).total
    assert need == 2 * round(seen.plan.online.forecast * 1.2)
    assert seen.obstacle.startswith("the server's disk has 1 MB free, expected ")
    refusal = store.refused(SCHEMA_MIGRATOR_DISK_FREE="1MB")
    assert isinstance(refusal, NoSpace)
    assert refusal.message.startswith("the server's disk has 1 MB free, expected ")


def test_what_nobody_tells_is_said(origin: Origin, store: Site) -> None:
    """Where free disk is unknown the run goes on, and it and `plan` say how much is needed; said, it is checked."""
    told = run_cli(origin.env(store.name), "plan", *rewriting.ONLINE)
    assert "the free space is unknown: set --disk-free, or let the server run df" in told.stdout
    ended = origin.run(store.name)
    (warned,) = [event for event in events(ended) if event["event"] == "online.disk_unknown"]
    assert int(str(warned["bytes_needed"])) > 1 * MB
    again = origin.run(origin.copy(), "--disk-free", "1GB")
    assert again.code == 0, again.stderr
    assert "online.disk_unknown" not in [event["event"] for event in events(again)]


def test_the_server_runs_df_only_where_that_is_asked_for(store: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """No shell on the server unless the user says so, whatever our role may do; where it may not, that is refused."""
    asked = []
    ask = disk._ask

    def watched(conn: Connection) -> list[str]:
        asked.append(True)
        return ask(conn)

    monkeypatch.setattr(disk, "_ask", watched)
    admin = by_superuser(store)
    seen = admin.foresee().found
    assert seen is not None
    assert (seen[1].free, asked) == (None, [])
    refusal = store.refused(SCHEMA_MIGRATOR_DISK_FREE="df")
    assert isinstance(refusal, PreflightFailed)
    assert refusal.message.startswith("the server does not run df for this role: ")
    seen = admin.foresee(SCHEMA_MIGRATOR_DISK_FREE="df").found
    assert seen is not None
    assert seen[1].free is not None
    with store.databases.admin(store.name) as connection:
        ((place,),) = connection.execute("SHOW data_directory").fetchall()
        assert abs(seen[1].free.data - shutil.disk_usage(place).free) < 2 << 30
        assert connection.execute("SELECT to_regclass('pg_temp.schema_migrator_disk')").fetchone() == (None,)


def test_a_disk_of_its_own_for_wal_is_seen() -> None:
    """Where pg_wal is on another file system each is asked for what is free."""
    other = "/var/tmp" if tempfile.gettempdir().startswith(MEMORY) else MEMORY  # noqa: S108 - a fresh folder below it
    with tempfile.TemporaryDirectory(dir=other, prefix="pg-wal-") as apart, private_server() as server:
        server.stop("fast")
        wal, moved = server.datadir / "pg_wal", Path(apart) / "pg_wal"
        shutil.move(wal, moved)
        give_tree(Path(apart), server.account)
        wal.symlink_to(moved)
        server.start()
        engine = Engine.of(server)
        with engine.connect() as admin, admin.transaction():
            free = disk.look(admin, "df")
        assert free is not None
        assert free.wal is not None
        assert abs(free.wal - shutil.disk_usage(apart).free) < 100 * MB
        assert abs(free.data - shutil.disk_usage(server.datadir).free) < 2 << 30
        server.stop("fast")


def test_a_disk_that_fills_ends_the_run(store: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked at again while it runs: what is left to write must have room, else every trace is removed."""
    looked = disk.look

    def look(conn: Connection, said: disk.Said) -> Free | None:
        begun = conn.execute(SCHEMAS.encode()).fetchall()
        return Free(data=100) if begun else looked(conn, said)

    monkeypatch.setattr(disk, "look", look)
    refusal = store.refused(SCHEMA_MIGRATOR_DISK_FREE="1GB")
    assert isinstance(refusal, NoSpace)
    assert refusal.message.endswith('of "executions_visibility" as far as it is still to be done')


def test_what_was_said_to_be_free_is_used_up(store: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy that outgrows what was said to be free ends: nobody can look."""
    monkeypatch.setattr(disk, "need", lambda _: Need(data=8192, wal=8192))
    monkeypatch.setattr(throttle, "_DISK_SECONDS", 0)
    monkeypatch.setattr(throttle, "_PAUSE_SECONDS", 0)
    refusal = store.refused(SCHEMA_MIGRATOR_DISK_FREE="16kB")
    assert isinstance(refusal, NoSpace)


def test_load_that_cannot_be_seen_is_refused(origin: Origin, store: Site) -> None:
    """--max-load takes the sight of all sessions: exit 12 before anything, with the GRANT, in `plan` too."""
    limited = store.given(SCHEMA_MIGRATOR_MAX_LOAD="1")
    refusal = limited.refused()
    assert isinstance(refusal, PreflightFailed)
    assert f'GRANT pg_read_all_stats TO "{origin.databases.user}";' in refusal.hint
    assert limited.foresee().obstacle == str(refusal).removeprefix("visibility: ")
    with granted(origin.databases, "pg_read_all_stats"):
        assert limited.foresee().obstacle == ""


@contextmanager
def busy(origin: Origin, count: int = 2) -> Iterator[list[Connection]]:
    """Let sessions of another role work until the block ends or somebody ends them."""
    conns = [origin.databases.connect_server("postgres") for _ in range(count)]
    sleeps = [conn.pipeline() for conn in conns]
    for conn, pipeline in zip(conns, sleeps, strict=True):
        pipeline.__enter__()
        conn.execute("SELECT pg_sleep(120)")
    try:
        yield conns
    finally:
        with origin.databases.admin() as admin:
            for conn in conns:
                admin.execute("SELECT pg_terminate_backend(%s)", [conn.info.backend_pid])
                conn.close()


def test_a_busy_server_is_given_time(origin: Origin) -> None:
    """Above --max-load nothing is copied; when there is less, the run goes on."""
    database = origin.copy()
    with granted(origin.databases, "pg_read_all_stats"):
        with busy(origin):
            process = origin.migrate(database, *rewriting.ONLINE, "--max-load", "1")
            paused = await_event(process, "online.paused", "online.cut_over")
        assert paused["event"] == "online.paused"
        assert paused["reason"] == "2 sessions of others are active, the limit is 1"
        ended = finish(process)
    assert ended.code == 0, ended.stderr


def test_a_server_that_stays_busy_is_not_waited_for_for_ever(origin: Origin) -> None:
    """After --wait-timeout it ends with 1, having said so as often as the heartbeat; the next run resumes."""
    database = origin.copy()
    with granted(origin.databases, "pg_read_all_stats"):
        with busy(origin):
            ended = origin.run(database, "--max-load", "1", "--wait-timeout", "5", "--heartbeat", "2")
        assert ended.code == 1, ended.stderr
        assert "error: visibility: 2 sessions of others are active, the limit is 1; the copy so far is kept" in (
            ended.stderr
        )
        assert len([event for event in events(ended) if event["event"] == "online.paused"]) == 3
        assert origin.run(database, "--max-load", "1").code == 0


def test_sessions_that_cannot_be_seen_are_told(origin: Origin, store: Site) -> None:
    """Whose transactions may be old and nobody knows: named by the run and by `plan`; a superuser sees them."""
    server = origin.databases.server_user
    with origin.databases.connect_server(store.name):
        told = run_cli(origin.env(store.name), "plan", *rewriting.ONLINE)
        assert f'sessions that this role cannot inspect: 1 of "{server}"; if one has an old ' in told.stdout
        seen = by_superuser(store).foresee().found
        assert seen is not None
        assert seen[1].hidden == ()
        ended = origin.run(store.name)
        (warned,) = [event for event in events(ended) if event["event"] == "online.sessions_hidden"]
        assert warned["sessions"] == {server: 1}
        assert warned["remedy"] == f'GRANT pg_read_all_stats TO "{origin.databases.user}";'


def test_an_old_transaction_is_found(store: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot of somebody else's that is older than the limit: nothing is begun, and it is named."""
    monkeypatch.setattr(prechecks, "OLD_SECONDS", 0)
    with store.databases.connect(store.name, application_name="nightly") as other:
        other.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        other.execute("SELECT 1")
        refusal = store.refused()
        assert isinstance(refusal, TableLockTimeout), refusal
        assert refusal.message.endswith(f"pid {other.info.backend_pid} (nightly)")


def test_an_old_transaction_without_a_snapshot_is_harmless(store: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Idle in READ COMMITTED it sees what is there when it goes on: the swap would not wait for it, so nobody does."""
    monkeypatch.setattr(prechecks, "OLD_SECONDS", 0)
    with store.databases.connect(store.name, application_name="nightly") as other:
        other.execute("BEGIN")
        other.execute("SELECT 1")
        assert store.foresee().obstacle == ""
        assert store.migrate().outcomes


@pytest.mark.parametrize("name", ["schema-migrator/0.0.9", "schema-migrator/0.1.0 worker deadbeef"])
def test_a_name_does_not_make_a_session_ours(store: Site, name: str) -> None:
    """A stranger's snapshot is waited for whatever it calls itself; one of our own role's, of any version, is not."""
    with (
        store.databases.connect_server(store.name, application_name=name) as stranger,
        store.databases.connect(store.name, application_name=name) as own,
        store.connect() as looks,
    ):
        for conn in (stranger, own):
            conn.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            conn.execute("SELECT 1")
        assert {pid for pid, _ in cutover.old_snapshots(looks).found} == {stranger.info.backend_pid}


def test_old_versions_do_not_count_as_load(store: Site) -> None:
    """A session of an earlier version of this program is no foreign load, one of a stranger's by that name is."""
    name = "schema-migrator/0.0.9"
    query = f"SELECT a.pid FROM pg_stat_activity a WHERE a.application_name = '{name}' AND {activity.OURS}"
    with (
        store.databases.connect_server(store.name, application_name=name),
        store.databases.connect(store.name, application_name=name) as own,
        store.connect() as looks,
    ):
        assert looks.execute(query.encode()).fetchall() == [(own.info.backend_pid,)]
