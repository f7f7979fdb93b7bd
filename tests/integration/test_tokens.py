"""Runs that log in with a token: a new one for every connection, never shown, and each way to fail in one sentence.

The clouds' endpoints are fakes on this machine, and the clouds' own libraries ask them. What they give is the role's
password in PostgreSQL, which takes the place of the cloud's check of a token.
"""

import itertools
import json
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme
from psycopg import sql

from support.cloud.endpoint import Answer, FakeCloud
from support.cloud.identities import (
    IMDS,
    PROXIES,
    azure_imds,
    by_proxy,
    directory,
    entra,
    gcp_metadata,
    nowhere,
    secret,
    written,
)
from support.postgres.databases import Databases
from support.postgres.listener import POLL
from support.postgres.tls import TlsFront
from support.program.command import Completed, await_event, finish, run_cli, run_process, start_cli
from support.program.refusals import errors
from support.vendor.tool import binary
from support.visibility.executions import TABLE, fill

ROWS = 300
EVERY_SECONDS = 2.0
HINTS = {
    "aws": "grant the role rds_iam, allow the identity rds-db:connect for it, and set SQL_HOST to the name of the"
    " endpoint",
    "azure": "create the role by pgaadauth_create_principal, and set SQL_USER to it",
}
TENANT = "00000000-1111-2222-3333-444444444444"


class Front(TlsFront):
    """TLS before the server; `opened` counts the connections."""

    opened = 0

    def accepted(self, client: socket.socket) -> None:
        """Count."""
        self.opened += 1
        super().accepted(client)


class Tenant:
    """A test's databases as a cloud has them: behind TLS, and their owner's password is the token of the moment."""

    def __init__(self, databases: Databases, cloud: FakeCloud, front: Front, folder: Path) -> None:
        self.databases = databases
        self.cloud = cloud
        self.front = front
        self.folder = folder
        self.issued: list[str] = []
        self.renew()

    def renew(self) -> None:
        """Give the role another password."""
        self.current = secret()
        role = sql.Identifier(self.databases.user)
        with self.databases.admin() as admin:
            admin.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(role, sql.Literal(self.current)))

    def token(self) -> str:
        """Return the token of the moment."""
        self.issued.append(self.current)
        return self.current

    def env(self, auth: str, **changes: str) -> dict[str, str]:
        """Return the environment for our program; an empty value takes a variable away."""
        tls = {
            "SQL_HOST": "localhost",
            "SQL_PORT": str(self.front.port),
            "SQL_TLS": "true",
            "SQL_TLS_CA_FILE": str(self.folder / "ca.pem"),
        }
        own = {"SQL_AUTH": auth, "SQL_PASSWORD": "", "SCHEMA_MIGRATOR_WAIT_TIMEOUT": "60", **nowhere(self.folder)}
        merged = self.databases.env() | tls | own
        kept = {name: value for name, value in merged.items() if value and name.upper() not in PROXIES}
        return {name: value for name, value in (kept | changes).items() if value}

    def shows_no_token(self, done: Completed) -> Completed:
        """Return how a run ended; assert that nothing it wrote has a token in it."""
        assert not [token for token in self.issued if token in done.stdout + done.stderr]
        return done

    @contextmanager
    def renewing(self) -> Iterator[None]:
        """Give the role another password every few seconds, until the block ends."""
        end = threading.Event()

        def again() -> None:
            while not end.wait(EVERY_SECONDS):
                self.renew()

        thread = threading.Thread(target=again)
        thread.start()
        try:
            yield
        finally:
            end.set()
            thread.join()


@pytest.fixture
def tenant(databases: Databases, tmp_path: Path) -> Iterator[Tenant]:
    """Put the databases into a cloud."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert("localhost").configure_cert(context)
    with FakeCloud(tmp_path) as cloud, Front(context, databases.host, databases.port) as front:
        yield Tenant(databases, cloud, front, tmp_path)


def entra_by_proxy(tenant: Tenant, answers: Iterator[Answer]) -> dict[str, str]:
    """Let Entra, behind a proxy, give these answers to a service principal."""
    directory(tenant.cloud, TENANT, lambda _: next(answers))
    principal = {"AZURE_TENANT_ID": TENANT, "AZURE_CLIENT_ID": "x", "AZURE_CLIENT_SECRET": secrets.token_hex(20)}
    return by_proxy(tenant.cloud) | principal


def test_a_token_for_every_connection(tenant: Tenant) -> None:
    """An installation: as many tokens as connections, and none of them is shown."""
    env = tenant.env("azure", **azure_imds(tenant.cloud, tenant.token))
    done = tenant.shows_no_token(run_cli(env, "migrate", "--store", "visibility", "--log-level", "debug"))
    assert done.code == 0, done.stderr
    assert len(tenant.issued) == tenant.front.opened > 1


@pytest.mark.parametrize("command", ["status", "wait --for database", "create-database"])
def test_every_command(tenant: Tenant, command: str) -> None:
    """Whatever connects logs in that way; here with Google's metadata server."""
    env = tenant.env("gcp", **gcp_metadata(tenant.cloud, tenant.token))
    done = tenant.shows_no_token(run_process(env, *command.split(), "--store", "default"))
    assert done.code == 0, done.stderr
    assert len(tenant.issued) == tenant.front.opened > 0


def test_the_vendors_tool(tenant: Tenant) -> None:
    """The executor sql-tool gives the vendor's binary a token too."""
    given = azure_imds(tenant.cloud, tenant.token)
    vendor = {"SCHEMA_MIGRATOR_EXECUTOR": "sql-tool", "SCHEMA_MIGRATOR_SQL_TOOL": str(binary("1.32.2"))}
    done = tenant.shows_no_token(run_cli(tenant.env("azure", **given, **vendor), "migrate", "--store", "visibility"))
    assert done.code == 0, done.stderr


