"""What a writer of executions_visibility does next: a statement of the server's, and what it makes of rows."""

import random
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from support.visibility.executions import Key, Row, Statements, as_sent
from support.visibility.ledger import Effect, Ledger

START = datetime(2026, 1, 1)  # noqa: DTZ001 - the table's times have no zone
RUNNING, CLOSED = 1, (2, 3, 4, 5, 6, 7)
NAMESPACES = tuple(str(uuid.UUID(int=number)) for number in (1, 2, 3))
"""Those that new rows and changed keys get."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """A statement with its parameters, and what it has to make of rows."""

    statement: str
    values: list[Any]
    effect: Effect


@dataclass(frozen=True, slots=True, kw_only=True)
class Deeds:
    """Draws deeds on the rows of one ledger."""

    ledger: Ledger
    statements: Statements
    chance: random.Random

    def draw(self) -> Deed:
        """Return the next one."""
        kinds: list[tuple[Callable[[], Deed], int]] = [
            (self.start, 20),
            (self.change, 45),
            (self.delete, 15),
            (self.start_again, 7),
            (self.rekey, 6),
            (self.come_late, 4),
            (self.delete_nothing, 3),
        ]
        choices, weights = zip(*kinds, strict=True)
        deed: Callable[[], Deed] = self.chance.choices(choices, weights)[0]
        return deed()

    def start(self) -> Deed:
        """Record a workflow that has started."""
        return self._insert(self._new_key())

    def start_again(self) -> Deed:
        """Record a start under a key that was deleted, and may be there again."""
        if not self.ledger.gone:
            return self.start()
        return self._insert(self.chance.choice(self.ledger.gone))

    def change(self) -> Deed:
        """Write a row again, with other search attributes; mostly its workflow closes."""
        row = self._some_row()
        if row is None:
            return self.start()
        values = dict(zip(self.statements.columns, row, strict=True))
        changed = self._row(values | self._changes(values))
        return Deed(statement=self.statements.upsert, values=as_sent(changed), effect={changed[:2]: changed})

    def come_late(self) -> Deed:
        """Record again what has been overtaken, which changes nothing."""
        row = self._some_row()
        if row is None:
            return self.start()
        values = dict(zip(self.statements.columns, row, strict=True))
        late = self._row(values | {"workflow_id": "late", "status": RUNNING})
        # Without versions only a start knows that it is late.
        statement = self.statements.upsert if "_version" in values else self.statements.start
        return Deed(statement=statement, values=as_sent(late), effect={row[:2]: row})

    def delete(self) -> Deed:
        """Delete a row."""
        row = self._some_row()
        return self.delete_nothing() if row is None else self._delete(row[:2], {row[:2]: None})

    def delete_nothing(self) -> Deed:
        """Delete what does not exist."""
        return self._delete(self._new_key(), {})

    def rekey(self) -> Deed:
        """Give a row another run, often in another namespace; the server never does, a repair may."""
        row = self._some_row()
        if row is None:
            return self.start()
        gone = self.ledger.gone
        free = [key for key in gone[-1:] if key not in self.ledger.rows]
        new = self.chance.choice([self._new_key(), (row[0], self._new_key()[1]), *free])
        moved = (*new, *row[2:])
        return Deed(statement=self.statements.rekey, values=[*new, *row[:2]], effect={row[:2]: None, new: moved})

    def _insert(self, key: Key) -> Deed:
        new = self._row(self._new_values(key))
        return Deed(statement=self.statements.start, values=as_sent(new), effect={key: self.ledger.rows.get(key, new)})

    def _delete(self, key: Key, effect: Effect) -> Deed:
        return Deed(statement=self.statements.delete, values=list(key), effect=effect)

    def _row(self, values: Mapping[str, Any]) -> Row:
        return tuple(values[name] for name in self.statements.columns)

    def _some_row(self) -> Row | None:
        key = self.ledger.pick(self.chance)
        return None if key is None else self.ledger.rows[key]

    def _new_key(self) -> Key:
        return self.chance.choice(NAMESPACES), self._uuid()

    def _uuid(self) -> str:
        return str(uuid.UUID(int=self.chance.getrandbits(128)))

    def _new_values(self, key: Key) -> dict[str, Any]:
        started = START + timedelta(microseconds=self.chance.randrange(10**12))
        number = self.chance.randrange(1000)
        return {
            "namespace_id": key[0],
            "run_id": key[1],
            "workflow_type_name": f"workflow-type-{number % 20}",
            "workflow_id": f"workflow-{self._uuid()}",
            "start_time": started,
            "execution_time": started,
            "status": RUNNING,
            "close_time": None,
            "history_length": None,
            "history_size_bytes": None,
            "execution_duration": None,
            "state_transition_count": None,
            "memo": self.chance.randbytes(3000) if number < 5 else b"memo" if number % 2 else None,
            "encoding": "Proto3" if number < 5 or number % 2 else "",
            "task_queue": f"queue-{number % 12}",
            "search_attributes": self._attributes(),
            "parent_workflow_id": None,
            "parent_run_id": None,
            "root_workflow_id": f"workflow-{number}",
            "root_run_id": key[1],
            "_version": 1,
        }

    def _changes(self, before: Mapping[str, Any]) -> dict[str, Any]:
        newer = {"search_attributes": self._attributes(), "_version": before.get("_version", 0) + 1}
        if self.chance.random() < 0.3:
            return newer
        seconds = self.chance.randrange(1, 10**6)
        return newer | {
            "status": self.chance.choice(CLOSED),
            "close_time": before["start_time"] + timedelta(seconds=seconds),
            "history_length": seconds % 300,
            "history_size_bytes": seconds % 70000,
            "execution_duration": seconds * 10**9,
            "state_transition_count": seconds % 90,
        }

    def _attributes(self) -> dict[str, Any] | None:
        number = self.chance.randrange(10**6)
        if number % 25 == 0:
            return None
        every = {
            "BuildIds": ["unversioned", f"build-{number % 40}"],
            "Keyword01": f"customer-{number}",
            "KeywordList01": [f"tag-{number % 50}", f"tag-{number % 7}"],
            "Text01": f"order {number} of a customer was shipped",
            "Int01": number,
            "Double01": number / 8,
            "Bool01": number % 2 == 0,
            "Datetime01": f"2026-02-{1 + number % 28:02}T12:00:00.{number:06}+02:00",
            "TemporalChangeVersion": [f"change-{number % 9}"],
            "TemporalPauseInfo": [f"Activity:{number % 20}"],
            "TemporalReportedProblems": ["category=WorkflowTaskFailed"],
            "TemporalExternalPayloadCount": number % 9,
        }
        return {name: every[name] for name in self.chance.sample(sorted(every), 6)}
