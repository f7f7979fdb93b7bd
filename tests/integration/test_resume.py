"""How far a store has come, told from snapshots that were taken once of a real rehearsal."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from schema_migrator.catalog import seed_row
from schema_migrator.catalog.seed_row import Seed
from schema_migrator.catalog.snapshot import Key, Snapshot
from schema_migrator.diagnosis import recognition
from schema_migrator.diagnosis.recognition import resume_point, whole_version
from schema_migrator.diagnosis.state import At, Between, State, Unknown, Unrecorded
from schema_migrator.releases.source import UNVERSIONED
from support.postgres.databases import STORES
from support.program.rehearsed import Past, extras, quickly, seed_after


@quickly
@given(data=st.data(), store=st.sampled_from(STORES))
def test_the_k_found_is_the_k_made(pasts: dict[str, Past], store: str, data: st.DataObject) -> None:
    """For any step, any cut in it and any extras, the smallest k whose snapshot is equal is found."""
    past = pasts[store]
    before, step = data.draw(st.sampled_from(past.steps))
    taken = past.rehearsal.within[step.version]
    made = data.draw(st.integers(0, len(step.statements)))
    live = data.draw(extras(taken[made]))
    found = resume_point(past.rehearsal, step.version, before, live)
    assert found == next(k for k, one in enumerate(taken) if one == taken[made])


@quickly
@given(data=st.data(), store=st.sampled_from(STORES))
def test_what_is_left_is_planned(pasts: dict[str, Past], store: str, data: st.DataObject) -> None:
    """Every statement after the k found runs, and the seed's INSERT exactly if its row is missing."""
    past = pasts[store]
    before, step = data.draw(st.sampled_from(past.steps))
    taken, total = past.rehearsal.within[step.version], len(step.statements)
    made = data.draw(st.integers(0, total))
    live = data.draw(extras(taken[made]))
    state = recognition.recognise(past.evidence(before, live, seed=seed_after(step, made)))
    done = next(k for k, one in enumerate(taken) if one == taken[made])
    inserts = {k for k, statement in enumerate(step.statements) if seed_row.inserted_by(statement.text)}
    remaining = tuple(k for k in range(done, total) if k not in inserts or k >= made)
    if done == 0:
        assert state == At(version=before, min_compatible=Version("0.1"))
    else:
        assert state == Between(version=before, step=step.version, total=total, remaining=remaining)


@quickly
@given(data=st.data(), store=st.sampled_from(STORES))
def test_later_objects_are_never_extras(pasts: dict[str, Past], store: str, data: st.DataObject) -> None:
    """One object that only a later version knows, and the schema is no prefix of the next step."""
    past = pasts[store]
    before, step = data.draw(st.sampled_from(past.steps[:-1]))
    later = recognition.later_keys(past.rehearsal, before, past.rehearsal.touched(step.version))
    taken = data.draw(st.sampled_from(past.rehearsal.within[step.version]))
    stranger = data.draw(st.sampled_from(sorted(later)))
    live = Snapshot({**taken.objects, stranger: "whatever"})
    assert resume_point(past.rehearsal, step.version, before, live) is None
    state = recognition.recognise(past.evidence(before, live, seed=seed_after(step, 0)))
    assert isinstance(state, Unknown | Unrecorded)


@quickly
@given(data=st.data(), store=st.sampled_from(STORES))
def test_whole_version(pasts: dict[str, Past], store: str, data: st.DataObject) -> None:
    """Every version is recognised with any extras; of adjacent ones that look the same the lowest."""
    past = pasts[store]
    after = past.rehearsal.after
    version = data.draw(st.sampled_from(past.source.versions))
    live = data.draw(extras(after[version]))
    assert whole_version(past.rehearsal, live, past.rehearsal.known) == min(
        one for one in after if after[one] == after[version]
    )


def test_empty_steps_run_again(pasts: dict[str, Past]) -> None:
    """Visibility 1.9 to 1.12 look the same, so that tables without a version are taken for 1.9's."""
    past = pasts["visibility"]
    for version in map(Version, ("1.9", "1.10", "1.11", "1.12")):
        assert whole_version(past.rehearsal, past.rehearsal.after[version], past.rehearsal.known) == Version("1.9")


