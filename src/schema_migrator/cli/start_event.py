"""The first event of a run: its command, release, files and stores, logged before anything is contacted."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from schema_migrator import __version__, events
from schema_migrator.releases import servers

if TYPE_CHECKING:
    from schema_migrator.config.settings import Settings, StoreSettings
    from schema_migrator.releases.source import Release

_BY_RELEASE = frozenset({"migrate", "plan", "status", "verify"})
"""Commands that read a release's files."""
_WARNED = frozenset({"migrate", "plan", "status"})
_NO_STORES = frozenset({"releases", "namespaces"})


def announce(settings: Settings, command: str) -> None:
    """Log what is to be done and where. Raises InputError where the files or the targets are wrong."""
    run = settings.run
    release = settings.release if command in _BY_RELEASE else None
    folders = (release.folder,) if release else run.sources
    events.edge(
        "run.started",
        version=__version__,
        command=command,
        release=release.version if release else run.temporal_version,
        files=os.pathsep.join(str(folder.absolute()) for folder in folders),
        stores=[] if command in _NO_STORES else [_store(store, release) for store in settings.stores],
    )
    if release is not None and command in _WARNED:
        _warn_of_newer_patch(settings, release)


def _warn_of_newer_patch(settings: Settings, release: Release) -> None:
    newest = servers.newer_patch(settings.library.versions(), release.version)
    if newest is not None:
        events.logger().warning("release.newer_patch", release=release.version, newest=newest)


def _store(store: StoreSettings, release: Release | None) -> dict[str, Any]:
    """Return where a store is and its target; its schema is null where the role's search_path decides."""
    target = release.source(store.store).target(store.target_version) if release else store.target_version
    port = str(store.sql.port or "")  # a list where there are several hosts
    return {
        "store": str(store.store),
        "target": None if target is None else str(target),
        "database": store.database,
        "host": store.sql.host,
        "port": int(port) if port.isdecimal() else port or None,
        "role": store.user or None,
        "schema": store.attributes.get("search_path"),
    }
