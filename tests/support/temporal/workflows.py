"""Workflows of the Python SDK that go on while something else happens, each step of them seen by visibility."""

import asyncio
import threading
import time
from datetime import timedelta
from typing import Self

from temporalio import workflow
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowHandle
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

CUSTOMER = SearchAttributeKey.for_keyword("CustomerId")
BEAT = SearchAttributeKey.for_int("Beat")
ATTRIBUTES = {"CustomerId": "Keyword", "Beat": "Int"}
QUEUE = "orders"
FAILED = (EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED, EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT)
PATIENCE = 60.0
_PAUSE_SECONDS = 0.2


@workflow.defn
class Order:
    """Writes its search attributes anew at each beat."""

    @workflow.run
    async def run(self, beats: int) -> int:
        """Beat; return how often."""
        for beat in range(1, beats + 1):
            await workflow.sleep(timedelta(milliseconds=200))
            workflow.upsert_search_attributes([BEAT.value_set(beat)])
        return beats


class Orders:
    """Starts workflows one after another and runs them, in a thread, from `with` to its end, which awaits them all.

    `started` and `queries` count; an error of any call is raised at the end.
    """

    def __init__(self, address: str, namespace: str, *, beats: int = 15, first: int = 0) -> None:
        self.address, self.namespace, self.beats, self.first = address, namespace, beats, first
        self.started = self.queries = self.failed_tasks = 0
        self._handles: list[WorkflowHandle[Order, int]] = []
        self._stopping, self._errors = threading.Event(), list[BaseException]()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        self.await_started(3)
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
        if self._errors:
            raise self._errors[0]

    def await_started(self, more: int) -> None:
        """Return when that many more have been started, or when one has failed."""
        enough, deadline = self.started + more, time.monotonic() + PATIENCE
        while self.started < enough and self._thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.05)

    def _run(self) -> None:
        try:
            asyncio.run(self._work())
        except BaseException as error:  # noqa: BLE001 - raised where the block ends
            self._errors.append(error)

    async def _work(self) -> None:
        client = await Client.connect(self.address, namespace=self.namespace)
        worker = Worker(client, task_queue=QUEUE, workflows=[Order], workflow_runner=UnsandboxedWorkflowRunner())
        async with worker:
            while not self._stopping.is_set():
                await self._start(client)
                await self._count(client, "ExecutionStatus = 'Running'")
                await asyncio.sleep(_PAUSE_SECONDS)
            done = await asyncio.gather(*(handle.result() for handle in self._handles))
            assert done == [self.beats] * len(self._handles)
            for handle in self._handles:
                history = await handle.fetch_history()
                self.failed_tasks += sum(event.event_type in FAILED for event in history.events)
            await self._await_found(client)

    async def _start(self, client: Client) -> None:
        number = self.first + len(self._handles)
        self._handles.append(
            await client.start_workflow(
                Order.run,
                self.beats,
                id=f"order-{number}",
                task_queue=QUEUE,
                search_attributes=TypedSearchAttributes([SearchAttributePair(CUSTOMER, f"customer-{number}")]),
            )
        )
        self.started += 1

    async def _count(self, client: Client, query: str) -> int:
        self.queries += 1
        return (await client.count_workflows(query)).count

    async def _await_found(self, client: Client) -> None:
        """Each is found by the value of its own search attributes, with the last beat; visibility lags a little."""
        last = f"Beat = {self.beats} AND ExecutionStatus = 'Completed'"
        deadline = time.monotonic() + PATIENCE
        while True:
            found = await self._count(client, last)
            if found >= len(self._handles) or time.monotonic() > deadline:
                break
            await asyncio.sleep(_PAUSE_SECONDS)
        assert found == len(self._handles)
        for number in (self.first, self.first + len(self._handles) - 1):
            assert await self._count(client, f"CustomerId = 'customer-{number}' AND {last}") == 1
