"""Three stores: the secondary visibility store has the visibility files, and is a store like the other two."""

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pytest

from schema_migrator.runs.advisory_lock import KEY
from support.postgres import fingerprint
from support.postgres.databases import Databases, dump
from support.postgres.fingerprint import Fingerprint
from support.program.command import Completed, run_cli
from support.program.refusals import errors
from support.program.store_driver import files, install, site

SECONDARY = "secondary-visibility"
STORES = ("default", "visibility", SECONDARY)
OLDER, OLD = "1.25.1", {"default": "1.14", "visibility": "1.6", SECONDARY: "1.6"}
NEWEST, NEW = "1.32.2", {"default": "1.19", "visibility": "1.14", SECONDARY: "1.14"}


@dataclass(frozen=True, kw_only=True)
class Three:
    """Three databases, and our program pointed at them."""

    databases: Databases

    @cached_property
    def names(self) -> dict[str, str]:
        """The databases by store."""
        databases = self.databases
        return {"default": databases.default, "visibility": databases.visibility, SECONDARY: databases.create()}

    def env(self, **changes: str) -> dict[str, str]:
        """Return the environment."""
        own = {"SECONDARY_VISIBILITY_SQL_DATABASE": self.names[SECONDARY], "SCHEMA_MIGRATOR_STORES": ",".join(STORES)}
        return self.databases.env() | own | changes

    def run(self, *args: str, code: int = 0, **changes: str) -> Completed:
        """Run a command; assert how it ends."""
        done = run_cli(self.env(**changes), *args)
        assert done.code == code, done.stderr
        return done

    def found(self, *args: str, **changes: str) -> dict[str, dict[str, Any]]:
        """Return the JSON of a command by store."""
        done = self.run(*args, "--output", "json", **changes)
        return {entry["store"]: entry for entry in json.loads(done.stdout)["stores"]}

    def versions(self) -> dict[str, str]:
        """Return the version that each store is at."""
        return {store: entry["version"] for store, entry in self.found("status").items()}

    def dump(self, store: str) -> str:
        """Return a store's dump; the database's own name does not show."""
        return dump(self.databases.engine, self.names[store])

    def picture(self) -> list[Fingerprint]:
        """Return all that a run could change."""
        found = []
        for name in self.names.values():
            with self.databases.admin(name) as admin:
                found.append(fingerprint.whole(admin))
        return found


@pytest.fixture
def three(databases: Databases) -> Three:
    """Return three empty databases."""
    return Three(databases=databases)


@pytest.fixture
def older(three: Three) -> Three:
    """Return three stores at the versions of an older release."""
    for store in ("default", "visibility"):
        site(three.databases, store).install(release=OLDER)
    install(three.databases, three.names[SECONDARY], SECONDARY, OLDER, files(SECONDARY, OLDER).latest)
    return three


def test_installed_and_upgraded(three: Three) -> None:
    """All three reach the release's versions, and both visibility stores are the same but for their names."""
    done = three.found("migrate", TEMPORAL_VERSION=OLDER)
    assert {store: (entry["database"], entry["version"]) for store, entry in done.items()} == {
        store: (three.names[store], version) for store, version in OLD.items()
    }
    assert three.dump(SECONDARY) == three.dump("visibility")
    assert three.found("migrate").keys() == set(STORES)
    assert three.versions() == NEW
    assert three.dump(SECONDARY) == three.dump("visibility")
    assert three.run("plan", "--check").code == 0
    shown = three.run("verify").stdout
    assert f'{SECONDARY} store, database "{three.names[SECONDARY]}", version 1.14: matches' in shown
    ready = three.run("wait", "--for", "database,schema").stdout.splitlines()
    assert [line.split(":")[0] for line in ready] == [
        *(f"{store} database" for store in STORES),
        *(f"{store} schema" for store in STORES),
    ]


def test_a_target_of_its_own(three: Three) -> None:
    """Its target says nothing of visibility's, and --check names the stores that are behind."""
    three.run("migrate", SECONDARY_VISIBILITY_TARGET_VERSION="1.9")
    assert three.versions() == NEW | {SECONDARY: "1.9"}
    behind = three.run("status", "--check", code=25)
    assert errors(behind)[-1] == (
        "error: the secondary-visibility store is not at its target; run schema-migrator migrate"
    )
    older = {f"{prefix}_TARGET_VERSION": "1.1" for prefix in ("DEFAULT", "VISIBILITY", "SECONDARY_VISIBILITY")}
    refused = three.run("migrate", code=2, SCHEMA_MIGRATOR_ALLOW_OLDER_TARGETS="false", **older)
    assert errors(refused)[-1].startswith(
        "error: DEFAULT_TARGET_VERSION is 1.1, VISIBILITY_TARGET_VERSION is 1.1 and "
        "SECONDARY_VISIBILITY_TARGET_VERSION is 1.1, but servers of release 1.32.2 need 1.19, 1.14 and 1.14 and"
    )


