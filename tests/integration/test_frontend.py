"""A frontend that cannot be reached or denied the request in: one sentence each, and its exit code."""

import json
import re
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import grpc
import pytest
import trustme

from support.postgres.tls import BareTlsFront
from support.program.command import COMMAND, Completed, await_event, finish, run_process, start_cli
from support.program.refusals import Clock, errors
from support.temporal.frontends import NOT_SERVING, environment, free_port, refusing, serving

THERE = "is it running, and is the address correct?"
OLD = datetime(2020, 1, 1, tzinfo=UTC)
Ask = Callable[..., Completed]


def sentences(address: str, code: int, *args: str, **changes: str) -> list[str]:
    """Return how `wait --for frontend` refuses, with that exit code and nothing on standard output."""
    done = run_process(environment(TEMPORAL_ADDRESS=address, **changes), *(args or ("wait", "--for", "frontend")))
    assert (done.code, done.stdout) == (code, ""), done.stderr
    return errors(done)


def test_a_frontend_that_is_there(frontend: str) -> None:
    """It is reported, as text and as JSON; no database and no release has to be named."""
    done = run_process(environment(TEMPORAL_ADDRESS=frontend), "wait", "--for", "frontend")
    assert (done.code, done.stdout, errors(done)) == (0, f"frontend: {frontend} is ready\n", [])
    done = run_process(environment(), "wait", "--for", "frontend", "--temporal-address", frontend, "--output", "json")
    assert json.loads(done.stdout) == {"ready": [{"waited_for": "frontend", "address": frontend}]}


def test_no_such_host() -> None:
    """It is waited for, since a name may be entered later, and then told."""
    assert sentences("no.such.host.invalid:7233", 1, SCHEMA_MIGRATOR_WAIT_TIMEOUT="1") == [
        (
            "error: the frontend at no.such.host.invalid:7233 was not ready after 1 s: no such host; "
            "is it running, and is the address correct?"
        )
    ]


@pytest.mark.parametrize("address", ["256.1.1.1:7233", "{h}:1", '"h":1', "[:::]:1"])
def test_an_address_that_is_none(address: str) -> None:
    """No waiting makes it one."""
    clock = Clock()
    said = f"error: TEMPORAL_ADDRESS is not a host and port (frontend {address}); correct it"
    assert (sentences(address, 2), clock.seconds < 30) == ([said], True)


def test_a_servers_name_that_is_none(frontend: str) -> None:
    """It is told which setting is wrong."""
    said = f"error: TEMPORAL_TLS_SERVER_NAME is not a host name (frontend {frontend}); correct it"
    named = {"TEMPORAL_TLS": "true", "TEMPORAL_TLS_SERVER_NAME": "a b/c"}
    assert sentences(frontend, 2, **named) == [said]


@pytest.mark.parametrize("command", [["wait", "--for", "frontend"], ["namespaces", "--namespaces", "ameide"]])
def test_refused(command: list[str]) -> None:
    """It is waited for until the deadline and no longer, with a line about it."""
    address, clock = f"127.0.0.1:{free_port()}", Clock()
    env = environment(TEMPORAL_ADDRESS=address, SCHEMA_MIGRATOR_WAIT_TIMEOUT="2")
    done = run_process(env, *command)
    assert done.code == 1
    assert errors(done) == [f"error: the frontend at {address} was not ready after 2 s: connection refused; {THERE}"]
    said = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert [one["event"] for one in said] == ["run.started", "frontend.waiting", "run.ended"]
    assert said[1]["reason"] == "connection refused"
    assert 2 <= clock.seconds < 30


def test_no_answer() -> None:
    """A server that takes the connection and says nothing does not hold us up past the deadline for long."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address, clock = f"127.0.0.1:{silent.getsockname()[1]}", Clock()
        assert sentences(address, 1, SCHEMA_MIGRATOR_WAIT_TIMEOUT="1") == [
            f"error: the frontend at {address} was not ready after 1 s: no answer; {THERE}"
        ]
        assert clock.seconds < 30


def test_not_ready() -> None:
    """A server that answers and does not serve yet is waited for."""
    with refusing(grpc.StatusCode.UNAVAILABLE, "later", health=NOT_SERVING) as address:
        assert sentences(address, 1, SCHEMA_MIGRATOR_WAIT_TIMEOUT="1") == [
            (f"error: the frontend at {address} was not ready after 1 s: it is not serving yet; check the server's log")
        ]


def test_comes_late(frontend: str) -> None:
    """A frontend that begins to answer within the deadline is used."""
    port = free_port()
    env = environment(TEMPORAL_ADDRESS=f"127.0.0.1:{port}")
    process = start_cli(env, "wait", "--for", "frontend")
    await_event(process, "frontend.waiting")
    with relay(port, frontend):
        done = finish(process)
    assert (done.code, done.stdout) == (0, f"frontend: 127.0.0.1:{port} is ready\n")


@contextmanager
def relay(port: int, frontend: str) -> Iterator[None]:
    """Listen on that port and pass everything on."""
    stop = threading.Event()

    def pump(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)

    def serve(listener: socket.socket) -> None:
        host, _, number = frontend.partition(":")
        client, _ = listener.accept()
        with client, socket.create_connection((host, int(number))) as server:
            for pair in ((client, server), (server, client)):
                threading.Thread(target=pump, args=pair, daemon=True).start()
            stop.wait()

    with socket.create_server(("127.0.0.1", port)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        try:
            yield
        finally:
            stop.set()


@pytest.mark.parametrize("status", [grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED])
def test_permission_denied(status: grpc.StatusCode) -> None:
    """It is told at once, with the server's words, whether it lets us connect or not."""
    with refusing(status, "Request unauthorized.") as address:
        more = {"TEMPORAL_API_KEY": "s3cret", "TEMPORAL_TLS": "no"}
        assert sentences(address, 40, "namespaces", "--check", "ameide", **more) == [
            (
                f"error: the frontend at {address} denied the request: Request unauthorized; "
                "set TEMPORAL_API_KEY, or a client certificate, that may do this"
            )
        ]


