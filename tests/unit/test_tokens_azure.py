"""Tokens for Azure Database by azure-identity itself: each kind of identity, each way to fail."""

from pathlib import Path

import pytest

from schema_migrator.config.settings import read
from schema_migrator.errors import MigratorError, exit_code
from schema_migrator.identity import tokens
from schema_migrator.identity.azure import scope_of
from support.cloud.endpoint import Answer, FakeCloud, Request
from support.cloud.identities import (
    IMDS,
    LOGIN,
    azure_imds,
    by_proxy,
    directory,
    entra,
    secret,
    set_environment,
    written,
)

HOST = "temporal.postgres.database.azure.com"
AUDIENCE = "https://ossrdbms-aad.database.windows.net"
TENANT = "00000000-1111-2222-3333-444444444444"
CLIENT = "55555555-6666-7777-8888-999999999999"
NO_ANSWER = "; can this pod reach it, through network policies and proxies?"


def token(patch: pytest.MonkeyPatch, **variables: str) -> str:
    """Return a token for a role of the default store."""
    set_environment(patch, **{"SQL_AUTH": "azure", "SQL_HOST": HOST, "SQL_USER": "migrator"} | variables)
    return tokens.password(read({}).stores[0]) or ""


def refused(patch: pytest.MonkeyPatch, code: int, **variables: str) -> str:
    """Return why there is none; the error carries none of the library's, which could have a token in it."""
    with pytest.raises(MigratorError) as caught:
        token(patch, **variables)
    assert exit_code(caught.value) == code
    assert caught.value.__context__ is None
    return str(caught.value).removeprefix("default: ")


def entra_here(cloud: FakeCloud, answer: Answer | None = None) -> None:
    """Be Entra for the tenant; without an answer, give tokens."""
    directory(cloud, TENANT, lambda _: answer or Answer(body=entra(secret())))


def workload(cloud: FakeCloud, folder: Path, jwt: str) -> dict[str, str]:
    """Return what the webhook of Azure's workload identity sets in a pod; Entra is here by a proxy."""
    return by_proxy(cloud) | {
        "AZURE_TENANT_ID": TENANT,
        "AZURE_CLIENT_ID": CLIENT,
        "AZURE_FEDERATED_TOKEN_FILE": written(folder / "federated", jwt),
        "AZURE_AUTHORITY_HOST": f"https://{LOGIN}/",
    }


def posted(cloud: FakeCloud) -> list[Request]:
    """Return the requests for a token."""
    return [request for request in cloud.asked if request.path.endswith("/token")]


def test_managed_identity(nobody: pytest.MonkeyPatch, cloud: FakeCloud) -> None:
    """An instance's metadata gives a token for databases, for each connection anew."""
    given: list[str] = []
    there = azure_imds(cloud, lambda: given.append(secret()) or given[-1])
    assert [token(nobody, **there), token(nobody, **there)] == given
    assert [request.query["resource"] for request in cloud.asked] == [AUDIENCE, AUDIENCE]
    assert given[0] != given[1]


def test_managed_identity_of_several(nobody: pytest.MonkeyPatch, cloud: FakeCloud) -> None:
    """AZURE_CLIENT_ID tells which of several."""
    assert token(nobody, **azure_imds(cloud), AZURE_CLIENT_ID=CLIENT)
    assert [request.query["client_id"] for request in posted(cloud)] == [CLIENT]


def test_workload_identity(nobody: pytest.MonkeyPatch, cloud: FakeCloud, tmp_path: Path) -> None:
    """The ServiceAccount's token becomes Entra's, for each connection anew; the file is read anew too."""
    entra_here(cloud)
    found = []
    for jwt in ("first assertion", "second assertion"):
        found.append(token(nobody, **workload(cloud, tmp_path, jwt)))
        (asked,) = posted(cloud)[len(found) - 1 :]
        assert (asked.host, asked.form["client_assertion"], asked.form["client_id"]) == (LOGIN, jwt, CLIENT)
        assert f"{AUDIENCE}/.default" in asked.form["scope"].split()
    assert found[0] != found[1]


