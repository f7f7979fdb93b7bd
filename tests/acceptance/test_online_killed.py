"""An online rewrite that is killed under load is made good by the next run, and no write is lost, doubled or old."""

import random
from collections.abc import Iterator

import pytest
from psycopg import sql

from schema_migrator.demo.embedded_postgres import Server, private_server
from support.postgres.databases import fresh
from support.postgres.engine import Engine
from support.visibility import rewriting
from support.visibility.online_sweep import KILLS, SAFE, kill, length
from support.visibility.rewriting import SCHEMAS, Origin

START = "1.2"
ROWS = 6000
SHARES = (0.3, 0.85)
"""When to kill, as a share of a whole run; `make sweep-online` tries many more."""

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


def test_a_connection_that_ends_as_a_batch_is_noted(scene: tuple[Server, Origin, float]) -> None:
    """The others note no batch after one whose note was lost: the next run would find no gap, and rows were gone."""
    _, origin, _ = scene
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
        assert admin.execute("SELECT count(*) FROM executions_visibility").fetchone() == (ROWS,)
