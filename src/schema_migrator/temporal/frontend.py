"""Waits until Temporal's frontend is ready, and makes calls to it."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import tenacity

from schema_migrator import events
from schema_migrator.errors import (
    FrontendUnavailable,
    NotFound,
    SettingsError,
)

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from temporalio.runtime import Runtime
    from temporalio.service import ServiceClient

    from schema_migrator.concurrency import Interrupt
    from schema_migrator.temporal.credentials import Credentials

from schema_migrator.temporal.frontend_failures import FrontendFailure, NotReady, explain, explain_status, reason

T = TypeVar("T")
_CALL_SECONDS = 10.0
_PAUSES = (0.2, 0.4, 0.8, 1.6, 2.0)
_LINE_EVERY_SECONDS = 15.0


class Frontend:
    """A frontend that is ready, and the deadline (time.monotonic) for calls that wait."""

    def __init__(self, address: str, service: ServiceClient, deadline: float) -> None:
        self.address = address
        self.workflows = service.workflow_service
        self.operator = service.operator_service
        self.deadline = deadline

    async def ask(self, call: Any, request: Any) -> Any:  # noqa: ANN401 - a method of temporalio's, and its types
        """Make a call and return its response. Raises FrontendRefused, FrontendUnavailable or NamespaceRefused."""
        from temporalio.service import RPCError  # noqa: PLC0415 - see reach

        try:
            return await call(request, retry=True, timeout=timedelta(seconds=_CALL_SECONDS))
        except RPCError as error:
            raise explain_status(error, self.address) from error

    async def ask_of(self, call: Any, request: Any) -> Any:  # noqa: ANN401 - the same
        """Make a call about an existing namespace, and retry while the frontend does not know the namespace yet.

        Each frontend caches namespaces. One that was asked too early answers for a while that the namespace does not
        exist (common/namespace/nsregistry/registry.go). Raises the same errors as `ask`.
        """
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(NotFound),
            stop=self.stop,
            wait=tenacity.wait_exponential(multiplier=_PAUSES[0], max=_PAUSES[-1]),
            before_sleep=_say_once,
            reraise=True,
        )
        try:
            return await retrying(self.ask, call, request)
        except NotFound as error:
            raise FrontendUnavailable(
                f"the frontend at {self.address} does not know it yet", hint="run it again"
            ) from error

    def stop(self, _: tenacity.RetryCallState) -> bool:
        """Whether the deadline has passed."""
        return time.monotonic() >= self.deadline


def _say_once(state: tenacity.RetryCallState) -> None:
    if state.attempt_number == 1 and state.outcome:
        events.logger().info("namespace.waiting", reason=str(state.outcome.exception()))


def run(work: Coroutine[Any, Any, T], interrupt: Interrupt) -> T:
    """Run a coroutine and return its result. Raises Stopped as soon as a signal arrives."""

    async def watched() -> T:
        task = asyncio.ensure_future(work)
        while not task.done() and not interrupt.event.is_set():
            await asyncio.wait({task}, timeout=0.1)
        if not task.done():
            task.cancel()
            interrupt.check()
        return task.result()

    return asyncio.run(watched())


async def reach(shown: Credentials, *, patience: float, began: float) -> Frontend:
    """Connect, and wait until the frontend is healthy, up to `patience` seconds from `began` (time.monotonic).

    Raises FrontendUnavailable at the deadline, TlsRejected or FrontendRefused. Raises SettingsError if a setting is
    wrong or the client library is not installed.
    """
    deadline = began + patience
    logged: tuple[str, float] = ("", 0.0)
    for number in range(1_000_000):  # ends at the deadline
        left = deadline - time.monotonic()
        try:
            service = await asyncio.wait_for(_try(shown), min(_CALL_SECONDS, max(left, 2)))
        except (RuntimeError, ValueError, TimeoutError, NotReady) as error:
            kind, words, hint = await reason(error, shown)
        else:
            return Frontend(shown.address, service, deadline)
        left = deadline - time.monotonic()
        if kind is not FrontendFailure.ABSENT or left <= 0:
            break
        if words != logged[0] or time.monotonic() - logged[1] >= _LINE_EVERY_SECONDS:
            logged = words, time.monotonic()
            events.logger().warning(
                "frontend.waiting", frontend=shown.address, seconds=round(patience - left), reason=words
            )
        await asyncio.sleep(min(_PAUSES[min(number, len(_PAUSES) - 1)], left))
    raise explain(kind, words, hint, shown, patience)


async def _try(shown: Credentials) -> ServiceClient:
    try:
        from temporalio.service import ConnectConfig, RPCError, ServiceClient, TLSConfig  # noqa: PLC0415 - slow to load
    except ImportError as error:
        raise SettingsError(
            "Temporal's client library is not installed", hint="pip install 'temporal-schema-migrator[namespaces]'"
        ) from error
    tls = shown.tls and TLSConfig(
        server_root_ca_cert=shown.tls.ca,
        client_cert=shown.tls.cert,
        client_private_key=shown.tls.key,
        domain=shown.tls.server_name,
    )
    config = ConnectConfig(
        target_host=shown.address,
        runtime=_quiet_runtime(),
        api_key=shown.api_key,
        tls=tls or False,
        identity="schema-migrator",
        lazy=True,
    )
    service = await ServiceClient.connect(config)
    try:
        if not await service.check_health(timeout=timedelta(seconds=_CALL_SECONDS)):
            raise NotReady("it is not serving yet")
    except RPCError as error:
        raise NotReady(f'Status {{ code: {error.status.name}, message: "{error.message}" }}') from error
    return service


@cache
def _quiet_runtime() -> Runtime:
    """Return a runtime for the client library that does not write the library's own log to standard output."""
    from temporalio.runtime import Runtime, TelemetryConfig  # noqa: PLC0415 - see _try

    return Runtime(telemetry=TelemetryConfig(logging=None))