@quickly
@given(data=st.data(), store=st.sampled_from(STORES))
def test_a_missing_object_is_no_whole_version(pasts: dict[str, Past], store: str, data: st.DataObject) -> None:
    """Without one of its objects a schema is not the version, though it may be another."""
    past = pasts[store]
    version = data.draw(st.sampled_from(past.source.versions))
    objects = dict(past.rehearsal.after[version].objects)
    gone = data.draw(st.sampled_from(sorted(key for key in objects if key.kind not in ("table", "order"))))
    del objects[gone]
    found = whole_version(past.rehearsal, Snapshot(objects), past.rehearsal.known)
    assert found is None or past.rehearsal.after[found] != past.rehearsal.after[version]


@quickly
@given(data=st.data(), store=st.sampled_from(STORES))
def test_version_row_beside_the_tables(pasts: dict[str, Past], store: str, data: st.DataObject) -> None:
    """A recorded version that the tables are not of is never taken at its word, ahead of them or behind."""
    past = pasts[store]
    after = past.rehearsal.after
    recorded = data.draw(st.sampled_from([UNVERSIONED, *past.source.versions[:-1]]))
    version = data.draw(st.sampled_from([one for one in past.source.versions if after[one] != after[recorded]]))
    live = data.draw(extras(after[version]))
    state = recognition.recognise(past.evidence(recorded, live, seed=Seed(version=1)))
    lowest = min(one for one in after if after[one] == after[version])
    if isinstance(state, Between):
        assert live_is_within(past, state, after[version])
    else:
        assert state == Unrecorded(version=lowest, recorded=recorded, confirmed=False)


def live_is_within(past: Past, state: Between, live: Snapshot) -> bool:
    """Return whether a schema is exactly what a step has made after some statements."""
    return past.rehearsal.within[state.step][state.done] == live


@pytest.mark.parametrize(
    ("store", "table", "gone"),
    [
        ("default", "cluster_membership", "cm_idx_rolehost"),
        ("visibility", "executions_visibility", "by_type_close_time"),
    ],
)
def test_row_ahead_and_an_index_dropped(pasts: dict[str, Past], store: str, table: str, gone: str) -> None:
    """Tables of 1.0 under a row that says 1.5 are refused also when they are not quite those of 1.0."""
    past = pasts[store]
    live = past.rehearsal.after[Version("1.0")].without([Key("index", table, gone)])
    state = recognition.recognise(past.evidence(Version("1.5"), live, seed=Seed(version=1)))
    assert isinstance(state, Unknown)
    assert state.reason == (
        f"version 1.5 is recorded; the tables match no version; the closest is 1.0, apart from: index {table}.{gone}"
    )
    assert state.hint == f"for the SQL that brings them to 1.5: schema-migrator verify --{store}-target-version 1.5"


@pytest.mark.parametrize(
    ("recorded", "tables", "hint"),
    [
        ("1.5", "1.9", "for the SQL that brings them to 1.9: schema-migrator verify --default-target-version 1.9"),
        ("0.0", "1.9", "for the SQL that brings them to 1.9: schema-migrator verify --default-target-version 1.9"),
        ("1.4.1", "1.9", "set TEMPORAL_VERSION to the release that created it, or to a newer one"),
    ],
)
def test_the_hint_names_what_verify_compares_with(
    pasts: dict[str, Past], recorded: str, tables: str, hint: str
) -> None:
    """It is never a version below the recorded one, with which verify does not compare, nor one that is no version."""
    past = pasts["default"]
    live = past.rehearsal.after[Version(tables)].without([Key("index", "cluster_membership", "cm_idx_rolehost")])
    evidence = past.evidence(Version(recorded), live, seed=Seed(version=2 if recorded == "0.0" else 1))
    strange = Unknown(reason="found", hint="set TEMPORAL_VERSION to the release that created it, or to a newer one")
    overview = evidence.overview if recorded != "1.4.1" else replace(evidence.overview, state=strange)
    state = recognition.recognise(replace(evidence, overview=overview))
    assert isinstance(state, Unknown)
    assert state.hint == hint


