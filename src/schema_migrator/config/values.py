"""Texts of settings, turned into their values. Pure functions."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from schema_migrator.config import durations, sizes, windows

OWN_LABELS = ("command", "database", "kind", "phase", "release", "store", "table", "target", "unit", "version")
"""The labels of single metrics, whose names are not for all of them."""
# Prometheus keeps names with two underscores for itself.
_LABEL = re.compile(rf"(?!__|(?:{'|'.join(OWN_LABELS)})$)[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII)


def split_names(value: object) -> object:
    """Split one or several texts at their commas and return the names without duplicates."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple):
        return value
    names = [name.strip() for text in texts for name in str(text).split(",")]
    return tuple(dict.fromkeys(name for name in names if name))


def labels(value: object) -> object:
    """Return the labels that a text gives to metrics, as pairs of name and value."""
    if not isinstance(value, str):
        return value
    pairs = tuple(
        (name.strip(), content.strip()) for name, _, content in (part.partition("=") for part in value.split(","))
    )
    names = [name for name, _ in pairs]
    if len(set(names)) == len(names) and all(_LABEL.fullmatch(name) and content for name, content in pairs):
        return pairs
    raise PydanticCustomError("labels", "labels such as namespace=temporal,installation=blue, none of them twice")


def folders(text: str) -> tuple[Path, ...]:
    """Return the folders that a text names, separated by colons."""
    return tuple(Path(name) for name in text.split(os.pathsep) if name)


def split_folders(value: object) -> object:
    """Return the folders that a text names, or one folder."""
    return folders(value) if isinstance(value, str) else (value,) if isinstance(value, Path) else value


def size(value: object, word: str = "") -> object:
    """Return a size in bytes. `word` is returned as it is: it may be given in place of a size."""
    if not isinstance(value, str) or (word and value == word):
        return value
    with suppress(ValueError):
        if (count := sizes.parse(value)) > 0:
            return count
    raise PydanticCustomError("size", "a size such as 256MB" + (f", or {word}" if word else ""))


def _limit(value: object) -> object:
    """Return a limit in bytes, or None for `off`, which means no limit."""
    limit = size(value, "off")
    return None if limit == "off" else limit


def duration(value: object) -> object:
    """Return the duration that a text describes."""
    if not isinstance(value, str):
        return value
    with suppress(ValueError):
        return durations.parse(value)
    raise PydanticCustomError("duration", "a duration such as 24h or 7d")


def window(value: object) -> object:
    """Return the window that a text describes."""
    if not isinstance(value, str):
        return value
    with suppress(ValueError):
        return windows.parse(value)
    raise PydanticCustomError("window", "hours such as 02:00-04:00 or 22:00-04:00 Europe/Berlin")


Limit = Annotated[int | None, BeforeValidator(_limit)]
"""Bytes, or None for no limit."""
