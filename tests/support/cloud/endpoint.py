"""A cloud's endpoints for identities and tokens on a port of this machine, for the clouds' own libraries.

A library that can be told where its endpoint is asks here by HTTP. One that insists on its cloud's name by HTTPS comes
here by a proxy: this is one too, and answers for any host with a certificate of an authority of its own.
"""

import json
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self
from urllib.parse import parse_qsl, urlsplit

import trustme


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What was asked: `host` is the one asked by HTTPS, or empty; headers have names in lower case."""

    host: str
    path: str
    query: dict[str, str]
    form: dict[str, str]
    headers: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is answered: an object becomes JSON."""

    body: object
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


class FakeCloud:
    """Answers from `with` to its end; `asked` has every request."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self.bundle = folder / "cloud-authority.pem"
        self.authority.cert_pem.write_to_path(self.bundle)
        self.asked: list[Request] = []
        self.answers: dict[str, Callable[[Request], Answer]] = {}

    def on(self, path: str, answer: Callable[[Request], Answer] | Answer) -> None:
        """Answer requests whose path begins like this; the longest such beginning counts."""
        self.answers[path] = answer if callable(answer) else lambda _: answer

    def answer(self, request: Request) -> Answer:
        """Return the answer to a request."""
        self.asked.append(request)
        known = sorted((path for path in self.answers if request.path.startswith(path)), key=len)
        return self.answers[known[-1]](request) if known else Answer(status=404, body={"error": "not_found"})

    def paths(self) -> list[str]:
        """Return the paths that were asked for, in their order."""
        return [request.path for request in self.asked]

    def __enter__(self) -> Self:
        cloud = self

        class Handler(_Handler):
            fake = cloud

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    """Serves one client."""

    protocol_version = "HTTP/1.1"
    fake: FakeCloud
    host = ""

    def do_CONNECT(self) -> None:
        """Become the host that the client wants to reach."""
        self.host = self.path.rpartition(":")[0]
        self.send_response(200)
        self.end_headers()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.fake.authority.issue_cert(self.host).configure_cert(context)
        secured = context.wrap_socket(self.connection, server_side=True)
        self.connection, self.rfile, self.wfile = secured, secured.makefile("rb"), secured.makefile("wb")
        self.close_connection = False

    def do_GET(self) -> None:
        """Answer."""
        self._answer()

    do_POST = do_PUT = do_GET  # noqa: N815 - the methods' names

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        place = urlsplit(self.path)
        request = Request(
            host=self.host,
            path=place.path,
            query=dict(parse_qsl(place.query)),
            form=dict(parse_qsl(body)),
            headers={name.lower(): value for name, value in self.headers.items()},
        )
        answer = self.fake.answer(request)
        text = answer.body if isinstance(answer.body, str) else json.dumps(answer.body)
        kind = "application/json" if not isinstance(answer.body, str) else "text/xml"
        self.send_response(answer.status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(text.encode())), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text.encode())
        self.wfile.flush()

    def finish(self) -> None:
        """Close what speaks TLS too."""
        super().finish()
        self.connection.close()

    def log_message(self, *_: object) -> None:
        """Say nothing."""