def test_version_that_the_release_does_not_have(pasts: dict[str, Past]) -> None:
    """Whatever the tables look like, no step follows on a version that is none."""
    past = pasts["default"]
    state = recognition.recognise(
        past.evidence(Version("1.4.1"), past.rehearsal.after[Version("1.5")], seed=Seed(version=1))
    )
    assert state == Unrecorded(version=Version("1.5"), recorded=Version("1.4.1"), confirmed=False)


def test_drift_is_no_reason_to_doubt_the_row(pasts: dict[str, Past]) -> None:
    """An index that is missing, outside what the next step touches, leaves the store where it is."""
    past = pasts["visibility"]
    objects = dict(past.rehearsal.after[Version("1.8")].objects)
    del objects[Key("index", "executions_visibility", "by_build_ids")]
    state = recognition.recognise(past.evidence(Version("1.8"), Snapshot(objects), seed=Seed(version=None)))
    assert state == At(version=Version("1.8"), min_compatible=Version("0.1"))


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("elsewhere", ["none", "same", "other"])
def test_adopted_by_itself(pasts: dict[str, Past], store: str, elsewhere: str) -> None:
    """Another db_name's row confirms the tables exactly if it says their version."""
    past, version = pasts[store], pasts[store].source.latest
    rows = {"none": [], "same": [("old", str(version))], "other": [("old", "1.3")]}[elsewhere]
    state = recognition.recognise(
        past.evidence(UNVERSIONED, past.rehearsal.after[version], *rows, seed=Seed(version=7))
    )
    assert state == Unrecorded(version=version, recorded=UNVERSIONED, confirmed=elsewhere == "same")


@pytest.mark.parametrize("seed", [Seed(version=2), Seed(version=1, filled="namespaces")])
def test_no_half_applied_install_of_a_cluster(pasts: dict[str, Past], seed: Seed) -> None:
    """Where a cluster has left its rows, 1.0 is not resumed: whole it is recognised, else it is refused."""
    past = pasts["default"]
    taken = past.rehearsal.within[Version("1.0")]
    whole = recognition.recognise(past.evidence(UNVERSIONED, taken[-1], seed=seed))
    assert whole == Unrecorded(version=Version("1.0"), recorded=UNVERSIONED, confirmed=False)
    part = recognition.recognise(past.evidence(UNVERSIONED, taken[-2], seed=seed))
    assert isinstance(part, Unknown)
    assert f"{seed.used}, so a cluster has used these tables; nothing was touched" in part.reason


def test_invalid_indexes_count_as_built(pasts: dict[str, Past]) -> None:
    """They are rebuilt before any step runs, so that the state is that of the valid schema."""
    past = pasts["visibility"]
    taken = past.rehearsal.within[Version("1.13")][10]
    broken = Snapshot({k: v + (" /* INVALID */" if k.kind == "index" else "") for k, v in taken.objects.items()})
    assert resume_point(past.rehearsal, Version("1.13"), Version("1.12"), broken) is None
    assert resume_point(past.rehearsal, Version("1.13"), Version("1.12"), broken.validated()) == 10
    assert broken.invalid == {key for key in taken.objects if key.kind == "index"}


def test_the_first_step_beyond_the_target_may_have_begun(pasts: dict[str, Past]) -> None:
    """Steps without statements are never where a run has stopped; the one after the target may be."""
    source = pasts["visibility"].source
    steps = recognition.pending(source, Version("1.9"), Version("1.12"))
    assert [str(step.version) for step in steps] == ["1.13"]
    assert recognition.pending(source, source.latest, source.latest) == []


def test_other_releases(pasts: dict[str, Past]) -> None:
    """A version that only another release's files make is recognised by those."""
    past = pasts["visibility"]
    other = replace(past.rehearsal, release="1.30.4", after={**past.rehearsal.after})
    made = Snapshot({**past.rehearsal.after[Version("1.9")].objects, **column("temporalreportedproblems")})
    other.after[Version("1.10")] = made  # type: ignore[index]  # the mapping made above is a dict
    state: State = recognition.recognise(past.evidence(Version("1.10"), made, seed=Seed(version=None)), [other])
    assert state == At(version=Version("1.10"), min_compatible=Version("0.1"), release="1.30.4")


def column(name: str) -> dict[Key, str]:
    """Return a column of executions_visibility as a snapshot has it."""
    return {Key("column", "executions_visibility", name): "text"}
