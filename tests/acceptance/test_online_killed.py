"""An online rewrite that is killed under load is made good by the next run, and no write is lost, doubled or old."""

import random
from collections.abc import Iterator

import pytest

import rewriting
from engine import Engine
from rewriting import Origin
from schema_migrator.embedded import Server, private_server
from stores import fresh
from sweep_online import KILLS, SAFE, kill, length

START = "1.2"
ROWS = 6000
SHARES = (0.3, 0.85)
"""When to kill, as a share of a whole run; `make sweep-online` tries many more."""


@pytest.fixture(scope="module")
def scene() -> Iterator[tuple[Server, Origin, float]]:
    """Start a server that may be stopped, with a store to copy; measure a run that nobody kills."""
    with private_server(settings=SAFE) as server:
        engine = Engine(host=server.host, port=server.port, user=server.user, password=server.password)
        with fresh(engine) as databases:
            origin = rewriting.origin(databases, START, ROWS)
            yield server, origin, length(origin)


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("kind", KILLS)
def test_killed_and_run_again(scene: tuple[Server, Origin, float], kind: str, share: float) -> None:
    """Whatever is killed, and when: at target, as the vendor's tool leaves it, every row as it was written last."""
    server, origin, whole = scene
    outcome = kill(origin, server, START, kind, whole * share, random.Random(f"{kind} {share}"))  # noqa: S311
    assert outcome.problem == ""
    assert outcome.writes > 0
