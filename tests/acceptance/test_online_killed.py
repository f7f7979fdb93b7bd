"""An online rewrite that was disturbed is made good by the next run, and no write is lost, doubled or old."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import pytest
from psycopg import sql

from schema_migrator.demo.embedded_postgres import private_server
from support.postgres.databases import fresh
from support.postgres.engine import Engine
from support.postgres.fault_proxy import STATEMENTS, Place
from support.visibility import rewriting
from support.visibility.fault_sweep import (
    KINDS,
    PHASES,
    SAFE,
    Scene,
    disturb,
    run_disturbed,
    survey,
)
from support.visibility.rewriting import SCHEMAS, events

ENDS_AT_THE_COMMIT = """
CREATE FUNCTION public.spoil() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.number = 2 THEN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(1); END IF;
  RETURN NULL;
END $$;
CREATE FUNCTION public.spoil_batches() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE made record;
BEGIN
  FOR made IN SELECT objid::regclass AS name FROM pg_event_trigger_ddl_commands()
    WHERE object_identity ~ '^schema_migrator_online_[0-9]+\\.batches$' AND command_tag = 'CREATE TABLE'
  LOOP
    EXECUTE format('CREATE CONSTRAINT TRIGGER spoil AFTER INSERT ON %s DEFERRABLE INITIALLY DEFERRED
      FOR EACH ROW EXECUTE FUNCTION public.spoil()', made.name);
  END LOOP;
END $$;
CREATE EVENT TRIGGER spoil_batches ON ddl_command_end EXECUTE FUNCTION public.spoil_batches();
"""
NUMBERS = "SELECT array_agg(number ORDER BY number) FROM {}.batches"


@dataclass(frozen=True, kw_only=True)
class Scenes:
    """Two stores to copy, on one server."""

    small: Scene
    large: Scene

    @cached_property
    def places(self) -> Mapping[str, Mapping[str, Sequence[Place]]]:
        """The places of a run on the small one."""
        return survey(self.small)


REFUSED = "too many connections"
AT_A_MESSAGE = [kind for kind in KINDS if kind != REFUSED]


@pytest.fixture(scope="module")
def scenes() -> Iterator[Scenes]:
    """Start a server that may be stopped, with a store of few rows to copy, and one of many batches of rows."""
    with private_server(settings=SAFE) as server:
        engine = Engine.of(server)
        with fresh(engine) as databases:
            yield Scenes(
                small=Scene(server=server, origin=rewriting.origin(databases, "1.12", 300)),
                large=Scene(server=server, origin=rewriting.origin(databases, "1.2", 6000)),
            )


@pytest.mark.parametrize(("phase", "kind"), list(product(PHASES, AT_A_MESSAGE)))
def test_disturbed_and_run_again(scenes: Scenes, phase: str, kind: str) -> None:
    """In each phase, by each kind of fault, at another message: at target, every row as it was written last."""
    places = scenes.places[KINDS[kind].messages][phase]
    turn = AT_A_MESSAGE.index(kind) + len(phase)
    # A run has no fixed number of messages in a connection: on a busy machine, it looks at the server more often.
    wanted = (places[turn * len(places) // 30 % len(places)], places[0], places[len(places) // 2], places[-1])
    outcomes = (disturb(scenes.small, kind, place) for place in wanted)
    outcome = next((outcome for outcome in outcomes if outcome.hit or outcome.problem), None)
    assert outcome is not None
    assert outcome.problem == ""


@pytest.mark.parametrize("connection", [0, 2, 4])
def test_a_connection_is_refused(scenes: Scenes, connection: int) -> None:
    """The run's own, and those of the pool."""
    outcome = disturb(scenes.small, REFUSED, Place(connection=connection, message=0))
    assert (outcome.problem, outcome.hit) == ("", True)


@pytest.mark.parametrize("kind", ["cut after", "SIGKILL", "server stopped"])
def test_between_two_batches(scenes: Scenes, kind: str) -> None:
    """Some batches of rows were copied: the next run copies the others."""
    places = survey(scenes.large)[KINDS[kind].messages]["backfill"]
    outcome = disturb(scenes.large, kind, places[len(places) // 2])
    assert (outcome.problem, outcome.hit) == ("", True)


@pytest.mark.parametrize(
    ("statement", "number"),
    [("CREATE INDEX by_execution_duration ON .*schema_migrator_online", 2), ("WITH put AS", 1)],
    ids=["index", "batch"],
)
def test_scarce_memory(scenes: Scenes, statement: str, number: int) -> None:
    """Fewer workers go on, and what failed is done later; all indexes were built before, on the empty copy."""
    place = Place(connection=0, message=number, kinds=STATEMENTS, statement=statement)
    ended, hit = run_disturbed(scenes.small, scenes.small.origin.copy(), KINDS["out of memory"], place)
    assert hit is not None
    assert ended.code == 0, ended.stderr
    assert [event["workers"] for event in events(ended) if event["event"] == "online.memory_scarce"] == [1]


def test_a_connection_that_ends_as_a_batch_is_noted(scenes: Scenes) -> None:
    """The others note no batch after one whose note was lost: the next run would find no gap, and rows were gone."""
    origin = scenes.large.origin
    database = origin.copy()
    with origin.databases.admin(database) as admin:
        admin.execute(ENDS_AT_THE_COMMIT)
        ended = origin.run(database)
        assert ended.code == 1
        assert " broke: " in ended.stderr
        admin.execute("DROP EVENT TRIGGER spoil_batches")
        ((name,),) = admin.execute(SCHEMAS).fetchall()
        schema = sql.Identifier(name)
        (numbers,) = admin.execute(sql.SQL(NUMBERS).format(schema)).fetchone() or ([],)
        assert numbers == list(range(len(numbers)))
        admin.execute(sql.SQL("DROP TRIGGER spoil ON {}.batches").format(schema))
        admin.execute("DROP FUNCTION public.spoil_batches(), public.spoil()")
        again = origin.run(database)
        assert again.code == 0, again.stderr
        assert admin.execute("SELECT count(*) FROM executions_visibility").fetchone() == (6000,)
