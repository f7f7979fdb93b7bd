"""TLS before a server that has none of its own: a front that speaks it to clients."""

import selectors
import socket
import ssl
import struct
import threading
from contextlib import suppress
from typing import Self

SSL_REQUEST = struct.pack("!ii", 8, 80877103)
GSS_REQUEST = struct.pack("!ii", 8, 80877104)
POLL = 0.05
TIMEOUT = 10.0
REFUSED = 'no pg_hba.conf entry for host "127.0.0.1", user "u", database "d", no encryption'


class TlsFront:
    """Listens on a free port of an address from `with` to its end, as PostgreSQL does; clients without TLS are refused.

    The refusal is that of a server whose pg_hba.conf has only `hostssl` lines.
    """

    def __init__(self, context: ssl.SSLContext, host: str, port: int, listen: str = "127.0.0.1") -> None:
        self.context = context
        self.listen = listen
        self.address = (host, port)
        self.port = 0
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._listener = socket.create_server((self.listen, 0), backlog=32)
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

    def _start(self, work: object, *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)  # type: ignore[arg-type]  # one of our methods
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closing.is_set():
            with suppress(TimeoutError):
                client, _ = self._listener.accept()
                self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        # A failed handshake and a reset are ends like any other.
        with client, suppress(OSError):
            client.settimeout(TIMEOUT)
            request = client.recv(8)
            while request == GSS_REQUEST:
                client.sendall(b"N")
                request = client.recv(8)
            if request != SSL_REQUEST:
                client.sendall(refusal())
                return
            client.sendall(b"S")
            self._secure(client)

    def _secure(self, client: socket.socket) -> None:
        with self.context.wrap_socket(client, server_side=True) as secured:
            self._relay(secured)

    def _relay(self, client: ssl.SSLSocket) -> None:
        with socket.create_connection(self.address) as server, selectors.DefaultSelector() as selector:
            selector.register(client, selectors.EVENT_READ, server)
            selector.register(server, selectors.EVENT_READ, client)
            while not self._closing.is_set():
                for key, _ in selector.select(POLL):
                    data = received(key.fileobj)
                    if not data:
                        return
                    key.data.sendall(data)


class BareTlsFront(TlsFront):
    """The same before a server whose clients begin with TLS, such as one that speaks gRPC."""

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            client.settimeout(TIMEOUT)
            self._secure(client)


def received(side: object) -> bytes:
    """Return what has come; of a TLS side also what is decrypted already, which `select` cannot see."""
    assert isinstance(side, socket.socket)
    data = side.recv(65536)
    while isinstance(side, ssl.SSLSocket) and side.pending():
        data += side.recv(65536)
    return data


def refusal() -> bytes:
    """Return PostgreSQL's ErrorResponse."""
    fields = b"SFATAL\0VFATAL\0C28000\0M" + REFUSED.encode() + b"\0\0"
    return b"E" + struct.pack("!i", len(fields) + 4) + fields
