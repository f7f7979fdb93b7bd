"""Listens on a free port and serves each client in a thread of its own, from `with` to its end."""

import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Self

POLL = 0.05
"""Seconds between two looks whether the block has ended."""


class Listener(ABC):
    """Accepts clients until the block ends; `port` is known inside of it."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.host = host
        self.port = 0
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []

    def accepted(self, client: socket.socket) -> None:
        """Take a client that has connected; clients come here one after the other."""
        self._start(partial(self.serve, client))

    @abstractmethod
    def serve(self, client: socket.socket) -> None:
        """Serve a client to its end, in a thread of its own."""

    def __enter__(self) -> Self:
        self._listener = socket.create_server((self.host, 0), backlog=128)
        self._listener.settimeout(POLL)
        self.port = self._listener.getsockname()[1]
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        # The first thread accepts; the list grows until it has ended.
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _start(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closing.is_set():
            with suppress(TimeoutError):
                client, _ = self._listener.accept()
                self.accepted(client)
