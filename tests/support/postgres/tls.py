"""TLS before a server that has none of its own: a front that speaks it to clients."""

import selectors
import socket
import ssl
import struct
from contextlib import suppress

from support.postgres.listener import POLL, Listener

SSL_REQUEST = struct.pack("!ii", 8, 80877103)
GSS_REQUEST = struct.pack("!ii", 8, 80877104)
TIMEOUT = 10.0
REFUSED = 'no pg_hba.conf entry for host "127.0.0.1", user "u", database "d", no encryption'


class TlsFront(Listener):
    """Listens on a free port of an address from `with` to its end, as PostgreSQL does; clients without TLS are refused.

    The refusal is that of a server whose pg_hba.conf has only `hostssl` lines.
    """

    def __init__(self, context: ssl.SSLContext, host: str, port: int, listen: str = "127.0.0.1") -> None:
        super().__init__(listen)
        self.context = context
        self.address = (host, port)

    def serve(self, client: socket.socket) -> None:
        """Answer as PostgreSQL does, then speak TLS."""
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

    def serve(self, client: socket.socket) -> None:
        """Speak TLS from the beginning."""
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
