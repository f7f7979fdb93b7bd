"""The command `releases`: the releases whose files are available."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schema_migrator.releases.source import Release, carried, load_release

if TYPE_CHECKING:
    from schema_migrator.config.settings import Settings


def releases(settings: Settings) -> tuple[Release, ...]:
    """Return the releases whose files are available."""
    return tuple(load_release(settings.run.sources, name) for name in carried(settings.run.sources))
