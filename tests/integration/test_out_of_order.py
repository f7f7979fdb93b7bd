"""What is left of a step whose statements were not applied in their order."""

from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from schema_migrator.catalog.seed_row import Seed
from schema_migrator.catalog.snapshot import Key, Snapshot, changed
from schema_migrator.diagnosis import out_of_order, recognition
from schema_migrator.diagnosis.state import Between, Unknown
from schema_migrator.releases.source import Step
from support.postgres.databases import STORES
from support.program.rehearsed import Past, quickly


@quickly
@given(data=st.data(), store=st.sampled_from(STORES))
def test_out_of_order(pasts: dict[str, Past], store: str, data: st.DataObject) -> None:
    """Of a step whose statements each change something else, exactly those are left that are not done."""
    past = pasts[store]
    alone = [step for _, step in past.steps if each_on_its_own(past, step)]
    step = data.draw(st.sampled_from(alone))
    taken = past.rehearsal.within[step.version]
    done = data.draw(st.sets(st.integers(0, len(step.statements) - 1)))
    objects = dict(taken[0].objects)
    for index in done:
        apply(objects, taken[index], taken[index + 1])
    effects = [effect(taken[index], taken[index + 1]) for index in range(len(step.statements))]
    expected = [index for index, keys in enumerate(effects) if index not in done or not keys]
    assert out_of_order.remaining(taken, Snapshot(objects)) == expected


def effect(before: Snapshot, after: Snapshot) -> frozenset[Key]:
    """Return the objects that a statement changes, but for the order of columns."""
    return frozenset(key for key in changed(before, after) if key.kind != "order")


def each_on_its_own(past: Past, step: Step) -> bool:
    """Return whether no object is changed by two statements of a step."""
    taken = past.rehearsal.within[step.version]
    keys = [key for index in range(len(step.statements)) for key in effect(taken[index], taken[index + 1])]
    return len(keys) == len(set(keys))


def apply(objects: dict[Key, str], before: Snapshot, after: Snapshot) -> None:
    """Do to the objects what a statement did."""
    for key in effect(before, after):
        objects.pop(key, None)
        if key in after.objects:
            objects[key] = after.objects[key]


def test_out_of_order_and_ambiguous(pasts: dict[str, Past]) -> None:
    """An object that is neither as before, nor as after, nor as it ends up leaves the state unknown."""
    past = pasts["visibility"]
    taken = past.rehearsal.within[Version("1.2")]
    key = Key("column", "executions_visibility", "text01")
    assert key in taken[-1].objects
    live = Snapshot({**taken[-1].objects, key: "integer"})
    assert out_of_order.remaining(taken, live) is None
    state = recognition.recognise(past.evidence(Version("1.1"), live, seed=Seed(version=None)))
    assert isinstance(state, Unknown)
    assert "the closest is 1.2, apart from: column executions_visibility.text01" in state.reason


def test_two_tools_at_once(pasts: dict[str, Past]) -> None:
    """A column dropped again by a second tool, while a later index is there, is dropped and added by order."""
    past = pasts["visibility"]
    taken = past.rehearsal.within[Version("1.6")]
    index = Key("index", "executions_visibility", "by_root_run_id")
    objects = dict(taken[-1].objects)
    del objects[index]
    state = recognition.recognise(past.evidence(Version("1.5"), Snapshot(objects), seed=Seed(version=None)))
    assert isinstance(state, Between)
    assert state.remaining == (7,)
