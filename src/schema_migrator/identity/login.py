"""What a token is asked for, and the failures on the way to it, in words that show no secret."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from schema_migrator.config.settings import StoreSettings

ATTEMPT_SECONDS = 10
"""The longest time for one answer of a cloud's endpoint; the program itself tries again."""
_USUAL_PORT = 5432
_MOST = 300
# A token, key or signature: long, without a blank, with letters of both cases and digits. An ARN or a path rarely is.
_MARKS = "+/=_.~%-"
_OPAQUE = re.compile(
    rf"(?=[a-z0-9{_MARKS}]*[A-Z])(?=[A-Z0-9{_MARKS}]*[a-z])(?=[A-Za-z{_MARKS}]*\d)[A-Za-z0-9{_MARKS}]{{40,}}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """A login at a database. `host` is the name that the server's certificate has, and so the endpoint's own."""

    host: str
    port: int
    user: str


def of(settings: StoreSettings) -> Login:
    """Return the login that the settings describe, completed by libpq's variables as libpq itself does."""
    given = settings.sql
    port = given.port or os.environ.get("PGPORT") or ""
    return Login(
        host=given.tls_server_name or given.host or os.environ.get("PGHOST") or "",
        port=int(port) if port.isdecimal() else _USUAL_PORT,
        user=settings.user,
    )


def told(text: object) -> str:
    r"""Return what a library says as one line of moderate length, in which whatever looks like a token is masked.

    >>> told("no access with eyJhbGciOiJSUzI1NiIsImtpZCI6IjEyMyJ9.eyJzdWIiOiJ4In0\nat all")
    'no access with *** at all'
    """
    line = _OPAQUE.sub("***", " ".join(str(text).split())).rstrip(".")
    return line if len(line) <= _MOST else f"{line[:_MOST]}..."
