"""No command reads a setting whose flag it refuses."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pydantic_settings import BaseSettings

from schema_migrator.cli import main
from schema_migrator.config.client_fields import ClientSettings
from schema_migrator.config.fields import RunSettings
from schema_migrator.config.options import Option, client_options, run_options, sql_options
from schema_migrator.config.sql_fields import SqlSettings
from support.postgres.databases import Databases
from support.program.references import run_here

OPTIONS: dict[type[BaseSettings], tuple[Option, ...]] = {
    RunSettings: run_options(),
    SqlSettings: sql_options(),
    ClientSettings: client_options(),
}


@contextmanager
def reads(patch: pytest.MonkeyPatch, command: str) -> Iterator[set[tuple[type[BaseSettings], str]]]:
    """Give the settings that the command's handler reads in the block."""
    found: set[tuple[type[BaseSettings], str]] = set()
    handler = main._HANDLERS[command]

    def handle(*args: Any) -> Any:  # noqa: ANN401 - as the handler
        with pytest.MonkeyPatch.context() as inner:
            for kind in OPTIONS:
                inner.setattr(kind, "__getattribute__", recording(kind))
            return handler(*args)

    def recording(kind: type[BaseSettings]) -> Callable[[object, str], object]:
        def get(self: object, name: str) -> object:
            if name in kind.model_fields:
                found.add((kind, name))
            return object.__getattribute__(self, name)

        return get

    patch.setitem(main._HANDLERS, command, handle)
    yield found


@pytest.mark.parametrize(
    "words",
    [
        ("create-database",),
        ("plan",),
        ("migrate", "--rewrite", "online"),
        ("status",),
        ("verify",),
        ("wait", "--for", "database,schema"),
        ("releases",),
    ],
)
def test_no_command_reads_more_than_it_takes(
    databases: Databases, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """An older installation is upgraded, so that a step is rewritten."""
    older = {"DEFAULT_TARGET_VERSION": "1.18", "VISIBILITY_TARGET_VERSION": "1.9"}
    assert run_here(databases.env() | older | {"SCHEMA_MIGRATOR_ALLOW_OLDER_TARGETS": "true"}, "migrate") == 0
    if words[0] in ("verify", "wait"):
        assert run_here(databases.env(), "migrate") == 0
    with reads(monkeypatch, words[0]) as found:
        assert run_here(databases.env(), *words) == 0
    assert found
    for kind, name in sorted(found, key=str):
        (option,) = (one for one in OPTIONS[kind] if one.field is kind.model_fields[name])
        assert words[0] in option.commands, option.flag
