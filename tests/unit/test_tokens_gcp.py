"""Tokens for Cloud SQL and AlloyDB by google-auth itself: each kind of identity, each way to fail."""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from schema_migrator.config.settings import read
from schema_migrator.errors import MigratorError, exit_code
from schema_migrator.identity import tokens
from support.cloud.endpoint import Answer, FakeCloud, Request
from support.cloud.identities import ACCOUNT, GCP_TOKEN, gcp_metadata, secret, set_environment, written

SCOPES = {"https://www.googleapis.com/auth/sqlservice.login", "https://www.googleapis.com/auth/alloydb.login"}
LINK = "link the pod's ServiceAccount to a Google service account (workload identity), or set"
LET = "let the ServiceAccount act as the Google service account (roles/iam.workloadIdentityUser), or correct the key"
NO_ANSWER = "; can this pod reach it, through network policies and proxies?"


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    """Make a key for a service account."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
def hasty(nobody: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Let the library's own repetitions not wait."""
    nobody.setattr("google.auth._exponential_backoff.time", SimpleNamespace(sleep=lambda _: None))
    return nobody


def token(patch: pytest.MonkeyPatch, **variables: str) -> str:
    """Return a token for a role of the default store."""
    set_environment(
        patch, **{"SQL_AUTH": "gcp", "SQL_HOST": "10.0.0.1", "SQL_USER": "migrator@project.iam"} | variables
    )
    return tokens.password(read({}).stores[0]) or ""


def refused(patch: pytest.MonkeyPatch, code: int, **variables: str) -> str:
    """Return why there is none; the error carries none of the library's, which could have a token in it."""
    with pytest.raises(MigratorError) as caught:
        token(patch, **variables)
    assert exit_code(caught.value) == code
    assert caught.value.__context__ is None
    return str(caught.value).removeprefix("default: ")


def account(cloud: FakeCloud, folder: Path, key: rsa.RSAPrivateKey) -> dict[str, str]:
    """Return what leads to a service account's key file."""
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    content = {
        "type": "service_account",
        "client_email": ACCOUNT,
        "private_key": key.private_bytes(*form).decode(),
        "private_key_id": "1",
        "token_uri": f"{cloud.url}/token",
    }
    return {"GOOGLE_APPLICATION_CREDENTIALS": written(folder / "key.json", content)}


def claims(key: rsa.RSAPrivateKey, assertion: str) -> Mapping[str, str]:
    """Return what a signed assertion says; assert that the service account has signed it."""
    head, body, signature = assertion.split(".")
    decoded = [base64.urlsafe_b64decode(part + "==") for part in (body, signature)]
    key.public_key().verify(decoded[1], f"{head}.{body}".encode(), padding.PKCS1v15(), hashes.SHA256())
    found: Mapping[str, str] = json.loads(decoded[0])
    return found


def test_metadata(nobody: pytest.MonkeyPatch, cloud: FakeCloud) -> None:
    """GKE's metadata server, or an instance's, gives a token that may log in and nothing else, anew each time."""
    there = gcp_metadata(cloud)
    found = [token(nobody, **there) for _ in range(2)]
    asked = [request for request in cloud.asked if request.path.endswith("/token")]
    assert found[0] != found[1]
    assert [set(request.query["scopes"].split(",")) for request in asked] == [SCOPES, SCOPES]


def test_key_file(nobody: pytest.MonkeyPatch, cloud: FakeCloud, tmp_path: Path, key: rsa.RSAPrivateKey) -> None:
    """A service account's key signs what is exchanged for a token."""
    expected = secret()
    cloud.on("/token", Answer(body={"access_token": expected, "expires_in": 3600}))
    assert token(nobody, **account(cloud, tmp_path, key)) == expected
    said = claims(key, cloud.asked[0].form["assertion"])
    assert (said["iss"], set(said["scope"].split())) == (ACCOUNT, SCOPES)


def federation(cloud: FakeCloud, folder: Path) -> dict[str, str]:
    """Return what leads to an identity of another issuer, such as a Kubernetes cluster outside of Google's cloud."""
    content = {
        "type": "external_account",
        "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/k",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": f"{cloud.url}/v1/token",
        "credential_source": {"file": written(folder / "subject", "the pod's token")},
        "service_account_impersonation_url": f"{cloud.url}/v1/accounts/{ACCOUNT}:generateAccessToken",
    }
    return {"GOOGLE_APPLICATION_CREDENTIALS": written(folder / "federation.json", content)}


