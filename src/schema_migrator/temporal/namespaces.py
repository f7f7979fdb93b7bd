"""Creates missing namespaces, changes existing ones only on request, and never deletes one."""

from __future__ import annotations

import difflib
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from schema_migrator import events
from schema_migrator.config import durations
from schema_migrator.errors import (
    AlreadyExists,
    FrontendUnavailable,
    MigratorError,
    NamespaceMissing,
    NamespaceRefused,
    NotFound,
    SettingsError,
    combine,
)
from schema_migrator.temporal import frontend, search_attributes
from schema_migrator.temporal.credentials import credentials
from schema_migrator.temporal.namespace_spec import SYSTEM, read_specs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from schema_migrator.concurrency import Interrupt
    from schema_migrator.config.client_fields import ClientSettings
    from schema_migrator.config.settings import Settings
    from schema_migrator.temporal.frontend import Frontend
    from schema_migrator.temporal.namespace_spec import NamespaceSpec

_RETENTION = timedelta(hours=72)  # if none is specified: the default of the vendor's command line
_MOST_NAMES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldDifference:
    """A field of a namespace that differs from the specification."""

    field: str
    found: str
    wanted: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceResult:
    """What was done with a namespace. `differences` are what it had; if `updated`, they were corrected."""

    name: str
    created: bool
    updated: bool
    differences: tuple[FieldDifference, ...]
    attributes_added: tuple[str, ...]


def ensure(
    settings: Settings, client: ClientSettings, interrupt: Interrupt, *, update: bool, check: tuple[str, ...]
) -> tuple[NamespaceResult, ...]:
    """Create the specified namespaces that are missing, then check that the namespaces named in `check` exist.

    Raises SettingsError before connecting, then FrontendUnavailable, FrontendRefused, TlsRejected or NamespaceRefused,
    and NamespaceMissing for a name in `check`. If several fail, the error combines all of them.
    """
    shown, specs = credentials(client), read_specs(client)
    if not specs and not check:
        raise SettingsError("no namespace is given", hint="set SCHEMA_MIGRATOR_NAMESPACES, or give --check with a name")
    began = time.monotonic()

    async def work() -> tuple[NamespaceResult, ...]:
        server = await frontend.reach(shown, patience=settings.run.wait_timeout, began=began)
        done, errors = await _each(server, specs, update=update)
        if settings.run.on_drift == "fail":
            errors += [_differing(outcome) for outcome in done if outcome.differences and not outcome.updated]
        gone = any(isinstance(error, FrontendUnavailable) for error in errors)
        errors += await _missing(server, check) if check and not gone else []
        if errors:
            raise combine(errors)
        return done

    return frontend.run(work(), interrupt)


def _differing(outcome: NamespaceResult) -> NamespaceRefused:
    listed = ", ".join(
        f'{setting.field} is "{setting.found}", expected "{setting.wanted}"' for setting in outcome.differences
    )
    return NamespaceRefused(
        f'namespace "{outcome.name}" differs from its specification: {listed}',
        hint="correct the specification, or let the namespace be changed: --update",
    )


async def _each(
    there: Frontend, those: Iterable[NamespaceSpec], *, update: bool
) -> tuple[tuple[NamespaceResult, ...], list[MigratorError]]:
    """Create or update each namespace, and return the results and the errors.

    A refused namespace does not stop the rest; a frontend that is no longer available does.
    """
    done, errors = [], []
    for spec in those:
        try:
            done.append(await _ensure(there, spec, update=update))
        except MigratorError as error:
            error.message = f'namespace "{spec.name}": {error.message}'
            errors.append(error)
            if isinstance(error, FrontendUnavailable):
                break
    return tuple(done), errors


async def _ensure(there: Frontend, spec: NamespaceSpec, *, update: bool) -> NamespaceResult:
    created = await _create(there, spec)
    found = await _describe(there, spec.name)
    differences = compare(found, spec)
    changing = bool(differences) and update
    if changing:
        await _update(there, spec)
    added = await search_attributes.add(there, spec.name, spec.search_attributes) if spec.search_attributes else ()
    done = NamespaceResult(
        name=spec.name, created=created, updated=changing, differences=differences, attributes_added=added
    )
    _log(done)
    return done


