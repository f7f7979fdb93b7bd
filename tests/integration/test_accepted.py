"""Differences that somebody has accepted: no drift, kept by an upgrade or refused, each named with its reason."""

import json
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from schema_migrator.errors import HarmfulDrift, NotAsRehearsed, PreflightFailed, SettingsError
from support.postgres.databases import Databases
from support.program.command import Completed, run_cli
from support.program.store_driver import Site, site
from support.visibility.executions import TABLE, fill

REASON = "no entry for rows without the attribute"
# An attribute that a row lacks is NULL, and its index has an entry for the row nevertheless.
NULLABLE = f"""
SELECT c.relname::text, pg_get_indexdef(c.oid) || ' WHERE ' || quote_ident(a.attname) || ' IS NOT NULL'
FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid JOIN pg_am m ON m.oid = c.relam AND m.amname = 'btree'
JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = x.indkey[1] AND NOT a.attnotnull
WHERE x.indrelid = '{TABLE}'::regclass AND NOT x.indisunique AND x.indpred IS NULL AND a.attgenerated = 's'
ORDER BY 1
"""
PARTIAL = f"SELECT indexname, indexdef FROM pg_indexes WHERE tablename = '{TABLE}' AND indexdef ~ ' WHERE ' ORDER BY 1"
NARROWED = (
    "DROP INDEX by_batcher_user",
    f"CREATE INDEX by_batcher_user ON {TABLE} (batcheruser) WHERE batcheruser > 'b'",
)


def make_partial(store: Site) -> list[tuple[str, str]]:
    """Make each index of a nullable attribute one of the rows that have it; return the indexes by name."""
    with store.connect() as owner:
        for name, definition in owner.execute(NULLABLE.encode()).fetchall():
            owner.execute(f'DROP INDEX "{name}"'.encode())
            owner.execute(definition.encode())
    return partial(store)


def partial(store: Site) -> list[tuple[str, str]]:
    """Return the partial indexes by name."""
    with store.connect() as owner:
        return owner.execute(PARTIAL.encode()).fetchall()


def ran(store: Site, *args: str) -> Completed:
    """Run a command on the store."""
    return run_cli({**store.databases.env(store.store), **store.variables, "SCHEMA_MIGRATOR_LOG_LEVEL": "info"}, *args)


def verified(store: Site, *args: str) -> tuple[int, dict[str, object]]:
    """Return the exit code of verify and what it reports."""
    ended = ran(store, "verify", "--output", "json", *args)
    assert ended.stdout, ended.stderr
    return ended.code, json.loads(ended.stdout)["stores"][0]


def accepting(store: Site, folder: Path, *flags: str) -> Site:
    """Accept all that is there now; return the store with the file."""
    path = folder / "accepted.toml"
    ended = ran(store, "verify", "--write-accepted", str(path), *(flags or ("--reason", REASON)))
    assert ended.code == 0, ended.stderr
    return store.given(SCHEMA_MIGRATOR_ACCEPTED=str(path), SCHEMA_MIGRATOR_ON_DRIFT="fail")


@pytest.mark.parametrize("rewrite", ["in-place", "online"])
def test_partial_indexes_outlast_an_upgrade(databases: Databases, tmp_path: Path, rewrite: str) -> None:
    """As smaller visibility indexes of the user's own: accepted at 1.9, they are the same at 1.14, and still accepted.

    One that is changed further is drift again.
    """
    bare = site(databases, "visibility").install("1.9")
    with bare.connect() as owner:
        fill(owner, 200)
    made = make_partial(bare)
    assert len(made) > 20
    assert len(bare.refused(SCHEMA_MIGRATOR_ON_DRIFT="fail").message) > 0
    store = accepting(bare, tmp_path)
    assert verified(store)[0] == 0

    done = store.migrate(SCHEMA_MIGRATOR_REWRITE=rewrite)
    assert done.verdict is not None
    assert done.verdict.equal
    assert [step.online for step in done.plan.steps if step.statements] == [rewrite == "online"] * 2
    assert partial(store) == made
    code, found = verified(store)
    assert (code, found["version"], found["equal"], len(found["accepted"])) == (0, "1.14", True, len(made))  # type: ignore[arg-type]  # a list

    store.run(*NARROWED)
    code, found = verified(store)
    assert (code, [change["name"] for change in found["different"]]) == (23, ["by_batcher_user"])  # type: ignore[attr-defined]  # a list
    assert "by_batcher_user" in store.refused().message


def test_each_kind_is_reported_apart(databases: Databases, tmp_path: Path) -> None:
    """With its reason, in text and JSON, and as an event of the upgrade; what is not accepted is drift as before."""
    bare = site(databases, "visibility").install("1.13")
    bare.run("DROP INDEX by_batcher_user, by_status", f"CREATE INDEX mine ON {TABLE} (run_id)", *NARROWED[1:])
    store = accepting(bare, tmp_path)
    text = ran(store, "verify", "--visibility-target-version", "1.13").stdout
    assert "version 1.13: matches, except for 3 accepted" in text
    for accepted in ("by_batcher_user is different", "by_status is missing", "mine is extra"):
        assert f"  accepted   index {TABLE}.{accepted}: {REASON}" in text
    with capture_logs() as events:
        assert store.plan().problems == ()
    assert [event["object"].partition(".")[2] for event in events if event["event"] == "schema.accepted"] == [
        "by_batcher_user",
        "by_status",
        "mine",
    ]
    assert not [event for event in events if event["event"] in ("schema.drift", "schema.acceptance_unused")]
    store.run("DROP INDEX by_execution_time")
    assert "1 object of" in str(store.refused())