def impersonated(cloud: FakeCloud, final: Answer) -> None:
    """Be Google's STS, and the service that lets one identity act as a service account."""
    issued = "urn:ietf:params:oauth:token-type:access_token"
    first = {"access_token": "federated", "issued_token_type": issued, "token_type": "Bearer", "expires_in": 3600}
    cloud.on("/v1/token", Answer(body=first))
    cloud.on("/v1/accounts/", final)


def test_federation(nobody: pytest.MonkeyPatch, cloud: FakeCloud, tmp_path: Path) -> None:
    """The pod's token is exchanged for one that acts as a service account."""
    expected = secret()
    impersonated(cloud, Answer(body={"accessToken": expected, "expireTime": "2099-01-01T00:00:00Z"}))
    assert token(nobody, **federation(cloud, tmp_path)) == expected
    assert cloud.asked[0].form["subject_token"] == "the pod's token"
    assert cloud.asked[1].headers["authorization"] == "Bearer federated"


def test_no_identity(nobody: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is found, or what is named is no such file."""
    found = refused(nobody, 2)
    assert found.startswith("SQL_AUTH=gcp finds no identity: Your default credentials were not found.")
    assert found.endswith(f"; {LINK} GOOGLE_APPLICATION_CREDENTIALS to a key file")
    gone = refused(nobody, 2, GOOGLE_APPLICATION_CREDENTIALS="/no/such")
    assert gone.startswith("SQL_AUTH=gcp finds no identity: File /no/such was not found; ")
    broken = refused(nobody, 2, GOOGLE_APPLICATION_CREDENTIALS=written(tmp_path / "x", "{"))
    assert broken.startswith("SQL_AUTH=gcp finds no identity: ('File ")


def test_metadata_refuses(nobody: pytest.MonkeyPatch, cloud: FakeCloud) -> None:
    """The ServiceAccount may not act as the Google service account."""
    there = gcp_metadata(cloud)
    words = f"Unable to generate access token with {secret()}; IAM returned 403 Forbidden: Permission denied"
    cloud.on(GCP_TOKEN, Answer(status=403, body=words))
    found = refused(nobody, 10, **there)
    assert found.startswith("Google refuses the identity a token: ")
    assert "IAM returned 403 Forbidden: Permission denied" in found
    assert "eyJ" not in found
    assert found.endswith(f"; {LET} file")


def test_key_refused(nobody: pytest.MonkeyPatch, cloud: FakeCloud, tmp_path: Path, key: rsa.RSAPrivateKey) -> None:
    """The key was deleted; the answer quotes what it was asked with, which is not told."""

    def denied(request: Request) -> Answer:
        words = f"Invalid JWT Signature: {request.form['assertion']}"
        return Answer(status=400, body={"error": "invalid_grant", "error_description": words})

    cloud.on("/token", denied)
    found = refused(nobody, 10, **account(cloud, tmp_path, key))
    assert found == (f"Google refuses the identity a token: invalid_grant: Invalid JWT Signature: ***; {LET} file")


def test_impersonation_refused(nobody: pytest.MonkeyPatch, cloud: FakeCloud, tmp_path: Path) -> None:
    """The identity may not act as the service account."""
    denied = {"error": {"code": 403, "message": "Permission 'iam.serviceAccounts.getAccessToken' denied"}}
    impersonated(cloud, Answer(status=403, body=denied))
    found = refused(nobody, 10, **federation(cloud, tmp_path))
    assert found.startswith("Google refuses the identity a token: Unable to acquire impersonated credentials")
    assert "federated" not in found


@pytest.mark.parametrize("status", [500, 503, 429, 0])
def test_no_answer(
    hasty: pytest.MonkeyPatch, cloud: FakeCloud, tmp_path: Path, key: rsa.RSAPrivateKey, status: int
) -> None:
    """An endpoint that fails, has too much to do or is not there may be there later."""
    cloud.on("/token", Answer(status=status or 200, body={"error": "internal_failure"}))
    if not status:
        cloud.url = "http://127.0.0.1:1"
    found = refused(hasty, 1, **account(cloud, tmp_path, key))
    assert found.startswith("Google gives no answer about the identity: ")
    assert found.endswith(NO_ANSWER)


@pytest.mark.parametrize("status", [503, 429])
def test_metadata_does_not_answer(hasty: pytest.MonkeyPatch, cloud: FakeCloud, status: int) -> None:
    """GKE's metadata server is there but not ready, as in a pod's first seconds."""
    there = gcp_metadata(cloud)
    cloud.on(GCP_TOKEN, Answer(status=status, body="not yet"))
    found = refused(hasty, 1, **there)
    assert found.startswith("Google gives no answer about the identity: ")
    assert found.endswith(NO_ANSWER)
