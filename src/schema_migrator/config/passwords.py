"""Reads passwords from a file or a command. No error or event shows what it read."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from schema_migrator.config import password_commands
from schema_migrator.errors import SettingsError

if TYPE_CHECKING:
    from schema_migrator.config.password_commands import PasswordCommand

_MOST_BYTES = 65536  # a token has some thousands; reading a device or a log by mistake would fill the memory
_RUNNING: set[subprocess.Popen[bytes]] = set()


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
    return _decoded(_run(password_commands.parse(text, name), name), name, name)


def _run(command: PasswordCommand, name: str) -> bytes:
    words, seconds = command.words, command.seconds
    by_hand = "run it by hand and read its output"
    try:
        with subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            output = _printed(process, seconds)
    except OSError as error:
        raise SettingsError(f'{name} cannot run "{words[0]}" ({error.strerror})', hint=_fix(name)) from None
    except subprocess.TimeoutExpired:
        raise SettingsError(f'{name}: "{words[0]}" ran longer than {seconds:g} s', hint=by_hand) from None
    if process.returncode != 0:
        raise SettingsError(f'{name}: "{words[0]}" failed with exit code {process.returncode}', hint=by_hand)
    return output


def _printed(process: subprocess.Popen[bytes], seconds: float) -> bytes:
    _RUNNING.add(process)
    try:
        return process.communicate(timeout=seconds)[0]
    except BaseException:
        process.kill()
        raise
    finally:
        _RUNNING.discard(process)


def end_commands() -> None:
    """Kill the commands that are still running. Threads that wait for one see it as failed."""
    for process in tuple(_RUNNING):
        process.kill()


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
