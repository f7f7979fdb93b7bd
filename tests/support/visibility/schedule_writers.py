"""The writers of a schedule: clients that change a small table, one statement at each turn."""

import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import psycopg

from support.postgres.engine import Connection

TABLE = "small"
PARTS, NAMES = range(3), "abcdef"
LEVELS = ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")


@dataclass(slots=True, kw_only=True)
class Writer:
    """A client that writes rows, with transactions of all levels, savepoints, prepared transactions and COPY."""

    connection: Connection
    chance: random.Random
    name: str
    open: bool = False
    savepoint: bool = False
    prepared: list[str] = field(default_factory=list)
    count: int = 0

    def turn(self) -> None:
        """Do the next thing; what fails is rolled back."""
        try:
            self.chance.choice(self.choices())()
        except psycopg.Error:
            self.end("ROLLBACK")

    def choices(self) -> Sequence[Callable[[], None]]:
        """Return what may come next."""
        if not self.open:
            settle = [self.settle] * 2 if self.prepared else []
            return [self.write, self.write, self.begin, self.begin, *settle]
        back = [partial(self.run, "ROLLBACK TO SAVEPOINT here")] if self.savepoint else []
        ends = [partial(self.end, "COMMIT"), partial(self.end, "COMMIT"), partial(self.end, "ROLLBACK"), self.prepare]
        return [self.write, self.write, self.write, self.save, *back, *ends]

    def run(self, statement: str, values: Sequence[object] = ()) -> None:
        """Execute a statement."""
        self.connection.execute(statement.encode(), values)

    def begin(self) -> None:
        """Begin a transaction of any level."""
        self.run(f"BEGIN ISOLATION LEVEL {self.chance.choice(LEVELS)}")
        self.open = True

    def save(self) -> None:
        """Set a savepoint."""
        self.run("SAVEPOINT here")
        self.savepoint = True

    def end(self, how: str) -> None:
        """End the transaction."""
        with suppress(psycopg.Error):
            self.run(how)
        if self.connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            self.run("ROLLBACK")
        self.open = self.savepoint = False

    def prepare(self) -> None:
        """Prepare the transaction; it is committed or rolled back later."""
        self.count += 1
        name = f"{self.name} {self.count}"
        self.run(f"PREPARE TRANSACTION '{name}'")
        self.prepared.append(name)
        self.open = self.savepoint = False

    def settle(self) -> None:
        """End a prepared transaction."""
        name = self.prepared.pop(self.chance.randrange(len(self.prepared)))
        self.run(f"{self.chance.choice(('COMMIT', 'COMMIT', 'ROLLBACK'))} PREPARED '{name}'")

    def finish(self) -> None:
        """End everything that is open."""
        if self.open:
            self.end(self.chance.choice(("COMMIT", "ROLLBACK")))
        while self.prepared:
            self.settle()

    def key(self) -> tuple[int, str]:
        """Return some key, of a row or of none."""
        return self.chance.choice(PARTS), self.chance.choice(NAMES)

    def write(self) -> None:
        """Change a row, or several."""
        number, key, other = self.chance.randrange(1000), self.key(), self.key()
        where = "WHERE (part, name) = (%s, %s)"
        upsert = "ON CONFLICT (part, name) DO UPDATE SET number = excluded.number"
        statements: Sequence[tuple[str, Sequence[object]]] = [
            (f"INSERT INTO {TABLE} (part, name, number) VALUES (%s, %s, %s) {upsert}", (*key, number)),
            (f"INSERT INTO {TABLE} (part, name, number) VALUES (%s, %s, %s)", (*key, number)),
            (f"UPDATE {TABLE} SET number = %s {where}", (number, *key)),
            (f"UPDATE {TABLE} SET part = %s, name = %s {where}", (*other, *key)),
            (f"DELETE FROM {TABLE} {where}", key),
            (f"DELETE FROM {TABLE} WHERE part = %s AND number %% 2 = 0", (key[0],)),
            (f"UPDATE {TABLE} SET number = number + 1 WHERE part = %s", (key[0],)),
        ]
        if self.chance.random() < 0.1:
            self.copy([(*key, number), (*other, number)])
        else:
            self.run(*self.chance.choice(statements))

    def copy(self, rows: Sequence[tuple[int, str, int]]) -> None:
        """Write rows by COPY."""
        with (
            self.connection.cursor() as cursor,
            cursor.copy(f"COPY {TABLE} (part, name, number) FROM STDIN".encode()) as stream,
        ):
            for row in rows:
                stream.write_row(row)
