"""What status and plan say of Temporal's servers: which start on a schema, which are alive, what a frontend reports."""

import json

import pytest
from temporalio.api.workflowservice.v1 import GetSystemInfoResponse

from support.postgres.databases import Databases
from support.program.command import run_cli
from support.program.store_driver import Site, site
from support.temporal.frontends import SERVING, between


@pytest.fixture
def store(databases: Databases) -> Site:
    """Return a default store of 1.29, which servers have used."""
    made = site(databases, "default").install("1.18")
    made.run(
        *(
            "INSERT INTO cluster_membership"
            " (membership_partition, host_id, rpc_address, rpc_port, role, last_heartbeat)"
            f" VALUES (0, '{host}', '10.0.0.1', 7233, {role}, (now() AT TIME ZONE 'UTC') - interval '{age}')"
            for host, role, age in (
                ("a", 1, "3 seconds"),
                ("b", 1, "4 seconds"),
                ("c", 2, "1 second"),
                ("d", 3, "21 seconds"),
                ("e", 9, "0 seconds"),
            )
        )
    )
    return made


def told(store: Site, *args: str, **variables: str) -> dict[str, object]:
    """Return what a command says of the servers."""
    env = {**store.databases.env(), **store.variables, **variables}
    done = run_cli(env, *args, "--output", "json")
    assert done.code == 0, done.stderr
    (found,) = json.loads(done.stdout)["stores"]
    servers: dict[str, object] = found["servers"]
    return servers


@pytest.mark.parametrize("command", ["status", "plan"])
def test_who_starts_and_who_is_alive(store: Site, command: str) -> None:
    """Servers up to 1.30 start on 1.18; those with a heartbeat of the last 20 seconds are alive."""
    assert told(store, command) == {
        "newest_now": "1.30.9",
        "newest_after": "1.32.2",
        "alive": {"frontend": 2, "history": 1, "role 9": 1},
        "running": None,
    }
    done = run_cli({**store.databases.env(), **store.variables}, command)
    text = " ".join(done.stdout.split())
    assert "servers up to 1.30 start now, up to 1.32 afterwards" in text
    assert "servers alive: 2 frontend, 1 history, 1 role 9" in text


def test_in_any_time_zone(store: Site) -> None:
    """The heartbeats are in UTC, whatever the server's or the role's time zone is."""
    store.admin(f"ALTER DATABASE \"{store.name}\" SET timezone = 'Asia/Tokyo'")
    assert told(store, "status")["alive"] == {"frontend": 2, "history": 1, "role 9": 1}


def test_a_table_that_cannot_be_read_is_unknown(store: Site) -> None:
    """Without SELECT, and while somebody has the table locked, nobody is called alive or dead."""
    with store.databases.admin(store.name) as other, other.transaction():
        other.execute("LOCK TABLE cluster_membership IN ACCESS EXCLUSIVE MODE")
        assert told(store, "status", TEMPORAL_VERSION="1.29.7")["alive"] is None
    store.admin("ALTER TABLE cluster_membership OWNER TO postgres")
    assert told(store, "status")["alive"] is None


def test_no_servers_before_and_none_of_a_store_that_has_none(databases: Databases) -> None:
    """Nothing starts on an empty database, and the visibility store has no table of servers."""
    assert told(site(databases, "visibility"), "status") == {
        "newest_now": None,
        "newest_after": "1.32.2",
        "alive": None,
        "running": None,
    }


def test_an_older_patch_is_named(store: Site) -> None:
    """1.29.1 is not the highest release of 1.29."""
    env = {**store.databases.env(), **store.variables, "SCHEMA_MIGRATOR_LOG_LEVEL": "warning"}
    done = run_cli(env, "status", "--temporal-version", "1.29.1")
    (line,) = (json.loads(line) for line in done.stderr.splitlines())
    assert (line["event"], line["release"], line["newest"]) == ("release.newer_patch", "1.29.1", "1.29.7")
    assert run_cli(env, "status", "--temporal-version", "1.29.7").stderr == ""


def test_the_version_that_a_frontend_reports(store: Site) -> None:
    """With the frontend's address its version is told; one that does not answer is a warning, and nothing else."""
    answers = {
        "Check": SERVING.SerializeToString(),
        "GetSystemInfo": GetSystemInfoResponse(server_version="1.29.3").SerializeToString(),
    }
    with between("127.0.0.1:1", answers.get) as address:
        assert told(store, "status", TEMPORAL_ADDRESS=address)["running"] == "1.29.3"
        assert told(store, "plan", "--temporal-address", address)["running"] == "1.29.3"
    env = {**store.databases.env(), **store.variables, "SCHEMA_MIGRATOR_LOG_LEVEL": "warning"}
    done = run_cli(env, "status", "--temporal-address", "127.0.0.1:1", "--output", "json")
    assert done.code == 0
    assert json.loads(done.stdout)["stores"][0]["servers"]["running"] is None
    (line,) = (json.loads(line) for line in done.stderr.splitlines() if "unknown_version" in line)
    assert (line["frontend"], line["level"]) == ("127.0.0.1:1", "warning")
