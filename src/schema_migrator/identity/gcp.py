"""Tokens for Cloud SQL and AlloyDB: google-auth asks for an access token that may log in, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from schema_migrator.errors import MigratorError, NoIdentity, TokenRefused, TokenUnavailable
from schema_migrator.identity.login import ATTEMPT_SECONDS, told

if TYPE_CHECKING:
    from schema_migrator.identity.login import Login

_SCOPES = ("https://www.googleapis.com/auth/sqlservice.login", "https://www.googleapis.com/auth/alloydb.login")
_FIRST_REFUSAL = 400
_BUSY = 429
_SERVER_ERROR = 500


def token(_login: Login) -> str:
    """Return a token. Raises what google-auth raises."""
    import google.auth  # noqa: PLC0415 - an extra, and slow to load
    from google.auth.credentials import with_scopes_if_required  # noqa: PLC0415 - the same
    from google.auth.transport.requests import Request  # noqa: PLC0415 - the same

    class Brief(Request):
        """Requests that do not wait for two minutes, which is the library's own limit."""

        def __call__(
            self,
            url: str,
            method: str = "GET",
            body: bytes | None = None,
            headers: Any = None,  # noqa: ANN401 - the library's own signature, which has no types
            timeout: float = ATTEMPT_SECONDS,
            **values: Any,  # noqa: ANN401 - the same
        ) -> Any:  # noqa: ANN401 - the same
            return super().__call__(url, method, body, headers, timeout, **values)  # type: ignore[no-untyped-call]

    # Without scopes at first: with them, some kinds of credentials would ask for the name of their project.
    found, _ = google.auth.default()
    credentials = with_scopes_if_required(found, list(_SCOPES))  # type: ignore[no-untyped-call]
    credentials.refresh(Brief())
    return str(credentials.token)


def explain(error: Exception) -> MigratorError:
    """Return our error for one of google-auth's."""
    from google.auth import exceptions  # noqa: PLC0415 - an extra

    status = next((found for found in _statuses(error)), 0)
    if isinstance(error, exceptions.DefaultCredentialsError | OSError | ValueError):
        return _none(told(error))
    if _FIRST_REFUSAL <= status < _SERVER_ERROR and status != _BUSY:
        return _refused(told(_words(error)))
    if status or _is_transport(error) or getattr(error, "retryable", False):
        return TokenUnavailable(
            f"Google gives no answer about the identity: {told(_words(error))}",
            hint="can this pod reach it, through network policies and proxies?",
        )
    return _refused(told(_words(error)))


def _causes(error: object) -> Iterator[object]:
    """Yield an error and what it was made of: google-auth wraps errors and answers into one another."""
    yield error
    if isinstance(error, BaseException):
        for part in (*error.args, *([error.__cause__] if error.__cause__ else [])):
            yield from _causes(part)


def _statuses(error: Exception) -> Iterator[int]:
    for part in _causes(error):
        status = getattr(part, "status", None)
        if isinstance(status, int):
            yield status


def _is_transport(error: Exception) -> bool:
    from google.auth.exceptions import TransportError  # noqa: PLC0415 - an extra

    return any(isinstance(part, TransportError) for part in _causes(error))


def _words(error: Exception) -> str:
    """Return the sentence of the innermost error: the outer ones repeat it, with the answer behind it."""
    texts = [part for part in _causes(error) if isinstance(part, str)]
    return texts[0] if texts else str(error)


def _none(words: str) -> NoIdentity:
    return NoIdentity(
        f"SQL_AUTH=gcp finds no identity: {words}",
        hint="link the pod's ServiceAccount to a Google service account (workload identity), or set"
        " GOOGLE_APPLICATION_CREDENTIALS to a key file",
    )


def _refused(words: str) -> TokenRefused:
    return TokenRefused(
        f"Google refuses the identity a token: {words}",
        hint="let the ServiceAccount act as the Google service account (roles/iam.workloadIdentityUser), or correct the"
        " key file",
    )
