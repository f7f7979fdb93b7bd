"""Replicas of a real server: seen by slot or by right, else refused; late ones named, awaited, and not for ever."""

import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest
from psycopg import sql

from schema_migrator.errors import PreflightFailed, ServerBusy
from schema_migrator.online import archive, replicas
from support.postgres.databases import fresh
from support.postgres.engine import Connection
from support.postgres.standbys import MEGABYTE, Primary, primary
from support.program.command import await_event, finish, run_cli
from support.program.store_driver import Site, site
from support.visibility import rewriting
from support.visibility.rewriting import SCHEMAS, Origin, events
from support.waiting import await_true

ROWS = 300
LIMIT = "4MB"
LAGGARD = {"SCHEMA_MIGRATOR_REWRITE": "online", "SCHEMA_MIGRATOR_MAX_REPLICA_LAG": LIMIT}


@pytest.fixture(scope="module")
def first() -> Iterator[Primary]:
    """Start a primary server."""
    with primary() as made:
        yield made


@pytest.fixture(scope="module")
def origin(first: Primary) -> Iterator[Origin]:
    """Make a store at 1.12 with rows, to be copied."""
    with fresh(first.engine) as databases:
        yield rewriting.origin(databases, "1.12", ROWS)


@pytest.fixture
def store(origin: Origin) -> Site:
    """Return a copy, for a plain owner."""
    return site(origin.databases, "visibility").at(origin.copy()).given(**LAGGARD)


@contextmanager
def granted(origin: Origin, role: str) -> Iterator[None]:
    """Give the owner a right of the server's for the block."""
    owner, what = sql.Identifier(origin.databases.user), sql.Identifier(role)
    with origin.databases.admin() as admin:
        admin.execute(sql.SQL("GRANT {} TO {}").format(what, owner))
        yield
        admin.execute(sql.SQL("REVOKE {} FROM {}").format(what, owner))


def connected(store: Site) -> list[tuple[str, str | None, bool]]:
    """Return what `plan` sees: name, slot, and whether it can tell how far behind."""
    seen = store.foresee().found
    assert seen is not None
    assert seen[1].replicas is not None
    return [(one.name, one.slot, one.behind is not None) for one in seen[1].replicas.seen]


def rewritten(store: Site) -> bool:
    """Migrate; return whether the table was rewritten online to the last version."""
    return [str(one.version) for one in store.migrate().outcomes] == ["1.13", "1.14"]


def lag(first: Primary) -> int:
    """Return how far the standby's replay is behind, which a rewrite does not mind."""
    query = "SELECT max(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn))::bigint FROM pg_stat_replication"
    with first.engine.connect() as admin:
        ((behind,),) = admin.execute(query).fetchall()
    return int(behind)


def test_a_slot_shows_a_standby_to_everybody(first: Primary, store: Site) -> None:
    """A plain role sees how far a standby on a slot is, and what it has received counts, not what it has replayed."""
    with first.standby("alpha", slot="of_alpha") as standby:
        standby.pause()
        first.write(6)
        assert connected(store) == [("alpha", "of_alpha", True)]
        assert lag(first) > 5 * MEGABYTE
        await_true(lambda: store.foresee().obstacle == "")
        assert rewritten(store)


def test_a_standby_that_cannot_be_seen_is_refused(first: Primary, origin: Origin, store: Site) -> None:
    """Without a slot and without the right nothing begins: exit 12, with the GRANT; `plan` says it before."""
    with first.standby("beta"):
        assert connected(store) == [("beta", None, False)]
        refusal = store.refused()
        assert isinstance(refusal, PreflightFailed)
        said = f'the role "{origin.databases.user}" cannot see how far behind the replica "beta" (pid '
        assert refusal.message.startswith(said)
        assert f'GRANT pg_monitor TO "{origin.databases.user}";' in refusal.hint
        assert str(refusal).removeprefix("visibility: ") == store.foresee().obstacle
        told = run_cli(origin.env(store.name), "plan", *rewriting.ONLINE)
        assert 'replicas: "beta" (pid ' in told.stdout
        assert f'GRANT pg_monitor TO "{origin.databases.user}";' in told.stdout
        assert refusal.exit_code == 12


