"""Waiting for databases and schemas, as an init container does."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from support.postgres.databases import STORES, Databases, create_database, unique
from support.program.command import Completed, await_event, finish, run_process, start_cli
from support.program.refusals import Clock, Refusals, errors
from support.vendor.tool import VendorTool

EXPECTED = {"default": "1.19", "visibility": "1.14"}


def address(databases: Databases, store: str) -> str:
    """Return where a store is, as sentences say it."""
    return f"{databases.user}@{databases.host}:{databases.port}/{databases.name(store)}"


def ready(done: Completed) -> list[dict[str, str]]:
    """Return what the JSON says is there."""
    assert done.code == 0, done.stderr
    return list(json.loads(done.stdout)["ready"])


@contextmanager
def waiting(databases: Databases, *args: str, **changes: str) -> Iterator[Callable[[], Completed]]:
    """Wait for schemas beside the block, which begins after the first line of it and calls what ends it."""
    process = start_cli(databases.env() | changes, "wait", "--for", "schema", "--output", "json", *args)
    assert await_event(process, "schema.waiting")["level"] == "warning"
    assert process.poll() is None
    try:
        yield lambda: finish(process)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("words", [["--for", "database"], ["--for", " database,"]])
def test_databases_that_are_there(databases: Databases, words: list[str]) -> None:
    """Empty databases that let us in are ready, whatever their schema is; no release has to be named."""
    done = run_process(databases.env() | {"TEMPORAL_VERSION": ""}, "wait", *words)
    assert (done.code, errors(done)) == (0, [])
    assert done.stdout == "".join(f"{store} database: {address(databases, store)} is ready\n" for store in STORES)


def test_a_database_that_comes_late(databases: Databases) -> None:
    """It is waited for, with a line about it, and then reported."""
    name = unique("temporal_late")
    env = databases.env() | {"DEFAULT_SQL_DATABASE": name}
    process = start_cli(env, "wait", "--for", "database", "--store", "default", "--output", "json")
    assert await_event(process, "database.waiting")["reason"] == f'database "{name}" does not exist'
    create_database(databases.engine, name, databases.user)
    assert ready(finish(process)) == [
        {"waited_for": "database", "address": address(databases, name), "store": "default"}
    ]


def test_schemas_that_are_there(refusals: Refusals, databases: Databases) -> None:
    """At the release's versions, and above those of an older one, a server would start."""
    refusals.migrate()
    done = run_process(databases.env(), "wait", "--for", "schema,database")
    assert (done.code, errors(done)) == (0, [])
    assert done.stdout.splitlines() == [
        *(f"{store} database: {address(databases, store)} is ready" for store in STORES),
        *(
            f"{store} schema: {address(databases, store)} is ready at {version}, expected {version} or above"
            for store, version in EXPECTED.items()
        ),
    ]
    older = run_process(databases.env() | {"TEMPORAL_VERSION": "1.29.1"}, "wait", "--for", "schema", "--output", "json")
    assert [(one["store"], one["version"], one["target"]) for one in ready(older)] == [
        ("default", "1.19", "1.18"),
        ("visibility", "1.14", "1.9"),
    ]


def test_schemas_that_come_late(databases: Databases) -> None:
    """It blocks on empty databases and on older versions, until migrate has brought them up."""
    with waiting(databases) as end:
        assert run_process(databases.env() | {"TEMPORAL_VERSION": "1.29.1"}, "migrate").code == 0
        time.sleep(3)  # longer than two looks are apart
        assert run_process(databases.env(), "migrate").code == 0
        assert {one["store"]: one["version"] for one in ready(end())} == EXPECTED


def test_a_named_version_is_enough(refusals: Refusals) -> None:
    """Targets of one's own are waited for in place of the release's."""
    refusals.migrate(TEMPORAL_VERSION="1.29.1")
    targets = {"DEFAULT_TARGET_VERSION": "1.18", "VISIBILITY_TARGET_VERSION": "1.9"}
    assert run_process(refusals.env(**targets), "wait", "--for", "schema").code == 0


def test_empty_databases(refusals: Refusals, databases: Databases) -> None:
    """At the deadline each store says what it found and what it expected; a retry may help."""
    assert refusals.refused(1, "--for", "schema", command="wait") == [
        f"error: {store}: the schema at {address(databases, store)} is not at {version} or above: "
        "no version is recorded; waited 1 s for schema-migrator migrate to be run"
        for store, version in EXPECTED.items()
    ]


