"""Which statements of a step are left after two of the vendor's tools applied it at the same time. Pure functions."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from schema_migrator.catalog import snapshot
from schema_migrator.diagnosis import prediction

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from schema_migrator.catalog.snapshot import Key, Snapshot


def remaining(taken: tuple[Snapshot, ...], live: Snapshot) -> list[int] | None:
    """Return the indexes of the statements to run, or None if the live schema does not determine them."""
    final = taken[-1].objects
    current: Mapping[Key, str] = live.objects
    found: list[int] = []
    for index, (before, after) in enumerate(pairwise(taken)):
        effect = [key for key in snapshot.changed(before, after) if key.kind != "order"]
        if effect and all(current.get(key) == final.get(key) for key in effect):
            continue
        if all(current.get(key) in (before.objects.get(key), final.get(key)) for key in effect):
            found.append(index)
            current = _applied(current, effect, after)
        elif any(current.get(key) != after.objects.get(key) for key in effect):
            return None
    return found


def _applied(current: Mapping[Key, str], effect: Collection[Key], after: Snapshot) -> dict[Key, str]:
    """Return the objects after a statement. Indexes and constraints on a dropped column are dropped with it."""
    gone = [key for key in effect if key not in after.objects]
    kept = {
        key: text for key, text in current.items() if key not in gone and not prediction.depends_on(key, text, gone)
    }
    return kept | {key: after.objects[key] for key in effect if key in after.objects}
