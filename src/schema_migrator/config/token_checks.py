"""Checks of the settings for a cloud's tokens, before the program asks for one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from schema_migrator.config import attributes, checks
from schema_migrator.errors import SettingsError

if TYPE_CHECKING:
    from schema_migrator.config.sql_fields import SqlSettings
    from schema_migrator.releases.source import Store

_ACCOUNTS = ".gserviceaccount.com"


def check(sql: SqlSettings, store: Store) -> None:
    """Raise SettingsError if SQL_AUTH could send a token in plain text, or lacks what a token is made of."""
    if sql.auth is None:
        return
    problem = _loose(sql) or (_incomplete(sql) if sql.auth == "aws" else None)
    if problem is None and sql.auth == "gcp" and (sql.user or "").endswith(_ACCOUNTS):
        found = f'SQL_USER is "{sql.user}", but in Cloud SQL and AlloyDB the name of the role ends before {_ACCOUNTS}'
        problem = found, "set it without that end"
    if problem is not None:
        found, hint = problem
        raise SettingsError(found, hint=hint, store=store)


def _loose(sql: SqlSettings) -> tuple[str, str] | None:
    """Return what is wrong, and what to do, if libpq might connect without TLS."""
    said = dict(parse_qsl(sql.connect_attributes or "", keep_blank_values=True))
    hint = "set SQL_TLS=true, or sslmode=require or stricter"
    if sql.tls is False:
        return f"SQL_AUTH={sql.auth} is set beside SQL_TLS=false, but a token is sent over TLS alone", hint
    mode = checks.sslmode(said)
    if sql.tls is None and mode not in attributes.CERTAIN:
        found = f"SQL_AUTH={sql.auth} is set, but with sslmode={mode} a server without TLS would get the token"
        return found, hint
    return None


def _incomplete(sql: SqlSettings) -> tuple[str, str] | None:
    """Return what is wrong, and what to do, if there is not one host and a role: AWS makes a token for these."""
    for name, value in (("HOST", sql.host or os.environ.get("PGHOST") or ""), ("DIRECT_HOST", sql.direct_host or "")):
        if "," in value or value.startswith(("/", "@")):
            found = f'SQL_AUTH=aws is set, but SQL_{name} is "{value}", expected one host: a token is valid for one'
            return found, f"set SQL_{name} to the endpoint of the database or cluster"
        if name == "HOST" and not value:
            return "SQL_AUTH=aws is set, but there is no host to make a token for", "set SQL_HOST"
    if not (sql.user or os.environ.get("PGUSER")):
        return "SQL_AUTH=aws is set, but there is no role to make a token for", "set SQL_USER"
    return None
