"""What we leave in a database is what the vendor's own tool leaves, byte for byte."""

from collections.abc import Callable
from itertools import combinations

import pytest

from support.postgres.databases import STORES, Databases
from support.program.library import PINNED
from support.program.references import Hop, References, latest, picture, run_here, start_by_vendor, versions
from support.selection import EVERYTHING
from support.vendor.tool import VendorTool

IN_CI = ("1.29.1", "1.32.2")
SPREAD = (0, 1, 5, 9, 13, 18)
SOME = (0, 12)

Pair = tuple[str, str]
"""A version of the default store and one of the visibility store."""


def pairs(release: str) -> list[Pair]:
    """Return pairs that cover all versions, the last ones left out; both stores are migrated side by side."""
    default, visibility = (versions(release, store) for store in STORES)
    return [(version, visibility[i * len(visibility) // len(default)]) for i, version in enumerate(default[:-1])]


def marked(release: str, *values: str | Pair, often: bool = True) -> object:
    """Return a test's parameters, for the matrix unless they are for every run."""
    marks = () if often and release in IN_CI else pytest.mark.matrix
    name = "-".join(value if isinstance(value, str) else "-".join(value) for value in (release, *values))
    return pytest.param(release, *values, id=name, marks=marks)


def every_pair() -> list[object]:
    """Return every pair of two releases and some of the others' pairs, or all pairs; a spread for every run."""
    return [
        marked(release, pair, often=number in SPREAD)
        for release in PINNED
        for number, pair in enumerate(pairs(release))
        if number in SOME or release in IN_CI or EVERYTHING
    ]


def every_upgrade() -> list[object]:
    """Return every release with the next one and with the newest, or every newer release with every older one."""
    return [
        marked(newer, older, often=older in IN_CI)
        for older, newer in combinations(PINNED, 2)
        if newer == PINNED[-1] or PINNED.index(newer) == PINNED.index(older) + 1 or EVERYTHING
    ]


def environment(databases: Databases, release: str, pair: Pair | None = None) -> dict[str, str]:
    """Return the environment for a release and, where given, a pair of targets."""
    chosen = {"DEFAULT_TARGET_VERSION": pair[0], "VISIBILITY_TARGET_VERSION": pair[1]} if pair else {}
    return databases.env() | {"TEMPORAL_VERSION": release} | chosen


def assert_equal(databases: Databases, references: References, **hops: tuple[Hop, ...]) -> None:
    """Compare both stores with what the vendor's tool makes on the same way."""
    for store in STORES:
        assert picture(databases, store) == references.picture(store, *hops[store])


def way(pair: Pair | None, release: str) -> dict[str, tuple[Hop, ...]]:
    """Return each store's hops in one release: over a pair of versions to the last."""
    last = {store: (release, latest(release, store)) for store in STORES}
    if pair is None:
        return {store: (last[store],) for store in STORES}
    return {store: ((release, version), last[store]) for store, version in zip(STORES, pair, strict=True)}


def assert_at_target(environment: dict[str, str]) -> None:
    """Plan again: nothing is left to do."""
    assert run_here(environment, "plan", "--check") == 0
    assert run_here(environment, "status", "--check") == 0


@pytest.mark.parametrize("release", [marked(release) for release in PINNED])
def test_from_nothing(databases: Databases, references: References, release: str) -> None:
    """An installation of ours is the vendor's, and a second run leaves it so."""
    env = environment(databases, release)
    for _ in range(2):
        assert run_here(env, "migrate") == 0
        assert_equal(databases, references, **way(None, release))
        assert_at_target(env)


@pytest.mark.parametrize("release", [marked(release) for release in PINNED])
def test_from_a_set_up(databases: Databases, references: References, release: str) -> None:
    """Where the vendor's tool has set up its version tables only, ours goes on."""
    for store in STORES:
        start_by_vendor(databases, store, (release, "0.0"))
    env = environment(databases, release)
    assert run_here(env, "migrate") == 0
    assert_equal(databases, references, **way(None, release))
    assert_at_target(env)


@pytest.mark.parametrize(("release", "start"), every_pair())
def test_from_a_version_of_the_vendors_making(
    databases: Databases, references: References, release: str, start: Pair
) -> None:
    """What the vendor's tool began, ours ends as that tool would."""
    for store, version in zip(STORES, start, strict=True):
        start_by_vendor(databases, store, (release, version))
    env = environment(databases, release)
    assert run_here(env, "migrate") == 0
    assert_equal(databases, references, **way(start, release))
    assert_at_target(env)


@pytest.mark.parametrize(("release", "target"), every_pair())
def test_to_a_version_between(
    databases: Databases,
    references: References,
    vendor_tool: Callable[[str], VendorTool],
    release: str,
    target: Pair,
) -> None:
    """A target in between is reached exactly, and from there the vendor's tool goes on."""
    env = environment(databases, release, target)
    assert run_here(env, "migrate") == 0
    between: dict[str, tuple[Hop, ...]] = {s: ((release, v),) for s, v in zip(STORES, target, strict=True)}
    assert_equal(databases, references, **between)
    assert_at_target(env)
    for store in STORES:
        vendor_tool(release).update(store)
    assert_equal(databases, references, **way(target, release))


@pytest.mark.parametrize("release", [marked(release) for release in PINNED[:: 1 if EVERYTHING else 5]])
def test_step_by_step(databases: Databases, references: References, release: str) -> None:
    """A run for each version, each on a database in use from the second on, ends where one run does."""
    for pair in [*pairs(release), None]:
        assert run_here(environment(databases, release, pair), "migrate") == 0
    assert_equal(databases, references, **way(None, release))


@pytest.mark.parametrize(("newer", "older"), every_upgrade())
def test_from_an_older_release(databases: Databases, references: References, newer: str, older: str) -> None:
    """What an older release's tool made, ours takes to the newer release as that one's tool would."""
    hops = {store: tuple((release, latest(release, store)) for release in (older, newer)) for store in STORES}
    for store in STORES:
        start_by_vendor(databases, store, hops[store][0])
    env = environment(databases, newer)
    assert run_here(env, "migrate") == 0
    assert_equal(databases, references, **hops)
    assert_at_target(env)
