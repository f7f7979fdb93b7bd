"""A rehearsal on another server: as if its database had the store's extensions, and what differs is named."""

from dataclasses import replace

import pytest
from packaging.version import Version
from pydantic import SecretStr

from schema_migrator.catalog import server_traits
from schema_migrator.catalog.server_traits import ServerTraits
from schema_migrator.catalog.snapshot import Key, Snapshot
from schema_migrator.config import rehearsal_place
from schema_migrator.config.settings import read
from schema_migrator.diagnosis import stage
from schema_migrator.diagnosis.rehearsal import Rehearsal
from schema_migrator.errors import SettingsError
from schema_migrator.releases.source import UNVERSIONED
from support.program.tiny_plans import index, statement, step, table

GIN, CITEXT = Key("extension", "", "btree_gin"), Key("extension", "", "citext")
CREATED = 'CREATE EXTENSION IF NOT EXISTS "btree_gin"'
FIRST = step("1.0", "CREATE TABLE orders (id int)", CREATED, "CREATE INDEX by_id ON orders (id)")
SECOND = step("1.1", "CREATE INDEX again ON orders (id)")
TRAITS = ServerTraits(
    number=180001,
    version="18.1",
    identity="here/1",
    encoding="UTF8",
    collation="libc en_US.UTF-8 2.36",
    extensions={"btree_gin": "1.3", "plpgsql": "1.0"},
    available={"btree_gin": "1.3"},
)


def rehearsed(*foreign: Key, closely: bool) -> Rehearsal:
    """Return the rehearsal of both steps in a database with extensions of its own."""
    own = dict.fromkeys(foreign, "")
    made = [own, own | table("id int"), own | table("id int"), own | table("id int") | index("by_id", "id")]
    last = {**made[-1], **index("again", "id")}
    within = {FIRST.version: made if closely else [made[0], made[-1]], SECOND.version: [made[-1], last]}
    return Rehearsal(
        release="9.1.0",
        after={UNVERSIONED: Snapshot(own), FIRST.version: Snapshot(made[-1]), SECOND.version: Snapshot(last)},
        within={version: tuple(map(Snapshot, taken)) for version, taken in within.items()},
        bodies={},
        changing=frozenset(),
    )


def extensions(taken: Snapshot) -> set[str]:
    """Return the names of a schema's extensions."""
    return {key.name for key in taken.objects if key.kind == "extension"}


@pytest.mark.parametrize("foreign", [(), (GIN,), (GIN, CITEXT)])
@pytest.mark.parametrize("closely", [True, False])
def test_the_extensions_are_the_stores(foreign: tuple[Key, ...], *, closely: bool) -> None:
    """Those that it has from the beginning, and those of the files from their statement on."""
    found = stage.beside(rehearsed(*foreign, closely=closely), (FIRST, SECOND), Snapshot({}))
    assert extensions(found.after[UNVERSIONED]) == set()
    created = [set(), set(), {"btree_gin"}, {"btree_gin"}]
    assert [extensions(taken) for taken in found.within[FIRST.version]] == (
        created if closely else [created[0], created[-1]]
    )
    assert [extensions(taken) for taken in found.within[SECOND.version]] == [{"btree_gin"}, {"btree_gin"}]
    assert extensions(found.after[SECOND.version]) == {"btree_gin"}
    own = stage.beside(rehearsed(*foreign, closely=closely), (FIRST, SECOND), Snapshot({GIN: ""}))
    every = [*own.after.values(), *(taken for each in own.within.values() for taken in each)]
    assert all(extensions(taken) == {"btree_gin"} for taken in every)


def test_nothing_else_is_changed() -> None:
    """The other objects are as the other server has made them."""
    found = stage.beside(rehearsed(CITEXT, closely=True), (FIRST, SECOND), Snapshot({}))
    plain = rehearsed(closely=True)
    assert found.within[FIRST.version][1] == plain.within[FIRST.version][1]
    assert found.after[SECOND.version] == Snapshot({**plain.after[SECOND.version].objects, GIN: ""})


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (CREATED, ("btree_gin",)),
        ("create  extension BTREE_GIN with schema public", ("btree_gin",)),
        ("CREATE TABLE extension_list (id int)", ()),
    ],
)
def test_which_extensions_are_created(text: str, names: tuple[str, ...]) -> None:
    """As files write it."""
    assert stage.created_extensions([statement(text)]) == names


def test_what_differs_is_named() -> None:
    """Of the extensions those that the files create, and only if the store has them."""
    other = replace(
        TRAITS,
        version="18.4",
        collation="libc C",
        extensions={"plpgsql": "1.0"},
        available={"btree_gin": "1.4", "citext": "1.6"},
    )
    assert server_traits.differences(TRAITS, TRAITS, frozenset({"btree_gin"})) == ()
    assert server_traits.differences(TRAITS, other, frozenset({"btree_gin", "citext"})) == (
        "PostgreSQL 18.4 instead of 18.1",
        "default collation libc C instead of libc en_US.UTF-8 2.36",
        "extension btree_gin 1.4 instead of 1.3",
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("secret-word", "is neither embedded nor a connection URI"),
        ("postgresql://u:secret-word@db:x/d", "is not a connection URI, or its password is not escaped"),
        ("postgresql://u:secret-word@db/d?nix=1", 'gives "nix", which is not a libpq connection parameter'),
        ("mysql://u:secret-word@db/d", "is not a connection URI, or its password is not escaped"),
    ],
)
def test_a_place_that_cannot_be_read(text: str, said: str) -> None:
    """It is named by its setting and never shown."""
    with pytest.raises(SettingsError) as refusal:
        read({}, {"SCHEMA_MIGRATOR_REHEARSE_ON": text})
    assert said in refusal.value.message
    assert "SCHEMA_MIGRATOR_REHEARSE_ON" in refusal.value.message
    assert "secret-word" not in str(refusal.value)


def test_a_place() -> None:
    """A URI with its parts, the embedded server, or none; a flag shows its password to others."""
    uri = "postgresql://u:p%40ss@db:5433/scratch?sslmode=require"
    found = read({}, {"SCHEMA_MIGRATOR_REHEARSE_ON": f" {uri}\n"}).rehearsal_place
    assert found is not None
    assert found.sql is not None
    assert (found.sql.host, found.sql.port, found.sql.user, found.sql.database) == ("db", "5433", "u", "scratch")
    assert found.sql.password == SecretStr("p@ss")
    assert found.sql.connect_attributes == "sslmode=require"
    assert (found.exposed, "p@ss" in repr(found)) == ("", False)
    flag = read({"SCHEMA_MIGRATOR_REHEARSE_ON": uri}, {}).rehearsal_place
    assert flag is not None
    assert flag.exposed == "--rehearse-on"
    assert read({"SCHEMA_MIGRATOR_REHEARSE_ON": "embedded"}, {}).rehearsal_place == rehearsal_place.RehearsalPlace()
    assert read({}, {}).rehearsal_place is None


def test_a_version_without_statements() -> None:
    """An empty step has the extensions of the one before it."""
    empty = step("1.2")
    base = rehearsed(closely=True)
    within = {**base.within, empty.version: (base.after[SECOND.version],)}
    longer = replace(base, within=within, after={**base.after, empty.version: base.after[SECOND.version]})
    found = stage.beside(longer, (FIRST, SECOND, empty), Snapshot({}))
    assert [extensions(taken) for taken in found.within[Version("1.2")]] == [{"btree_gin"}]
    assert extensions(found.after[Version("1.2")]) == {"btree_gin"}
