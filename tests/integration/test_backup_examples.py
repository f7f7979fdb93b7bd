"""The examples' commands that report the newest backup, each against an imitation of what it asks."""

import json
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from schema_migrator.commands import backup
from schema_migrator.errors import NoBackup

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "backup"
ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
DAY = timedelta(days=1)
CLOUDNATIVEPG = "/apis/postgresql.cnpg.io/v1/namespaces/temporal/backups"
VELERO = "/apis/velero.io/v1/namespaces/velero/backups?labelSelector=velero.io/schedule-name%3Dtemporal"


class Api(BaseHTTPRequestHandler):
    """Answers a list of resources to whoever has the token."""

    lists: Mapping[str, list[dict[str, Any]]]

    def do_GET(self) -> None:
        """Answer as an API server does."""
        allowed = self.headers["Authorization"] == "Bearer the-token"
        self.send_response((200 if self.path in self.lists else 404) if allowed else 401)
        self.end_headers()
        self.wfile.write(json.dumps({"kind": "List", "items": self.lists.get(self.path, [])}).encode())

    def log_message(self, *_: object) -> None:
        """Be silent."""


@contextmanager
def api_server(folder: Path, lists: Mapping[str, list[dict[str, Any]]]) -> Iterator[dict[str, str]]:
    """Serve lists by path; yield the variables of a pod, whose account is in a folder."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.crt")
    (folder / "token").write_text("the-token\n")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with HTTPServer(("127.0.0.1", 0), type("Lists", (Api,), {"lists": lists})) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(server.server_port)}
        server.shutdown()


def newest(folder: Path, env: Mapping[str, str], *args: str) -> bytes:
    """Return what the script of the ConfigMap prints."""
    documents = yaml.safe_load_all((EXAMPLES / "access.yaml").read_text())
    (script,) = [found["data"]["newest.py"] for found in documents if found["kind"] == "ConfigMap"]
    (folder / "newest.py").write_text(script.replace(ACCOUNT, str(folder)))
    command = [sys.executable, str(folder / "newest.py"), *args]
    return subprocess.run(command, env=dict(env), stdout=subprocess.PIPE, check=True).stdout


def cnpg(phase: str, hour: int | None, cluster: str = "temporal-postgres") -> dict[str, Any]:
    """Return a Backup of CloudNativePG."""
    status = {"phase": phase} | ({} if hour is None else {"stoppedAt": f"2026-11-28T{hour:02}:00:00Z"})
    return {"kind": "Backup", "spec": {"cluster": {"name": cluster}}, "status": status}


BACKUPS = [
    cnpg("completed", 1),
    cnpg("completed", 3),
    cnpg("failed", 5),
    cnpg("running", None),
    cnpg("completed", 7, "other"),
    {"kind": "Backup", "spec": {"cluster": {"name": "temporal-postgres"}}},
]


def example() -> list[str]:
    """Return the arguments of the script in the example's values."""
    values = yaml.safe_load((EXAMPLES / "values.yaml").read_text())
    program, script, *args = values["settings"]["backupCommand"].split()
    assert (program, script) == ("python", "/etc/backup/newest.py")
    return args


def test_cloudnativepg(tmp_path: Path) -> None:
    """The newest that is completed, of this cluster alone."""
    with api_server(tmp_path, {CLOUDNATIVEPG: BACKUPS}) as env:
        printed = newest(tmp_path, env, *example())
    assert backup.judged(printed, NOW, DAY) == datetime(2026, 11, 28, 3, tzinfo=UTC)


def test_velero(tmp_path: Path) -> None:
    """The newest of a schedule that is completed."""
    phases = {"Completed": 2, "PartiallyFailed": 4, "InProgress": 6}
    items = [
        {"status": {"phase": phase, "completionTimestamp": f"2026-11-28T{hour:02}:00:00Z"}}
        for phase, hour in phases.items()
    ]
    with api_server(tmp_path, {VELERO: items}) as env:
        printed = newest(tmp_path, env, VELERO, "status.completionTimestamp", "status.phase=Completed")
    assert backup.judged(printed, NOW, DAY) == datetime(2026, 11, 28, 2, tzinfo=UTC)


def test_no_backup(tmp_path: Path) -> None:
    """None is no backup, and a token that the server refuses is a failure of the command."""
    with api_server(tmp_path, {CLOUDNATIVEPG: BACKUPS[2:]}) as env:
        with pytest.raises(NoBackup, match="there is no backup"):
            backup.judged(newest(tmp_path, env, *example()), NOW, DAY)
        (tmp_path / "token").write_text("another")
        with pytest.raises(subprocess.CalledProcessError):
            newest(tmp_path, env, *example())


STANZA = [
    {
        "name": "temporal",
        "status": {"code": 0, "message": "ok"},
        "backup": [
            {"label": "20261127-030000F", "error": False, "timestamp": {"start": 1795748400, "stop": 1795748500}},
            {"label": "20261128-030000I", "error": False, "timestamp": {"start": 1795834800, "stop": 1795834900}},
            {"label": "20261128-040000I", "error": True, "timestamp": {"start": 1795838400, "stop": 1795838500}},
        ],
    }
]


@pytest.mark.parametrize(("found", "printed"), [(STANZA, b"1795834900\n"), ([{"backup": []}], b"\n")])
def test_pgbackrest(tmp_path: Path, found: object, printed: bytes) -> None:
    """The newest without an error, as pgBackRest's own JSON has it."""
    program = tmp_path / "pgbackrest"
    program.write_text(
        f"#!{sys.executable}\nimport sys\n"
        'assert sys.argv[1:] == ["--stanza=temporal", "--output=json", "info"]\n'
        f"print({json.dumps(found)!r})\n"
    )
    program.chmod(0o755)
    command = [sys.executable, str(EXAMPLES / "pgbackrest.py"), "temporal"]
    done = subprocess.run(command, env={"PATH": str(tmp_path)}, stdout=subprocess.PIPE, check=True)
    assert done.stdout == printed
