"""The rehearsal of a tiny invented store, told statement by statement, and live schemas that differ from it.

An object is named as messages name it: `column orders.note` is the column "note" of the table "orders".
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

from packaging.version import Version

from schema_migrator.catalog.facts import VersionRow
from schema_migrator.catalog.seed_row import Seed
from schema_migrator.catalog.snapshot import Key, Snapshot
from schema_migrator.diagnosis.recognition import Evidence
from schema_migrator.diagnosis.rehearsal import Rehearsal
from schema_migrator.diagnosis.state import At, Overview, State
from schema_migrator.releases.source import UNVERSIONED, Source, SqlFile, Step, Store
from support.program.factories import HEALTHY
from support.program.rehearsed import Past

Effect = Mapping[str, str | None]
"""Objects with the definitions that they get; None for an object that is dropped."""
SEEDED = Seed(version=1)


@dataclass(frozen=True, slots=True)
class Act:
    """A statement of a step, and what it does to the schema; it changes only rows if it does nothing."""

    text: str
    effect: Effect = field(default_factory=dict)


def key(name: str) -> Key:
    """Return the key of an object from its name in messages."""
    kind, _, path = name.partition(" ")
    parent, _, own = path.rpartition(".")
    return Key(kind, parent, own)


def keys(*names: str) -> frozenset[Key]:
    """Return the keys of several objects."""
    return frozenset(map(key, names))


def schema(objects: Effect) -> Snapshot:
    """Return the snapshot of a schema that has these objects."""
    return edited(Snapshot({}), objects)


def edited(taken: Snapshot, changes: Effect) -> Snapshot:
    """Return a schema after changes by hand."""
    objects = {**taken.objects, **{key(name): text for name, text in changes.items()}}
    return Snapshot({each: text for each, text in objects.items() if text is not None})


def snapshots(start: Snapshot, acts: Sequence[Act]) -> tuple[Snapshot, ...]:
    """Return the snapshots around the statements of a step."""
    return tuple(accumulate(acts, lambda taken, act: edited(taken, act.effect), initial=start))


def past(*steps: Sequence[Act], release: str = "9.1.0") -> Past:
    """Return the store whose steps 1.0, 1.1 and so on have these statements, rehearsed closely."""
    made = tuple(step(f"1.{minor}", acts) for minor, acts in enumerate(steps))
    after, within = {UNVERSIONED: Snapshot({})}, {}
    for before, each, acts in zip([UNVERSIONED, *(step.version for step in made)], made, steps, strict=False):
        within[each.version] = snapshots(after[before], acts)
        after[each.version] = within[each.version][-1]
    source = Source(store=Store.DEFAULT, release=release, folder=Path("/shop"), steps=made)
    changing = frozenset(step.version for step in made if any(statement.changes_rows for statement in step.statements))
    return Past(
        source=source, rehearsal=Rehearsal(release=release, after=after, within=within, bodies={}, changing=changing)
    )


def step(version: str, acts: Sequence[Act]) -> Step:
    """Return the step that has these statements in one file."""
    text = "\n".join(f"{act.text};" for act in acts)
    return Step(
        version=Version(version),
        min_compatible=Version("1.0"),
        description="",
        md5="",
        files=(SqlFile(name=f"shop/v{version}/schema.sql", text=text),),
    )


NEW_ORDERS = Act(
    "CREATE TABLE orders (id BIGINT NOT NULL, total INT, PRIMARY KEY (id))",
    {
        "table orders": "",
        "order orders": "id, total",
        "column orders.id": "bigint NOT NULL",
        "column orders.total": "integer",
        "constraint orders.orders_pkey": "PRIMARY KEY (id)",
    },
)
NEW_ITEMS = Act(
    "CREATE TABLE items (order_id BIGINT NOT NULL, number INT NOT NULL, PRIMARY KEY (order_id, number))",
    {
        "table items": "",
        "order items": "order_id, number",
        "column items.order_id": "bigint NOT NULL",
        "column items.number": "integer NOT NULL",
        "constraint items.items_pkey": "PRIMARY KEY (order_id, number)",
    },
)
ADD_NOTE = Act(
    "ALTER TABLE orders ADD COLUMN note TEXT", {"column orders.note": "text", "order orders": "id, total, note"}
)
INDEX_NOTE = Act(
    "CREATE INDEX by_note ON orders (note)",
    {"index orders.by_note": "CREATE INDEX by_note ON orders USING btree (note)"},
)
INDEX_TOTAL = Act(
    "CREATE INDEX by_total ON orders (total)",
    {"index orders.by_total": "CREATE INDEX by_total ON orders USING btree (total)"},
)
WIDER_TOTAL = Act("ALTER TABLE orders ALTER COLUMN total TYPE BIGINT", {"column orders.total": "bigint"})
SEED = Act("INSERT INTO namespace_metadata (partition_id) VALUES (54321)")
DROP_BY_TOTAL = Act("DROP INDEX by_total", {"index orders.by_total": None})

SHOP = past((NEW_ORDERS, INDEX_TOTAL, SEED), (ADD_NOTE, INDEX_NOTE, WIDER_TOTAL), (), (NEW_ITEMS, DROP_BY_TOTAL))
"""Steps 1.0, 1.1, an empty 1.2, and 1.3."""


def at_version(version: str, changes: Effect | None = None, *, store: Past = SHOP) -> Snapshot:
    """Return the schema of a version, apart from changes by hand."""
    return edited(store.rehearsal.after[Version(version)], changes or {})


def during(version: str, done: int, changes: Effect | None = None, *, store: Past = SHOP) -> Snapshot:
    """Return the schema after some statements of the step to a version, apart from changes by hand."""
    return edited(store.rehearsal.within[Version(version)][done], changes or {})


def evidence(
    live: Snapshot,
    recorded: str | None,
    *rows: tuple[str | None, str | None],
    state: State | None = None,
    seed: Seed = SEEDED,
    history: Collection[str] = (),
    store: Past = SHOP,
) -> Evidence:
    """Return what a store's state is recognised from; by default, what its row says is plausible.

    `rows` are the version and the least compatible one of each row, of whatever database.
    """
    version = Version(recorded) if recorded else None
    found = state or At(version=version or UNVERSIONED, min_compatible=Version("1.0"))
    made = tuple(VersionRow(db_name="shop", curr_version=now, min_compatible_version=least) for now, least in rows)
    return Evidence(
        source=store.source,
        overview=Overview(facts=HEALTHY, rows=made, recorded=version, state=found),
        live=live,
        seed=seed,
        rehearsal=store.rehearsal,
        history=frozenset(map(Version, history)),
    )
