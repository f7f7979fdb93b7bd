"""Frontends to talk to: the development server of Temporal's command line, and one that only refuses."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
from temporalio.bridge.proto.health.v1 import HealthCheckResponse

from support.postgres.databases import READ_BY_US
from support.postgres.watcher import dies_with_us
from support.waiting import PATIENCE

HEALTH = "/grpc.health.v1.Health/Check"
SERVING = HealthCheckResponse(status=HealthCheckResponse.ServingStatus.SERVING)
NOT_SERVING = HealthCheckResponse(status=HealthCheckResponse.ServingStatus.NOT_SERVING)


def environment(**changes: str) -> dict[str, str]:
    """Return the environment without what our program would read, but for these."""
    kept = {name: value for name, value in os.environ.items() if not READ_BY_US.match(name)}
    return kept | {"SCHEMA_MIGRATOR_WAIT_TIMEOUT": "60"} | changes


@contextmanager
def development_server(folder: Path, host: str = "127.0.0.1", port: int | None = None) -> Iterator[str]:
    """Start Temporal's development server at one address; yield its frontend's."""
    port = port or free_port()
    program = str(Path(sys.executable).with_name("temporal"))
    command = dies_with_us(program, "server", "start-dev", "--headless", "--port", str(port), "--ip", host)
    # Its resource detection asks for a user's name, and a container's user may have none.
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "USER": "temporal"}
    with (
        (folder / "temporal.log").open("wb") as log,
        subprocess.Popen([*command, "--log-level", "error"], env=environment, stdout=log, stderr=log) as process,
    ):
        try:
            await_port(port, process, host)
            yield f"{host}:{port}"
        finally:
            process.terminate()


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def await_port(port: int, process: subprocess.Popen[bytes], host: str = "127.0.0.1") -> None:
    """Wait until somebody listens there; raise RuntimeError when the process has ended."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
        with socket.socket() as client:
            if client.connect_ex((host, port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError(f"nobody listens on port {port} after {PATIENCE} s")


class Refusing(grpc.GenericRpcHandler):
    """Answers the question for its health as told, and all else with one status."""

    def __init__(self, status: grpc.StatusCode, text: str, health: HealthCheckResponse) -> None:
        self.status, self.text, self.health = status, text, health

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """Return what answers a call."""
        healthy = details.method == HEALTH

        def answer(_request: bytes, context: grpc.ServicerContext) -> bytes:
            if healthy:
                return self.health.SerializeToString()
            if details.method.endswith("/GetSystemInfo") and self.status is not grpc.StatusCode.UNAUTHENTICATED:
                return b""
            context.abort(self.status, self.text)
            raise AssertionError

        return grpc.unary_unary_rpc_method_handler(answer)


@contextmanager
def serving(*handlers: grpc.GenericRpcHandler) -> Iterator[str]:
    """Start a gRPC server with these handlers; yield its address."""
    with ThreadPoolExecutor(8) as pool:
        server = grpc.server(pool, handlers=handlers)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(0).wait()


@contextmanager
def refusing(status: grpc.StatusCode, text: str, health: HealthCheckResponse = SERVING) -> Iterator[str]:
    """Start a server that refuses every call but the one for its health."""
    with serving(Refusing(status, text, health)) as address:
        yield address


Answer = Callable[[str], tuple[grpc.StatusCode, str] | bytes | None]
"""Says for a method's name, such as ListNamespaces, what is answered in place of the frontend: a status, or bytes."""


class Between(grpc.GenericRpcHandler):
    """Passes calls on to a frontend, but for those that it answers itself."""

    def __init__(self, channel: grpc.Channel, answer: Answer) -> None:
        self.channel, self.answer = channel, answer

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """Return what answers a call."""
        method = details.method

        def pass_on(request: bytes, context: grpc.ServicerContext) -> bytes:
            answer = self.answer(method.rpartition("/")[2])
            if answer is None:
                try:
                    answer = bytes(self.channel.unary_unary(method)(request, timeout=30))
                except grpc.RpcError as error:
                    answer = error.code(), error.details() or ""
            if isinstance(answer, tuple):
                context.abort(*answer)
            return answer

        return grpc.unary_unary_rpc_method_handler(pass_on)


@contextmanager
def between(frontend: str, answer: Answer) -> Iterator[str]:
    """Start a server before a frontend that gives some of its answers itself; yield its address."""
    with grpc.insecure_channel(frontend) as channel, serving(Between(channel, answer)) as address:
        yield address
