"""Reads and checks a step's manifest, and reads the bytes of any file in a release."""

from __future__ import annotations

import hashlib
import json
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.version import Version

from schema_migrator.errors import SourceError

FETCH_AGAIN = "fetch the release's files again"
"""The hint in every error about a release's files."""
NUMBERS = r"[0-9]{1,9}(\.[0-9]{1,9}){0,5}"
"""The pattern of a version's numbers. The limits exceed every real version; Python refuses thousands of digits."""
_VERSION = re.compile(rf"v?{NUMBERS}")
_MOST_BYTES = 16 << 20  # of a file: reading a device by mistake would fill the memory
_LONGEST_DESCRIPTION = 255  # schema_update_history.description
_SHOWN = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A manifest: the version, the names of its SQL files, and the MD5 digest of the manifest that gets recorded."""

    version: Version
    min_compatible: Version
    description: str
    md5: str
    files: tuple[str, ...]


def load(path: Path) -> Manifest:
    """Read a manifest. Raises SourceError, which names the file."""
    raw = read(path)
    manifest = _parsed(path, raw)
    return Manifest(
        version=_version_of(path, manifest, "CurrVersion"),
        min_compatible=_version_of(path, manifest, "MinCompatibleVersion"),
        description=_description(path, manifest),
        md5=hashlib.md5(raw, usedforsecurity=False).hexdigest(),
        files=tuple(_file_names(path, manifest)),
    )


def parse_version(text: str) -> Version | None:
    """Return the version, or None if the text is not one. A leading `v` is allowed."""
    return Version(text) if _VERSION.fullmatch(text) else None


def read(path: Path) -> bytes:
    """Return a file's content.

    Raises SourceError if it cannot be read, is too large, or is a device or pipe, which might never end.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise SourceError(f'"{path}" is not a file', hint=FETCH_AGAIN)
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise SourceError(f'"{path}" cannot be read ({error.strerror})', hint=FETCH_AGAIN) from error
    if len(content) > _MOST_BYTES:
        raise SourceError(f'"{path}" has more than {_MOST_BYTES >> 20} MB', hint=FETCH_AGAIN)
    return content


def shortened(text: str) -> str:
    """Return a value as messages show it: its first 100 characters."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _parsed(path: Path, raw: bytes) -> dict[str, Any]:
    try:
        manifest = json.loads(raw)
    except RecursionError:
        raise SourceError(f'"{path}" is nested too deeply for a manifest', hint=FETCH_AGAIN) from None
    except ValueError as error:
        raise SourceError(f'"{path}" is not valid JSON: {error}', hint=FETCH_AGAIN) from error
    if not isinstance(manifest, dict):
        raise SourceError(f'"{path}" is not a JSON object', hint=FETCH_AGAIN)
    return manifest


def _version_of(path: Path, manifest: dict[str, Any], key: str) -> Version:
    value = manifest.get(key)
    version = parse_version(value) if isinstance(value, str) else None
    if version is None:
        raise SourceError(
            f'"{path}" has {key} {shortened(json.dumps(value))}, expected a version such as "1.0"', hint=FETCH_AGAIN
        )
    return version


def _description(path: Path, manifest: dict[str, Any]) -> str:
    text = manifest.get("Description") or ""
    if not isinstance(text, str) or len(text) > _LONGEST_DESCRIPTION or not _is_storable(text):
        raise SourceError(
            f'"{path}" has a Description that cannot be recorded, expected a text of {_LONGEST_DESCRIPTION} letters',
            hint=FETCH_AGAIN,
        )
    return text


def _is_storable(text: str) -> bool:
    """Whether PostgreSQL and the file system accept the text: JSON can hold zero bytes and lone surrogates."""
    return "\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text)


def _file_names(path: Path, manifest: dict[str, Any]) -> list[str]:
    names = manifest.get("SchemaUpdateCqlFiles") or []
    if not isinstance(names, list) or not all(isinstance(name, str) and _is_plain(name) for name in names):
        raise SourceError(
            f'"{path}" has SchemaUpdateCqlFiles {shortened(json.dumps(names))}, expected names of files beside it',
            hint=FETCH_AGAIN,
        )
    if not names and manifest.get("AllowNoCqlFiles") is not True:
        raise SourceError(f'"{path}" names no SQL file and does not set AllowNoCqlFiles', hint=FETCH_AGAIN)
    return names


def _is_plain(name: str) -> bool:
    return name not in ("", ".", "..") and not {"/", "\\"} & set(name) and _is_storable(name)
