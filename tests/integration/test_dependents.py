"""What is the user's own and depends on a column or table that a pending step drops."""

import re

import pytest

from schema_migrator.errors import MigratorError, PreflightFailed
from support.postgres.databases import Databases
from support.program.store_driver import site

TRIGGER = "EXECUTE FUNCTION suppress_redundant_updates_trigger()"
ON_A_COLUMN = {
    'index "mine"': "CREATE INDEX mine ON cluster_metadata (immutable_data)",
    'index "mine too"': "CREATE INDEX \"mine too\" ON cluster_metadata ((immutable_data || 'x')) WHERE version > 1",
    'constraint "checked"': "ALTER TABLE cluster_metadata ADD CONSTRAINT checked CHECK (immutable_data <> 'x')",
    'statistics "counted"': "CREATE STATISTICS counted ON immutable_data, version FROM cluster_metadata",
}
ON_A_TABLE = {
    'index "mine"': "CREATE INDEX mine ON nexus_incoming_services (version)",
    'column "notes"': "ALTER TABLE nexus_incoming_services ADD notes text",
    'constraint "checked"': "ALTER TABLE nexus_incoming_services ADD CONSTRAINT checked CHECK (version > 0)",
    'statistics "counted"': "CREATE STATISTICS counted ON version, data FROM nexus_incoming_services",
    'rule "ruled"': "CREATE RULE ruled AS ON DELETE TO nexus_incoming_services DO INSTEAD NOTHING",
    'policy "guarded"': "CREATE POLICY guarded ON nexus_incoming_services USING (true)",
    'trigger "fired"': f"CREATE TRIGGER fired BEFORE UPDATE ON nexus_incoming_services FOR EACH ROW {TRIGGER}",
}


def named(refusal: MigratorError) -> set[str]:
    """Return the kinds and names that a preflight's refusal gives."""
    return set(re.findall(r'drops what your (\w+ "[^"]+") on', refusal.detail))


@pytest.mark.parametrize(
    ("version", "step", "table", "own"),
    [
        ("1.3", "1.4", "cluster_metadata", ON_A_COLUMN),
        ("1.12", "1.13", "nexus_incoming_services", ON_A_TABLE),
    ],
)
def test_refused_by_name(databases: Databases, version: str, step: str, table: str, own: dict[str, str]) -> None:
    """All of them are named before anything is touched, and after the SQL that is given migrate works."""
    store = site(databases, "default", TEMPORAL_VERSION="1.29.1").install(version, "1.29.1")
    store.run(*own.values())
    refusal = store.refused()
    assert isinstance(refusal, PreflightFailed)
    assert named(refusal) == own.keys()
    assert f'  - step {step} drops what your index "mine" on "{table}" depends on\n' in refusal.detail
    remedies = re.findall(r"if you no longer need it, drop it first: (.+;)", refusal.detail)
    assert 'DROP INDEX "mine";' in remedies
    store.run(*remedies)
    verdict = store.migrate().verdict
    assert verdict is not None
    assert verdict.equal
    assert not verdict.difference.extra


def test_a_view_is_refused(databases: Databases) -> None:
    """What PostgreSQL would refuse to drop a column for is named before the first step."""
    store = site(databases, "default", TEMPORAL_VERSION="1.29.1").install("1.3", "1.29.1")
    store.run("CREATE VIEW mine AS SELECT immutable_data FROM cluster_metadata")
    refusal = store.refused()
    assert isinstance(refusal, PreflightFailed)
    assert (
        '  - step 1.4 changes or drops the column "immutable_data" of "cluster_metadata", '
        "which your view public.mine depend"
    ) in refusal.detail
    store.run("DROP VIEW mine")
    assert store.migrate().outcomes


@pytest.mark.parametrize(
    ("kind", "version", "sql"),
    [
        ("default", "1.7", "CREATE INDEX mine ON current_executions (create_request_id)"),
        ("visibility", "1.1", "CREATE INDEX mine ON executions_visibility (run_id)"),
    ],
)
def test_what_hangs_on_something_else_stays(databases: Databases, kind: str, version: str, sql: str) -> None:
    """A column that a later step adds and the next one drops does not make every index of its table suspect."""
    store = site(databases, kind, TEMPORAL_VERSION="1.29.1").install(version, "1.29.1")
    store.run(sql)
    verdict = store.migrate().verdict
    assert verdict is not None
    assert verdict.equal
    assert [one.key.name for one in verdict.difference.extra] == ["mine"]