def test_one_store_behind(refusals: Refusals, databases: Databases) -> None:
    """Only the store that lags is named."""
    refusals.migrate(VISIBILITY_TARGET_VERSION="1.13")
    assert refusals.refused(1, "--for", "schema", command="wait") == [
        (
            f"error: visibility: the schema at {address(databases, 'visibility')} is not at 1.14 or above: "
            "version 1.13 is recorded; waited 1 s for schema-migrator migrate to be run"
        )
    ]


def test_half_applied_by_the_vendors_tool(
    refusals: Refusals, databases: Databases, vendor_tool: Callable[[str], VendorTool]
) -> None:
    """Tables under version 0.0 are not ready, and the reason is told."""
    vendor_tool("1.32.2").setup("default")
    with databases.connect("default") as connection:
        connection.execute("CREATE TABLE namespaces (id int)")
    found = refusals.refused(1, "--for", "schema", "--store", "default", command="wait")
    assert found == [
        (
            f"error: default: the schema at {address(databases, 'default')} is not at 1.19 or above: "
            "version 0.0 is recorded, but 1 tables of the store are there; "
            "waited 1 s for schema-migrator migrate to be run"
        )
    ]


def test_swapped_databases(refusals: Refusals, databases: Databases) -> None:
    """The other store's tables are refused at once, although visibility would read as 1.19."""
    refusals.migrate()
    clock = Clock()
    swapped = {"DEFAULT_SQL_DATABASE": databases.visibility, "VISIBILITY_SQL_DATABASE": databases.default}
    found = refusals.refused(
        20, "--for", "schema", "--store", "visibility", command="wait", SCHEMA_MIGRATOR_WAIT_TIMEOUT="300", **swapped
    )
    assert found == [
        (
            f'error: visibility: database "{databases.default}" has a table of the default store, '
            '"activity_info_maps", expected the visibility store; swap DEFAULT_SQL_DATABASE and VISIBILITY_SQL_DATABASE'
        )
    ]
    assert clock.seconds < 60


def test_a_database_that_never_comes(refusals: Refusals, databases: Databases) -> None:
    """The deadline is shared: what is waited for second gets what is left of it."""
    clock = Clock()
    found = refusals.refused(1, "--for", "database,schema", "--store", "default", command="wait", SQL_PORT="1")
    assert found == [
        (
            f"error: default: the database at {databases.user}@{databases.host}:1/{databases.default} "
            "was not available after 1 s: Connection refused; is it running, and is the address correct?"
        )
    ]
    assert clock.seconds < 30


@pytest.mark.parametrize("aim", ["database", "schema"])
def test_a_rejected_password(refusals: Refusals, databases: Databases, aim: str) -> None:
    """It is told before the deadline: waiting cures it only for a few seconds."""
    found = refusals.refused(
        10, "--for", aim, "--store", "default", command="wait", SQL_PASSWORD="no", SCHEMA_MIGRATOR_WAIT_TIMEOUT="300"
    )
    assert found == [
        (
            f"error: default: the server rejected the password for {address(databases, 'default')}; "
            "make the Secret and the role's password the same"
        )
    ]


def test_connections_that_break(refusals: Refusals, databases: Databases) -> None:
    """A database that is dropped and made again while we wait is waited for as before."""
    with waiting(databases, "--store", "default") as end:
        with databases.admin() as admin:
            admin.execute(f'DROP DATABASE "{databases.default}" WITH (FORCE)'.encode())
        create_database(databases.engine, databases.default, databases.user)
        refusals.migrate()
        assert [one["version"] for one in ready(end())] == ["1.19"]


def test_stops_while_waiting(databases: Databases) -> None:
    """SIGTERM ends it at once, with its own exit code."""
    process = start_cli(databases.env(), "wait", "--for", "schema")
    await_event(process, "schema.waiting")
    process.terminate()
    done = finish(process, timeout=30)
    assert done.code == 143
    assert errors(done) == ["error: stopped by a signal, everything uncommitted was rolled back; run it again"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--for", "server"], 'error: --for is "server", expected one or more of database, schema, frontend'),
        (["--for", ","], 'error: --for is "", expected one or more of database, schema, frontend'),
        ([], "error: the following arguments are required: --for; see schema-migrator wait --help"),
    ],
)
def test_what_it_does_not_wait_for(databases: Databases, words: list[str], sentence: str) -> None:
    """Another word, or none, is wrong use."""
    done = run_process(databases.env(), "wait", *words)
    assert (done.code, errors(done)) == (2, [sentence])


def test_no_release_is_named(databases: Databases) -> None:
    """A schema's expected version comes from a release's files, before anything is contacted."""
    done = run_process(databases.env() | {"TEMPORAL_VERSION": "", "SQL_PORT": "1"}, "wait", "--for", "schema")
    assert done.code == 2
    assert errors(done)[0].startswith("error: the server version is not set; set TEMPORAL_VERSION to ")
