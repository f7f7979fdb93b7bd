"""Namespaces on a real frontend: made where they are missing, changed on demand, never deleted."""

import asyncio
import json
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.api.workflowservice.v1 import (
    DeprecateNamespaceRequest,
    DescribeNamespaceRequest,
    DescribeNamespaceResponse,
    ListNamespacesRequest,
)
from temporalio.service import ConnectConfig, RPCError, ServiceClient

from support.program.command import Completed, finish, run_process, start_cli
from support.program.refusals import errors
from support.temporal.frontends import environment

ATTRIBUTES = {"CustomerId": "Keyword", "Amount": "Double", "Tags": "KeywordList", "Due": "Datetime"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bootstrap:
    """Runs `namespaces` against a frontend, and asks that what it has."""

    address: str

    def env(self, *those: object) -> dict[str, str]:
        """Return the environment that wants these namespaces."""
        return environment(TEMPORAL_ADDRESS=self.address, SCHEMA_MIGRATOR_NAMESPACES=json.dumps(those) if those else "")

    def run(self, *those: object, args: tuple[str, ...] = ()) -> Completed:
        """Run."""
        return run_process(self.env(*those), "namespaces", "--output", "json", *args)

    def done(self, *those: object, args: tuple[str, ...] = ()) -> list[dict[str, Any]]:
        """Run; return what was done to each."""
        completed = self.run(*those, args=args)
        assert completed.code == 0, completed.stderr
        return list(json.loads(completed.stdout)["namespaces"])

    def ask(self, work: Callable[[ServiceClient], Any]) -> Any:  # noqa: ANN401 - a response of temporalio's
        """Ask the frontend something."""

        async def asked() -> Any:  # noqa: ANN401 - the same
            return await work(await ServiceClient.connect(ConnectConfig(target_host=self.address)))

        return asyncio.run(asked())

    def describe(self, name: str) -> DescribeNamespaceResponse:
        """Return the namespace as the frontend describes it."""
        request = DescribeNamespaceRequest(namespace=name)
        return self.ask(lambda client: client.workflow_service.describe_namespace(request))


@pytest.fixture
def bootstrap(frontend: str) -> Bootstrap:
    """Return what runs our program against the development server."""
    return Bootstrap(address=frontend)


@pytest.fixture
def name() -> str:
    """Return a name that no other test has."""
    return f"ameide-{secrets.token_hex(4)}"


def full(name: str, **changes: object) -> dict[str, object]:
    """Return a namespace with everything that can be said of it."""
    return {
        "name": name,
        "description": "orders ö",
        "owner": "ops@example.com",
        "retention": "7d",
        "data": {"team": "a"},
        "searchAttributes": ATTRIBUTES,
        **changes,
    }


def test_creates_what_is_missing(bootstrap: Bootstrap, name: str) -> None:
    """With all that is wanted of it; and again there is nothing to do and nothing is said."""
    assert bootstrap.done(full(name)) == [
        {
            "name": name,
            "created": True,
            "updated": False,
            "differences": [],
            "search_attributes_added": list(ATTRIBUTES),
        }
    ]
    found = bootstrap.describe(name)
    info = found.namespace_info
    assert (info.description, info.owner_email, dict(info.data)) == ("orders ö", "ops@example.com", {"team": "a"})
    assert found.config.workflow_execution_retention_ttl.ToTimedelta() == timedelta(days=7)
    request = ListSearchAttributesRequest(namespace=name)
    known = bootstrap.ask(lambda client: client.operator_service.list_search_attributes(request)).custom_attributes
    assert known.keys() == ATTRIBUTES.keys()
    again = bootstrap.run(full(name))
    assert (again.code, errors(again)) == (0, [])
    assert json.loads(again.stdout)["namespaces"][0] == {
        "name": name,
        "created": False,
        "updated": False,
        "differences": [],
        "search_attributes_added": [],
    }


def test_changes_only_with_update(bootstrap: Bootstrap, name: str) -> None:
    """What differs is told and left; with --update it is changed, and data that is not named stays."""
    bootstrap.done({"name": name, "data": {"team": "a", "own": "kept"}, "description": "first"})
    wanted = full(name, searchAttributes={})
    differences = [
        {"field": "description", "found": "first", "expected": "orders ö"},
        {"field": "owner", "found": "", "expected": "ops@example.com"},
        {"field": "retention", "found": "3d", "expected": "7d"},
    ]
    told = bootstrap.run(wanted)
    assert (told.code, json.loads(told.stdout)["namespaces"][0]["differences"]) == (0, differences)
    found = [json.loads(line)["event"] for line in told.stderr.splitlines()]
    assert found == ["run.started", *["namespace.differs"] * 3, "run.ended"]
    assert bootstrap.describe(name).namespace_info.description == "first"
    failed = bootstrap.run(wanted, args=("--on-drift", "fail"))
    assert (failed.code, failed.stdout) == (42, "")
    assert errors(failed)[-1] == (
        f'error: namespace "{name}" differs from its specification: description is "first", expected "orders ö",'
        ' owner is "", expected "ops@example.com", retention is "3d", expected "7d";'
        " correct the specification, or let the namespace be changed: --update"
    )
    (done,) = bootstrap.done(wanted, args=("--update",))
    assert (done["updated"], done["differences"]) == (True, differences)
    info = bootstrap.describe(name).namespace_info
    assert (info.description, dict(info.data)) == ("orders ö", {"team": "a", "own": "kept"})
    assert bootstrap.done(wanted, args=("--update",))[0]["differences"] == []


def test_what_is_not_said_is_not_compared(bootstrap: Bootstrap, name: str) -> None:
    """A name alone leaves a namespace as it is, even with --update."""
    bootstrap.done(full(name, searchAttributes={}))
    assert bootstrap.done({"name": name}, args=("--update",))[0]["differences"] == []
    assert bootstrap.describe(name).namespace_info.owner_email == "ops@example.com"


def test_as_text(bootstrap: Bootstrap, name: str) -> None:
    """A table of what was done, with what --update would change."""
    env = bootstrap.env({"name": name, "retention": "7d", "searchAttributes": {"CustomerId": "Keyword"}})
    lines = [
        line.strip() for line in run_process(env, "namespaces").stdout.splitlines() if name in line or "search" in line
    ]
    assert [" ".join(line.split()) for line in lines] == [f"{name} created", "search attribute CustomerId added"]
    assert run_process(env, "namespaces").stdout.split()[-3:] == [name, "as", "specified"]
    other = bootstrap.env({"name": name, "retention": "36h"})
    assert "retention is 7d, wanted 36h: --update changes it" in run_process(other, "namespaces").stdout
    assert "retention changed from 7d to 36h" in run_process(other, "namespaces", "--update", "--check", name).stdout
    assert run_process(bootstrap.env(), "namespaces", "--check", name).stdout == f'namespace "{name}" exists\n'


def test_names_alone(bootstrap: Bootstrap, name: str) -> None:
    """Names separated by commas, odd ones among them, get the vendor's three days."""
    names = [name, f"{name} two words", f"{name}/ä.ö_😀", f"-{name}", f"{name}'\"\\;--"]
    env = bootstrap.env() | {"SCHEMA_MIGRATOR_NAMESPACES": f" {', '.join(names)} "}
    done = run_process(env, "namespaces", "--output", "json")
    assert [(one["name"], one["created"]) for one in json.loads(done.stdout)["namespaces"]] == [
        (n, True) for n in names
    ]
    for one in names:
        assert bootstrap.describe(one).config.workflow_execution_retention_ttl.ToTimedelta() == timedelta(days=3)


def test_a_file(bootstrap: Bootstrap, name: str, tmp_path: Path) -> None:
    """The list may come from a file, as from a ConfigMap."""
    path = tmp_path / "namespaces.json"
    path.write_text(json.dumps([full(name)]), encoding="utf-8")
    env = bootstrap.env() | {"SCHEMA_MIGRATOR_NAMESPACES_FILE": str(path)}
    assert run_process(env, "namespaces").code == 0
    assert bootstrap.describe(name).namespace_info.name == name


def test_many_at_once(bootstrap: Bootstrap, name: str) -> None:
    """All succeed, one creates it, and each search attribute has one column."""
    running = [start_cli(bootstrap.env(full(name)), "namespaces", "--output", "json") for _ in range(6)]
    ended = [finish(process) for process in running]
    assert [done.code for done in ended] == [0] * 6, "\n".join(done.stderr for done in ended)
    assert sum(json.loads(done.stdout)["namespaces"][0]["created"] for done in ended) == 1
    names = bootstrap.describe(name).config.custom_search_attribute_aliases
    assert Counter(names.values()) == Counter(dict.fromkeys(ATTRIBUTES, 1))


def test_adds_a_search_attribute_to_what_is_there(bootstrap: Bootstrap, name: str) -> None:
    """One that is missing is made without --update: it changes nothing that is there."""
    bootstrap.done(full(name))
    (done,) = bootstrap.done(full(name, searchAttributes={**ATTRIBUTES, "Region": "Keyword"}))
    assert (done["created"], done["search_attributes_added"]) == (False, ["Region"])


def test_a_search_attribute_of_another_type(bootstrap: Bootstrap, name: str) -> None:
    """The server would ignore it; it is refused."""
    bootstrap.done(full(name))
    done = bootstrap.run(full(name, searchAttributes={"CustomerId": "Int"}))
    assert (done.code, errors(done)) == (
        42,
        [
            (
                f'error: namespace "{name}": search attribute "CustomerId" is of type Keyword, expected Int; '
                "a type cannot be changed: choose another name"
            )
        ],
    )


def test_too_many_search_attributes(bootstrap: Bootstrap, name: str) -> None:
    """There are three columns for texts; the server's words say so."""
    done = bootstrap.run(full(name, searchAttributes={f"Text{number}": "Text" for number in range(4)}))
    assert (done.code, errors(done)) == (
        42,
        [
            (
                f'error: namespace "{name}": the frontend at {bootstrap.address} rejected the request: '
                "Unable to create search attributes: cannot have more than 3 search attribute of type Text"
            )
        ],
    )


def test_one_that_is_refused(bootstrap: Bootstrap, name: str) -> None:
    """A retention that the server does not take is told; the other namespaces are made."""
    done = bootstrap.run({"name": f"{name}-1", "retention": "10m"}, {"name": f"{name}-2", "retention": "1h"})
    assert (done.code, done.stdout, errors(done)) == (
        42,
        "",
        [
            (
                f'error: namespace "{name}-1": the frontend at {bootstrap.address} rejected the request: '
                "A valid retention period is not set on request"
            )
        ],
    )
    assert bootstrap.describe(f"{name}-2").namespace_info.name == f"{name}-2"


def test_one_that_is_given_up(bootstrap: Bootstrap, name: str) -> None:
    """A deprecated namespace is refused: nothing new can be done in it."""
    bootstrap.done({"name": name})
    request = DeprecateNamespaceRequest(namespace=name)

    async def deprecate(client: ServiceClient) -> None:
        for _ in range(60):  # the server's list of namespaces is some seconds old
            try:
                await client.workflow_service.deprecate_namespace(request)
            except RPCError:
                await asyncio.sleep(0.5)
            else:
                return

    bootstrap.ask(deprecate)
    done = bootstrap.run({"name": name})
    assert (done.code, errors(done)) == (
        42,
        [
            (
                f'error: namespace "{name}": it is deprecated, expected registered; '
                "use another name, or wait until it is gone"
            )
        ],
    )


def test_checks_names(bootstrap: Bootstrap, name: str) -> None:
    """A client's namespace that is there, was just made, or is missing: with the existing ones and the nearest."""
    assert bootstrap.run({"name": name}, args=("--check", name, "--check", "default")).code == 0
    request = ListNamespacesRequest(page_size=1000)
    listed = bootstrap.ask(lambda client: client.workflow_service.list_namespaces(request)).namespaces
    existing = sorted({one.namespace_info.name for one in listed} - {"temporal-system"})
    shown = ", ".join(f'"{one}"' for one in existing[:20])
    more = f" and {len(existing) - 20} more" if len(existing) > 20 else ""
    done = bootstrap.run(args=("--check", f"{name}x", "--check", "zzz", "--check", name))
    assert (done.code, done.stdout, errors(done)) == (
        41,
        "",
        [
            (
                f'error: namespace "{name}x" does not exist at {bootstrap.address}, which has {shown}{more}; '
                f'did you mean "{name}"?'
            ),
            (
                f'error: namespace "zzz" does not exist at {bootstrap.address}, which has {shown}{more}; '
                "create it, or set the client to one of these"
            ),
        ],
    )


def test_nothing_is_wanted(bootstrap: Bootstrap) -> None:
    """A list that did not arrive is no success."""
    for env in (bootstrap.env(), bootstrap.env() | {"SCHEMA_MIGRATOR_NAMESPACES": "[]"}):
        done = run_process(env, "namespaces")
        assert (done.code, errors(done)) == (
            2,
            ["error: no namespace is given; set SCHEMA_MIGRATOR_NAMESPACES, or give --check with a name"],
        )
