"""What is said about a store whose tables match no version."""

import pytest
from packaging.version import Version

from schema_migrator.catalog.seed_row import Seed
from schema_migrator.catalog.snapshot import Snapshot
from schema_migrator.diagnosis.recognition import recognise
from schema_migrator.diagnosis.state import Unknown
from support.program.tiny_rehearsals import Effect, at_version, during, evidence

STRANGE = Unknown(reason="it is strange", hint="look at it", refinable=True)
MATCHES_NONE = "the tables match no version; the closest is"
BROKEN = {"column orders.total": "text"}
FIVE = {
    "column orders.id": "text",
    "column orders.note": "bytea",
    "column orders.total": "text",
    "constraint orders.orders_pkey": "UNIQUE (id)",
    "index orders.by_note": "hash (note)",
}


def unknown(live: Snapshot, recorded: str | None, *, strange: bool = False, seed: int = 1) -> Unknown:
    """Return the unknown state of a store, whose version row is `strange` or plausible."""
    found = recognise(evidence(live, recorded, state=STRANGE if strange else None, seed=Seed(version=seed)))
    assert isinstance(found, Unknown)
    assert found.recorded == (recorded and Version(recorded))
    assert not found.refinable
    return found


@pytest.mark.parametrize(
    ("changes", "differences"),
    [
        (BROKEN, "column orders.total"),
        ({"index items.by_number": "btree (number)", "table own": "", **BROKEN}, "column orders.total"),
        (
            {"column orders.note": None, "column orders.id": "text", "index orders.by_total": "btree (total)"},
            "column orders.note, column orders.id, index orders.by_total",
        ),
        (FIVE, ", ".join(FIVE)),
        ({**FIVE, "column items.number": "text"}, ", ".join(["column items.number", *FIVE][:5]) + ", ..."),
    ],
)
def test_the_differences_from_the_closest_version(changes: Effect, differences: str) -> None:
    """What is missing, what is different, and what only other versions have; at most five objects."""
    found = unknown(at_version("1.3", changes), "1.3")
    assert found.reason == f"version 1.3 is recorded; {MATCHES_NONE} 1.3, apart from: {differences}"


@pytest.mark.parametrize(
    ("live", "recorded", "closest", "target"),
    [
        (at_version("1.3", BROKEN), "1.3", "1.3", "1.3"),
        (at_version("1.1", BROKEN), "1.3", "1.2", "1.3"),
        (at_version("1.3", BROKEN), "1.0", "1.3", "1.3"),
        (at_version("1.1", BROKEN), "1.0", "1.2", "1.2"),
        (at_version("1.0", BROKEN), None, "1.0", "1.0"),
    ],
)
def test_the_repair_goes_forward(live: Snapshot, recorded: str | None, closest: str, target: str) -> None:
    """Of equally close versions the highest is named; the repair leads to none below the recorded one."""
    found = unknown(live, recorded)
    assert f"{MATCHES_NONE} {closest}, apart from: column orders.total" in found.reason
    assert found.hint == (
        f"for the SQL that brings them to {target}: schema-migrator verify --default-target-version {target}"
    )


def test_the_reason_of_a_strange_version_row_comes_first() -> None:
    """It stays as it is, and so does its hint for a version that the release does not have."""
    listed, unlisted = (unknown(at_version("1.1", BROKEN), recorded, strange=True) for recorded in ("1.3", "1.7"))
    reason = f"it is strange; {MATCHES_NONE} 1.2, apart from: column orders.total"
    assert (listed.reason, unlisted.reason) == (reason, reason)
    assert listed.hint == "for the SQL that brings them to 1.3: schema-migrator verify --default-target-version 1.3"
    assert unlisted.hint == "look at it"


def test_without_a_version_the_repair_is_named() -> None:
    """The hint of a version row that is missing would not help."""
    found = unknown(at_version("1.0", BROKEN), None, strange=True)
    assert found.hint == "for the SQL that brings them to 1.0: schema-migrator verify --default-target-version 1.0"


def test_the_tables_of_a_cluster_in_use() -> None:
    """The reason is a row that only a cluster changes."""
    found = unknown(during("1.0", 1), None, strange=True, seed=5)
    assert found.reason == (
        "it is strange; the seed row of namespace_metadata is at notification_version 5, expected 1,"
        " so a cluster has used these tables; nothing was touched;"
        f" {MATCHES_NONE} 1.0, apart from: index orders.by_total"
    )


def test_tables_of_another_program() -> None:
    """Tables that lack most of the columns are named, in their order."""
    foreign = {"column orders.own": "text", "table items": "", "column items.own": "text"}
    gone = dict.fromkeys(["column orders.id", "column orders.total", "column orders.note"])
    found = unknown(at_version("1.2", foreign | gone), "1.2")
    assert found.reason.startswith(
        f"version 1.2 is recorded; tables of the same names that are not Temporal's: items, orders; {MATCHES_NONE} 1."
    )
