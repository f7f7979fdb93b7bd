"""A TCP proxy before PostgreSQL: counts round trips, delays them, cuts a connection at a chosen message."""

import selectors
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace

from support.postgres.listener import POLL, Listener

SSL_REQUEST = 80877103
GSS_REQUEST = 80877104
FLUSH = b"H\x00\x00\x00\x04"
QUIET = 0.1
ANSWER_TIMEOUT = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Where the server is and what to do to its clients; times in seconds.

    `cut_at` is the number, from 1, of the client message (of one of `cut_kinds`, over all connections, after
    authentication) that ends its connection: unsent, or with `cut_after` sent, executed and unanswered.
    With `final` nobody is served after that, as if the client had died: some drivers connect again and go on.
    """

    host: str
    port: int
    delay: float = 0.0
    cut_at: int | None = None
    cut_after: bool = False
    cut_kinds: str = "QPE"
    final: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """What passed after authentication (connections: all).

    `messages` counts those of `cut_kinds`, `kinds` are their letters.
    """

    connections: int = 0
    round_trips: int = 0
    messages: int = 0
    kinds: str = ""
    bytes_to_server: int = 0
    bytes_to_client: int = 0
    cuts: int = 0


class Tally:
    """Stats that threads add to."""

    def __init__(self) -> None:
        self.stats = Stats()
        self._lock = threading.Lock()

    def add(self, **amounts: int | str) -> Stats:
        """Add to the named counts; return all of them as they are then."""
        with self._lock:
            sums = {name: getattr(self.stats, name) + amount for name, amount in amounts.items()}
            self.stats = replace(self.stats, **sums)
            return self.stats


class Proxy(Listener):
    """Listens on a free port of 127.0.0.1 from `with` to its end."""

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options = options
        self._tally = Tally()

    @property
    def stats(self) -> Stats:
        """What passed until now."""
        return self._tally.stats

    def accepted(self, client: socket.socket) -> None:
        """Count the client; after the last cut none is served."""
        self._tally.add(connections=1)
        if self.options.final and self.stats.cuts:
            client.close()
        else:
            super().accepted(client)

    def serve(self, client: socket.socket) -> None:
        """Pass on what both sides say."""
        # A reset by either side is an end like any other.
        address = (self.options.host, self.options.port)
        with client, suppress(OSError), socket.create_connection(address) as server:
            link = Link(client=client, server=server, options=self.options, tally=self._tally)
            link.run(self._closing)


@dataclass(slots=True, kw_only=True)
class Framer:
    """Cuts a stream into messages: a type byte (none in `startup`), an int32 length, the rest."""

    startup: bool = False
    rest: bytes = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the messages that are complete now."""
        self.rest += data
        while message := self.take():
            yield message

    def take(self) -> bytes | None:
        """Return the next message if it is complete."""
        start = 0 if self.startup else 1
        if len(self.rest) < start + 4:
            return None
        end = start + int(struct.unpack_from("!i", self.rest, start)[0])
        if len(self.rest) < end:
            return None
        message, self.rest = self.rest[:end], self.rest[end:]
        return message


@dataclass(slots=True, kw_only=True)
class Link:
    """One client's connection and the server's that belongs to it."""

    client: socket.socket
    server: socket.socket
    options: Options
    tally: Tally
    from_client: Framer = field(default_factory=lambda: Framer(startup=True))
    from_server: Framer = field(default_factory=Framer)
    ready: bool = False
    heard: bool = True

    def run(self, closing: threading.Event) -> None:
        """Pass messages on until a side ends, the connection is cut, or the proxy closes."""
        for side in (self.client, self.server):
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with selectors.DefaultSelector() as selector:
            selector.register(self.server, selectors.EVENT_READ, self.pass_to_client)
            selector.register(self.client, selectors.EVENT_READ, self.pass_to_server)
            while not closing.is_set() and not self.over():
                if not all(key.data() for key, _ in selector.select(POLL)):
                    return

    def over(self) -> bool:
        """Tell whether the final cut was made, here or in another connection."""
        return self.options.final and self.tally.stats.cuts > 0

    def pass_to_client(self) -> bool:
        """Pass on what the server has sent; False at its end."""
        data = self.server.recv(65536)
        if self.ready:
            self.tally.add(bytes_to_client=len(data))
        self.client.sendall(data)
        self.heard = True
        kinds = {message[:1] for message in self.from_server.feed(data)}
        self.ready = self.ready or b"Z" in kinds
        return bool(data)

    def pass_to_server(self) -> bool:
        """Pass on the messages that the client has completed; False at its end or when it was cut."""
        data = self.client.recv(65536)
        messages = list(self.from_client.feed(data)) if self.ready else list(self.authenticate(data))
        self.turn(messages)
        for message in messages:
            if not self.forward(message):
                return False
        return bool(data)

    def authenticate(self, data: bytes) -> Iterator[bytes]:
        """Yield what is for the server; encryption is declined here."""
        self.from_client.rest += data
        while message := self.from_client.take():
            if self.from_client.startup and struct.unpack_from("!i", message, 4)[0] in (
                SSL_REQUEST,
                GSS_REQUEST,
            ):
                self.client.sendall(b"N")
                continue
            self.from_client.startup = False
            yield message

    def turn(self, messages: list[bytes]) -> None:
        """Count and delay once for a change of direction; nobody waits for the answer to a Terminate."""
        if not self.heard or all(message[:1] == b"X" for message in messages):
            return
        self.heard = False
        if self.ready:
            self.tally.add(round_trips=1)
        time.sleep(self.options.delay)

    def forward(self, message: bytes) -> bool:
        """Send one message on; False when it was the one to cut at, or comes too late."""
        if self.over():
            return False
        kind = message[:1].decode("latin-1")
        if self.ready and kind in self.options.cut_kinds:
            cut = self.tally.add(messages=1, kinds=kind).messages == self.options.cut_at
        else:
            cut = False
        if not cut or self.options.cut_after:
            self.server.sendall(message)
        if self.ready:
            self.tally.add(bytes_to_server=len(message))
        if cut:
            self.cut(message[:1])
        return not cut

    def cut(self, kind: bytes) -> None:
        """Count the cut; before, let the server finish what it was sent."""
        if self.options.cut_after:
            self.await_answer(kind)
        self.tally.add(cuts=1)

    def await_answer(self, kind: bytes) -> None:
        """Wait until the server has answered that kind of message, or for ANSWER_TIMEOUT."""
        ends_ready = kind in (b"Q", b"S")
        if not ends_ready:
            # Without a Sync the server would lock its answer.
            self.server.sendall(FLUSH)
        deadline = time.monotonic() + ANSWER_TIMEOUT
        self.server.settimeout(ANSWER_TIMEOUT)
        with suppress(TimeoutError):
            while time.monotonic() < deadline and (data := self.server.recv(65536)):
                if ends_ready and any(message[:1] == b"Z" for message in self.from_server.feed(data)):
                    return
                if not ends_ready:
                    self.server.settimeout(QUIET)
