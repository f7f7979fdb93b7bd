"""Standard streams that are closed, or on a full disk: what is done is done, and told where it can be."""

import subprocess

import pytest

from support.postgres.databases import Databases
from support.program.command import COMMAND, Completed, run_process

FULL = "the result could not be written to standard output (No space left on device); what was done is not undone"


def shell(databases: Databases, redirected: str, *args: str) -> Completed:
    """Run with redirections, as a shell has them."""
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {redirected}', "sh", *COMMAND, *args],
        env=databases.env(),
        capture_output=True,
        text=True,
        check=False,
    )
    return Completed(code=done.returncode, stdout=done.stdout, stderr=done.stderr)


def at_target(databases: Databases) -> bool:
    """Return whether both stores are."""
    return run_process(databases.env(), "status", "--check").code == 0


@pytest.mark.parametrize("redirected", [">&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_a_migration_without(databases: Databases, redirected: str) -> None:
    """It migrates and ends with 0: no connection to the server took a closed stream's number."""
    done = shell(databases, redirected, "migrate")
    assert (done.code, "Traceback" in done.stderr) == (0, False)
    assert at_target(databases)


def test_a_result_that_cannot_be_written(databases: Databases) -> None:
    """It is told in one line, and 1 says that another try can help; what was done is not undone."""
    done = shell(databases, ">/dev/full", "migrate")
    assert done.code == 1
    assert [line for line in done.stderr.splitlines() if not line.startswith("{")] == [
        f"error: {FULL}; free disk space there, then run it again"
    ]
    assert at_target(databases)


def test_a_refusal_that_cannot_be_written(databases: Databases) -> None:
    """The exit code says it."""
    assert shell(databases, ">&- 2>/dev/full", "migrate", "--nix").code == 2
    assert shell(databases, "2>&-", "migrate", "--nix").code == 2


@pytest.mark.parametrize("redirected", [">/dev/full", ">&-"])
def test_help_that_cannot_be_written(databases: Databases, redirected: str) -> None:
    """It ends quietly."""
    done = shell(databases, redirected, "--help")
    assert (done.code, done.stderr) == (0, "")
