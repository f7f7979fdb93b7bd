"""The password of a connection that is about to be made: a setting's, or a token of the cloud that SQL_AUTH names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from schema_migrator.errors import MigratorError, SettingsError
from schema_migrator.identity import aws, azure, gcp, login

if TYPE_CHECKING:
    from schema_migrator.config.settings import StoreSettings
    from schema_migrator.identity.login import Login


@dataclass(frozen=True, slots=True, kw_only=True)
class Cloud:
    """A cloud: the package of its library, how to get a token, and what its library's errors mean."""

    package: str
    token: Callable[[Login], str]
    explain: Callable[[Exception], MigratorError]


_CLOUDS = {
    "aws": Cloud(package="botocore", token=aws.token, explain=aws.explain),
    "gcp": Cloud(package="google-auth", token=gcp.token, explain=gcp.explain),
    "azure": Cloud(package="azure-identity", token=azure.token, explain=azure.explain),
}


def password(settings: StoreSettings) -> str | None:
    """Return the password or a new token; None if the settings have neither. Nothing of it is kept.

    Raises SettingsError, and with SQL_AUTH NoIdentity, TokenRefused or TokenUnavailable.
    """
    name = settings.sql.auth
    if name is None:
        return settings.password()
    cloud = _CLOUDS[name]
    failure: MigratorError
    try:
        return cloud.token(login.of(settings))
    except MigratorError as error:
        failure = error
    except ImportError:
        failure = SettingsError(
            f"SQL_AUTH={name} needs the package {cloud.package}, which is not installed",
            hint=f"pip install 'temporal-schema-migrator[{name}]', or an image that is built with CLOUDS={name}",
        )
    except Exception as error:  # noqa: BLE001 - a library may raise anything, with its request in it
        failure = cloud.explain(error)
    # Raised outside of the handler: the library's error, as its context, could show a token.
    failure.store = settings.store
    raise failure
