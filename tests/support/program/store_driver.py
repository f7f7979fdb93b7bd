"""Stores in chosen states, and our commands on them in this process, which saves starting another."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import pairwise
from typing import Self, TypeVar
from unittest.mock import patch

import pytest
from packaging.version import Version

from schema_migrator.commands import migrate, preview, status, verify
from schema_migrator.commands.migrate import Migration
from schema_migrator.commands.preview import PlanPreview
from schema_migrator.commands.status import StoreStatus
from schema_migrator.concurrency import Interrupt
from schema_migrator.config import settings
from schema_migrator.config.settings import Settings
from schema_migrator.diagnosis.verdict import Verdict
from schema_migrator.errors import MigratorError
from schema_migrator.planning.plan import Plan
from schema_migrator.postgres.transactions import Batch
from schema_migrator.releases.source import UNVERSIONED, Source, Store
from schema_migrator.runs import version_table
from support.postgres import fingerprint
from support.postgres.databases import Databases, dump
from support.postgres.engine import Connection
from support.postgres.fingerprint import Fingerprint
from support.postgres.templates import copy_state
from support.program.library import LIBRARY

T = TypeVar("T")
NEWEST = "1.32.2"
LATEST = {"default": "1.19", "visibility": "1.14"}


@cache
def files(store: str, release: str = NEWEST) -> Source:
    """Return the steps of a store in a release."""
    return LIBRARY.release(release).source(Store(store))


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One store's database, and our program pointed at it."""

    databases: Databases
    store: str
    variables: Mapping[str, str]

    @property
    def name(self) -> str:
        """The database's name; where it is this test's own it is there now."""
        name = self.variables[f"{self.store.upper()}_SQL_DATABASE"]
        return self.databases.name(self.store) if name == self.databases.names[self.store] else name

    def given(self, **variables: str) -> Self:
        """Return the same site under more variables."""
        return replace(self, variables={**self.variables, **variables})

    def at(self, database: str) -> Self:
        """Return the site of another database for the same store."""
        return self.given(**{f"{self.store.upper()}_SQL_DATABASE": database})

    def settings(self) -> Settings:
        """Return what our program reads."""
        with patch.dict(os.environ, {**self.databases.env(self.store), **self.variables}, clear=True):
            return settings.read({})

    def migrate(self, **variables: str) -> Migration:
        """Migrate."""
        return self._one(migrate.migrate, variables)

    def plan(self, **variables: str) -> Plan:
        """Return what migrate would do."""
        return self.foresee(**variables).plan

    def foresee(self, **variables: str) -> PlanPreview:
        """Return what migrate would do, and what that takes."""
        return self._one(preview.show_plan, variables)

    def status(self, **variables: str) -> StoreStatus:
        """Return where the store is."""
        return self._one(status.status, variables)

    def verify(self, **variables: str) -> Verdict:
        """Compare the store with what its version looks like."""
        return self._one(verify.verify, variables)

    def refused(self, **variables: str) -> MigratorError:
        """Return migrate's refusal; assert that nothing was changed."""
        before = self.picture()
        with pytest.raises(MigratorError) as refusal:
            self.migrate(**variables)
        assert self.picture() == before
        return refusal.value

    def _one(self, command: Callable[[Settings, Interrupt], tuple[T, ...]], variables: dict[str, str]) -> T:
        with patch.dict(os.environ, {**self.databases.env(self.store), **self.variables, **variables}, clear=True):
            (found,) = command(settings.read({}), Interrupt())
        return found

    def connect(self) -> Connection:
        """Return the owner's autocommit connection."""
        return self.databases.connect(self.name)

    def run(self, *statements: str) -> None:
        """Run statements as the owner."""
        with self.connect() as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def admin(self, *statements: str) -> None:
        """Run statements as the superuser."""
        with self.databases.admin(self.name) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def install(self, version: str | None = None, release: str = NEWEST) -> Self:
        """Install a version, the release's last unless said, quickly and without our program."""
        target = files(self.store, release).target(version)
        own = self.databases.untouched(self.store)
        if own is None or own != self.variables[f"{self.store.upper()}_SQL_DATABASE"]:
            install(self.databases, self.name, self.store, release, target)
        else:
            state = "installed", self.store, release, target
            copy_state(self.databases, own, state, partial(install, store=self.store, release=release, target=target))
            self.databases.made.add(own)
        return self

    def begin(self, version: str, count: int, release: str = NEWEST) -> Self:
        """Run the first statements of the step to a version, each on its own, and record nothing."""
        step = next(step for step in files(self.store, release).steps if str(step.version) == version)
        self.run(*(statement.text for statement in step.statements[:count]))
        return self

    def half_install(self, version: str, count: int, release: str = NEWEST) -> Self:
        """Leave what the vendor's tool leaves when it is killed after some statements of a step."""
        source = files(self.store, release)
        before = [str(step.version) for step in source.steps if step.version < Version(version)]
        if before:
            return self.install(before[-1], release).begin(version, count, release)
        with self.connect() as connection:
            version_table.set_up(Batch(connection, "public"), self.name)
        return self.begin(version, count, release)

    def picture(self) -> Fingerprint:
        """Return all that a run could change: structure, rights and rows."""
        with self.databases.admin(self.name) as connection:
            return fingerprint.whole(connection)

    def rows(self) -> Fingerprint:
        """Return all rows but the records of versions."""
        with self.databases.admin(self.name) as connection:
            return fingerprint.rows(connection, "schema_version", "schema_update_history")

    def dump(self, *options: str) -> str:
        """Return what pg_dump writes, as far as it can be compared."""
        return dump(self.databases.engine, self.name, *options)


def install(databases: Databases, name: str, store: str, release: str, target: Version) -> None:
    """Run the statements of all steps to a version in an empty database, and record them."""
    with databases.connect(name) as connection, connection.transaction():
        sent = Batch(connection, "public")
        version_table.set_up(sent, name)
        for previous, step in pairwise((None, *files(store, release).steps)):
            if step is not None and step.version <= target:
                sent.run(step.statements)
                version_table.move(sent, name, step, previous.version if previous else UNVERSIONED)


def site(databases: Databases, store: str, **variables: str) -> Site:
    """Return the site of a test's own database for a store."""
    base = {
        "SCHEMA_MIGRATOR_STORES": store,
        f"{store.upper()}_SQL_DATABASE": databases.names[store],
        "SCHEMA_MIGRATOR_WAIT_TIMEOUT": "10",
        "SCHEMA_MIGRATOR_LOG_LEVEL": "error",
    }
    return Site(databases=databases, store=store, variables={**base, **variables})