WAYS = {
    "not watched": {"SCHEMA_MIGRATOR_MAX_REPLICA_LAG": "off"},
    "left out": {"SCHEMA_MIGRATOR_IGNORE_REPLICAS": "other, gamma"},
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_the_user_may_do_without(first: Primary, store: Site, way: dict[str, str]) -> None:
    """With the check off, or with that standby left out by its name, the rewrite begins."""
    with first.standby("gamma"):
        assert rewritten(store.given(**way))


def test_a_standby_that_is_late_on_purpose(first: Primary, origin: Origin, store: Site) -> None:
    """One with recovery_min_apply_delay has received all: nobody waits for it. pg_monitor shows it without a slot."""
    with granted(origin, "pg_monitor"), first.standby("delta", settings={"recovery_min_apply_delay": "1h"}):
        first.write(6)
        assert connected(store) == [("delta", None, True)]
        await_true(lambda: store.foresee().obstacle == "")
        assert lag(first) > 5 * MEGABYTE
        assert rewritten(store)


def test_a_late_standby_is_named_before_anything_begins(first: Primary, store: Site) -> None:
    """Exit 1, its name and its slot, how far, and the limit; left out by its slot's name it does not count."""
    with first.standby("epsilon", slot="of_epsilon") as standby, standby.deaf():
        first.write(6)
        refusal = store.refused()
        assert isinstance(refusal, ServerBusy)
        assert refusal.exit_code == 1
        assert refusal.message.startswith('the replica "epsilon" (slot "of_epsilon") is ')
        assert " MB behind, the limit is 4 MB, and " in refusal.message
        assert rewritten(store.given(SCHEMA_MIGRATOR_IGNORE_REPLICAS="of_epsilon"))


@contextmanager
def paused(first: Primary, origin: Origin, database: str) -> Iterator[tuple[subprocess.Popen[str], Callable[[], None]]]:
    """Start a run; when all is copied, write what the standby does not receive: the run pauses at its next try.

    Gives its process, and what lets the standby receive again.
    """
    options = ("--max-replica-lag", LIMIT, "--wait-timeout", "8")
    with (
        first.standby("zeta", slot="of_zeta") as standby,
        origin.held(database, *options) as held,
        standby.deaf() as hear,
    ):
        first.write(6)
        event = await_event(held.process, "online.paused")
        held.holder.execute("COMMIT")
        assert str(event["reason"]).startswith('the replica "zeta" (slot "of_zeta") is ')
        yield held.process, hear


def test_a_pause_ends(first: Primary, origin: Origin) -> None:
    """A run waits for a standby for so long, says so now and then, ends with 1, and is carried on with."""
    database = origin.copy()
    with paused(first, origin, database) as (process, _):
        ended = finish(process)
    assert ended.code == 1, ended.stderr
    said = next(line for line in ended.stderr.splitlines() if line.startswith("error: "))
    assert said.startswith('error: visibility: the replica "zeta" (slot "of_zeta") is ')
    assert "the copy so far is kept, the table's trigger logs changes, and the next run resumes" in said
    assert "online.paused" not in [event["event"] for event in events(ended)]  # once, until the next heartbeat
    with origin.databases.connect(database) as owner:
        assert len(owner.execute(SCHEMAS.encode()).fetchall()) == 1
    blind = origin.run(database, "--max-load", "9")
    assert blind.code == 12
    assert "or drop --max-load; the copy so far is kept, the table's trigger logs changes" in blind.stderr
    again = origin.run(database)
    assert again.code == 0, again.stderr
    assert "online.resumed" in [event["event"] for event in events(again)]


def test_a_standby_that_catches_up_lets_the_run_go_on(first: Primary, origin: Origin) -> None:
    """The run that waited for it ends well."""
    with paused(first, origin, origin.copy()) as (process, hear):
        hear()
        ended = finish(process)
    assert ended.code == 0, ended.stderr


def test_a_slot_that_nobody_reads_is_told(first: Primary, origin: Origin, store: Site) -> None:
    """After a standby was stopped its slot keeps WAL: nobody waits for it, but `plan` and the run say so."""
    with first.standby("eta", slot="of_eta", stays=True):
        pass
    first.write(6)
    try:
        told = run_cli(origin.env(store.name), "plan", *rewriting.ONLINE, "--ignore-replica", "eat")
        assert 'slot "of_eta": nothing reads it, and it retains ' in told.stdout
        assert '--ignore-replica "eat" is the name of no replica and no slot' in told.stdout
        ended = origin.run(store.name, "--ignore-replica", "eat")
        assert ended.code == 0, ended.stderr
        warned = {event["event"]: event for event in events(ended)}
        assert warned["online.slot_idle"]["slot"] == "of_eta"
        assert warned["online.replica_unknown"]["names"] == ["eat"]
    finally:
        first.drop_slot("of_eta")


@contextmanager
def subscriber(first: Primary, admin: Connection) -> Iterator[None]:
    """Run a consumer of a logical slot that reads nothing."""
    admin.execute("SELECT pg_create_logical_replication_slot('of_cdc', 'pgoutput')")
    server = first.server
    command = [str(server.bindir / "pg_recvlogical"), "--start", "--no-loop", "-S", "of_cdc", "-f", "-"]
    command += ["-d", f"host={server.host} port={server.port} user={server.user} dbname=postgres application_name=cdc"]
    command += ["-o", "proto_version=1", "-o", "publication_names=none"]
    with subprocess.Popen(command, env={"PGPASSWORD": server.password}, stdout=subprocess.DEVNULL) as process:
        try:
            begun = "SELECT FROM pg_replication_slots WHERE slot_name = 'of_cdc' AND active"
            await_true(lambda: admin.execute(begun).fetchone() is not None)
            process.send_signal(signal.SIGSTOP)
            yield
        finally:
            process.kill()
    first.drop_slot("of_cdc")


def test_a_subscriber_counts_as_a_standby_does(first: Primary, store: Site) -> None:
    """What a logical slot's consumer has not taken stays on the disk too."""
    with first.engine.connect() as admin, subscriber(first, admin):
        first.write(6)
        refusal = store.refused()
        assert isinstance(refusal, ServerBusy)
        assert refusal.message.startswith('the replica "cdc" (slot "of_cdc") is ')


def test_a_query_on_a_standby_is_cancelled_for_the_cutover(first: Primary, origin: Origin, store: Site) -> None:
    """The lock of the cutover is replayed there; `plan` names the standbys before."""
    with first.standby("theta", slot="of_theta", settings={"max_standby_streaming_delay": "0"}) as standby:
        told = run_cli(origin.env(store.name), "plan", *rewriting.ONLINE)
        assert 'standbys: "theta" (slot "of_theta") will replay the cutover\'s lock; a query on ' in told.stdout
        with standby.engine.connect(store.name) as reader:
            reader.execute("BEGIN; SELECT count(*) FROM executions_visibility")
            assert rewritten(store)
            with pytest.raises(psycopg.Error, match="conflict with recovery"):
                reader.execute("SELECT pg_sleep(60)")


def test_a_slot_of_a_standby_is_seen(first: Primary) -> None:
    """What it retains counts from what the standby has received: PostgreSQL refuses there to say what is written."""
    with first.standby("kappa") as standby, standby.engine.connect() as admin:
        admin.execute("SELECT pg_create_physical_replication_slot('of_another', true)")
        found = replicas.look(admin, ())
    assert [(slot.name, slot.idle) for slot in found.slots] == [("of_another", True)]


def test_a_standby_has_no_archive_to_judge(first: Primary) -> None:
    """It writes no WAL, and PostgreSQL refuses there to say how far it has come."""
    with first.standby("iota", settings={"archive_mode": "on"}) as standby, standby.engine.connect() as admin:
        assert archive.look(admin) is None
