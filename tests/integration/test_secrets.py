"""No password is ever shown: whatever a run writes, at any level, whether it goes well or not."""

import secrets
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.postgres.databases import Databases
from support.program.command import Completed, run_process

COMMANDS = ("migrate", "plan", "status", "verify", "create-database")


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """Runs the program and looks for secrets in all that it wrote."""

    databases: Databases
    folder: Path
    secrets: tuple[str, ...]

    def run(self, *args: str, **changes: str) -> Completed:
        """Run; assert that nothing secret was written anywhere."""
        log = self.folder / "termination-log"
        log.write_text("")
        base = self.databases.env() | {
            "SCHEMA_MIGRATOR_WAIT_TIMEOUT": "0.5",
            "SCHEMA_MIGRATOR_TERMINATION_LOG": str(log),
        }
        merged = base | changes
        done = run_process({name: value for name, value in merged.items() if value}, *args)
        written = {"stdout": done.stdout, "stderr": done.stderr, "termination log": log.read_text()}
        shown = {place for place, text in written.items() for secret in self.secrets if shows(text, secret)}
        assert not shown
        return done


def shows(text: str, secret: str) -> bool:
    """Tell whether a secret is in a text, as it is or as JSON and Python write it."""
    return any(form in text for form in (secret, secret.replace("\\", "\\\\"), secret.replace('"', '\\"')))


@pytest.fixture
def leak(databases: Databases, tmp_path: Path) -> Leak:
    """Return what runs the program with the owner's password among the secrets."""
    return Leak(databases=databases, folder=tmp_path, secrets=(databases.password, "s3cret"))


def unset(*names: str) -> Mapping[str, str]:
    """Return changes that take variables away."""
    return dict.fromkeys(names, "")


@pytest.mark.parametrize(("level", "output"), [("debug", "text"), ("error", "json")])
def test_good_runs(leak: Leak, level: str, output: str) -> None:
    """Every command that works, in both forms."""
    for command in COMMANDS:
        done = leak.run(command, "--output", output, "--log-level", level, SCHEMA_MIGRATOR_WAIT_TIMEOUT="60")
        assert done.code == 0


def test_failing_runs(leak: Leak) -> None:
    """Every kind of failure."""
    failures: list[Mapping[str, str]] = [
        {"SQL_PASSWORD": "s3cret"},
        {"SQL_PORT": "1"},
        {"DEFAULT_SQL_DATABASE": "nix"},
        {"SQL_TLS": "true"},
        {"SQL_PORT": "no number"},
        {"SQL_CONNECT_ATTRIBUTES": "sslmode=on"},
        {"SQL_CONNECT_ATTRIBUTES": "password=s3cret"},
        {"SQL_CONNECT_ATTRIBUTES": "s3cret"},
        {"SQL_HOST": "postgres://u:s3cret@h/d"},
        {"DEFAULT_SQL_URI": "postgres://u:s3cret@h:s3cret/d"},
        {"DEFAULT_SQL_URI": "postgres//u:s3cret@h/d"},
        {"DEFAULT_SQL_URI": "postgres://u:s3cret%@h/d"},
        {"SQL_URI": "postgres://u:s3cret@h/d"},
        {"DEFAULT_SQL_URI": "postgres://u:/s3cret/b@h:5432/d"},
        {"DEFAULT_SQL_URI": "postgres://u:12/s3cret@h/d"},
        {"SQL_CONNECT_ATTRIBUTES": "postgresql://u:s3cret@h/d?x=1"},
        {"SQL_HOST": "u:s3cret@h"},
        {"SQL_DATABASE": "postgres://u:s3cret@h/d"},
        {"SQL_PASSWORDS": "s3cret"},
        {"SQL_PASSWORD_COMMAND": "echo s3cret"},
    ]
    for changes in failures:
        assert leak.run("migrate", "--log-level", "debug", **changes).code in (1, 2, 10, 11)


def test_passwords_from_files(leak: Leak) -> None:
    """What a file holds, right or wrong, text or not."""
    file = leak.folder / "password"
    for content, code in (
        (leak.databases.password.encode(), 0),
        (b"s3cret", 10),
        (b"s3cret\xff", 2),
        (b"s3cret\0", 2),
    ):
        file.write_bytes(content)
        done = leak.run("status", "--log-level", "debug", SQL_PASSWORD="", SQL_PASSWORD_FILE=str(file))
        assert done.code == code


def test_passwords_from_commands(leak: Leak) -> None:
    """What a command prints on either channel, whether it works or fails."""
    python = sys.executable
    for command, code in (
        (f"{python} -c \"print('s3cret')\"", 10),
        (f"{python} -c \"print('s3cret'); exit(1)\"", 2),
        (f"{python} -c \"import sys; sys.stderr.write('s3cret'); exit(1)\"", 2),
        (f"{python} -c \"raise SystemExit('s3cret')\"", 2),
        ("/no/such --token s3cret", 2),
        ("cat 's3cret", 2),
    ):
        done = leak.run("status", "--log-level", "debug", SQL_PASSWORD="", SQL_PASSWORD_COMMAND=command)
        assert done.code == code


def test_passwords_from_flags(leak: Leak) -> None:
    """A flag is no different, nor is a flag that is misspelt or lacks its value."""
    assert leak.run("status", "--sql-password", "s3cret").code == 10
    assert leak.run("status", "--sql-password", leak.databases.password, SQL_PASSWORD="").code == 0
    assert leak.run("status", "--sql-passwort", "s3cret").code == 2
    assert leak.run("status", "s3cret").code == 2
    assert leak.run("s3cret").code == 2


def test_tracebacks(databases: Databases) -> None:
    """A fault of the program itself, which ends in a traceback, shows no password either."""
    connect = (
        "import psycopg; from schema_migrator.config import settings; from schema_migrator.postgres import parameters\n"
        "psycopg.connect(**parameters.parameters(settings.read({}).stores[0]) | {'host': 'no.such.invalid'})"
    )
    show = "from schema_migrator.config import settings\nraise KeyError(settings.read({}))"
    for code in (connect, show):
        secret = secrets.token_hex(8)
        written = run_python(databases.env() | {"SQL_PASSWORD": secret}, code)
        assert "Traceback" in written
        assert secret not in written


def run_python(env: Mapping[str, str], code: str) -> str:
    """Run code in a process; return what it wrote to standard error."""
    done = subprocess.run([sys.executable, "-c", code], env=dict(env), capture_output=True, text=True, check=False)
    return done.stderr
