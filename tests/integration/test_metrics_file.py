"""The metrics file of real runs: a migration, a comparison that finds drift, and an online rewrite while it waits."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from support.postgres.databases import Databases, fresh
from support.postgres.engine import Engine
from support.program.command import finish, run_cli
from support.program.store_driver import site
from support.visibility import rewriting
from support.visibility.rewriting import Origin
from support.waiting import await_true

FILE = "SCHEMA_MIGRATOR_METRICS_FILE"
STORE = "visibility"


def values(path: Path) -> dict[str, float]:
    """Return the values of one store and of the run, by name without prefix and by what else tells samples apart."""
    found = {}
    for family in text_string_to_metric_families(path.read_text()):
        for sample in family.samples:
            if sample.labels.get("store", STORE) == STORE:
                more = [sample.labels[name] for name in ("version", "kind", "phase", "unit") if name in sample.labels]
                found["/".join([sample.name.removeprefix("schema_migrator_"), *more])] = sample.value
    return found


def test_a_migration_and_a_comparison(databases: Databases, tmp_path: Path) -> None:
    """What the run did, and then what somebody has changed by hand."""
    site(databases, "default").install()
    site(databases, STORE).install(release="1.29.1")
    migrate, verify = tmp_path / "migrate.prom", tmp_path / "verify.prom"
    done = run_cli(databases.env() | {FILE: str(migrate)}, "migrate")
    assert done.code == 0, done.stderr
    found = values(migrate)
    assert {name: found[name] for name in ("run_running", "run_exit_code", "schema_matches", "store_up_to_date")} == {
        "run_running": 0.0,
        "run_exit_code": 0.0,
        "schema_matches": 1.0,
        "store_up_to_date": 1.0,
    }
    assert (found["store_info/1.14"], found["store_steps_planned"], found["store_steps_applied"]) == (1.0, 5.0, 5.0)
    with databases.connect(STORE) as connection:
        connection.execute("ALTER TABLE executions_visibility DROP COLUMN encoding, ADD COLUMN mine text")
    assert run_cli(databases.env(), "verify", "--metrics-file", str(verify), "--log-level", "error").code == 23
    found = values(verify)
    assert (found["run_exit_code"], found["schema_matches"], found["store_info/1.14"]) == (23.0, 0.0, 1.0)
    kinds = {kind: found[f"schema_differences/{kind}"] for kind in ("missing", "different", "extra")}
    assert (kinds["missing"], kinds["extra"]) == (1.0, 1.0)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.fixture(scope="module")
def origin(server: Engine) -> Iterator[Origin]:
    """Return a visibility store with rows below the newest version, to be copied."""
    with fresh(server) as databases:
        yield rewriting.origin(databases, "1.12", 300)


def test_an_online_rewrite(origin: Origin, tmp_path: Path) -> None:
    """While it waits for its cutover the file says so, with what it has used of its budgets."""
    path = tmp_path / "migrate.prom"
    options = (*rewriting.ONLINE, "--hold-cutover", "--metrics-file", str(path), "--heartbeat", "0.1")
    process = origin.migrate(origin.copy(), *options)
    waits = "rewrite_phase/waiting for the cutover"
    await_true(lambda: process.poll() is not None or (path.exists() and waits in values(path)))
    await_true(lambda: process.poll() is not None or "change_log_bytes" in values(path))
    found = values(path)
    process.terminate()
    ended = finish(process)
    assert ended.code == 143, ended.stderr
    assert (found["run_running"], found["rewrite_paused"], found["store_up_to_date"]) == (1.0, 0.0, 0.0)
    assert found["change_log_bytes"] < found["change_log_bytes_limit"]
    assert found["commit_seconds_limit"] == 0.25
    assert values(path)["run_exit_code"] == 143.0