def test_a_step_that_would_undo_it_is_refused(databases: Databases, tmp_path: Path) -> None:
    """Visibility 1.6 drops a column with its index and makes both anew; it may, where the entry says so."""
    bare = site(databases, "visibility").install("1.5")
    bare.run("DROP INDEX by_root_run_id", f"CREATE INDEX by_root_run_id ON {TABLE} (root_run_id) WHERE status = 1")
    store = accepting(bare, tmp_path).given(SCHEMA_MIGRATOR_ON_DRIFT="warn")
    for rewrite in ("online", "in-place"):
        refusal = store.refused(SCHEMA_MIGRATOR_REWRITE=rewrite)
        assert isinstance(refusal, HarmfulDrift)
        assert f"step 1.6 replaces the index {TABLE}.by_root_run_id, whose definition is accepted: {REASON}" in str(
            refusal
        )
    path = tmp_path / "accepted.toml"
    path.write_text(path.read_text() + "keep = false\n")
    said = store.plan().undoes
    assert [text.partition(" the index ")[0] for text in said] == ["step 1.6 replaces"]
    with capture_logs() as events:
        assert store.migrate().verdict
    assert [event["reason"] for event in events if event["event"] == "schema.acceptance_undone"] == [*said]
    assert partial(store) == []


def test_without_a_rehearsal_nothing_is_risked(databases: Databases, tmp_path: Path) -> None:
    """Where the role may not rehearse, a step that might undo what is accepted is not run."""
    bare = site(databases, "visibility").install("1.9")
    bare.run("DROP INDEX by_status")
    store = accepting(bare, tmp_path).given(SCHEMA_MIGRATOR_ON_DRIFT="warn", SCHEMA_MIGRATOR_NO_VERIFY="true")
    bare.run(f'REVOKE CREATE ON DATABASE "{bare.name}" FROM "{databases.user}"')
    refusal = store.refused()
    assert isinstance(refusal, PreflightFailed)
    assert "nothing shows whether a step would undo an accepted difference" in str(refusal)
    assert str(store.migrate(SCHEMA_MIGRATOR_ACCEPTED="").plan.target) == "1.14"


def test_entries_that_accept_nothing(databases: Databases, tmp_path: Path) -> None:
    """They are named with the reason; one that has expired lets its difference count again."""
    bare = site(databases, "visibility").install("1.14")
    bare.run("DROP INDEX by_status")
    entry = '[[accepted]]\nstore = "visibility"\naccept = "missing"\nreason = "x"\nobject = "index {}.{}"\n{}\n'
    path = tmp_path / "accepted.toml"
    path.write_text(entry.format(TABLE, "by_task_queue", "") + entry.format(TABLE, "by_status", "until = 2026-01-31"))
    store = bare.given(SCHEMA_MIGRATOR_ACCEPTED=str(path))
    code, found = verified(store)
    assert code == 23
    assert [(unused["object"], unused["why"]) for unused in found["unused_acceptances"]] == [  # type: ignore[attr-defined]  # a list
        (f"index {TABLE}.by_task_queue", "the object is as version 1.14 has it"),
        (f"index {TABLE}.by_status", "it applied until 2026-01-31"),
    ]
    with capture_logs() as events, pytest.raises(NotAsRehearsed):
        store.plan(SCHEMA_MIGRATOR_ON_DRIFT="fail")
    assert len([event for event in events if event["event"] == "schema.acceptance_unused"]) == 2


def test_the_written_file(databases: Databases, tmp_path: Path) -> None:
    """It needs a reason before it is read; written again, it keeps reasons; another file is not overwritten."""
    store = site(databases, "visibility").install("1.14")
    store.run("DROP INDEX by_status")
    path = tmp_path / "accepted.toml"
    assert ran(store, "verify", "--write-accepted", str(path)).code == 0
    ended = ran(store, "verify", "--accepted", str(path))
    assert (ended.code, "entry 1 has no reason" in ended.stderr) == (2, True)
    again = ran(store, "verify", "--write-accepted", str(path))
    assert (again.code, "exists already" in again.stderr) == (2, True)

    path.write_text(path.read_text().replace('reason = ""', 'reason = "kept"'))
    store.run("DROP INDEX by_task_queue")
    assert ran(store, "verify", "--accepted", str(path), "--write-accepted", str(path), "--reason", "new").code == 0
    text = path.read_text()
    assert (text.count('"kept"'), text.count('"new"'), text.count("[[accepted]]")) == (1, 1, 2)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]

    store.run(f"ALTER TABLE {TABLE} DROP CONSTRAINT {TABLE}_pkey")
    ended = ran(store, "verify", "--write-accepted", str(tmp_path / "other.toml"), "--reason", "new")
    assert (ended.code, f"cannot be accepted: constraint {TABLE}.{TABLE}_pkey" in ended.stderr) == (23, True)


def test_a_broken_file_stops_before_anything_is_contacted(databases: Databases, tmp_path: Path) -> None:
    """Of every command that recognises a store's state."""
    store = site(databases, "visibility").install("1.14").given(SCHEMA_MIGRATOR_ACCEPTED=str(tmp_path / "gone"))
    for command in (store.verify, store.plan, store.migrate, store.status):
        with pytest.raises(SettingsError, match="cannot be read"):
            command(SQL_HOST="192.0.2.1")
    assert ran(store, "rewrite", "status").code == 0
