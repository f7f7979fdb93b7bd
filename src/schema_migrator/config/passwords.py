"""Reads passwords from a file or a command. No error or event shows what it read."""

from __future__ import annotations

from pathlib import Path

from schema_migrator.config import password_commands, programs
from schema_migrator.errors import SettingsError

_MOST_BYTES = 65536  # a token has some thousands; reading a device or a log by mistake would fill the memory


def from_file(path: Path, name: str, kind: str = "password") -> str:
    """Return a file's content without trailing line breaks. Raises SettingsError, which names the setting `name`."""
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise SettingsError(f'the {kind} file "{path}" cannot be read ({error.strerror})', hint=_fix(name)) from None
    if len(content) > _MOST_BYTES:
        raise SettingsError(f'the {kind} file "{path}" has more than {_MOST_BYTES} bytes', hint=_fix(name))
    return _decoded(content, f'the {kind} file "{path}"', name, kind)


def from_command(text: str, name: str) -> str:
    """Run the command that a setting has; return its output without trailing line breaks. Raises SettingsError."""
    command = password_commands.parse(text, name)
    return _decoded(programs.output(command.words, name, seconds=command.seconds), name, name)


def _decoded(found: bytes, what: str, name: str, kind: str = "password") -> str:
    try:
        text = found.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise SettingsError(f"{what} is not UTF-8 text", hint=_fix(name)) from None
    if not text or "\0" in text:
        raise SettingsError(f"{what} gives {'a zero byte' if text else f'no {kind}'}", hint=_fix(name))
    return text


def _fix(name: str) -> str:
    return f"correct {name}"
