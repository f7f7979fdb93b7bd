"""Carries bytes between a listener of any family and a server on TCP."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def relay(listener: socket.socket, host: str, port: int) -> Iterator[None]:
    """Serve the listener's clients until the block ends."""
    clients: list[threading.Thread] = []

    def accept() -> None:
        with suppress(OSError):  # it is closed at the end
            while True:
                client, _ = listener.accept()
                clients.append(threading.Thread(target=serve, args=(client, host, port)))
                clients[-1].start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for one in (thread, *clients):
            one.join()


def serve(client: socket.socket, host: str, port: int) -> None:
    """Carry one client's bytes both ways until a side ends."""
    with client, socket.create_connection((host, port)) as server:
        back = threading.Thread(target=carry, args=(server, client))
        back.start()
        carry(client, server)
        back.join()


def carry(source: socket.socket, target: socket.socket) -> None:
    """Copy until one side ends."""
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for side in (source, target):
        with suppress(OSError):
            side.shutdown(socket.SHUT_RDWR)
