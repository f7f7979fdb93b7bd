"""Every parameter of libpq's, in SQL_CONNECT_ATTRIBUTES and in SQL_URI: what docs/connecting.md says of it."""

import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlencode

import psycopg
import pytest
import trustme

from schema_migrator.concurrency import Interrupt
from schema_migrator.config.attributes import NAMES, REGISTER, Attribute, Fate
from schema_migrator.config.settings import read
from schema_migrator.config.sql_fields import SqlSettings
from schema_migrator.errors import MigratorError, SettingsError, TlsRejected
from schema_migrator.postgres import connection
from schema_migrator.postgres.conninfo import APPLICATION
from support.postgres.databases import READ_BY_US, Databases, fresh
from support.postgres.engine import Engine
from support.postgres.tls import TlsFront

VALUES = {
    "connect_timeout": "5",
    "options": "-c work_mem=1MB",
    "keepalives": "1",
    "keepalives_idle": "11",
    "keepalives_interval": "12",
    "keepalives_count": "4",
    "tcp_user_timeout": "30000",
    "service": "ours",
    "passfile": "FOLDER/passfile",
    "require_auth": "scram-sha-256,md5,password",
    "channel_binding": "disable",
    "requirepeer": "nobody",
    "target_session_attrs": "read-write",
    "load_balance_hosts": "random",
    "min_protocol_version": "3.0",
    "max_protocol_version": "3.0",
    "gssencmode": "disable",
    "krbsrvname": "pg",
    "gsslib": "gssapi",
    "gssdelegation": "0",
    "sslmode": "verify-full",
    "sslcert": "FOLDER/client.crt",
    "sslkey": "FOLDER/client.key",
    "sslrootcert": "FOLDER/ca.pem",
    "sslcrl": "FOLDER/ca.pem",
    "sslcrldir": "FOLDER",
    "sslnegotiation": "postgres",
    "sslcompression": "0",
    "sslcertmode": "allow",
    "sslpassword": "s3cret",
    "sslsni": "0",
    "ssl_min_protocol_version": "TLSv1.2",
    "ssl_max_protocol_version": "TLSv1.3",
    "application_name": "mine",
    "fallback_application_name": "mine",
    "client_encoding": "latin1",
    "search_path": "nowhere",
    "binary_parameters": "yes",
    "default_query_exec_mode": "exec",
    "statement_cache_capacity": "170",
}
"""A value for each parameter that is taken."""
LISTS_OF_REVOKED = ("sslcrl", "sslcrldir")


@dataclass(frozen=True, slots=True, kw_only=True)
class Secured:
    """A database behind TLS, and the files for it."""

    databases: Databases
    folder: Path
    base: Mapping[str, str] = field(default_factory=dict)

    def value(self, name: str) -> str:
        """Return the value to set."""
        return VALUES[name].replace("FOLDER", str(self.folder))

    def attributes(self, name: str, value: str) -> dict[str, str]:
        """Return the settings with a parameter among the attributes."""
        own = {variable: text for variable, text in self.databases.env().items() if READ_BY_US.match(variable)}
        query = urlencode({**self.base, name: value})
        return own | {"SQL_HOST": "localhost", "SQL_CONNECT_ATTRIBUTES": query}

    def uri(self, name: str, value: str) -> dict[str, str]:
        """Return the settings with a parameter in the URI's query."""
        seen = self.databases
        place = f"{quote(seen.user)}:{quote(seen.password, safe='')}@localhost:{seen.port}/{seen.default}"
        query = urlencode({**self.base, name: value}, quote_via=quote)
        return {"DEFAULT_SQL_URI": f"postgresql://{place}?{query}"}


@pytest.fixture(scope="module")
def secured(server: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """Put a server behind TLS and write what clients need."""
    folder, authority = tmp_path_factory.mktemp("attributes"), trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    client = authority.issue_cert("client@example.org")
    client.cert_chain_pems[0].write_to_path(folder / "client.crt")
    client.private_key_pem.write_to_path(folder / "client.key")
    (folder / "passfile").touch(mode=0o600)
    (folder / "client.key").chmod(0o600)
    (folder / "services").write_text("[ours]\nkrbsrvname=from-the-service\n")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with fresh(server) as made, TlsFront(context, made.host, made.port) as front:
        base = {"sslmode": "verify-full", "sslrootcert": str(folder / "ca.pem"), "sslkey": str(folder / "client.key")}
        yield Secured(databases=made.via(front.port), folder=folder, base=base)


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch, secured: Secured) -> pytest.MonkeyPatch:
    """Take away the caller's settings; there is a service file."""
    for name in filter(READ_BY_US.match, list(os.environ)):
        monkeypatch.delenv(name)
    monkeypatch.setenv("PGSERVICEFILE", str(secured.folder / "services"))
    return monkeypatch


def connected(patch: pytest.MonkeyPatch, variables: Mapping[str, str]) -> dict[str, str]:
    """Connect under these variables; return libpq's parameters as the connection has them, and work_mem."""
    for name, value in variables.items():
        patch.setenv(name, value)
    with closing(connection.connect(read({}).stores[0], Interrupt(), patience=5)) as conn:
        (work_mem,) = conn.execute("SHOW work_mem").fetchone() or ("",)
        used = {one.keyword.decode(): one.val.decode() for one in conn.pgconn.info if one.val is not None}
    return used | {"work_mem": work_mem}


