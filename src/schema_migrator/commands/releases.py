"""The command `releases`: the releases whose files are available."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from schema_migrator.config.settings import Settings
    from schema_migrator.releases.source import Release


def releases(settings: Settings) -> tuple[Release, ...]:
    """Return the releases whose files are available."""
    return settings.library.releases()
