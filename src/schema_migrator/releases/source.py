"""Reads a release's files into steps.

The folder of a schema version is `<release>/postgresql/v12/{temporal,visibility}/versioned/vX.Y/`. It
contains a `manifest.json` and the SQL files (the layout of the folder `schema` in go.temporal.io/server).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import chain
from pathlib import Path

from packaging.version import Version

from schema_migrator.errors import SourceError, TargetError
from schema_migrator.releases import manifests
from schema_migrator.releases.manifests import FETCH_AGAIN, NUMBERS, parse_version, read, shortened
from schema_migrator.releases.statements import Statement, created_indexes, created_tables, leaves_transaction, split

_STEP_FOLDER = re.compile(rf"v{NUMBERS}")
__all__ = [
    "SCHEMA",
    "UNVERSIONED",
    "USUAL_STORES",
    "Release",
    "Source",
    "SqlFile",
    "Step",
    "Store",
    "load",
    "parse_version",
]

UNVERSIONED = Version("0.0")
SCHEMA = Path("postgresql", "v12")
"""The schema's folder in a release's folder and in the vendor's images."""


class Store(StrEnum):
    """A database of Temporal's, with a target of its own. Several stores may have the same files."""

    DEFAULT = "default"
    VISIBILITY = "visibility"
    SECONDARY_VISIBILITY = "secondary-visibility"

    @property
    def folder(self) -> str:
        """The vendor's name for the folder of the store's files."""
        return "temporal" if self is Store.DEFAULT else "visibility"

    @property
    def prefix(self) -> str:
        """What the names of the store's own variables begin with."""
        return self.upper().replace("-", "_")

    @property
    def opposite(self) -> Store:
        """A store with other files, which is what a database contains if the settings swap two databases."""
        return Store.VISIBILITY if self is Store.DEFAULT else Store.DEFAULT