@pytest.mark.parametrize("broken", STORES)
def test_one_that_fails_stops_no_other(older: Three, broken: str) -> None:
    """The other two reach their targets, and the exit code is that of the failure."""
    with older.databases.connect(older.names[broken]) as holder, holder.transaction():
        holder.execute("SELECT pg_advisory_xact_lock(%s)", [KEY])
        done = older.run("migrate", "--no-verify", code=4, SCHEMA_MIGRATOR_LOCK_TIMEOUT="0.5")
    (said,) = errors(done)
    assert said.startswith(f'error: {broken}: another run holds the lock on database "{older.names[broken]}"')
    assert older.versions() == NEW | {broken: OLD[broken]}


def test_two_that_fail_stop_not_the_third(older: Three) -> None:
    """Each is named, and the exit code is that of the failure that a retry is least likely to cure."""
    reads = "LOCK TABLE executions_visibility IN ACCESS SHARE MODE"
    with (
        older.databases.connect(older.names["visibility"]) as reader,
        older.databases.connect(older.names[SECONDARY]) as holder,
        reader.transaction(),
        holder.transaction(),
    ):
        reader.execute(reads)
        holder.execute("SELECT pg_advisory_xact_lock(%s)", [KEY])
        limits = {"SCHEMA_MIGRATOR_LOCK_TIMEOUT": "0.5", "SCHEMA_MIGRATOR_WAIT_TIMEOUT": "2"}
        done = older.run("migrate", "--no-verify", code=4, **limits)
    assert sorted(line.split(":")[1].strip() for line in errors(done)) == [SECONDARY, "visibility"]
    assert older.versions() == OLD | {"default": NEW["default"]}
    older.run("migrate", "--no-verify")
    assert older.versions() == NEW


def test_nothing_is_changed_before_all_three_may_be(older: Three) -> None:
    """A store that cannot be reached, or is another one, is found before the first is changed, as of two stores."""
    before = older.picture()
    missing = older.run("migrate", code=1, SECONDARY_VISIBILITY_SQL_DATABASE="nix", SCHEMA_MIGRATOR_WAIT_TIMEOUT="0.5")
    assert errors(missing)[-1].startswith(f"error: {SECONDARY}: the database at ")
    swapped = {
        "DEFAULT_SQL_DATABASE": older.names[SECONDARY],
        "SECONDARY_VISIBILITY_SQL_DATABASE": older.names["default"],
    }
    said = errors(older.run("migrate", code=20, **swapped))
    assert said[-1] == (
        f'error: {SECONDARY}: database "{older.names["default"]}" has a table of the default store, '
        f'"activity_info_maps", expected the {SECONDARY} store; '
        "swap DEFAULT_SQL_DATABASE and SECONDARY_VISIBILITY_SQL_DATABASE"
    )
    assert older.picture() == before


def test_one_database_under_two_names(three: Three) -> None:
    """Both visibility stores in one database show no foreign table; that they are one is found all the same."""
    same = {"SECONDARY_VISIBILITY_SQL_DATABASE": three.names["visibility"]}
    done = three.run("migrate", code=2, SQL_HOST="127.0.0.1", SECONDARY_VISIBILITY_SQL_HOST="localhost", **same)
    assert errors(done)[-1] == (
        "error: the settings of the visibility and secondary-visibility stores lead to the same database,"
        " expected a database for each; "
        "set VISIBILITY_SQL_DATABASE and SECONDARY_VISIBILITY_SQL_DATABASE to different databases"
    )


def test_created_with_the_others(three: Three) -> None:
    """Create-database makes what is missing of the selected stores."""
    more = f"{three.names[SECONDARY]}_more"
    role = three.databases.user
    with three.databases.admin() as admin:
        admin.execute(f'ALTER ROLE "{role}" CREATEDB'.encode())
    done = three.run("create-database", SECONDARY_VISIBILITY_SQL_DATABASE=more)
    assert done.stdout.splitlines()[-1] == f'{SECONDARY} store: database "{more}" created'


@pytest.mark.parametrize("command", ["migrate", "releases"])
def test_settings_without_the_store(three: Three, command: str) -> None:
    """A command on stores refuses them; one that is not about stores has no flag to select any, and goes on."""
    env = three.env(SCHEMA_MIGRATOR_STORES="")
    done = run_cli({name: value for name, value in env.items() if value}, command)
    if command == "releases":
        assert done.code == 0
        return
    assert done.code == 2
    assert errors(done)[-1] == (
        "error: SECONDARY_VISIBILITY_SQL_DATABASE is set, but nothing selects the secondary-visibility store; "
        "name the stores in SCHEMA_MIGRATOR_STORES, with or without it"
    )
