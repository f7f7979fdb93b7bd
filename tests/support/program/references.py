"""Migrations by us and by the vendor's tool, and what they leave in a database."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from unittest.mock import patch

from schema_migrator.cli import main
from schema_migrator.releases.source import Release, Store
from support.postgres.databases import Databases, bookkeeping, dump, unique
from support.postgres.templates import copy_state
from support.program.library import LIBRARY
from support.program.store_driver import NEWEST
from support.vendor.tool import VendorTool

Hop = tuple[str, str]
"""A release whose tool or files are used, and the version that they are to reach."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A database as a dump and as Temporal's own records show it; its owner shows as <owner>."""

    schema: str
    records: dict[str, list[tuple[Any, ...]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class References:
    """Pictures of what the vendor's tool makes, each made once."""

    databases: Databases
    made: dict[tuple[str, tuple[Hop, ...]], Picture] = field(default_factory=dict)

    def picture(self, store: str, *hops: Hop) -> Picture:
        """Return the picture after the vendor's tools went these hops from nothing."""
        if (store, hops) not in self.made:
            name = start_by_vendor(self.databases, store, *hops, own=False)
            self.made[store, hops] = picture(self.databases, name)
        return self.made[store, hops]


def picture(databases: Databases, store: str, schema: str = "public") -> Picture:
    """Return the picture of a store's database, or of a named one, whose records are in that schema."""
    dumped = dump(databases.engine, databases.name(store)).replace(databases.user, "<owner>")
    with databases.admin(databases.name(store)) as connection:
        connection.execute("SELECT set_config('search_path', %s, false)", [schema])
        return Picture(schema=dumped, records=bookkeeping(connection))


def migrate_by_vendor(databases: Databases, store: str, *hops: Hop, database: str | None = None) -> None:
    """Let the vendor's tools go these hops from nothing; 0.0 is the set-up alone."""
    for number, (release, target) in enumerate(hops):
        tool = VendorTool(version=release, databases=databases)
        if number == 0:
            tool.setup(store, database=database)
        if target != "0.0":
            tool.update(store, target, database=database)


def start_by_vendor(databases: Databases, store: str, *hops: Hop, own: bool = True) -> str:
    """Return a database in which the vendor's tools have gone these hops: the store's own, or one more."""
    name = databases.untouched(store) if own else unique("temporal_more")
    assert name is not None, "the store's database is there already"

    def make(maker: Databases, template: str) -> None:
        migrate_by_vendor(maker, store, *hops, database=template)

    copy_state(databases, name, ("vendor", store, hops), make)
    databases.made.add(name)
    return name


def run_here(env: Mapping[str, str], *args: str) -> int:
    """Run our command line in this process, which saves starting one; return its exit code."""
    with patch.dict(os.environ, env, clear=True):
        return main.run(args)


@cache
def release(name: str) -> Release:
    """Return a release's files."""
    return LIBRARY.release(name)


def versions(name: str, store: str) -> list[str]:
    """Return all versions of a store in a release, lowest first."""
    return [str(version) for version in release(name).source(Store(store)).versions]


def latest(name: str, store: str) -> str:
    """Return the version that a release's server expects of a store."""
    return versions(name, store)[-1]


def newest(store: str) -> Hop:
    """Return the hop to the last version of the newest release."""
    return NEWEST, latest(NEWEST, store)
