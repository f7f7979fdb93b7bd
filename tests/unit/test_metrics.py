"""The metrics of a run: what its events say, in Prometheus' text format, in a file that is always whole."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families

import metrics_page
from schema_migrator import events
from schema_migrator.cli import metrics_file, process
from schema_migrator.config.settings import read
from schema_migrator.config.values import OWN_LABELS
from schema_migrator.errors import NotAsRehearsed, SettingsError
from schema_migrator.reports import metrics
from schema_migrator.reports.metrics import RunMetrics

FILE, LABELS = "SCHEMA_MIGRATOR_METRICS_FILE", "SCHEMA_MIGRATOR_METRICS_LABELS"
STARTED = {
    "event": "run.started",
    "version": "0.1.0",
    "release": "1.32.2",
    "stores": [
        {"store": "default", "database": "temporal", "target": "1.19"},
        {"store": "visibility", "database": "temporal_visibility", "target": "1.14"},
    ],
}
BUDGETS = {
    "replica_lag": 100,
    "replica_lag_limit": 1000,
    "slot_wal": None,
    "slot_wal_limit": 2000,
    "archive_lag": None,
    "archive_lag_limit": None,
    "active_sessions": 3,
    "active_sessions_limit": 50,
    "commit_seconds": 0.02,
    "commit_seconds_limit": 0.25,
    "change_log": 8192,
    "change_log_limit": 1 << 34,
}


def event(name: str, store: str = "visibility", **values: object) -> dict[str, Any]:
    """Return an event of a store."""
    return {"event": name, "store": store, **values}


def planned(version: str, target: str = "1.14", steps: int = 0) -> dict[str, Any]:
    """Return the event of a plan."""
    return event("store.planned", version=version, target=target, steps=steps)


def known(*those: dict[str, Any]) -> RunMetrics:
    """Return what is known after some events of a run that began at 1000."""
    run = RunMetrics(command="migrate", started=1000.0)
    for one in (STARTED, *those):
        run = metrics.after(run, one)
    return run


def samples(run: RunMetrics, store: str = "visibility") -> dict[str, float]:
    """Return the values at 1010 by name, without the prefix; of a store, and those of none."""
    found = {}
    for metric in metrics.metrics(run, 1010.0):
        for labels, value in metric.samples:
            if labels.get("store", store) == store:
                more = ",".join(labels[name] for name in ("kind", "phase", "unit") if name in labels)
                found[metric.name.removeprefix("schema_migrator_") + (f"/{more}" if more else "")] = value
    return found


def info(run: RunMetrics) -> dict[str, str]:
    """Return the labels of the visibility store's versions."""
    (metric,) = [metric for metric in metrics.metrics(run, 0.0) if metric.name == "schema_migrator_store_info"]
    (labels,) = [dict(labels) for labels, _ in metric.samples if labels["store"] == "visibility"]
    return labels


def test_a_run_that_begins() -> None:
    """Only that it runs, and where; nothing is claimed of a store that nobody has looked at."""
    run = known()
    assert samples(run) == {
        "run_info": 1.0,
        "run_start_time_seconds": 1000.0,
        "run_duration_seconds": 10.0,
        "run_running": 1.0,
        "store_info": 1.0,
    }
    assert info(run) == {"store": "visibility", "database": "temporal_visibility", "version": "", "target": "1.14"}


def test_a_run_that_ends() -> None:
    """Its exit code and the time of its end; the duration does not grow any more."""
    found = samples(metrics.ended(known(), 23, 1004.0))
    assert (found["run_running"], found["run_exit_code"], found["run_end_time_seconds"]) == (0.0, 23.0, 1004.0)
    assert found["run_duration_seconds"] == 4.0


