"""A PgBouncer before the tests' server."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from schema_migrator.demo.embedded_postgres import give
from support.postgres.databases import Databases
from support.postgres.watcher import dies_with_us
from support.waiting import await_true

HOST = "127.0.0.1"
CONFIGURATION = """
[databases]
{aliases}
* = host={server_host} port={server_port}

[pgbouncer]
pool_mode = {mode}
default_pool_size = {size}
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {users}
"""


def program() -> str:
    """Return where PgBouncer lies; Debian keeps it out of the users' PATH."""
    found = shutil.which("pgbouncer", path=os.environ["PATH"] + os.pathsep + "/usr/sbin")
    assert found is not None, "pgbouncer is missing: apt-get install pgbouncer"
    return found


@contextmanager
def pooled(
    databases: Databases,
    mode: str = "transaction",
    *,
    size: int = 20,
    aliases: Mapping[str, str] | None = None,
) -> Iterator[Databases]:
    """Yield the databases as their owner sees them through the pooler.

    `size`: sessions of the server for each database; `aliases`: the server's names by those that only the pooler knows.
    """
    # PgBouncer refuses to run as root.
    account = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="pgbouncer-") as name:
        home = Path(name)
        port = write(home, databases, mode=mode, size=size, aliases=aliases or {})
        for path in (home, *home.iterdir()):
            give(path, account)
        with (home / "log").open("w", encoding="utf-8") as log:
            process = subprocess.Popen(
                dies_with_us(program(), str(home / "ini")), stderr=log, user=account.pw_uid if account else None
            )
            try:
                await_true(lambda: listens(port))
                yield databases.via(port)
            finally:
                process.terminate()
                process.wait()


def write(home: Path, databases: Databases, *, aliases: Mapping[str, str], **options: str | int) -> int:
    """Write the configuration; return the port, which was free just now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = int(probe.getsockname()[1])
    users = home / "users"
    users.write_text(f"{quoted(databases.user)} {quoted(databases.password)}\n", encoding="utf-8")
    (home / "ini").write_text(
        CONFIGURATION.format(
            server_host=databases.host,
            server_port=databases.port,
            port=port,
            users=users,
            **options,
            aliases="\n".join(
                f"{alias} = host={databases.host} port={databases.port} dbname={name}"
                for alias, name in aliases.items()
            ),
        ),
        encoding="utf-8",
    )
    return port


def quoted(value: str) -> str:
    """Return the value as PgBouncer's list of users takes it."""
    return '"' + value.replace('"', '""') + '"'


def listens(port: int) -> bool:
    """Return whether somebody listens."""
    with socket.socket() as client:
        return client.connect_ex((HOST, port)) == 0
