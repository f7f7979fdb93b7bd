"""A frontend that has not heard of a namespace yet, or gives a status of any kind: it ends well, or in one sentence."""

import json
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import patch

import grpc
import pytest

from schema_migrator.concurrency import Interrupt
from schema_migrator.config.settings import read, read_client
from schema_migrator.errors import MigratorError, exit_code
from schema_migrator.temporal import namespaces
from support.postgres.databases import unique
from support.program.command import Completed, run_process
from support.program.refusals import Clock, errors
from support.temporal.frontends import Answer, between, environment

READ_FROM_DATABASE = ("Check", "GetSystemInfo", "DescribeNamespace", "RegisterNamespace", "ListNamespaces")
CALLS = (
    "DescribeNamespace",
    "RegisterNamespace",
    "UpdateNamespace",
    "ListSearchAttributes",
    "AddSearchAttributes",
    "ListNamespaces",
)
FAILURES = frozenset(
    (
        "CANCELLED",
        "UNKNOWN",
        "DEADLINE_EXCEEDED",
        "RESOURCE_EXHAUSTED",
        "ABORTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
    )
)
UNHEARD = "does not know it yet; run it again"
UNLISTED = "does not know its search attributes yet; run it again"
LATE = {
    ("DescribeNamespace", "NOT_FOUND"): UNHEARD,  # it cannot be registered either
    ("RegisterNamespace", "ALREADY_EXISTS"): UNHEARD,  # and is not there
    ("UpdateNamespace", "NOT_FOUND"): UNHEARD,
    ("ListSearchAttributes", "NOT_FOUND"): UNHEARD,
    ("AddSearchAttributes", "NOT_FOUND"): UNHEARD,
    ("AddSearchAttributes", "ALREADY_EXISTS"): UNLISTED,
}


def late(times: int) -> Answer:
    """Answer that often, for each method that goes by the list in a frontend's memory, that there is no such thing."""
    asked: Counter[str] = Counter()

    def answer(method: str) -> tuple[grpc.StatusCode, str] | None:
        asked[method] += 1
        known = method in READ_FROM_DATABASE or asked[method] > times
        return None if known else (grpc.StatusCode.NOT_FOUND, "Namespace is not found.")

    return answer


def namespaces_run(address: str, wanted: dict[str, object], *args: str, **changes: str) -> Completed:
    """Run `namespaces` for one."""
    env = environment(TEMPORAL_ADDRESS=address, SCHEMA_MIGRATOR_NAMESPACES=json.dumps([wanted]), **changes)
    return run_process(env, "namespaces", "--output", "json", *args)


def test_a_frontend_that_hears_late_of_a_namespace(frontend: str) -> None:
    """It is asked again, and all is done: each frontend has a list of its own, some seconds old."""
    name = unique("late")
    first = {"name": name, "searchAttributes": {"CustomerId": "Keyword"}}
    with between(frontend, late(3)) as address:
        done = namespaces_run(address, first)
    assert (done.code, errors(done)) == (0, []), done.stderr
    assert json.loads(done.stdout)["namespaces"][0]["search_attributes_added"] == ["CustomerId"]
    with between(frontend, late(3)) as address:
        done = namespaces_run(address, first | {"description": "orders"}, "--update")
    assert (done.code, errors(done)) == (0, []), done.stderr
    assert json.loads(done.stdout)["namespaces"][0]["updated"] is True
    events = [json.loads(line)["event"] for line in done.stderr.splitlines()]
    assert events == ["run.started", *["namespace.waiting"] * 3, "namespace.changed", "run.ended"]


@pytest.mark.parametrize("wanted", [{"description": "orders"}, {"searchAttributes": {"CustomerId": "Keyword"}}])
def test_a_frontend_that_never_hears_of_it(frontend: str, wanted: dict[str, object]) -> None:
    """The deadline ends it with a sentence; another try may help."""
    name, clock = unique("never"), Clock()
    assert namespaces_run(frontend, {"name": name}).code == 0
    with between(frontend, late(1_000_000)) as address:
        done = namespaces_run(address, {"name": name} | wanted, "--update", SCHEMA_MIGRATOR_WAIT_TIMEOUT="3")
    assert (done.code, done.stdout, errors(done)) == (
        1,
        "",
        [f'error: namespace "{name}": the frontend at {address} does not know it yet; run it again'],
    )
    assert clock.seconds < 30


def test_search_attributes_that_never_come(frontend: str) -> None:
    """One that was added and is not listed until the deadline is told; another try may help."""
    name = unique("unlisted")
    assert namespaces_run(frontend, {"name": name}).code == 0
    with between(frontend, lambda method: b"" if method == "AddSearchAttributes" else None) as at:
        done = namespaces_run(
            at, {"name": name, "searchAttributes": {"CustomerId": "Keyword"}}, SCHEMA_MIGRATOR_WAIT_TIMEOUT="3"
        )
    assert (done.code, errors(done)) == (
        1,
        [f'error: namespace "{name}": the frontend at {at} does not know its search attributes yet; run it again'],
    )