def test_a_call_that_fails() -> None:
    """A frontend that goes away in the middle is worth another try."""
    with refusing(grpc.StatusCode.UNAVAILABLE, "shutting down") as address:
        assert sentences(address, 1, "namespaces", "--check", "ameide") == [
            f"error: the frontend at {address} failed: shutting down; run it again"
        ]


def test_no_grpc() -> None:
    """What speaks HTTP alone is no frontend, and that is told at once."""

    class Quiet(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{server.server_address[1]}"
        assert sentences(address, 40) == [
            f"error: no frontend answers at {address}: whatever answers there does not speak gRPC; use its gRPC port"
        ]
        server.shutdown()


def test_another_grpc_server() -> None:
    """What speaks gRPC and knows nothing of health is no frontend either."""
    with serving() as address:
        assert sentences(address, 40) == [
            (
                f"error: no frontend answers at {address}: whatever answers there is not a Temporal frontend; "
                "use its gRPC port"
            )
        ]


class Secure:
    """A frontend behind TLS, and the authority that signs for both sides."""

    def __init__(self, frontend: str, folder: Path) -> None:
        self.host, _, port = frontend.partition(":")
        self.port, self.folder = int(port), folder
        self.authority, self.other = trustme.CA(), trustme.CA()
        self.ca = self.write("ca", self.authority.cert_pem)

    def write(self, name: str, *blobs: trustme.Blob) -> str:
        """Return the path of a new file with them."""
        path = self.folder / f"{name}.pem"
        path.write_bytes(b"".join(blob.bytes() for blob in blobs))
        return str(path)

    def pair(self, authority: trustme.CA, **options: datetime) -> dict[str, str]:
        """Return the settings for a new client certificate."""
        made = authority.issue_cert("client", **options)
        return {
            "TEMPORAL_TLS_CLIENT_CERT_PATH": self.write("cert", *made.cert_chain_pems),
            "TEMPORAL_TLS_CLIENT_KEY_PATH": self.write("key", made.private_key_pem),
        }

    def front(self, name: str = "127.0.0.1", *, mutual: bool = False, **options: datetime) -> BareTlsFront:
        """Return the TLS side, with a certificate for that name, which may ask for one of the client's."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(["h2"])
        self.authority.issue_cert(name, **options).configure_cert(context)
        if mutual:
            self.authority.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        return BareTlsFront(context, self.host, self.port)


@pytest.fixture
def secure(frontend: str, tmp_path: Path) -> Secure:
    """Return what puts TLS before the frontend."""
    return Secure(frontend, tmp_path)


def tls_sentence(front: BareTlsFront, **changes: str) -> str:
    """Return the one refusal, without the address."""
    address = f"127.0.0.1:{front.port}"
    (found,) = sentences(address, 11, **changes)
    begin = f"error: no TLS connection to the frontend at {address}: "
    assert found.startswith(begin)
    return found.removeprefix(begin)


def test_tls(secure: Secure) -> None:
    """TLS, another name in the certificate, and both sides showing certificates all lead in."""
    ca = {"TEMPORAL_TLS_SERVER_CA_CERT_PATH": secure.ca}
    with secure.front() as plain, secure.front("frontend.example") as named, secure.front(mutual=True) as mutual:
        for front, more in (
            (plain, {"TEMPORAL_TLS": "true"}),
            (named, {"TEMPORAL_TLS_SERVER_NAME": "frontend.example"}),
            (mutual, secure.pair(secure.authority)),
        ):
            address = f"127.0.0.1:{front.port}"
            done = run_process(environment(TEMPORAL_ADDRESS=address, **ca, **more), "wait", "--for", "frontend")
            assert (done.code, done.stdout) == (0, f"frontend: {address} is ready\n"), done.stderr


def test_tls_that_we_leave_out(secure: Secure) -> None:
    """A frontend that speaks TLS to a client that does not is told at once, with and without client certificates."""
    for mutual in (False, True):
        with secure.front(mutual=mutual) as front:
            assert tls_sentence(front) == "it speaks TLS; set TEMPORAL_TLS=true"


def test_tls_that_it_leaves_out(frontend: str) -> None:
    """A frontend without TLS and a client with it are told at once."""
    assert sentences(frontend, 11, TEMPORAL_TLS="true") == [
        (
            f"error: no TLS connection to the frontend at {frontend}: it does not use TLS; "
            "set TEMPORAL_TLS=false, or enable TLS on it"
        )
    ]


def test_tls_with_an_unknown_authority(secure: Secure) -> None:
    """Neither the system's authorities nor another one have signed its certificate."""
    other = secure.write("other", secure.other.cert_pem)
    for more in ({}, {"TEMPORAL_TLS_SERVER_CA_CERT_PATH": other}):
        with secure.front() as front:
            assert tls_sentence(front, TEMPORAL_TLS="true", **more) == (
                "no trusted authority has signed its certificate; "
                "set TEMPORAL_TLS_SERVER_CA_CERT_PATH to the one that did"
            )


def test_tls_with_another_name(secure: Secure) -> None:
    """The certificate is for another name than the address."""
    with secure.front("frontend.example") as front:
        assert tls_sentence(front, TEMPORAL_TLS_SERVER_CA_CERT_PATH=secure.ca) == (
            "its certificate is for another name; set TEMPORAL_TLS_SERVER_NAME to a name that it has"
        )


def test_tls_out_of_date(secure: Secure) -> None:
    """An expired certificate and one of the future are told."""
    future = datetime(2090, 1, 1, tzinfo=UTC)
    with secure.front(not_after=OLD) as old, secure.front(not_before=future) as early:
        assert tls_sentence(old, TEMPORAL_TLS_SERVER_CA_CERT_PATH=secure.ca) == (
            "its certificate has expired; renew it, or correct this machine's clock"
        )
        assert tls_sentence(early, TEMPORAL_TLS_SERVER_CA_CERT_PATH=secure.ca) == (
            "its certificate is not valid yet; is this machine's clock right?"
        )


def test_tls_without_our_certificate(secure: Secure) -> None:
    """A frontend that asks for a client certificate gets none, one of another authority, or an expired one."""
    take = "set TEMPORAL_TLS_CLIENT_CERT_PATH and TEMPORAL_TLS_CLIENT_KEY_PATH to a pair that it accepts"
    ca = {"TEMPORAL_TLS_SERVER_CA_CERT_PATH": secure.ca}
    with secure.front(mutual=True) as front:
        assert tls_sentence(front, **ca) == f"it requires a client certificate; {take}"
        assert tls_sentence(front, **ca, **secure.pair(secure.other)) == (
            f"it rejects this client's TLS (UnknownCA); {take}"
        )
        assert tls_sentence(front, **ca, **secure.pair(secure.authority, not_after=OLD)) == (
            f"it rejects this client's TLS (CertificateExpired); {take}"
        )


def test_stops_while_waiting() -> None:
    """SIGTERM ends the wait at once, with its own exit code."""
    env = environment(TEMPORAL_ADDRESS=f"127.0.0.1:{free_port()}")
    process = start_cli(env, "namespaces", "--namespaces", "ameide")
    await_event(process, "frontend.waiting")
    process.terminate()
    done = finish(process, timeout=30)
    assert done.code == 143
    assert errors(done) == ["error: stopped by a signal, everything uncommitted was rolled back; run it again"]


def test_without_the_client_library() -> None:
    """Its absence is told, with how to install it."""
    script = (
        "import sys; sys.modules['temporalio'] = None; sys.argv[0] = 'schema-migrator'\n"
        "from schema_migrator.cli import main; main.main()"
    )
    command = [COMMAND[0], "-c", script, "wait", "--for", "frontend"]
    env = environment(TEMPORAL_ADDRESS="127.0.0.1:1")
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        2,
        "error: Temporal's client library is not installed; pip install 'temporal-schema-migrator[namespaces]'",
    )


def test_nothing_loads_it_needlessly() -> None:
    """Every other command does without the client library, which is slow to load."""
    script = (
        "import sys; from schema_migrator.cli import main; from schema_migrator.commands import migrate, wait\n"
        "from schema_migrator.reports import report; from schema_migrator.temporal import namespaces\n"
        "print([name for name in sys.modules if re.match('temporalio|google', name)])"
    )
    done = subprocess.run([sys.executable, "-c", f"import re; {script}"], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_key_is_nowhere() -> None:
    """An API key shows neither in sentences nor in events."""
    with refusing(grpc.StatusCode.UNAUTHENTICATED, "no") as address:
        env = environment(TEMPORAL_ADDRESS=address, TEMPORAL_API_KEY="s3cret", TEMPORAL_TLS="false")
        done = run_process(env, "namespaces", "--namespaces", "ameide", "--log-level", "debug")
    assert done.code == 40
    assert not re.search("s3cret", done.stdout + done.stderr)
