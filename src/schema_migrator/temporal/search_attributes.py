"""Adds a namespace's missing custom search attributes, each only once even if several runs add it.

An attribute counts as added when clients can use it, some seconds after the frontend lists it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

import tenacity

from schema_migrator.errors import AlreadyExists, FrontendRefused, FrontendUnavailable, NamespaceRefused

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from temporalio.api.enums.v1 import IndexedValueType

    from schema_migrator.temporal.frontend import Frontend

_PAUSE_SECONDS = 0.5
_NOBODY = "schema-migrator"  # no workflow has this id, so the query is cheap however many workflows there are


async def add(there: Frontend, namespace: str, wanted: Mapping[str, str]) -> tuple[str, ...]:
    """Add the missing attributes, wait until clients can use all of them, and return the names of the added ones.

    `wanted` has the types by name. Raises NamespaceRefused if an attribute has another type or there are too many, and
    FrontendUnavailable.
    """
    known = await _known(there, namespace)
    _check_types(known, wanted)
    missing = tuple(name for name in wanted if name not in known)
    if missing:
        await _add_each(there, namespace, {name: wanted[name] for name in missing})
        _check_types(await _all_known(there, namespace, frozenset(missing)), wanted)
        await _once_each(there, namespace)
    await _usable(there, namespace, wanted)
    return missing


def _check_types(found: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    for name, kind in wanted.items():
        if found.get(name, kind) != kind:
            raise NamespaceRefused(
                f'search attribute "{name}" is of type {found[name]}, expected {kind}',
                hint="a type cannot be changed: choose another name",
            )


async def _known(there: Frontend, namespace: str) -> dict[str, str]:
    """Return the types of the namespace's custom search attributes by name."""
    from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest  # noqa: PLC0415

    request = ListSearchAttributesRequest(namespace=namespace)
    found = (await there.ask_of(there.operator.list_search_attributes, request)).custom_attributes
    return {name: _type_names().get(kind, str(kind)) for name, kind in found.items()}


async def _all_known(there: Frontend, namespace: str, expected: frozenset[str]) -> dict[str, str]:
    """Return the types by name once the frontend lists all expected names, which takes seconds."""
    unknown = tenacity.retry_if_result(lambda found: not expected <= found.keys())
    return await _until_deadline(there, unknown)(_known, there, namespace)


async def _usable(there: Frontend, namespace: str, names: Iterable[str]) -> None:
    """Wait until a query can use the attributes. The frontend serves clients from a cache that is some seconds old.

    It checks the start of a workflow by the same cache (common/namespace/nsregistry/registry.go).
    """
    from temporalio.api.workflowservice.v1 import CountWorkflowExecutionsRequest  # noqa: PLC0415

    terms = [f"WorkflowId = '{_NOBODY}'", *(f"`{name}` IS NULL" for name in names)]
    request = CountWorkflowExecutionsRequest(namespace=namespace, query=" AND ".join(terms))
    with suppress(FrontendRefused):  # a client that may add attributes is not always allowed to query workflows
        refused = tenacity.retry_if_exception_type(NamespaceRefused)
        await _until_deadline(there, refused)(there.ask_of, there.workflows.count_workflow_executions, request)


def _until_deadline(there: Frontend, again: tenacity.retry_base) -> tenacity.AsyncRetrying:
    """Return a retrier that asks again at fixed intervals. It raises FrontendUnavailable at the deadline."""

    def late(_: tenacity.RetryCallState) -> NoReturn:
        raise FrontendUnavailable(
            f"the frontend at {there.address} does not know its search attributes yet", hint="run it again"
        )

    return tenacity.AsyncRetrying(
        retry=again, stop=there.stop, wait=tenacity.wait_fixed(_PAUSE_SECONDS), retry_error_callback=late
    )


def _type_names() -> dict[int, str]:
    kinds = ("Text", "Keyword", "Int", "Double", "Bool", "Datetime", "KeywordList")
    return {_value(kind): kind for kind in kinds}


def _value(kind: str) -> IndexedValueType.ValueType:
    from temporalio.api.enums.v1 import IndexedValueType  # noqa: PLC0415

    name = "KEYWORD_LIST" if kind == "KeywordList" else kind.upper()
    return IndexedValueType.Value(f"INDEXED_VALUE_TYPE_{name}")


async def _add_each(there: Frontend, namespace: str, types: Mapping[str, str]) -> None:
    try:
        await _request(there, namespace, types)
    except AlreadyExists:  # another run was faster with one attribute, and the server refused all of them
        for name, kind in types.items():
            with suppress(AlreadyExists):
                await _request(there, namespace, {name: kind})


async def _request(there: Frontend, namespace: str, types: Mapping[str, str]) -> None:
    from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest  # noqa: PLC0415

    values = {name: _value(kind) for name, kind in types.items()}
    request = AddSearchAttributesRequest(namespace=namespace, search_attributes=values)
    await there.ask_of(there.operator.add_search_attributes, request)


async def _once_each(there: Frontend, namespace: str) -> None:
    """Remove the second column of a name, which the server assigns if two runs add the name at the same moment.

    With SQL as the visibility store, the server picks any free column of the type
    (service/frontend/operator_handler.go, addSearchAttributesSQL). All runs keep the same column, the first by name.
    """
    from temporalio.api.namespace.v1 import NamespaceConfig  # noqa: PLC0415
    from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, UpdateNamespaceRequest  # noqa: PLC0415

    found = await there.ask_of(there.workflows.describe_namespace, DescribeNamespaceRequest(namespace=namespace))
    surplus = surplus_columns(found.config.custom_search_attribute_aliases)
    if surplus:
        config = NamespaceConfig(custom_search_attribute_aliases=dict.fromkeys(surplus, ""))
        await there.ask_of(there.workflows.update_namespace, UpdateNamespaceRequest(namespace=namespace, config=config))


def surplus_columns(names: Mapping[str, str]) -> tuple[str, ...]:
    """Return the columns whose name an earlier column has too. `names` are the attributes' names by column."""
    ordered = sorted(names)
    return tuple(
        column for place, column in enumerate(ordered) if names[column] in {names[before] for before in ordered[:place]}
    )
