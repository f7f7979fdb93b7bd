"""Metrics of a run, derived from its events. Pure functions; `cli.metrics_file` writes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from packaging.version import Version

_PREFIX = "schema_migrator_"
BUDGETS = {
    "replica_lag": ("replica_lag_bytes", "WAL that the replica that is furthest behind has not received"),
    "slot_wal": ("slot_wal_bytes", "WAL retained for a replication slot that nothing reads"),
    "archive_lag": ("archive_lag_bytes", "WAL that is not archived yet"),
    "active_sessions": ("active_sessions", "active sessions of others"),
    "commit_seconds": ("commit_seconds", "duration of a small commit"),
    "change_log": ("change_log_bytes", "size of the online rewrite's change log"),
}
"""The name and the meaning of each budget's metric, by its field in the event online.budgets."""

Event = Mapping[str, Any]
Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A gauge: its name, its meaning, and its samples, each with its labels."""

    name: str
    meaning: str
    samples: tuple[tuple[Labels, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreMetrics:
    """What is known of a store. None: not known yet.

    `version`: the recorded one. `progress`: the fields of the last event online.progress. `budgets`: those of the last
    event online.budgets.
    """

    store: str
    database: str
    target: str
    version: str | None = None
    planned: int | None = None
    applied: int = 0
    compared: Event | None = None
    table: str = ""
    phase: str = ""
    paused: bool = False
    progress: Event = field(default_factory=dict)
    budgets: Event = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunMetrics:
    """What is known of a run. `started` and `ended` are seconds since 1970; `exit_code` is None while it runs."""

    command: str
    started: float
    version: str = ""
    release: str = ""
    ended: float | None = None
    exit_code: int | None = None
    stores: Mapping[str, StoreMetrics] = field(default_factory=dict)


Stores = tuple[StoreMetrics, ...]
Value = Callable[[StoreMetrics], float | None]


def after(run: RunMetrics, event: Event) -> RunMetrics:
    """Return what is known after an event; the same value if it says nothing new."""
    if event["event"] == "run.started":
        return _begun(run, event)
    change, store = _CHANGES.get(event["event"]), run.stores.get(event.get("store", ""))
    if change is None or store is None:
        return run
    return replace(run, stores={**run.stores, store.store: change(store, event)})


def ended(run: RunMetrics, code: int, now: float) -> RunMetrics:
    """Return what is known at the end."""
    return replace(run, ended=now, exit_code=code)


def _begun(run: RunMetrics, event: Event) -> RunMetrics:
    stores = (
        StoreMetrics(store=store["store"], database=store["database"], target=store["target"] or "")
        for store in event["stores"]
    )
    release = event["release"] or ""
    return replace(run, version=event["version"], release=release, stores={store.store: store for store in stores})


def _at(store: StoreMetrics, event: Event) -> StoreMetrics:
    return replace(store, version=event["version"])


def _stepped(store: StoreMetrics, event: Event) -> StoreMetrics:
    return replace(store, version=event["version"], applied=store.applied + event.get("steps", 1))


def _planned(store: StoreMetrics, event: Event) -> StoreMetrics:
    return replace(store, version=event["version"], target=event["target"], planned=event["steps"])


def _compared(store: StoreMetrics, event: Event) -> StoreMetrics:
    # The proof of a migration reports the version that was recorded before its steps.
    version = event["recorded"] if store.planned is None else store.version
    return replace(store, version=version, target=event["target"], compared=dict(event))


def _entered(store: StoreMetrics, event: Event) -> StoreMetrics:
    return replace(store, table=event["table"], phase=event["phase"], progress={}, paused=False)


def _progressed(store: StoreMetrics, event: Event) -> StoreMetrics:
    return replace(store, progress=dict(event), paused=False)


def _paused(store: StoreMetrics, _event: Event) -> StoreMetrics:
    return replace(store, paused=True)


def _spent(store: StoreMetrics, event: Event) -> StoreMetrics:
    return replace(store, budgets=dict(event))


def _swapped(store: StoreMetrics, _event: Event) -> StoreMetrics:
    return replace(store, table="", phase="", paused=False, progress={}, budgets={})


_CHANGES: Mapping[str, Callable[[StoreMetrics, Event], StoreMetrics]] = {
    "store.planned": _planned,
    "schema.at_target": _at,
    "schema.ahead": _at,
    "schema.installed": _stepped,
    "schema.compared": _compared,
    "version.adopted": _at,
    "step.applied": _stepped,
    "steps.applied": _stepped,
    "online.phase_entered": _entered,
    "online.progress": _progressed,
    "online.paused": _paused,
    "online.holding": _progressed,
    "online.budgets": _spent,
    "online.cut_over": _swapped,
}
"""How each event changes what is known of its store."""


def metrics(run: RunMetrics, now: float) -> tuple[Metric, ...]:
    """Return the metrics of a run at a time in seconds since 1970, without those that have no sample."""
    stores = tuple(run.stores.values())
    rewritten = tuple(store for store in stores if store.phase)
    every = (*_of_run(run, now), *_of_stores(stores), *_of_rewrites(rewritten), *_of_budgets(rewritten))
    return tuple(metric for metric in every if metric.samples)


def _of_run(run: RunMetrics, now: float) -> Iterator[Metric]:
    info = {"version": run.version, "release": run.release}
    yield _metric("run_info", "version of schema-migrator and release of the files", [(info, 1)])
    yield _metric("run_start_time_seconds", "when the run began", _sample(run.started))
    length = (now if run.ended is None else run.ended) - run.started
    yield _metric("run_duration_seconds", "duration of the run so far", _sample(length))
    yield _metric("run_running", "1 during the run, 0 after its end", _sample(run.ended is None))
    yield _metric("run_end_time_seconds", "when the run ended", _sample(run.ended))
    yield _metric("run_exit_code", "exit code of the run", _sample(run.exit_code))


def _of_stores(stores: Stores) -> Iterator[Metric]:
    yield _metric("store_info", "database, recorded version and target of a store", [(_info(of), 1) for of in stores])
    yield _each("store_up_to_date", "whether the store is at its target or above", stores, _up_to_date)
    yield _each("store_steps_planned", "steps from the recorded version to the target", stores, lambda of: of.planned)
    yield _each("store_steps_applied", "steps that this run has applied", stores, _applied)
    yield _each("schema_matches", "whether the schema matches its version", stores, _matches)
    differences = [sample for store in stores for sample in _differences(store)]
    yield _metric("schema_differences", "objects that differ from the version", differences)


def _of_rewrites(stores: Stores) -> Iterator[Metric]:
    phases = [({"store": of.store, "table": of.table, "phase": of.phase}, 1.0) for of in stores]
    yield _metric("rewrite_phase", "phase of an online rewrite", phases)
    yield _each("rewrite_paused", "whether the rewrite is paused", stores, lambda of: of.paused)
    yield _each("rewrite_workers", "connections at work", stores, _progress("workers"))
    yield _each("rewrite_done", "what the phase has done, in its unit", stores, _progress("done"), "unit")
    yield _each("rewrite_left", "what the phase still has to do, in its unit", stores, _progress("left"), "unit")
    yield _each("rewrite_per_second", "what the phase does per second", stores, _progress("per_second"), "unit")
    yield _each("rewrite_left_seconds", "estimated time left in the phase", stores, _progress("seconds_left"))


def _of_budgets(stores: Stores) -> Iterator[Metric]:
    for source, (name, meaning) in BUDGETS.items():
        yield _each(name, meaning, stores, _budget(source))
        yield _each(f"{name}_limit", f"limit for {name}", stores, _budget(f"{source}_limit"))


def _metric(name: str, meaning: str, samples: Iterable[tuple[Labels, float]]) -> Metric:
    given = tuple((labels, float(value)) for labels, value in samples)
    return Metric(name=_PREFIX + name, meaning=meaning, samples=given)


def _sample(value: float | None) -> list[tuple[Labels, float]]:
    return [] if value is None else [({}, value)]


def _each(name: str, meaning: str, stores: Stores, value: Value, more: str = "") -> Metric:
    """Return a metric with a sample for each store of which the value is known; `more`: a label from its progress."""
    values = [(store, value(store)) for store in stores]
    labels = {store.store: {more: str(store.progress.get(more, ""))} if more else {} for store in stores}
    known = [({"store": of.store, **labels[of.store]}, found) for of, found in values if found is not None]
    return _metric(name, meaning, known)


def _progress(name: str) -> Value:
    return lambda store: store.progress.get(name)


def _budget(name: str) -> Value:
    return lambda store: store.budgets.get(name)


def _info(store: StoreMetrics) -> Labels:
    version = store.version or ""
    return {"store": store.store, "database": store.database, "version": version, "target": store.target}


def _applied(store: StoreMetrics) -> int | None:
    return None if store.planned is None else store.applied


def _up_to_date(store: StoreMetrics) -> bool | None:
    """Return None until the store's version is known."""
    if store.planned is None and store.compared is None:
        return None
    return bool(store.version and store.target) and Version(store.version or "") >= Version(store.target)


def _matches(store: StoreMetrics) -> bool | None:
    return None if store.compared is None else bool(store.compared["equal"])


def _differences(store: StoreMetrics) -> Iterator[tuple[Labels, float]]:
    found = store.compared
    kinds = () if found is None else ("missing", "different", "extra")
    return (({"store": store.store, "kind": kind}, (found or {})[kind]) for kind in kinds)
