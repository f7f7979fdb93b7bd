"""Tokens for Azure Database for PostgreSQL: azure-identity asks Microsoft Entra for an access token."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, cast

from schema_migrator.errors import MigratorError, NoIdentity, TokenRefused, TokenUnavailable
from schema_migrator.identity.login import ATTEMPT_SECONDS, told

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

    from schema_migrator.identity.login import Login

_SCOPES = {
    ".postgres.database.usgovcloudapi.net": "https://ossrdbms-aad.database.usgovcloudapi.net/.default",
    ".postgres.database.chinacloudapi.cn": "https://ossrdbms-aad.database.chinacloudapi.cn/.default",
}
_PUBLIC = "https://ossrdbms-aad.database.windows.net/.default"
# What developers' desktops have; the Azure CLI stays.
_LEFT_OUT = dict.fromkeys(
    (
        "exclude_shared_token_cache_credential",
        "exclude_visual_studio_code_credential",
        "exclude_powershell_credential",
        "exclude_developer_cli_credential",
        "exclude_broker_credential",
    ),
    True,
)
_BUSY = 429
_SERVER_ERROR = 500


def token(login: Login) -> str:
    """Return a token from the first kind of identity that is there. Raises what azure-identity raises, or NoIdentity.

    The credentials are new, because they keep a token as long as it is valid. The library's chain tells only in a text
    whether an identity is missing or refused, so its members are asked here.
    """
    from azure.identity import CredentialUnavailableError, DefaultAzureCredential  # noqa: PLC0415 - an extra, and slow

    lacking = []
    limits = {
        "connection_timeout": ATTEMPT_SECONDS,
        "read_timeout": ATTEMPT_SECONDS,
        "retry_total": 1,
        "retry_status": 1,
    }
    with DefaultAzureCredential(**limits, **_LEFT_OUT) as chain:
        for credential in cast("tuple[TokenCredential, ...]", chain.credentials):
            try:
                return credential.get_token(scope_of(login.host)).token
            except CredentialUnavailableError as error:
                lacking.append(f"  {told(error.message)}")
    raise _none("SQL_AUTH=azure finds no identity", detail="\n".join(lacking))


def scope_of(host: str) -> str:
    """Return what the token is for: the databases of the cloud that a host belongs to, or of the public one.

    >>> scope_of("db.postgres.database.azure.com")
    'https://ossrdbms-aad.database.windows.net/.default'
    """
    return next((scope for end, scope in _SCOPES.items() if host.lower().rstrip(".").endswith(end)), _PUBLIC)


def explain(error: Exception) -> MigratorError:
    """Return our error for one of azure-identity's."""
    from azure.core.exceptions import ServiceRequestError, ServiceResponseError  # noqa: PLC0415 - an extra

    words = told(getattr(error, "message", "") or error)
    if isinstance(error, OSError | ValueError):  # a file with a token, or a variable, is not what it should be
        return _none(f"SQL_AUTH=azure finds no identity: {words}")
    status = getattr(error, "status_code", None) or _status(words)
    if isinstance(error, ServiceRequestError | ServiceResponseError) or status == _BUSY or status >= _SERVER_ERROR:
        return TokenUnavailable(
            f"Microsoft Entra gives no answer about the identity: {words}",
            hint="can this pod reach it, through network policies and proxies?",
        )
    return TokenRefused(
        f"Microsoft Entra refuses the identity a token: {words}",
        hint="correct the federated credential of the managed identity: its issuer, namespace and ServiceAccount",
    )


def _status(words: str) -> int:
    """Return the status that a text of MSAL's has, which gives it in no other way; 0 if it has none."""
    found = re.search(r"HTTP Error: (\d{3})", words)
    return int(found[1]) if found else 0


def _none(found: str, detail: str = "") -> NoIdentity:
    return NoIdentity(
        found,
        hint="link the pod's ServiceAccount to a managed identity and label the pod azure.workload.identity/use,"
        " or set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET",
        detail=detail,
    )