MIGRATED = {
    "planned": ([planned("1.9", steps=5)], ("1.9", 0.0, 5.0, 0.0)),
    "at the target": ([planned("1.14"), event("schema.at_target", version="1.14")], ("1.14", 1.0, 0.0, 0.0)),
    "above it": ([planned("1.15"), event("schema.ahead", version="1.15", target="1.14")], ("1.15", 1.0, 0.0, 0.0)),
    "1.9 is below 1.10": ([planned("1.9", "1.10", 1)], ("1.9", 0.0, 1.0, 0.0)),
    "a step": ([planned("1.9", steps=5), event("step.applied", version="1.10")], ("1.10", 0.0, 5.0, 1.0)),
    "steps": ([planned("1.9", steps=5), event("steps.applied", version="1.14", steps=5)], ("1.14", 1.0, 5.0, 5.0)),
    "installed": (
        [planned("0.0", steps=14), event("schema.installed", version="1.14", steps=14)],
        ("1.14", 1.0, 14.0, 14.0),
    ),
    "adopted": ([planned("1.9", "1.9"), event("version.adopted", version="1.9")], ("1.9", 1.0, 0.0, 0.0)),
}


@pytest.mark.parametrize("case", MIGRATED)
def test_versions(case: str) -> None:
    """The recorded version, whether it is enough, and the steps."""
    those, expected = MIGRATED[case]
    run = known(*those)
    found = samples(run)
    steps = found["store_steps_planned"], found["store_steps_applied"]
    assert (info(run)["version"], found["store_up_to_date"], *steps) == expected
    assert "store_up_to_date" not in samples(run, "default")


def compared(*, equal: bool, recorded: str = "1.14", **counts: int) -> dict[str, Any]:
    """Return the event of a comparison."""
    numbers = {"missing": 0, "different": 0, "extra": 0, **counts}
    return event("schema.compared", version="1.14", recorded=recorded, target="1.14", equal=equal, **numbers)


def test_a_comparison() -> None:
    """Whether the schema matches, and how many objects do not."""
    run = known(compared(equal=False, missing=1, extra=2))
    found = samples(run)
    assert (found["schema_matches"], found["store_up_to_date"]) == (0.0, 1.0)
    kinds = [found[f"schema_differences/{kind}"] for kind in ("missing", "different", "extra")]
    assert kinds == [1.0, 0.0, 2.0]
    assert samples(known(compared(equal=True)))["schema_matches"] == 1.0


def test_the_proof_of_a_migration() -> None:
    """It was examined before the steps: what they recorded counts."""
    run = known(planned("1.9", steps=5), event("steps.applied", version="1.14", steps=5), compared(equal=True))
    assert info(run)["version"] == "1.14"
    later = known(planned("1.9", steps=5), event("step.applied", version="1.10"), compared(equal=True, recorded="1.9"))
    assert info(later)["version"] == "1.10"


ENTERED = event("online.phase_entered", table="executions_visibility", phase="backfill")
PROGRESS = event(
    "online.progress", phase="backfill", unit="rows", done=40, left=60, per_second=2.5, seconds_left=24, workers=2
)


def test_an_online_rewrite() -> None:
    """Its phase, how far that is, whether it pauses, and its budgets, until the cutover."""
    run = known(planned("1.9", steps=5), ENTERED, PROGRESS, event("online.budgets", **BUDGETS))
    found = samples(run)
    assert (found["rewrite_phase/backfill"], found["rewrite_paused"], found["rewrite_workers"]) == (1.0, 0.0, 2.0)
    done = {name: found[f"rewrite_{name}/rows"] for name in ("done", "left", "per_second")}
    assert done == {"done": 40.0, "left": 60.0, "per_second": 2.5}
    assert found["rewrite_left_seconds"] == 24.0
    assert (found["replica_lag_bytes"], found["replica_lag_bytes_limit"]) == (100.0, 1000.0)
    assert (found["commit_seconds"], found["active_sessions"], found["change_log_bytes"]) == (0.02, 3.0, 8192.0)
    assert not {"slot_wal_bytes", "archive_lag_bytes", "archive_lag_bytes_limit"} & found.keys()
    assert samples(metrics.after(run, event("online.paused")))["rewrite_paused"] == 1.0
    again = metrics.after(metrics.after(run, event("online.paused")), PROGRESS)
    assert samples(again)["rewrite_paused"] == 0.0
    proof = samples(metrics.after(run, event("online.phase_entered", table="t", phase="proof")))
    assert (proof["rewrite_phase/proof"], "rewrite_done/rows" in proof) == (1.0, False)
    over = samples(metrics.after(run, event("online.cut_over", table="executions_visibility")))
    assert not [name for name in over if name.startswith(("rewrite", "replica", "change_log"))]