async def _create(there: Frontend, spec: NamespaceSpec) -> bool:
    """Create the namespace if it does not exist; return whether this run created it."""
    from google.protobuf.duration_pb2 import Duration  # noqa: PLC0415 - slow to load, and comes only with the client
    from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, RegisterNamespaceRequest  # noqa: PLC0415

    try:
        await there.ask(there.workflows.describe_namespace, DescribeNamespaceRequest(namespace=spec.name))
    except NotFound:
        retention = Duration()
        retention.FromTimedelta(spec.retention or _RETENTION)
        request = RegisterNamespaceRequest(
            namespace=spec.name,
            description=spec.description or "",
            owner_email=spec.owner or "",
            data=spec.data,
            workflow_execution_retention_period=retention,
        )
        try:
            await there.ask(there.workflows.register_namespace, request)
        except AlreadyExists:  # another run was faster
            return False
        return True
    return False


async def _describe(there: Frontend, name: str) -> Any:  # noqa: ANN401 - temporalio's DescribeNamespaceResponse
    from temporalio.api.enums.v1 import NamespaceState  # noqa: PLC0415
    from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest  # noqa: PLC0415

    found = await there.ask_of(there.workflows.describe_namespace, DescribeNamespaceRequest(namespace=name))
    state = found.namespace_info.state
    if state != NamespaceState.NAMESPACE_STATE_REGISTERED:
        said = NamespaceState.Name(state).removeprefix("NAMESPACE_STATE_").lower()
        raise NamespaceRefused(f"it is {said}, expected registered", hint="use another name, or wait until it is gone")
    return found


def compare(found: Any, spec: NamespaceSpec) -> tuple[FieldDifference, ...]:  # noqa: ANN401 - the same
    """Return the fields in which a namespace differs from its specification. Unspecified fields are not compared."""
    info, retention = found.namespace_info, found.config.workflow_execution_retention_ttl.ToTimedelta()
    pairs = [
        ("description", info.description, spec.description or None),  # the server ignores an empty text
        ("owner", info.owner_email, spec.owner or None),
        ("retention", durations.text(retention), durations.text(spec.retention) if spec.retention else None),
        *((f"data.{key}", info.data.get(key, ""), value) for key, value in spec.data.items()),
    ]
    return tuple(
        FieldDifference(field=field, found=is_, wanted=wants)
        for field, is_, wants in pairs
        if wants is not None and is_ != wants
    )


async def _update(there: Frontend, spec: NamespaceSpec) -> None:
    """Set the specified fields. The server keeps a field that is empty here, and merges the data."""
    from temporalio.api.namespace.v1 import NamespaceConfig, UpdateNamespaceInfo  # noqa: PLC0415
    from temporalio.api.workflowservice.v1 import UpdateNamespaceRequest  # noqa: PLC0415

    config = NamespaceConfig()
    if spec.retention:
        config.workflow_execution_retention_ttl.FromTimedelta(spec.retention)
    info = UpdateNamespaceInfo(description=spec.description or "", owner_email=spec.owner or "", data=spec.data)
    request = UpdateNamespaceRequest(namespace=spec.name, update_info=info, config=config)
    await there.ask_of(there.workflows.update_namespace, request)


async def _missing(there: Frontend, names: tuple[str, ...]) -> list[MigratorError]:
    """Return an error for each name without a namespace."""
    existing = await _existing(there)
    return [_explain(name, existing, there.address) for name in dict.fromkeys(names) if name not in {*existing, SYSTEM}]


async def _existing(there: Frontend) -> list[str]:
    from temporalio.api.workflowservice.v1 import ListNamespacesRequest  # noqa: PLC0415

    names, token = [], b""
    while True:
        request = ListNamespacesRequest(page_size=200, next_page_token=token)
        page = await there.ask(there.workflows.list_namespaces, request)
        names += [namespace.namespace_info.name for namespace in page.namespaces]
        token = page.next_page_token
        if not token:
            return sorted(name for name in names if name != SYSTEM)


def _explain(name: str, existing: list[str], address: str) -> NamespaceMissing:
    near = difflib.get_close_matches(name, existing, n=1)
    shown = ", ".join(f'"{other}"' for other in existing[:_MOST_NAMES])
    more = f" and {len(existing) - _MOST_NAMES} more" if len(existing) > _MOST_NAMES else ""
    return NamespaceMissing(
        f'namespace "{name}" does not exist at {address}, which has {shown or "none"}{more}',
        hint=f'did you mean "{near[0]}"?' if near else "create it, or set the client to one of these",
    )


def _log(outcome: NamespaceResult) -> None:
    log = events.logger().bind(namespace=outcome.name)
    if outcome.created:
        log.info("namespace.created")
    for difference in outcome.differences:
        event = "namespace.changed" if outcome.updated else "namespace.differs"
        say = log.info if outcome.updated else log.warning
        say(event, field=difference.field, found=difference.found, wanted=difference.wanted)
    for name in outcome.attributes_added:
        log.info("namespace.search_attribute_added", attribute=name)
