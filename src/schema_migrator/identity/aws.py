"""Tokens for RDS and Aurora: botocore signs a login with the identity's keys."""

from __future__ import annotations

import os
import re
from functools import cache
from typing import TYPE_CHECKING

from schema_migrator.errors import MigratorError, NoIdentity, SettingsError, TokenRefused, TokenUnavailable
from schema_migrator.identity.login import ATTEMPT_SECONDS, told

if TYPE_CHECKING:
    from schema_migrator.identity.login import Login

_REGION = re.compile(r"\.(?P<region>[a-z]{2,3}(?:-[a-z]+)+-\d+)\.rds\.amazonaws\.com(?:\.cn)?\.?")
_REFUSED = re.compile(r"non 200 response (?!429)4\d\d")
_BUSY = frozenset({"Throttling", "ThrottlingException", "RequestLimitExceeded", "IDPCommunicationError"})
_SERVER_ERROR = 500


def token(login: Login) -> str:
    """Return a token, which is valid for 15 minutes. Raises what botocore raises, NoIdentity or SettingsError.

    The session is new, so that keys in a file are read again.
    """
    from botocore.config import Config  # noqa: PLC0415 - an extra, and slow to load
    from botocore.session import Session  # noqa: PLC0415 - the same

    session = Session()
    session.register_component("data_loader", _loader())
    session.set_default_client_config(
        Config(connect_timeout=ATTEMPT_SECONDS, read_timeout=ATTEMPT_SECONDS, retries={"total_max_attempts": 1})
    )
    own = os.environ.get("AWS_REGION") or session.get_config_variable("region")
    region = region_of(login.host) or own
    if not region:
        raise SettingsError(
            f'no AWS region is set, and the host "{login.host}" does not name one',
            hint="set AWS_REGION, or SQL_HOST to the endpoint's own name",
        )
    session.set_config_variable("region", own or region)  # whose STS is asked
    if session.get_credentials() is None:
        raise _none("neither keys, nor a web identity, nor an endpoint of a container or an instance")
    client = session.create_client("rds", region_name=region)
    return str(client.generate_db_auth_token(DBHostname=login.host, Port=login.port, DBUsername=login.user))


@cache
def _loader() -> object:
    """Return what reads the library's descriptions of AWS's services and keeps them, which is most of the work."""
    from botocore.loaders import create_loader  # noqa: PLC0415 - an extra

    return create_loader()


def region_of(host: str) -> str:
    """Return the region in the name of an endpoint; empty if there is none.

    >>> region_of("temporal.cluster-abc123.eu-central-1.rds.amazonaws.com")
    'eu-central-1'
    """
    found = _REGION.search(host.lower())
    return found["region"] if found else ""


def explain(error: Exception) -> MigratorError:
    """Return our error for one of botocore's."""
    from botocore import exceptions  # noqa: PLC0415 - an extra

    match error:
        case exceptions.ClientError():
            return _answered(error)
        case exceptions.CredentialRetrievalError() | exceptions.MetadataRetrievalError():
            return _refused(told(error)) if _REFUSED.search(str(error)) else _unavailable(told(error))
        case exceptions.HTTPClientError() | exceptions.ConnectionError():
            return _unavailable(told(error))
        case _:
            return _none(told(error))


def _answered(error: Exception) -> MigratorError:
    """Return our error for an answer of AWS with an error in it."""
    answer = getattr(error, "response", {})
    code = str(answer.get("Error", {}).get("Code", ""))
    words = told(f"{code}: {answer.get('Error', {}).get('Message', '')}")
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return _unavailable(words) if status >= _SERVER_ERROR or code in _BUSY else _refused(words)


def _none(words: str) -> NoIdentity:
    return NoIdentity(
        f"SQL_AUTH=aws finds no identity: {words}",
        hint="give the pod's ServiceAccount an IAM role (IRSA or EKS Pod Identity), or set AWS_ACCESS_KEY_ID and"
        " AWS_SECRET_ACCESS_KEY",
    )


def _refused(words: str) -> TokenRefused:
    return TokenRefused(
        f"AWS refuses the identity its keys: {words}",
        hint="correct the trust policy of the IAM role, or the role that the ServiceAccount names",
    )


def _unavailable(words: str) -> TokenUnavailable:
    return TokenUnavailable(
        f"AWS gives no answer about the identity: {words}",
        hint="can this pod reach it, through network policies and proxies?",
    )