def named(fate: Fate) -> list[str]:
    """Return the names of the parameters with a fate."""
    return [one.name for one in REGISTER if one.fate is fate]


def test_every_parameter_of_libpq_is_in_the_register() -> None:
    """Of the libpq that is installed; what it does not know is not passed on."""
    known = {option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()}
    assert known - NAMES.keys() == set()
    assert set(named(Fate.PASSED)) - known == set()
    assert {one.name for one in REGISTER if one.fate in (Fate.PASSED, Fate.LEFT_OUT)} == VALUES.keys()


@pytest.mark.parametrize("form", ["attributes", "uri"])
@pytest.mark.parametrize("name", [name for name in named(Fate.PASSED) if name not in LISTS_OF_REVOKED])
def test_passed_on(clean: pytest.MonkeyPatch, secured: Secured, name: str, form: str) -> None:
    """The connection is made, and has the value."""
    used = connected(clean, getattr(secured, form)(name, secured.value(name)))
    assert used[name] == secured.value(name)
    assert name != "options" or used["work_mem"] == "1MB"
    assert name != "service" or used["krbsrvname"] == "from-the-service"


@pytest.mark.parametrize("form", ["attributes", "uri"])
@pytest.mark.parametrize("name", LISTS_OF_REVOKED)
def test_lists_of_revoked_certificates(clean: pytest.MonkeyPatch, secured: Secured, name: str, form: str) -> None:
    """They are looked at: one that says nothing of the authority ends the connection, and a missing one is refused."""
    with pytest.raises(TlsRejected, match="certificate verify failed"):
        connected(clean, getattr(secured, form)(name, secured.value(name)))
    with pytest.raises(SettingsError, match=f'connect attribute {name} is "/no/such", which cannot be read'):
        connected(clean, getattr(secured, form)(name, "/no/such"))


@pytest.mark.parametrize("form", ["attributes", "uri"])
@pytest.mark.parametrize("name", named(Fate.LEFT_OUT))
def test_left_out(clean: pytest.MonkeyPatch, secured: Secured, name: str, form: str) -> None:
    """The connection is made without the value."""
    used = connected(clean, getattr(secured, form)(name, secured.value(name)))
    assert secured.value(name) not in used.values()
    assert used["application_name"] == APPLICATION
    assert used["client_encoding"] == "utf8"


@pytest.mark.parametrize("name", named(Fate.SETTING))
def test_settings(clean: pytest.MonkeyPatch, secured: Secured, name: str) -> None:
    """Attributes refuse what has a setting, and name it; in a URI it is that setting."""
    found: Attribute = NAMES[name]
    assert found.setting.lower() in SqlSettings.model_fields
    with pytest.raises(SettingsError) as refusal:
        connected(clean, secured.attributes(name, "s3cret"))
    assert str(refusal.value) == (
        f'SQL_CONNECT_ATTRIBUTES gives "{name}", which has a setting of its own; set SQL_{found.setting}'
    )
    for variable in secured.attributes(name, ""):
        clean.delenv(variable)
    seen = secured.databases
    values = {"host": "localhost", "port": str(seen.port), "user": seen.user, "password": seen.password}
    query = urlencode({**secured.base, **values, "dbname": seen.default}, quote_via=quote)
    assert connected(clean, {"DEFAULT_SQL_URI": f"postgresql://?{query}"})["dbname"] == seen.default


@pytest.mark.parametrize("form", ["attributes", "uri"])
@pytest.mark.parametrize("name", named(Fate.REFUSED))
def test_refused(clean: pytest.MonkeyPatch, secured: Secured, name: str, form: str) -> None:
    """Refused before anything is contacted, with the reason, and without the value."""
    variables = getattr(secured, form)(name, "s3cret")
    with pytest.raises(MigratorError) as refusal:
        connected(clean, variables)
    place = "SQL_CONNECT_ATTRIBUTES" if form == "attributes" else "DEFAULT_SQL_URI"
    assert str(refusal.value) == f'{place} gives "{name}", which is not taken; {NAMES[name].why}'
    assert refusal.value.exit_code == 2


@pytest.mark.parametrize("form", ["attributes", "uri"])
@pytest.mark.parametrize(("value", "used"), [("1", "1"), ("3", "3"), ("0", "5"), ("60", "5")])
def test_connect_timeout_is_bounded(
    clean: pytest.MonkeyPatch, secured: Secured, value: str, used: str, form: str
) -> None:
    """No attempt lasts longer than it says, nor longer than there is patience; 0 is no limit of its own."""
    assert connected(clean, getattr(secured, form)("connect_timeout", value))["connect_timeout"] == used


def test_a_wrong_connect_timeout(clean: pytest.MonkeyPatch, secured: Secured) -> None:
    """What is no number is named."""
    with pytest.raises(SettingsError, match='invalid integer value "soon" for connection option "connect_timeout"'):
        connected(clean, secured.attributes("connect_timeout", "soon"))
