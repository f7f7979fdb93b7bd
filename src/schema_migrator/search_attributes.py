"""A namespace's own search attributes: added where they are missing, each once although several runs add it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from schema_migrator import frontend
from schema_migrator.errors import FrontendUnavailable, NamespaceRefused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from schema_migrator.frontend import Frontend

_PATIENCE_SECONDS = 60.0  # the server renews what it knows of a namespace every ten
_PAUSE_SECONDS = 0.5


async def add(there: Frontend, namespace: str, wanted: Mapping[str, str]) -> tuple[str, ...]:
    """Add what is missing, and return its names when the frontend knows them; `wanted` are types by name.

    Raises NamespaceRefused where one has another type, or where there are too many.
    """
    found = await _known(there, namespace, frozenset())
    for name, kind in wanted.items():
        if found.get(name, kind) != kind:
            raise NamespaceRefused(
                f'search attribute "{name}" is of type {found[name]}, expected {kind}',
                hint="a type cannot be changed: take another name",
            )
    missing = tuple(name for name in wanted if name not in found)
    if missing:
        await _request(there, namespace, {name: wanted[name] for name in missing})
        await _known(there, namespace, frozenset(missing))
        await _once_each(there, namespace)
    return missing


async def _known(there: Frontend, namespace: str, expected: frozenset[str]) -> dict[str, str]:
    """Return the types by name, once all that is expected is known; a new namespace takes seconds to be."""
    from temporalio.api.enums.v1 import IndexedValueType  # noqa: PLC0415
    from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest  # noqa: PLC0415

    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            request = ListSearchAttributesRequest(namespace=namespace)
            found = (await there.ask(there.operator.list_search_attributes, request)).custom_attributes
            if expected <= found.keys():
                names = {name: IndexedValueType.Name(kind) for name, kind in found.items()}
                return {name: _type_names()[kind] for name, kind in names.items()}
        except frontend.NotFound:
            pass
        if time.monotonic() > deadline:
            raise FrontendUnavailable(
                f"the frontend at {there.address} does not know of its search attributes after {_PATIENCE_SECONDS:g} s",
                hint="run it again",
            )
        await asyncio.sleep(_PAUSE_SECONDS)


def _type_names() -> dict[str, str]:
    kinds = ("Text", "Keyword", "Int", "Double", "Bool", "Datetime", "KeywordList")
    return {_constant(kind): kind for kind in kinds}


def _constant(kind: str) -> str:
    return "INDEXED_VALUE_TYPE_" + ("KEYWORD_LIST" if kind == "KeywordList" else kind.upper())


async def _request(there: Frontend, namespace: str, types: Mapping[str, str]) -> None:
    from temporalio.api.enums.v1 import IndexedValueType  # noqa: PLC0415
    from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest  # noqa: PLC0415

    values = {name: IndexedValueType.Value(_constant(kind)) for name, kind in types.items()}
    request = AddSearchAttributesRequest(namespace=namespace, search_attributes=values)
    await there.ask(there.operator.add_search_attributes, request)


async def _once_each(there: Frontend, namespace: str) -> None:
    """Take away a name's second column, which the server gives when two add it at the same moment.

    With SQL as visibility store it picks any free column of the type (service/frontend/operator_handler.go,
    addSearchAttributesSQL). All runs keep the same one, the first by name.
    """
    from temporalio.api.namespace.v1 import NamespaceConfig  # noqa: PLC0415
    from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, UpdateNamespaceRequest  # noqa: PLC0415

    found = await there.ask(there.workflows.describe_namespace, DescribeNamespaceRequest(namespace=namespace))
    surplus = surplus_columns(found.config.custom_search_attribute_aliases)
    if surplus:
        config = NamespaceConfig(custom_search_attribute_aliases=dict.fromkeys(surplus, ""))
        await there.ask(there.workflows.update_namespace, UpdateNamespaceRequest(namespace=namespace, config=config))


def surplus_columns(names: Mapping[str, str]) -> tuple[str, ...]:
    """Return the columns, of names by column, whose name a column before them has."""
    ordered = sorted(names)
    return tuple(
        column for place, column in enumerate(ordered) if names[column] in {names[before] for before in ordered[:place]}
    )