def test_client_secret(nobody: pytest.MonkeyPatch, cloud: FakeCloud) -> None:
    """A service principal by variables."""
    entra_here(cloud)
    principal = {"AZURE_TENANT_ID": TENANT, "AZURE_CLIENT_ID": CLIENT, "AZURE_CLIENT_SECRET": "s3cret"}
    assert token(nobody, **by_proxy(cloud), **principal)
    assert [request.form["client_secret"] for request in posted(cloud)] == ["s3cret"]


@pytest.mark.parametrize(
    ("host", "place"),
    [
        (HOST, "windows.net"),
        ("db.postgres.database.usgovcloudapi.net", "usgovcloudapi.net"),
        ("DB.postgres.database.chinacloudapi.cn.", "chinacloudapi.cn"),
        ("10.0.0.1", "windows.net"),
    ],
)
def test_scope_of_a_host(host: str, place: str) -> None:
    """Each of Azure's clouds has databases of its own."""
    assert scope_of(host) == f"https://ossrdbms-aad.database.{place}/.default"


def test_no_identity(nobody: pytest.MonkeyPatch) -> None:
    """What was tried is listed, with the library's own words."""
    found = refused(nobody, 2, AZURE_TOKEN_CREDENTIALS="").splitlines()
    assert found[0] == (
        "SQL_AUTH=azure finds no identity; link the pod's ServiceAccount to a managed identity and label the pod"
        " azure.workload.identity/use, or set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET"
    )
    assert [line.split(" authentication unavailable")[0] for line in found[1:]] == [
        "  EnvironmentCredential",
        "  WorkloadIdentityCredential",
        "  ManagedIdentityCredential",
        "  Azure CLI not found on path",
    ]


def test_identity_that_is_not_assigned(nobody: pytest.MonkeyPatch, cloud: FakeCloud) -> None:
    """The instance has no such identity."""
    there = azure_imds(cloud)
    cloud.on(IMDS, Answer(status=400, body={"error": "invalid_request", "error_description": "Identity not found"}))
    assert "Identity not found" in refused(nobody, 2, **there)


def test_identity_refused(nobody: pytest.MonkeyPatch, cloud: FakeCloud, tmp_path: Path) -> None:
    """Entra's own words are told, without the token that they quote."""
    jwt = secret()
    words = f"AADSTS700213: No matching federated identity record found for presented assertion {jwt}."
    entra_here(cloud, Answer(status=401, body={"error": "invalid_client", "error_description": words}))
    found = refused(nobody, 10, **workload(cloud, tmp_path, jwt))
    assert "AADSTS700213: No matching federated identity record found for presented assertion ***" in found
    assert found.startswith("Microsoft Entra refuses the identity a token: ")
    assert found.endswith(
        "; correct the federated credential of the managed identity: its issuer, namespace and ServiceAccount"
    )
    assert jwt not in found


def test_no_token_file(nobody: pytest.MonkeyPatch, cloud: FakeCloud, tmp_path: Path) -> None:
    """The pod's token is not mounted."""
    entra_here(cloud)
    gone = workload(cloud, tmp_path, "x") | {"AZURE_FEDERATED_TOKEN_FILE": "/no/such"}
    assert "No such file or directory: '/no/such'" in refused(nobody, 2, **gone)


@pytest.mark.parametrize("status", [500, 429, 0])
def test_no_answer(nobody: pytest.MonkeyPatch, cloud: FakeCloud, tmp_path: Path, status: int) -> None:
    """An endpoint that fails, has too much to do or is not there may be there later."""
    entra_here(cloud, Answer(status=status or 200, body={"error": "temporarily_unavailable"}))
    there = workload(cloud, tmp_path, "x") | ({} if status else {"HTTPS_PROXY": "http://127.0.0.1:1"})
    found = refused(nobody, 1, **there)
    assert found.startswith("Microsoft Entra gives no answer about the identity: ")
    assert found.endswith(NO_ANSWER)
