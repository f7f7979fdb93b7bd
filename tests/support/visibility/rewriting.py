"""An upgrade of the visibility store under load, compared with the vendor's and with what the writers wrote."""

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from support.postgres.databases import Databases
from support.postgres.engine import Connection
from support.program.command import Completed, await_event, finish, run_cli, start_cli
from support.program.references import NEWEST, Picture, picture, start_by_vendor
from support.vendor.kill_sweep import HISTORY, copy, differences
from support.vendor.tool import VendorTool
from support.visibility import ledger
from support.visibility.executions import TABLE, fill
from support.visibility.load import Load, Traffic

ONLINE = ("--rewrite", "online")
SCHEMAS = r"SELECT nspname FROM pg_namespace WHERE nspname ~ '^schema_migrator_' ORDER BY 1"
"""Those of ours in a database."""
SHOWN = 5
"""Lines of a dump's difference at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A run before its swap, and the connection that holds it up."""

    holder: Connection
    process: subprocess.Popen[str]

    def release(self) -> Completed:
        """Let the run go on; return how it ended."""
        self.holder.execute("COMMIT")
        return finish(self.process)

    def kill(self) -> None:
        """Kill the run, and give the table free."""
        self.process.kill()
        self.holder.execute("COMMIT")
        finish(self.process)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """A store with rows, to be copied, and the picture of what the vendor's tool makes of one without."""

    databases: Databases
    database: str
    expected: Picture

    def copy(self) -> str:
        """Return a copy."""
        return copy(self.databases, self.database)

    def env(self, database: str) -> dict[str, str]:
        """Return the environment for our program on a copy."""
        names = {"SCHEMA_MIGRATOR_STORES": "visibility", "VISIBILITY_SQL_DATABASE": database}
        return self.databases.env() | names

    def migrate(self, database: str, *options: str, **variables: str) -> subprocess.Popen[str]:
        """Start our program on a copy."""
        return start_cli(self.env(database) | variables, "migrate", *options)

    def run(self, database: str, *options: str, **variables: str) -> Completed:
        """Run our program on a copy, online, to the end."""
        return finish(self.migrate(database, *ONLINE, *options, **variables))

    @contextmanager
    def held(self, database: str, *options: str, **variables: str) -> Iterator["Held"]:
        """Hold a run up at its swap: all is copied, and a transaction of the owner's has the table.

        The block, or `Held.release`, ends that transaction; then the run goes on.
        """
        with self.databases.connect(database) as holder:
            holder.execute("BEGIN")
            holder.execute(f"LOCK TABLE {TABLE} IN ACCESS SHARE MODE".encode())
            process = self.migrate(database, *ONLINE, *options, **variables)
            try:
                await_event(process, "table.busy")
                yield Held(holder=holder, process=process)
            finally:
                if process.returncode is None:
                    process.kill()
                    finish(process)

    @contextmanager
    def load(self, database: str, traffic: Traffic) -> Iterator[Load]:
        """Let a server work on a copy."""
        with Load(lambda: self.databases.connect_server(database), traffic) as load:
            yield load

    def problems(self, database: str, load: Load, where: str = "true") -> list[str]:
        """Return in words all that is wrong with a copy at the end, and with what the server noticed.

        `where` tells which of the rows the load knows.
        """
        found = picture(self.databases, database)
        wrong = [*load.problems, *differences(found, self.expected)[:SHOWN]]
        if sorted(found.records[HISTORY]) != sorted(self.expected.records[HISTORY]):
            wrong.append(f"the history is {found.records[HISTORY]}, expected {self.expected.records[HISTORY]}")
        with self.databases.connect(database) as owner:
            wrong += ledger.differences(owner, load.statements, load.expected, where)
        again = run_cli(self.env(database), "plan", "--check")
        return wrong + [f"another plan is not empty: {again.stdout}"] * (again.code != 0)

    def broken_indexes(self, database: str) -> list[str]:
        """Return the indexes of a copy that cannot be relied upon."""
        with self.databases.admin(database) as admin:
            return ledger.broken_indexes(admin)


def origin(databases: Databases, version: str, rows: int) -> Origin:
    """Let the vendor's tool make a store at a version, with what the server is granted; fill it."""
    database = start_by_vendor(databases, "visibility", (NEWEST, version), own=False)
    databases.grant(database)
    upgraded = copy(databases, database)
    VendorTool(version=NEWEST, databases=databases).update("visibility", database=upgraded)
    with databases.connect(database) as connection:
        fill(connection, rows)
    return Origin(databases=databases, database=database, expected=picture(databases, upgraded))


def events(ended: Completed) -> list[Mapping[str, object]]:
    """Return the events that a run has written."""
    return [json.loads(line) for line in ended.stderr.splitlines() if line.startswith("{")]
