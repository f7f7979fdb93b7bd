"""What the program does with each libpq connection parameter in SQL_CONNECT_ATTRIBUTES or the query of SQL_URI."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from schema_migrator.errors import SettingsError


class Fate(Enum):
    """What the program does with a connection parameter."""

    PASSED = "passed on"
    LEFT_OUT = "left out"
    SETTING = "refused in attributes"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """One connection parameter. `setting` is the suffix of the setting with the same meaning, such as HOST."""

    name: str
    fate: Fate
    why: str
    setting: str = ""


def _several(fate: Fate, why: str, names: str) -> tuple[Attribute, ...]:
    return tuple(Attribute(name=name, fate=fate, why=why) for name in names.split())


_OAUTH = "signing in by OAuth takes a person at a browser; get a token by SQL_AUTH or SQL_PASSWORD_COMMAND"
_SCRAM = "for programs that pass a login on; set SQL_PASSWORD"
REGISTER = (
    *(
        Attribute(name=name, fate=Fate.SETTING, why="in a URI it is the setting", setting=setting)
        for name, setting in (
            ("host", "HOST"),
            ("port", "PORT"),
            ("user", "USER"),
            ("password", "PASSWORD"),
            ("dbname", "DATABASE"),
        )
    ),
    Attribute(
        name="hostaddr",
        fate=Fate.REFUSED,
        why="set SQL_HOST to the address, and SQL_TLS_SERVER_NAME to the name in the server's certificate",
    ),
    *_several(
        Fate.PASSED,
        "the longest time for one attempt in seconds (default 10); 0: no limit of its own, and"
        " never longer than --wait-timeout",
        "connect_timeout",
    ),
    *_several(
        Fate.PASSED,
        "joined with the settings of the server that other attributes give; PGOPTIONS is kept beside those",
        "options",
    ),
    *_several(
        Fate.PASSED,
        "beats the program's own value",
        "keepalives keepalives_idle keepalives_interval keepalives_count tcp_user_timeout",
    ),
    *_several(
        Fate.PASSED,
        "as it is",
        "service passfile require_auth channel_binding requirepeer target_session_attrs"
        " load_balance_hosts min_protocol_version max_protocol_version gssencmode krbsrvname gsslib gssdelegation",
    ),
    *_several(Fate.PASSED, "refused beside SQL_TLS, which decides about it", "sslmode sslcert sslkey"),
    *_several(Fate.PASSED, "refused beside SQL_TLS, and without an sslmode of require or stricter", "sslrootcert"),
    *_several(Fate.PASSED, "refused beside SQL_TLS=false, and without TLS that is certain", "sslcrl sslcrldir"),
    *_several(
        Fate.PASSED,
        "refused beside SQL_TLS=false",
        "sslnegotiation sslcompression sslcertmode sslpassword"
        " sslsni ssl_min_protocol_version ssl_max_protocol_version",
    ),
    *_several(
        Fate.LEFT_OUT,
        "runs recognise one another's sessions by their names",
        "application_name fallback_application_name",
    ),
    *_several(Fate.LEFT_OUT, "always utf8", "client_encoding"),
    *_several(Fate.LEFT_OUT, "set in each transaction, since poolers refuse it at the start", "search_path"),
    *_several(
        Fate.LEFT_OUT,
        "for the vendor's drivers (lib/pq, pgx)",
        "binary_parameters default_query_exec_mode statement_cache_capacity",
    ),
    *_several(Fate.REFUSED, "a replication connection takes no ordinary statements", "replication"),
    *_several(Fate.REFUSED, "it writes the keys of the TLS session to a file", "sslkeylogfile"),
    *_several(Fate.REFUSED, "libpq takes it no longer; set sslmode=require", "requiressl"),
    *_several(Fate.REFUSED, "set the variable PGSERVICEFILE", "servicefile"),
    *_several(Fate.REFUSED, _SCRAM, "scram_client_key scram_server_key"),
    *_several(Fate.REFUSED, _OAUTH, "oauth_issuer oauth_client_id oauth_client_secret oauth_scope oauth_ca_file"),
)
"""Every parameter that PostgreSQL 13 to 18 document, some that 19 adds, and the ones of the vendor's drivers."""

NAMES = {attribute.name: attribute for attribute in REGISTER}
LEFT_OUT = frozenset(attribute.name for attribute in REGISTER if attribute.fate is Fate.LEFT_OUT)
SECRET = frozenset({"password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"})
"""Parameters whose values are never shown."""
BY_SQL_TLS = frozenset({"sslmode", "sslcert", "sslkey", "sslrootcert"})
"""Parameters that the settings SQL_TLS_* determine."""
CHECKING = ("sslrootcert", "sslcrl", "sslcrldir")
"""Parameters that libpq uses to check the server's certificate; if it may connect without TLS, it may ignore them."""
FILES = ("passfile", "sslcert", "sslkey", "sslrootcert", "sslcrl", "sslcrldir")
"""Parameters that name a file or a folder; libpq treats some of the files as empty if they are missing."""
CERTAIN = frozenset({"require", "verify-ca", "verify-full"})
"""The values of sslmode with which libpq never connects without TLS."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")


def is_name(text: str) -> bool:
    """Whether a text can be the name of a parameter. Other texts may be part of a password and are never shown."""
    return _NAME.fullmatch(text) is not None


def refuse(names: Iterable[str], variable: str, *, settings: str = "") -> None:
    """Raise SettingsError for the first parameter that is refused.

    `variable` is the variable that sets the parameters. If `settings` is given (a prefix such as SQL_), parameters
    that have a setting of their own are refused too.
    """
    for name in names:
        attribute = NAMES.get(name)
        if attribute is not None and attribute.fate is Fate.REFUSED:
            raise SettingsError(f'{variable} gives "{name}", which is not taken', hint=attribute.why)
        if attribute is not None and attribute.fate is Fate.SETTING and settings:
            raise SettingsError(
                f'{variable} gives "{name}", which has a setting of its own', hint=f"set {settings}{attribute.setting}"
            )
