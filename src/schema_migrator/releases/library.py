"""Finds the files of every available release.

A folder of the path either has one folder per server version, or is laid out as in the vendor's images
(`postgresql/v12/...`). In the second case its files are those of the configured server version, whichever it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.version import Version

from schema_migrator.errors import SourceError
from schema_migrator.releases import servers
from schema_migrator.releases.manifests import parse_version, shortened
from schema_migrator.releases.servers import ServerRelease
from schema_migrator.releases.source import SCHEMA, USUAL_STORES, Release, load

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from schema_migrator.releases.source import Store

_IMAGE_TAG = re.compile(r"(\d+\.\d+\.\d+)\.\d+")
_LISTED = "schema-migrator releases lists the available ones"
_GIVE_FILES = "give the files of another release by SCHEMA_MIGRATOR_SOURCES"
_NAME_FILES = "set TEMPORAL_VERSION to the version of the files"
_PATH = (
    "set SCHEMA_MIGRATOR_SOURCES to the folder with one folder per server version, or with the vendor's postgresql/v12"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """The releases in one or several folders; of two with the same version, the first folder's counts.

    `configured` is TEMPORAL_VERSION, or None.
    """

    folders: tuple[Path, ...]
    configured: str | None = None

    def versions(self) -> tuple[str, ...]:
        """Return the server versions, lowest first. Raises SourceError if a folder cannot be read or has no release."""
        return tuple(self._places())

    def configured_release(self) -> Release:
        """Read the files of exactly the configured version. Raises SourceError; see `release`."""
        if self.configured is None:
            versions = self.versions()
            listed = f"set TEMPORAL_VERSION to the version of the servers; {_LISTED}"
            raise SourceError(
                "the server version is not set", hint=f"{listed} ({span(versions)})" if versions else _NAME_FILES
            )
        return self.release(self.configured)

    def release(self, wanted: str) -> Release:
        """Read the files of exactly this server version. The fourth number of an image's tag does not count.

        Raises SourceError if no folder has it, its files are broken, or two folders disagree about them.
        """
        places = self._places()
        version = next((name for name in _spellings(wanted) if name in places), None)
        if version is None:
            raise SourceError(
                f'release "{shortened(wanted)}" is not available in {self._shown()}',
                hint=f"{_LISTED} ({_near(wanted, tuple(places))}); {_GIVE_FILES}" if places else _NAME_FILES,
            )
        first, *rest = (_read(version, folder) for folder in places[version])
        _refuse_contradiction(first, rest)
        return first

    def release_with(self, store: Store, version: Version) -> Release | None:
        """Return the newest release that has this version of a store, or None."""
        return next((each for each in self.sets() if version in each.source(store).versions), None)

    def sets(self) -> tuple[Release, ...]:
        """Read each distinct set of files once, as the newest release that has it; newest first."""
        newest = {folder.resolve(): (version, folder) for version, folder in self._firsts()}
        places = sorted(newest.values(), key=lambda place: Version(place[0]), reverse=True)
        return tuple(_read(version, folder) for version, folder in places)

    def releases(self) -> tuple[Release, ...]:
        """Read every release, lowest version first."""
        read = {release.folder.resolve(): release for release in self.sets()}
        return tuple(read[folder.resolve()].named(version, folder) for version, folder in self._firsts())

    def servers(self) -> tuple[ServerRelease, ...]:
        """Return the schema versions that every release's servers need, lowest release first; no file is opened."""
        places = [(version, folder.resolve()) for version, folder in self._firsts()]
        needs = {place: servers.needs(place) for place in {place for _, place in places}}
        found = ((version, needs[place]) for version, place in places)
        return tuple(ServerRelease(version=version, needs=needed) for version, needed in found if needed is not None)

    def _firsts(self) -> list[tuple[str, Path]]:
        """Return every version, lowest first, with the folder whose files count."""
        return [(version, folders[0]) for version, folders in self._places().items()]

    def _places(self) -> dict[str, list[Path]]:
        """Return the folders of each version, lowest version first."""
        found: dict[str, list[Path]] = {}
        for folder in self.folders:
            for version, place in self._within(folder):
                found.setdefault(version, []).append(place)
        return {version: found[version] for version in sorted(found, key=Version)}

    def _within(self, folder: Path) -> list[tuple[str, Path]]:
        try:
            if (folder / SCHEMA).is_dir():
                version = _bare(self.configured or "")
                return [(version, folder)] if parse_version(version) else []
            names = [path.name for path in folder.iterdir() if path.is_dir() and parse_version(path.name)]
        except OSError as error:
            raise SourceError(
                f'the folder of releases "{folder}" cannot be read ({error.strerror})', hint=_PATH
            ) from error
        if not names:
            raise SourceError(f'the folder of releases "{folder}" contains no release', hint=_PATH)
        return [(name.removeprefix("v"), folder / name) for name in names]

    def _shown(self) -> str:
        return " or ".join(f'"{folder}"' for folder in self.folders)


def span(versions: Sequence[str]) -> str:
    """Return the lowest and the highest of the versions, as messages show them."""
    return versions[0] if len(versions) == 1 else f"{versions[0]} to {versions[-1]}"


def _near(wanted: str, versions: Sequence[str]) -> str:
    """Return the span of all versions, and those of the wanted minor if there are any."""
    minor = ".".join(wanted.removeprefix("v").split(".")[:2])
    same = [version for version in versions if version.startswith(f"{minor}.")]
    return span(versions) + (f"; of {minor}: {', '.join(ranges(same))}" if same and len(same) < len(versions) else "")


def ranges(versions: Sequence[str]) -> list[str]:
    """Return consecutive versions of one minor as ranges: `1.29.0 to 1.29.7`."""
    groups: list[list[str]] = []
    for version in versions:
        if groups and _follows(groups[-1][-1], version):
            groups[-1].append(version)
        else:
            groups.append([version])
    return [group[0] if len(group) == 1 else f"{group[0]} to {group[-1]}" for group in groups]


def _follows(before: str, after: str) -> bool:
    first, second = Version(before), Version(after)
    return first.release[:2] == second.release[:2] and second.micro == first.micro + 1


def _spellings(wanted: str) -> Iterable[str]:
    return dict.fromkeys((wanted.removeprefix("v"), _bare(wanted)))


def _bare(version: str) -> str:
    """Return the server's version from a version or an image's tag: without a `v`, and without a fourth number."""
    text = version.removeprefix("v")
    tag = _IMAGE_TAG.fullmatch(text)
    return tag[1] if tag else text


def _read(version: str, folder: Path) -> Release:
    default, visibility = (
        load(folder / SCHEMA / store.folder / "versioned", store=store, release=version) for store in USUAL_STORES
    )
    return Release(version=version, folder=folder, default=default, visibility=visibility)


def _refuse_contradiction(first: Release, rest: Iterable[Release]) -> None:
    """Raise SourceError if another folder has different files for the same version.

    Files of a newer release that are mounted without TEMPORAL_VERSION would otherwise pass for the default release.
    """
    other = next((release for release in rest if not release.same_files(first)), None)
    if other is not None:
        raise SourceError(
            f'the files in "{first.folder}" differ from those of release {first.version} in "{other.folder}"',
            hint=_NAME_FILES,
        )