def test_what_says_nothing() -> None:
    """Other events, and those of a store that is not the run's, leave the same value: nothing is written."""
    run = known()
    for other in ({"event": "lock.waiting"}, event("table.busy"), event("schema.at_target", "other", version="1")):
        assert metrics.after(run, other) is run


@contextmanager
def written(path: Path, command: str = "verify") -> Iterator[Callable[[int], None]]:
    """Open the file for a command; yield what closes it."""
    with ExitStack() as stack:
        yield metrics_file.begin({"command": command, FILE: str(path)}, stack)


def values(path: Path) -> dict[str, float]:
    """Return the values in a file that have no labels but the constant ones."""
    families = text_string_to_metric_families(path.read_text())
    return {sample.name: sample.value for family in families for sample in family.samples}


@pytest.fixture
def _logged() -> Iterator[None]:
    before = structlog.get_config()
    events.configure("error", terminal=False)
    yield
    structlog.configure(**before)


@pytest.mark.usefixtures("_logged", "clean")
def test_the_file(tmp_path: Path, clean: pytest.MonkeyPatch) -> None:
    """Prometheus' own parser reads it; each sample has the command and the labels of the installation."""
    clean.setenv(LABELS, 'namespace=temporal,installation=blue "1"')
    path = tmp_path / "verify.prom"
    with written(path) as close:
        assert values(path)["schema_migrator_run_running"] == 1.0
        events.logger().info(**STARTED)
        events.logger().debug(**planned("1.9", steps=5))
        close(23)
    families = {family.name: family for family in text_string_to_metric_families(path.read_text())}
    assert {family.type for family in families.values()} == {"gauge"}
    assert all(family.documentation for family in families.values())
    for sample in (sample for family in families.values() for sample in family.samples):
        constant = {name: sample.labels[name] for name in ("command", "namespace", "installation")}
        assert constant == {"command": "verify", "namespace": "temporal", "installation": 'blue "1"'}
    (code,) = families["schema_migrator_run_exit_code"].samples
    (steps,) = families["schema_migrator_store_steps_planned"].samples
    assert (code.value, steps.value, steps.labels["store"]) == (23.0, 5.0, "visibility")
    assert [found.name for found in tmp_path.iterdir()] == ["verify.prom"]


@pytest.mark.parametrize("made", [os.mkfifo, lambda path: path.symlink_to(os.devnull)])
def test_nothing_but_a_regular_file_is_replaced(tmp_path: Path, made: Callable[[Path], None]) -> None:
    """A run of root would otherwise put a file in the place of a device."""
    path = tmp_path / "verify.prom"
    made(path)
    before = path.lstat()
    with pytest.raises(SettingsError, match="something other than a regular file"), written(path):
        pass
    assert path.lstat() == before


@pytest.mark.usefixtures("_logged", "clean")
def test_labels_that_are_no_text(tmp_path: Path, clean: pytest.MonkeyPatch) -> None:
    """The command refuses them, and the file has its exit code."""
    clean.setenv(LABELS, os.fsdecode(b"namespace=\xff"))
    path = tmp_path / "verify.prom"
    with written(path) as close:
        close(2)
    assert values(path)["schema_migrator_run_exit_code"] == 2.0


@pytest.mark.usefixtures("_logged", "clean")
def test_a_reader_never_sees_half_a_file(tmp_path: Path, clean: pytest.MonkeyPatch) -> None:
    """It is replaced, and each version is whole."""
    clean.setattr(metrics_file, "_PAUSE_SECONDS", 0.0)
    path = tmp_path / "migrate.prom"
    seen, done = [], threading.Event()

    def look() -> None:
        while not done.is_set():
            seen.append(values(path))

    with written(path, "migrate") as close:
        reader = threading.Thread(target=look)
        reader.start()
        events.logger().info(**STARTED)
        for number in range(200):
            events.logger().debug(**planned("1.9", steps=number))
        close(0)
        done.set()
        reader.join()
    assert seen
    assert all("schema_migrator_run_running" in found for found in seen)
    assert values(path)["schema_migrator_store_steps_planned"] == 199.0


