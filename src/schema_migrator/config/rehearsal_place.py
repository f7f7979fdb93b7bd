"""Reads where a rehearsal runs if not in the store's own database: a connection URI, or `embedded`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError

from schema_migrator.config import uris
from schema_migrator.config.fields import PREFIX
from schema_migrator.config.sql_fields import PASSWORDS, SqlSettings
from schema_migrator.errors import SettingsError

if TYPE_CHECKING:
    from pydantic import SecretStr

VARIABLE, FLAG = f"{PREFIX}REHEARSE_ON", "--rehearse-on"
EMBEDDED = "embedded"


@dataclass(frozen=True, slots=True, kw_only=True)
class RehearsalPlace:
    """Another server on which rehearsals run; `sql` is None for the embedded PostgreSQL.

    `exposed` is the flag that shows the password to every user of the machine; empty if no flag does.
    """

    sql: SqlSettings | None = None
    exposed: str = ""


def read(value: SecretStr | None, *, by_flag: bool) -> RehearsalPlace | None:
    """Return the place that a setting names, None without the setting. Raises SettingsError, which never shows it."""
    if value is None:
        return None
    text = value.get_secret_value().strip()
    if text == EMBEDDED:
        return RehearsalPlace()
    if "://" not in text:
        raise SettingsError(
            f"{VARIABLE} is neither {EMBEDDED} nor a connection URI",
            hint="expected postgresql://user:password@host:5432/database, or the word embedded",
        )
    try:
        sql = SqlSettings.model_validate(uris.spread({"uri": text}, VARIABLE, PASSWORDS))
    except ValidationError:
        sql = None
    if sql is None:  # outside of the handler: pydantic's error, as the context, would show the password
        raise SettingsError(f"{VARIABLE} has a host or a port that cannot be used", hint=f"correct {VARIABLE}")
    return RehearsalPlace(sql=sql, exposed=FLAG if by_flag and sql.password else "")
