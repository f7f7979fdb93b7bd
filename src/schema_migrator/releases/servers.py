"""Which servers start on which schema version. Temporal's server refuses a schema that is older than its own files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.version import Version

from schema_migrator.releases.manifests import parse_version
from schema_migrator.releases.source import SCHEMA, USUAL_STORES, Store

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRelease:
    """A server's version, and the schema versions that it needs, by the folder with the store's files."""

    version: str
    needs: dict[str, Version]


@dataclass(frozen=True, slots=True, kw_only=True)
class Startable:
    """The newest servers that start on a store `now` and `after` the migration, as people name them.

    A minor (`1.29`) stands for all its releases, and a version (`1.24.0`) for a minor whose later releases need more.
    None means that no server starts. `newest_now` and `newest_after` are the same as full versions.
    """

    now: str | None
    after: str | None
    newest_now: str | None
    newest_after: str | None


def needs(release: Path) -> dict[str, Version] | None:
    """Return the versions that a release's servers need, from its folders' names alone; None if they are unreadable."""
    try:
        return {store.folder: _latest(release / SCHEMA / store.folder / "versioned") for store in USUAL_STORES}
    except (OSError, ValueError):
        return None


def _latest(folder: Path) -> Version:
    return max(version for path in folder.iterdir() if (version := parse_version(path.name)))


def startable(
    servers: Sequence[ServerRelease], store: Store, recorded: Version | None, after: Version | None
) -> Startable:
    """Return the newest servers for two versions of a store, of which None has no servers. `servers`: lowest first."""
    now, then = (_newest(servers, store, version) for version in (recorded, after))
    return Startable(now=_named(servers, now), after=_named(servers, then), newest_now=now, newest_after=then)


def newer_patch(versions: Sequence[str], wanted: str) -> str | None:
    """Return the highest release of a version's minor if it is higher than the version. `versions`: lowest first."""
    highest = _highest_patch(versions, wanted)
    return highest if highest is not None and Version(highest) > Version(wanted) else None


def _newest(servers: Iterable[ServerRelease], store: Store, version: Version | None) -> str | None:
    starting = [server.version for server in servers if version is not None and server.needs[store.folder] <= version]
    return starting[-1] if starting else None


def _named(servers: Iterable[ServerRelease], version: str | None) -> str | None:
    if version is None or _highest_patch([server.version for server in servers], version) != version:
        return version
    return _minor(version)


def _highest_patch(versions: Iterable[str], version: str) -> str | None:
    same = [known for known in versions if _minor(known) == _minor(version)]
    return same[-1] if same else None


def _minor(version: str) -> str:
    return ".".join(map(str, Version(version).release[:2]))
