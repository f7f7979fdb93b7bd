"""The stores that a command works on: how messages name them, and what contradicts the selection."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING

from schema_migrator.config.options import flag_of, scope_of
from schema_migrator.config.unknown_variables import service_link
from schema_migrator.errors import SettingsError
from schema_migrator.releases.source import Store

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from schema_migrator.config.fields import RunSettings


def listed(words: Sequence[str]) -> str:
    """Return the words as a list in a sentence.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last


def named(stores: Iterable[Store]) -> str:
    """Return the stores as the subject of a sentence.

    >>> named([Store.DEFAULT, Store.VISIBILITY])
    'the default and visibility stores'
    """
    names = [str(store) for store in stores]
    return f"the {listed(names)} store{'s' * (len(names) > 1)}"


def databases(stores: Iterable[Store]) -> str:
    """Return the variables that name the databases of the stores."""
    return listed([f"{scope_of(store)}DATABASE" for store in stores])


def sharing(places: Mapping[Store, Hashable]) -> tuple[Store, Store] | None:
    """Return the first two stores that have the same place, or None."""
    first: dict[Hashable, Store] = {}
    for store, place in places.items():
        if place in first:
            return first[place], store
        first[place] = store
    return None


def refuse_one_name(stores: Sequence[Store], source: str, database: str) -> None:
    """Raise SettingsError if one setting, `source`, names the database of more than one store."""
    if len(stores) > 1:
        raise SettingsError(
            f'{source} is "{database}" for {len(stores)} stores, expected a database for each',
            hint=f"set {databases(stores)}, or one store in SCHEMA_MIGRATOR_STORES",
        )


def refuse_shared(places: Mapping[Store, tuple[str | None, str | None, str]]) -> None:
    """Raise SettingsError if two stores have the same host, port and database."""
    pair = sharing(places)
    if pair is not None:
        *_, database = places[pair[0]]
        raise SettingsError(
            f'{named(pair)} are in the same database "{database}", expected a database for each',
            hint=f"set {databases(pair)} to different databases",
        )


def refuse_unselected(run: RunSettings, given: Mapping[str, Any], environ: Mapping[str, str]) -> None:
    """Raise SettingsError if a setting is for a store that nothing selects.

    A list of stores is a decision: what one environment sets for all of them may then be more than a command needs.
    """
    if "stores" in run.model_fields_set:
        return
    for store in Store:
        names = [name for name in (*given, *environ) if name.startswith(f"{store.prefix}_")]
        meant = [name for name in names if name in given or service_link(name, environ[name]) is None]
        if meant and store not in run.stores:
            name = flag_of(meant[0]) if meant[0] in given else meant[0]
            raise SettingsError(
                f"{name} is set, but nothing selects the {store} store",
                hint="name the stores in SCHEMA_MIGRATOR_STORES, with or without it",
            )