USUAL_STORES = (Store.DEFAULT, Store.VISIBILITY)
"""The stores of every installation, one for each folder of files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlFile:
    """A file of a step: its name for people (`visibility/v1.2/advanced_visibility.sql`) and its text."""

    name: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The files that lead to one version. `md5` is the manifest's digest, as the vendor's tool records it."""

    version: Version
    min_compatible: Version
    description: str
    md5: str
    files: tuple[SqlFile, ...]

    @property
    def statements(self) -> tuple[Statement, ...]:
        """The statements in the manifest's order; empty if the vendor has emptied the step."""
        return tuple(chain.from_iterable(split(file.text, file.name) for file in self.files))


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """All steps of one store in one release, lowest version first. `folder` is the folder `versioned`."""

    store: Store
    release: str
    folder: Path
    steps: tuple[Step, ...]

    @property
    def latest(self) -> Version:
        """The version that the release's server expects."""
        return self.steps[-1].version

    @property
    def versions(self) -> tuple[Version, ...]:
        """Every version in the release, lowest first."""
        return tuple(step.version for step in self.steps)

    @property
    def tables(self) -> frozenset[str]:
        """The names of all tables that any step creates."""
        texts = (file.text for step in self.steps for file in step.files)
        return frozenset(chain.from_iterable(created_tables(text) for text in texts))

    @property
    def indexes(self) -> frozenset[str]:
        """The names of all indexes that any step creates, except the indexes of constraints."""
        texts = (file.text for step in self.steps for file in step.files)
        return frozenset(chain.from_iterable(created_indexes(text) for text in texts))

    def target(self, wanted: str | None) -> Version:
        """Return the version to migrate to: the wanted one, or the latest if none is given.

        Raises TargetError if the text is not a version, or not a version of the release.
        """
        if wanted is None:
            return self.latest
        version = parse_version(wanted)
        if version is None:
            raise TargetError(
                f'the {self.store} target version is "{shortened(wanted)}", expected a version such as "{self.latest}"',
                hint=f"use one of {self._known()}",
            )
        # The program records the release's own spelling: 1 and 1.0 are equal as versions but not as texts.
        target = next((known for known in self.versions if known == version), None)
        if target is None:
            raise TargetError(
                f"the {self.store} target version is {version}, which release {self.release} does not have",
                hint=f"use one of {self._known()}, or another TEMPORAL_VERSION",
            )
        return target

    def _known(self) -> str:
        return ", ".join(str(version) for version in self.versions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """The files of one server version, and the folder with them."""

    version: str
    folder: Path
    default: Source
    visibility: Source

    def source(self, store: Store) -> Source:
        """Return the store's steps; every visibility store has those of the folder `visibility`."""
        if store is Store.DEFAULT:
            return self.default
        return self.visibility if store is Store.VISIBILITY else replace(self.visibility, store=store)

    def named(self, version: str, folder: Path) -> Release:
        """Return the release of another version that has the same files."""
        default, visibility = (replace(source, release=version) for source in (self.default, self.visibility))
        return Release(version=version, folder=folder, default=default, visibility=visibility)

    def same_files(self, other: Release) -> bool:
        """Whether two releases consist of the same steps."""
        return self.default.steps == other.default.steps and self.visibility.steps == other.visibility.steps


def load(folder: Path, *, store: Store, release: str) -> Source:
    """Read one store's `versioned` folder. Raises SourceError, which names the broken file."""
    try:
        if not folder.is_dir():
            raise SourceError(f'release {release} has no folder "{folder}"', hint=FETCH_AGAIN)
        folders = [path for path in folder.iterdir() if _STEP_FOLDER.fullmatch(path.name) and path.is_dir()]
    except OSError as error:
        raise SourceError(f'"{folder}" cannot be read ({error.strerror})', hint=FETCH_AGAIN) from error
    steps = sorted((_read_step(path, store) for path in folders), key=lambda step: step.version)
    if not steps:
        raise SourceError(f'"{folder}" has no version folder, expected v1.0, v1.1 and so on', hint=FETCH_AGAIN)
    _check_complete(folder, [step.version for step in steps])
    return Source(store=store, release=release, folder=folder, steps=tuple(steps))


def _check_complete(folder: Path, versions: list[Version]) -> None:
    for before, after in zip([None, *versions], versions, strict=False):
        expected = _successors(before)
        if after not in expected:
            raise SourceError(
                f'"{folder}" jumps from {before or "nothing"} to {after}, expected v{expected[0]} in between',
                hint=FETCH_AGAIN,
            )


def _successors(version: Version | None) -> tuple[Version, ...]:
    if version is None:
        return (Version("1.0"),)
    return Version(f"{version.major}.{version.minor + 1}"), Version(f"{version.major + 1}.0")


def _read_step(folder: Path, store: Store) -> Step:
    path = folder / "manifest.json"
    found = manifests.load(path)
    if found.version != Version(folder.name):
        raise SourceError(
            f'"{path}" has CurrVersion {found.version}, expected {folder.name[1:]} as its folder says', hint=FETCH_AGAIN
        )
    return Step(
        version=found.version,
        min_compatible=found.min_compatible,
        description=found.description,
        md5=found.md5,
        files=tuple(_read_sql(folder, store, name) for name in found.files),
    )


def _read_sql(folder: Path, store: Store, name: str) -> SqlFile:
    path = folder / name
    try:
        text = read(path).decode()
    except UnicodeDecodeError as error:
        raise SourceError(
            f'"{path}" is not UTF-8 text: {error.reason} at byte {error.start}', hint=FETCH_AGAIN
        ) from error
    if "\0" in text:  # libpq would silently end the statement there
        raise SourceError(f'"{path}" contains a zero byte, expected SQL text', hint=FETCH_AGAIN)
    return SqlFile(name=_checked(f"{store}/{folder.name}/{name}", text), text=text)


def _checked(name: str, text: str) -> str:
    """Return the name that messages use for the file. Raises SourceError if a statement ends the step's transaction."""
    statement = leaves_transaction(text)
    if statement is not None:
        line, words = statement
        raise SourceError(
            f"{name}:{line} contains {words}, which reaches beyond the step's transaction",
            hint="remove it: each step runs in one transaction with schema-migrator's settings",
        )
    return name