def test_a_role_whose_password_changes_all_the_time(tenant: Tenant) -> None:
    """An online rewrite goes on for several passwords: each connection has the one of its moment."""
    visibility = {"SCHEMA_MIGRATOR_STORES": "visibility", **azure_imds(tenant.cloud, tenant.token)}
    env = tenant.env("azure", **visibility)
    assert run_cli(env, "migrate", "--visibility-target-version", "1.9").code == 0
    with tenant.databases.connect("visibility", password=tenant.current) as owner:
        fill(owner, ROWS)
        tenant.issued.clear()
        opened = tenant.front.opened
        with tenant.renewing():
            owner.execute("BEGIN")
            owner.execute(f"LOCK TABLE {TABLE} IN ACCESS SHARE MODE".encode())
            process = start_cli(env, "migrate", "--rewrite", "online", "--jobs", "4")
            await_event(process, "table.busy")
            before = tenant.current
            while tenant.current == before:  # what connects after the cutover needs another password than the workers
                time.sleep(POLL)
            owner.execute("COMMIT")
            done = tenant.shows_no_token(finish(process))
    assert done.code == 0, done.stderr
    assert len(set(tenant.issued)) > 1
    assert len(tenant.issued) == tenant.front.opened - opened


@pytest.mark.parametrize("cloud", HINTS)
def test_a_token_that_the_server_rejects(tenant: Tenant, cloud: str) -> None:
    """The server's words and what to grant are told, and the token is not shown."""
    given = {
        "aws": {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "x", "AWS_REGION": "eu-west-1"},
        "azure": azure_imds(tenant.cloud, lambda: f"{tenant.token()}, but another one"),
    }
    env = tenant.env(cloud, **given[cloud], SCHEMA_MIGRATOR_WAIT_TIMEOUT="0")
    done = tenant.shows_no_token(run_cli(env, "status", "--store", "default", "--log-level", "debug"))
    assert "X-Amz" not in done.stderr
    address = f"{tenant.databases.user}@localhost:{tenant.front.port}/{tenant.databases.default}"
    said = f'password authentication failed for user "{tenant.databases.user}"'
    assert errors(done) == [f"error: default: the server rejected the token for {address}: {said}; {HINTS[cloud]}"]
    assert done.code == 10


def test_an_endpoint_that_comes_late(tenant: Tenant) -> None:
    """While it does not answer, the run waits for it as for the database; the last words are the endpoint's."""
    busy = Answer(status=503, body={"error": "temporarily_unavailable"})
    ready = iter([Answer(body=entra(tenant.current))])
    env = tenant.env("azure", **entra_by_proxy(tenant, itertools.chain(itertools.repeat(busy, 4), ready)))
    done = run_cli(env, "status", "--store", "default")
    assert done.code == 0, done.stderr
    events = [json.loads(line) for line in done.stderr.splitlines()]
    reasons = [event["reason"] for event in events if event["event"] == "database.waiting"]
    assert reasons
    assert all(reason.startswith("Microsoft Entra gives no answer about the identity: ") for reason in reasons)


def refused(tenant: Tenant, code: int, command: str = "status", **variables: str) -> str:
    """Return the sentence of a run that has a second; assert its exit code."""
    env = tenant.env("azure", **{"SCHEMA_MIGRATOR_WAIT_TIMEOUT": "1"} | variables)
    done = tenant.shows_no_token(run_cli(env, command, "--store", "default"))
    assert done.code == code, done.stderr
    return errors(done)[0].removeprefix("error: default: ")


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (503, 1, "Microsoft Entra gives no answer about the identity: "),
        (401, 10, "Microsoft Entra refuses the identity a token: "),
    ],
)
def test_what_the_cloud_answers(tenant: Tenant, status: int, code: int, words: str) -> None:
    """A Job repeats what may go away, and nothing else."""
    answers = itertools.repeat(Answer(status=status, body={"error": "x", "error_description": "y"}))
    assert refused(tenant, code, **entra_by_proxy(tenant, answers)).startswith(words)
    assert tenant.front.opened == 0


def test_no_identity(tenant: Tenant) -> None:
    """Nothing is sent to the server."""
    assert refused(tenant, 2).startswith("SQL_AUTH=azure finds no identity; link the pod's ServiceAccount")
    assert refused(tenant, 2, SQL_TLS="false", SQL_TLS_CA_FILE="").startswith(
        "SQL_AUTH=azure is set beside SQL_TLS=false, but a token is sent over TLS alone; "
    )
    assert tenant.front.opened == 0


def test_an_identity_that_comes_late(tenant: Tenant) -> None:
    """A pod's first seconds may have no identity: `create-database`, which runs first, waits for it too."""
    there = azure_imds(tenant.cloud, tenant.token)
    ready, none = tenant.cloud.answers[IMDS], Answer(status=400, body={"error": "invalid_request"})
    few = iter(range(2))
    tenant.cloud.on(IMDS, lambda request: ready(request) if next(few, None) is None else none)
    done = run_cli(tenant.env("azure", **there), "create-database", "--store", "default")
    assert done.code == 0, done.stderr


def test_the_servers_form_of_a_password_command(tenant: Tenant) -> None:
    """An object with command, args and timeout, as in the server's configuration."""
    file = written(tenant.folder / "password", tenant.current)
    given = json.dumps({"command": "cat", "args": [file], "timeout": "10s"})
    done = run_cli(tenant.env("", SQL_PASSWORD_COMMAND=given), "status", "--store", "default")
    assert done.code == 0, done.stderr