@pytest.mark.usefixtures("_logged", "clean")
def test_a_file_system_that_hangs(tmp_path: Path, clean: pytest.MonkeyPatch) -> None:
    """Nobody who logs an event waits for it, and the end waits for a while at most."""
    free, reached = threading.Event(), threading.Event()
    clean.setattr(metrics_file, "_LAST_SECONDS", 0.01)
    with written(tmp_path / "migrate.prom", "migrate") as close:

        def hang(_self: object) -> None:
            reached.set()
            free.wait()

        clean.setattr(metrics_file.MetricsFile, "_write", hang)
        events.logger().info(**STARTED)
        reached.wait()
        events.logger().debug(**planned("1.9", steps=5))
        close(0)
    free.set()


@pytest.mark.usefixtures("_logged", "clean")
def test_a_folder_that_disappears(
    tmp_path: Path, clean: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run goes on, and a warning says why there is nothing new."""
    clean.setattr(metrics_file, "_PAUSE_SECONDS", 0.0)
    events.configure("warning", terminal=False)
    folder = tmp_path / "gone"
    folder.mkdir()
    with written(folder / "migrate.prom", "migrate") as close:
        (folder / "migrate.prom").unlink()
        folder.rmdir()
        events.logger().info(**STARTED)
        events.logger().debug(**planned("1.9", steps=5))
        close(0)
    said = capsys.readouterr().err
    assert said.count('"event": "metrics.unwritten"') == 1
    assert '"reason": "No such file or directory"' in said


@pytest.mark.usefixtures("clean")
def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """It is named before anything is contacted."""
    path = tmp_path / "no" / "verify.prom"
    with pytest.raises(SettingsError) as refused, written(path):
        pass
    assert str(refused.value) == (
        f'the metrics file "{path}" cannot be written (No such file or directory); correct {FILE}'
    )


@pytest.mark.parametrize("command", ["status", "plan", "update-schema"])
def test_other_commands(tmp_path: Path, clean: pytest.MonkeyPatch, command: str) -> None:
    """They have no metrics, also where the variable is set."""
    clean.setenv(FILE, str(tmp_path / "file.prom"))
    with written(tmp_path / "file.prom", command) as close:
        close(0)
    assert not list(tmp_path.iterdir())


def test_how_a_run_failed(tmp_path: Path, clean: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Each end is in the file: a failure, wrong settings, and a fault of ours."""
    path = tmp_path / "verify.prom"
    clean.setenv(FILE, str(path))
    for error, code in ((NotAsRehearsed("no"), 23), (SettingsError("no"), 2), (KeyError("no"), 70)):

        def fail(_arguments: dict[str, Any], error: Exception = error) -> str:
            raise error

        assert process.run(["verify"], lambda _: {"command": "verify"}, fail) == code
        assert values(path)["schema_migrator_run_exit_code"] == code
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("text", ["namespace", "a=1,a=2", "=x", "a=", "1a=x", "store=x", "__a=b", "a-b=c", "a=1,"])
def test_labels_that_cannot_be_used(clean: pytest.MonkeyPatch, text: str) -> None:
    """Names that Prometheus refuses, and names of our own labels."""
    clean.setenv(LABELS, text)
    with pytest.raises(SettingsError, match="expected labels such as namespace=temporal,installation=blue") as refused:
        read({})
    assert str(refused.value).startswith(f'{LABELS} is "{text}"')


def test_names_of_our_labels() -> None:
    """None of them can be given to all metrics, and each name of a metric is there once."""
    every = metrics_page.every()
    assert {name for metric in every for labels, _ in metric.samples for name in labels} <= set(OWN_LABELS)
    assert len({metric.name for metric in every}) == len(every)


def test_labels(clean: pytest.MonkeyPatch) -> None:
    """Names and values, with blanks around them."""
    clean.setenv(LABELS, "namespace = temporal, le=a=b")
    assert read({}).run.metrics_labels == (("namespace", "temporal"), ("le", "a=b"))
