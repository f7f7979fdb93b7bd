"""Temporal's own server of a release, on a test's databases, all four services in one process."""

import json
import os
import re
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from support.postgres.databases import Databases
from support.postgres.watcher import dies_with_us
from support.temporal.frontends import await_port
from support.vendor.tool import BUILDER

SERVICES = ("frontend", "history", "matching", "worker")
LOCAL = "127.0.0.1"
GRAVE = ("error", "dpanic", "panic", "fatal")
DATABASE = re.compile(r"pq: |SQLSTATE|sql: |schema|driver: bad connection")


@dataclass(frozen=True, slots=True, kw_only=True)
class TemporalServer:
    """A server that runs, and what it writes."""

    address: str
    log: Path
    process: subprocess.Popen[bytes]

    @contextmanager
    def uncomplaining(self) -> Iterator[None]:
        """Assert that it logs no error of a database during the block.

        Others say nothing of a schema: its services miss each other at the start, and on a busy machine calls time out.
        """
        before = self.log.stat().st_size
        yield
        found = complaints(self.log.read_bytes()[before:].decode())
        assert found == []


@cache
def binary(version: str) -> Path:
    """Return the server of a release; builds it if it is missing, which takes minutes."""
    command = [sys.executable, str(BUILDER), "--server"]
    subprocess.run([*command, version], stdout=subprocess.DEVNULL, check=True)
    shown = subprocess.run([*command, "--print-path", version], capture_output=True, text=True, check=True)
    return Path(shown.stdout.strip())


@contextmanager
def serving(databases: Databases, folder: Path, version: str = "1.29.1") -> Iterator[TemporalServer]:
    """Start a server; yield it when its frontend listens; RuntimeError when it ends before."""
    port, log = small_port(), folder / "server.log"
    command = start(databases, folder, port, version)
    with log.open("wb") as sink, subprocess.Popen(command, env=environment(), stdout=sink, stderr=sink) as process:
        try:
            await_port(port, process)
            yield TemporalServer(address=f"{LOCAL}:{port}", log=log, process=process)
        finally:
            process.terminate()


def refusal(databases: Databases, folder: Path, version: str = "1.29.1") -> tuple[int, str]:
    """Start a server that is to end by itself; return its exit code and what it wrote."""
    command = start(databases, folder, small_port(), version)
    done = subprocess.run(
        command,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout


def start(databases: Databases, folder: Path, port: int, version: str) -> list[str]:
    """Write the server's files into a folder; return its command."""
    config = folder / "config"
    config.mkdir(parents=True, exist_ok=True)
    (config / "dynamic.yaml").write_text("{}", encoding="utf-8")
    # JSON is YAML.
    (config / "development.yaml").write_text(json.dumps(configuration(databases, config, port)), encoding="utf-8")
    options = ("--root", str(folder), "--env", "development", "--allow-no-auth", "start")
    return dies_with_us(str(binary(version)), *options)


def environment() -> dict[str, str]:
    """Return what the server needs of the environment: its resource detection asks for a user's name and folder."""
    return {"PATH": os.environ["PATH"], "HOME": str(Path.home()), "USER": "temporal"}


def configuration(databases: Databases, config: Path, port: int) -> Mapping[str, object]:
    """Return the server's configuration, as it is for development; it logs in as a role that owns nothing."""
    return {
        "log": {"stdout": True, "level": "info", "format": "json"},
        "persistence": {
            "defaultStore": "default",
            "visibilityStore": "visibility",
            "numHistoryShards": 4,
            "datastores": {store: {"sql": store_of(databases, store)} for store in ("default", "visibility")},
        },
        "global": {"membership": {"maxJoinDuration": "30s", "broadcastAddress": LOCAL}},
        "services": {
            service: {
                "rpc": {
                    "grpcPort": port if service == "frontend" else small_port(),
                    "membershipPort": small_port(),
                    "bindOnIP": LOCAL,
                }
            }
            for service in SERVICES
        },
        "clusterMetadata": {
            "failoverVersionIncrement": 10,
            "masterClusterName": "active",
            "currentClusterName": "active",
            "clusterInformation": {
                "active": {
                    "enabled": True,
                    "initialFailoverVersion": 1,
                    "rpcName": "frontend",
                    "rpcAddress": f"{LOCAL}:{port}",
                }
            },
        },
        "dcRedirectionPolicy": {"policy": "noop"},
        "publicClient": {"hostPort": f"{LOCAL}:{port}"},
        "dynamicConfigClient": {"filepath": str(config / "dynamic.yaml"), "pollInterval": "10s"},
    }


def small_port() -> int:
    """Return a port that nobody listens on; the server keeps it as a smallint, which ends before most free ones."""
    while True:
        port = 10_000 + secrets.randbelow(2**15 - 10_000)
        with suppress(OSError), socket.create_server((LOCAL, port)):
            return port


def store_of(databases: Databases, store: str) -> Mapping[str, object]:
    """Return where a store is."""
    return {
        "pluginName": "postgres12",
        "databaseName": databases.name(store),
        "connectAddr": f"{databases.host}:{databases.port}",
        "connectProtocol": "tcp",
        "user": databases.server_user,
        "password": databases.server_password,
        "maxConns": 8,
        "maxIdleConns": 8,
    }


def complaints(text: str) -> list[str]:
    """Return what a log has as an error of a database, each with its reason."""
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{") and line.endswith("}")]
    said = [f"{line['msg']}: {line.get('error', '')}" for line in lines if line["level"] in GRAVE]
    return [one for one in said if DATABASE.search(one)]
