"""A proxy that disturbs one message of one connection: it cuts the connection, gives an error, or calls somebody."""

import re
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from support.postgres.proxy import Framer, Link, Options, Proxy

ROUND_TRIPS = "QS"
"""Simple queries, and the Sync that ends what was sent together and commits it."""
STATEMENTS = "QE"
"""Simple queries and executions."""
NO_SUCH_PORTAL = b"E\x00\x00\x00\x14no such one\x00\x00\x00\x00\x00"
WRONG = b"Q\x00\x00\x00\x0awrong\x00"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The message of that number, from 1, among those of some kinds, in the connection of that number, from 0.

    Connections count in the order in which they begin, messages from the end of authentication on; message 0 is the
    one that asks for the connection. With `statement` messages count, in all connections together, whose last statement
    matches that pattern.
    """

    connection: int
    message: int
    kinds: str = ROUND_TRIPS
    statement: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What happens at a place: before the message is sent, or after.

    With `act`, somebody is called as soon as it is sent. With `error`, an SQLSTATE and a sentence, the server fails at
    the statement, and the client reads that. Otherwise the connection is cut, after means: once the message was
    answered, before the client hears of it.
    """

    place: Place
    after: bool = False
    act: Callable[[], None] | None = None
    error: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message of a client's: when it came (seconds since 1970), and the last statement that was sent until then.

    `sent`: the statements since the last round trip. `locked`: a transaction of theirs has asked for a table's ACCESS
    EXCLUSIVE lock.
    """

    connection: int
    kind: str
    at: float
    statement: str
    sent: tuple[str, ...]
    locked: bool


class FaultProxy(Proxy):
    """Listens on a free port of 127.0.0.1 from `with` to its end.

    `messages` are those of `kinds` in the order in which they came, `hit` is the one that was disturbed.
    """

    def __init__(self, host: str, port: int, fault: Fault | None = None, kinds: str = "") -> None:
        super().__init__(Options(host=host, port=port))
        self.fault = fault
        self.kinds = kinds
        self.messages: list[Message] = []
        self.hit: Message | None = None
        self.matches = 0
        self._numbers: dict[socket.socket, int] = {}

    def accepted(self, client: socket.socket) -> None:
        """Give the client its number."""
        self._numbers[client] = len(self._numbers)
        super().accepted(client)

    def serve(self, client: socket.socket) -> None:
        """Pass on what both sides say, until the fault."""
        address = (self.options.host, self.options.port)
        # A reset by either side is an end like any other.
        with client, suppress(OSError), socket.create_connection(address) as server:
            link = FaultLink(
                client=client,
                server=server,
                options=self.options,
                tally=self._tally,
                proxy=self,
                connection=self._numbers[client],
            )
            link.run(self._closing)


@dataclass(slots=True, kw_only=True)
class FaultLink(Link):
    """One client's connection, which is disturbed at its place."""

    proxy: FaultProxy
    connection: int
    count: int = 0
    statement: str = ""
    sent: list[str] = field(default_factory=list)
    locked: bool = False
    ended_locked: bool = False
    error: tuple[str, str] | None = None
    answers: Framer = field(default_factory=Framer)

    @property
    def fault(self) -> Fault | None:
        """The fault, if it can be one of this connection."""
        fault = self.proxy.fault
        mine = fault and (fault.place.statement or fault.place.connection == self.connection)
        return fault if mine else None

    def forward(self, message: bytes) -> bool:
        """Send one message on; False when the connection is cut instead, or after it."""
        seen = self.note(message)
        if self.ready and seen.kind in self.proxy.kinds:
            self.proxy.messages.append(seen)
        if self.fault is None or not self.reached(self.fault.place, seen.kind):
            return Link.forward(self, message)
        self.proxy.hit = seen
        return self.disturb(self.fault, message)

    def note(self, message: bytes) -> Message:
        """Return what there is to know of a message, which may bring the next statement."""
        kind = message[:1].decode("latin-1")
        if self.ready and kind in "QP":
            self.note_statement(message[5:].split(b"\0")[kind == "P"].decode("utf-8", "replace"))
        seen = Message(
            connection=self.connection,
            kind=kind,
            at=time.time(),
            statement=self.statement,
            sent=tuple(self.sent),
            locked=self.locked or (kind == "S" and self.ended_locked),
        )
        if kind in ROUND_TRIPS:
            self.sent, self.ended_locked = [], False
        return seen

    def note_statement(self, statement: str) -> None:
        """Take note of a statement, which may take a lock, or begin the next transaction without one."""
        begins = statement.lstrip().startswith("BEGIN")
        self.statement = statement
        self.sent.append(statement)
        self.ended_locked = self.ended_locked or (begins and self.locked)
        self.locked = not begins and (self.locked or "IN ACCESS EXCLUSIVE MODE" in statement)

    def reached(self, place: Place, kind: str) -> bool:
        """Count a message, and tell whether it is the one."""
        if not self.ready:
            return place.message == 0
        self.count += kind in place.kinds
        if place.statement:
            here = kind in place.kinds and re.search(place.statement, self.statement) is not None
            self.proxy.matches += here
            return here and self.proxy.matches == place.message
        return kind in place.kinds and self.count == place.message

    def disturb(self, fault: Fault, message: bytes) -> bool:
        """Do what the fault says; tell whether the connection goes on."""
        if fault.error and not self.ready:
            self.client.sendall(error_response("FATAL", *fault.error))
            return False
        if fault.error:
            self.error = fault.error
            return Link.forward(self, WRONG if message[:1] == b"Q" else NO_SUCH_PORTAL)
        if fault.after:
            Link.forward(self, message)
        if fault.act:
            fault.act()
            return fault.after or Link.forward(self, message)
        if fault.after:
            self.await_answer(message[:1])
        return False

    def pass_to_client(self) -> bool:
        """Pass on what the server has sent, with the error in place of its own; False at its end."""
        if self.fault is None or self.fault.error is None:
            return Link.pass_to_client(self)
        data = self.server.recv(65536)
        self.heard = True
        for message in self.answers.feed(data):
            self.ready = self.ready or message[:1] == b"Z"
            self.client.sendall(self.answer(message))
        return bool(data)

    def answer(self, message: bytes) -> bytes:
        """Return an answer of the server's as the client is to read it."""
        if self.error is None or message[:1] != b"E":
            return message
        error, self.error = self.error, None
        return error_response("ERROR", *error)


def error_response(severity: str, code: str, sentence: str) -> bytes:
    """Return the message with which a server tells of an error."""
    fields = {"S": severity, "V": severity, "C": code, "M": sentence}
    body = b"".join(f"{letter}{text}".encode() + b"\0" for letter, text in fields.items()) + b"\0"
    return b"E" + struct.pack("!i", len(body) + 4) + body
