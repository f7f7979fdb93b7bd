"""What status says of a step that was cut, in words and as JSON, and that migrate does it."""

import json

import pytest
from packaging.version import Version

from schema_migrator.diagnosis.state import At, Between
from support.postgres.databases import Databases, dump
from support.program.references import run_here
from support.program.store_driver import site


@pytest.mark.parametrize(
    ("name", "step", "done", "total"),
    [
        ("default", "1.0", 21, 30),
        ("default", "1.0", 30, 30),
        ("default", "1.8", 1, 3),
        ("visibility", "1.2", 37, 54),
        ("visibility", "1.13", 10, 19),
    ],
)
def test_so_many_of_so_many(
    databases: Databases, capsys: pytest.CaptureFixture[str], name: str, step: str, done: int, total: int
) -> None:
    """The statements that are done of the step's, and after migrate the same as an installation of it makes."""
    store = site(databases, name).half_install(step, done)
    env = databases.env() | dict(store.variables)
    assert run_here(env, "status") == 0
    assert f"half-applied: {step}, {done} of {total} statements" in " ".join(capsys.readouterr().out.split())
    assert run_here(env, "status", "--output", "json", "--check") == 25
    (found,) = json.loads(capsys.readouterr().out)["stores"]
    assert (found["state"], found["step"], found["statements_applied"], found["statements_total"]) == (
        "between",
        step,
        done,
        total,
    )
    assert found["up_to_date"] is False
    verdict = store.migrate(**{f"{name.upper()}_TARGET_VERSION": step}).verdict
    assert verdict is not None
    assert verdict.equal
    whole = store.at(databases.create()).install(step)
    assert dump(databases.engine, store.name) == dump(databases.engine, whole.name)


def test_the_statement_without_effect(databases: Databases) -> None:
    """1.13's DO block leaves no sign, so that it counts as not done yet and runs again."""
    state = site(databases, "visibility").half_install("1.13", 2).status().state
    assert isinstance(state, Between)
    assert (state.done, state.remaining[0]) == (1, 1)


def test_nothing_of_the_step_was_done(databases: Databases) -> None:
    """Before its first statement a step is only pending."""
    store = site(databases, "default").half_install("1.4", 0)
    assert store.status().state == At(version=Version("1.3"), min_compatible=Version("1.0"))
    assert not store.plan().steps[0].resumed