@pytest.mark.parametrize(
    ("code", "times", "ends"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, 3, 0),
        (grpc.StatusCode.INVALID_ARGUMENT, 1_000_000, 1),
        (grpc.StatusCode.PERMISSION_DENIED, 1_000_000, 0),
    ],
    ids=["soon", "never", "not for us to see"],
)
def test_search_attributes_that_clients_may_not_use_yet(
    frontend: str, code: grpc.StatusCode, times: int, ends: int
) -> None:
    """It ends well only when a query may name them, as the start of a workflow may then; else another try may help."""
    name, asked = unique("unusable"), Counter[str]()

    def answer(method: str) -> tuple[grpc.StatusCode, str] | None:
        asked[method] += 1
        refused = method == "CountWorkflowExecutions" and asked[method] <= times
        return (code, "invalid search attribute: CustomerId.") if refused else None

    with between(frontend, answer) as at:
        wanted = {"name": name, "searchAttributes": {"CustomerId": "Keyword"}}
        done = namespaces_run(at, wanted, SCHEMA_MIGRATOR_WAIT_TIMEOUT="10")
        said = f'error: namespace "{name}": the frontend at {at} {UNLISTED}'
    assert (done.code, errors(done)) == (ends, [said] * ends), done.stderr
    assert asked["CountWorkflowExecutions"] > (3 if code is grpc.StatusCode.INVALID_ARGUMENT else 0)


def test_a_frontend_that_goes_away(frontend: str) -> None:
    """One sentence, not one a namespace: the others would only wait as long."""
    names = [unique("gone") for _ in range(3)]

    def answer(method: str) -> tuple[grpc.StatusCode, str] | None:
        gone = method in ("RegisterNamespace", "ListNamespaces")
        return (grpc.StatusCode.DATA_LOSS, "The disk is gone.") if gone else None

    with between(frontend, answer) as at:
        env = environment(TEMPORAL_ADDRESS=at, SCHEMA_MIGRATOR_NAMESPACES=",".join(names))
        done = run_process(env, "namespaces", "--check", "default")
    assert done.code == 1
    assert errors(done) == [
        f'error: namespace "{names[0]}": the frontend at {at} failed: The disk is gone; run it again'
    ]


def test_one_of_several_search_attributes_is_already_there(frontend: str) -> None:
    """Another run was faster with one of them: the others are added one by one."""
    name, told = unique("faster"), iter([(grpc.StatusCode.ALREADY_EXISTS, "Search attribute A already exists.")])
    answer: Answer = lambda method: next(told, None) if method == "AddSearchAttributes" else None  # noqa: E731
    with between(frontend, answer) as address:
        done = namespaces_run(address, {"name": name, "searchAttributes": {"A": "Keyword", "B": "Int"}})
    assert (done.code, errors(done)) == (0, []), done.stderr
    assert json.loads(done.stdout)["namespaces"][0]["search_attributes_added"] == ["A", "B"]


def test_every_status_is_one_sentence(frontend: str) -> None:
    """Whatever status a call is given, a sentence tells it with the server's words, and the exit code is right."""
    pairs = [(call, code) for call in CALLS for code in grpc.StatusCode if code is not grpc.StatusCode.OK]
    assert len(pairs) == len(CALLS) * 16
    with patch.dict(os.environ, environment(), clear=True), ThreadPoolExecutor(len(pairs)) as pool:
        ended = list(pool.map(lambda pair: ensure(frontend, *pair), pairs))
    expected = [sentence(*pair) for pair in pairs]
    assert {pair: found for pair, found in zip(pairs, ended, strict=True) if found not in expected} == {}
    assert ended == expected


def ensure(frontend: str, call: str, code: grpc.StatusCode) -> tuple[int, str]:
    """Make a namespace where one of the calls is given that status; return how that ends, without names."""
    name = unique("status")
    wanted = {"name": name, "description": "orders", "searchAttributes": {"CustomerId": "Keyword"}}
    if call != "RegisterNamespace":
        make(frontend, {"name": name})
    with between(frontend, lambda method: (code, "No.") if method == call else None) as address:
        with pytest.raises(MigratorError) as caught:
            make(address, wanted, check=("default",), patience="5")
        return exit_code(caught.value), str(caught.value).replace(name, "NAME").replace(address, "ADDRESS")


def make(address: str, wanted: dict[str, object], *, check: tuple[str, ...] = (), patience: str = "60") -> None:
    """Do what `namespaces --update` does."""
    client = read_client({"TEMPORAL_ADDRESS": address, "SCHEMA_MIGRATOR_NAMESPACES": json.dumps([wanted])})
    settings = read({"SCHEMA_MIGRATOR_WAIT_TIMEOUT": patience})
    namespaces.ensure(settings, client, Interrupt(), update=True, check=check)


def sentence(call: str, code: grpc.StatusCode) -> tuple[int, str]:
    """Return how it has to end."""
    begin = "the frontend at ADDRESS" if call == "ListNamespaces" else 'namespace "NAME": the frontend at ADDRESS'
    if (call, code.name) in LATE:
        return 1, f"{begin} {LATE[call, code.name]}"
    if code.name in FAILURES:
        return 1, f"{begin} failed: No; run it again"
    if code.name in ("PERMISSION_DENIED", "UNAUTHENTICATED"):
        return 40, f"{begin} denied the request: No; set TEMPORAL_API_KEY, or a client certificate, that may do this"
    return 42, f"{begin} rejected the request: No"
