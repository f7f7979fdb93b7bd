"""Environments in which a cloud's library finds an identity at the fake endpoints, or none; and what those answer."""

import json
import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from support.cloud.endpoint import Answer, FakeCloud, Request

READ_BY_CLOUDS = ("AWS_", "AZURE_", "GOOGLE_", "GCE_", "CLOUDSDK_", "IDENTITY_", "MSI_", "NO_GCE_CHECK")
"""How the variables begin that the libraries read, besides those for proxies and certificates."""
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
LOGIN = "login.microsoftonline.com"
IMDS = "/metadata/identity/oauth2/token"
GCP_ACCOUNTS = "/computeMetadata/v1/instance/service-accounts/"
GCP_TOKEN = f"{GCP_ACCOUNTS}default/token"
ACCOUNT = "migrator@project.iam.gserviceaccount.com"


def secret() -> str:
    """Return what looks like a token, never the same."""
    return f"eyJhbGciOiJSUzI1NiJ9.{secrets.token_urlsafe(60)}Aa1"


def nowhere(folder: Path) -> dict[str, str]:
    """Return variables with which no library finds an identity by chance: neither of this machine nor of its user."""
    return {
        "HOME": str(folder),
        "PATH": "/usr/bin:/bin",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(folder / "aws-config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "aws-credentials"),
        "AZURE_TOKEN_CREDENTIALS": "prod",
        "AZURE_POD_IDENTITY_AUTHORITY_HOST": "http://127.0.0.1:1",
        "CLOUDSDK_CONFIG": str(folder / "gcloud"),
        "NO_GCE_CHECK": "true",
    }


def azure_imds(cloud: FakeCloud, token: Callable[[], str] = secret) -> dict[str, str]:
    """Let the instance's metadata give tokens of a managed identity."""
    cloud.on(IMDS, lambda request: Answer(body=entra(token(), resource=request.query["resource"])))
    return {"AZURE_TOKEN_CREDENTIALS": "prod", "AZURE_POD_IDENTITY_AUTHORITY_HOST": cloud.url}


def entra(token: str, **more: str) -> dict[str, object]:
    """Return Entra's answer with a token for an hour."""
    until = int((datetime.now(UTC) + timedelta(hours=1)).timestamp())
    times = {"expires_in": 3600, "ext_expires_in": 3600, "expires_on": str(until)}
    return {"token_type": "Bearer", "access_token": token, **times, **more}


def directory(cloud: FakeCloud, tenant: str, answer: Callable[[Request], Answer]) -> None:
    """Be Entra for a tenant; libraries come here by a proxy."""
    place = f"https://{LOGIN}/{tenant}"
    known = {
        "issuer": f"{place}/v2.0",
        "authorization_endpoint": f"{place}/oauth2/v2.0/authorize",
        "token_endpoint": f"{place}/oauth2/v2.0/token",
    }
    configuration = f"/{tenant}/v2.0/.well-known/openid-configuration"
    alias = {"preferred_network": LOGIN, "preferred_cache": LOGIN, "aliases": [LOGIN]}
    instance = {"tenant_discovery_endpoint": f"https://{LOGIN}{configuration}", "metadata": [alias]}
    cloud.on("/common/discovery/instance", Answer(body=instance))
    cloud.on(configuration, Answer(body=known))
    cloud.on(f"/{tenant}/oauth2/v2.0/token", answer)


def gcp_metadata(cloud: FakeCloud, token: Callable[[], str] = secret) -> dict[str, str]:
    """Let the metadata server, GKE's or an instance's, give tokens of a service account."""
    flavour = {"Metadata-Flavor": "Google"}

    def accounts(request: Request) -> Answer:
        if request.path.endswith("/token"):
            return Answer(body={"access_token": token(), "expires_in": 3600, "token_type": "Bearer"}, headers=flavour)
        return Answer(body={"aliases": ["default"], "email": ACCOUNT, "scopes": ["x"]}, headers=flavour)

    cloud.on("/", Answer(body="", headers=flavour))
    cloud.on("/computeMetadata/v1/project/project-id", Answer(body="project", headers=flavour))
    cloud.on(GCP_ACCOUNTS, accounts)
    place = f"127.0.0.1:{cloud.port}"
    return {"GCE_METADATA_HOST": place, "GCE_METADATA_IP": place, "NO_GCE_CHECK": "false"}


def by_proxy(cloud: FakeCloud) -> dict[str, str]:
    """Return variables that lead every HTTPS connection here, and make libraries trust its certificates."""
    bundles = dict.fromkeys(("REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE"), str(cloud.bundle))
    return {"HTTPS_PROXY": cloud.url, "NO_PROXY": "", **bundles}


def written(path: Path, content: object) -> str:
    """Write a file, an object as JSON; return its path."""
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def set_environment(patch: pytest.MonkeyPatch, **variables: str) -> None:
    """Set variables, for google-auth also where it keeps one that it has read when it was loaded."""
    for name, value in variables.items():
        patch.setenv(name, value)
    if host := variables.get("GCE_METADATA_HOST"):
        from google.auth.compute_engine import _metadata  # noqa: PLC0415 - slow, and for one library only

        patch.setattr(_metadata, "_GCE_METADATA_HOST", host)
        patch.setattr(_metadata, "_NO_GCE_CHECK", False)
