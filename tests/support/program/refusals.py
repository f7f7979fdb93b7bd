"""Runs that must fail with one clear sentence and leave the databases as they were."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass

from support.postgres import fingerprint
from support.postgres.databases import STORES, Databases, bookkeeping
from support.postgres.engine import Engine
from support.postgres.fingerprint import Fingerprint
from support.program.command import Completed, run_cli


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusals:
    """Runs the program against a test's databases, which it must not change."""

    server: Engine
    databases: Databases

    def env(self, **changes: str) -> dict[str, str]:
        """Return the environment with some variables set, or taken away by an empty value."""
        merged = self.databases.env() | {"SCHEMA_MIGRATOR_WAIT_TIMEOUT": "1"} | changes
        return {name: value for name, value in merged.items() if value}

    def migrate(self, *args: str, **changes: str) -> None:
        """Migrate, successfully, as a test's beginning."""
        done = run_cli(self.env(SCHEMA_MIGRATOR_WAIT_TIMEOUT="60", **changes), "migrate", *args)
        assert done.code == 0, done.stderr

    def refused(self, code: int, *args: str, command: str = "migrate", **changes: str) -> list[str]:
        """Return the lines of the refusal; assert its exit code and that all is exactly as before."""
        return errors(self.run(code, *args, command=command, **changes))

    def run(self, code: int, *args: str, command: str = "migrate", **changes: str) -> Completed:
        """Run; assert the exit code, no results and no traceback, and that all is exactly as before."""
        before = self.picture()
        done = run_cli(self.env(**changes), command, *args)
        assert done.code == code, done.stderr
        assert "Traceback" not in done.stderr
        assert done.stdout == ""
        assert self.picture() == before
        return done

    def picture(self) -> Mapping[str, Fingerprint]:
        """Return all that a run could change: structure, rights and records."""
        found = {}
        for store in STORES:
            with self.databases.admin(self.databases.name(store)) as admin:
                found[store] = fingerprint.structure(admin) | {"records": bookkeeping(admin)}
        return found

    def sql(self, store: str, *statements: str) -> None:
        """Run statements as the superuser."""
        writable = "-c default_transaction_read_only=off"
        with self.server.connect(self.databases.name(store), options=writable) as admin:
            for statement in statements:
                admin.execute(statement.encode())


def errors(done: Completed) -> list[str]:
    """Return the lines of standard error that are no events, and with `--output json` the same lines from theirs."""
    return [
        part
        for line in done.stderr.splitlines()
        for part in ([line] if not line.startswith("{") else _failure(json.loads(line)))
    ]


def _failure(event: Mapping[str, str]) -> list[str]:
    if event["event"] != "run.failed":
        return []
    store, found, expected, hint, detail = (event[name] for name in ("store", "found", "expected", "hint", "detail"))
    said = f"{store}: {found}" if store else found
    said = f"{said}, expected {expected}" if expected else said
    return ["error: " + (f"{said}; {hint}" if hint else said), *(detail or "").splitlines()]


class Clock:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self.started = time.monotonic()

    @property
    def seconds(self) -> float:
        """How long it has been."""
        return time.monotonic() - self.started
