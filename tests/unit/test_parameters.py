import socket
from pathlib import Path
from typing import Any

import psycopg
import pytest

from schema_migrator.config.settings import read
from schema_migrator.errors import SettingsError
from schema_migrator.postgres import conninfo as module
from schema_migrator.postgres.conninfo import parameters


def given(patch: pytest.MonkeyPatch, variables: dict[str, str], direct: str = "") -> dict[str, Any]:
    """Return the parameters of the default store that do not stay the same."""
    for name, value in variables.items():
        patch.setenv(name, value)
    store = read({}).stores[0]
    found = parameters(store.direct(direct) if direct else store)
    constant = ("application_name", "client_encoding", "dbname", "tcp_user_timeout")
    return {name: value for name, value in found.items() if name not in constant and "keepalives" not in name}


def test_leaves_unset_what_is_unset(clean: pytest.MonkeyPatch) -> None:
    """Without settings libpq decides: its own variables and files stay usable."""
    assert given(clean, {}) == {}
    assert parameters(read({}).stores[0])["client_encoding"] == "utf8"


def test_refuses_a_user_without_a_name(clean: pytest.MonkeyPatch) -> None:
    """A container's numeric user is no role; libpq would fail, and wait, at every connection."""
    clean.setattr("os.geteuid", lambda: 1234567)
    with pytest.raises(SettingsError) as refusal:
        given(clean, {})
    assert str(refusal.value) == ("default: no role is set, and this system has no name for user 1234567; set SQL_USER")
    assert given(clean, {"PGUSER": "u"}) == {}
    clean.delenv("PGUSER")
    assert given(clean, {"SQL_USER": "u"}) == {"user": "u"}


def test_goes_past_a_pooler(clean: pytest.MonkeyPatch) -> None:
    """The direct connection has another host and port, the server's name of the database, and all else the same."""
    variables = {"SQL_HOST": "pooler", "SQL_PORT": "6432", "SQL_USER": "u", "SQL_PASSWORD": "p"}
    common = {"user": "u", "password": "p"}
    assert given(clean, variables, "there") == {"host": "pooler", "port": "6432", **common}
    direct = {"SQL_DIRECT_HOST": "db", "SQL_DIRECT_PORT": "5432"}
    assert given(clean, direct, "there") == {"host": "db", "port": "5432", **common}
    assert given(clean, {}) == {"host": "pooler", "port": "6432", **common}
    assert read({}).stores[0].direct("there").address == "u@db:5432/there"
    clean.delenv("SQL_DIRECT_HOST")
    assert given(clean, {}, "there") == {"host": "pooler", "port": "5432", **common}


def test_splits_connect_attributes(clean: pytest.MonkeyPatch) -> None:
    """Libpq's go to libpq, others to the server beside PGOPTIONS, the vendor's drivers' own and search_path nowhere."""
    text = "connect_timeout=5&work_mem=1%20MB&search_path=a&binary_parameters=yes&options=-c%20x%3D1&client_encoding=x"
    assert given(clean, {"SQL_CONNECT_ATTRIBUTES": text}) == {
        "connect_timeout": "5",
        "options": r"-c work_mem=1\ MB -c x=1",
    }
    assert parameters(read({}).stores[0])["client_encoding"] == "utf8"
    both = {"SQL_CONNECT_ATTRIBUTES": "work_mem=1MB", "PGOPTIONS": "-c role=r"}
    assert given(clean, both) == {"options": "-c work_mem=1MB -c role=r"}


def test_refuses_another_address_beside_the_host(clean: pytest.MonkeyPatch) -> None:
    """Libpq would go to PGHOSTADDR while every message names SQL_HOST; without SQL_HOST it is the address."""
    with pytest.raises(SettingsError) as refusal:
        given(clean, {"SQL_HOST": "db", "PGHOSTADDR": "10.0.0.1"})
    assert str(refusal.value) == (
        "default: PGHOSTADDR is set beside SQL_HOST=db, and libpq would connect to PGHOSTADDR; "
        "unset PGHOSTADDR; for another name in the certificate set SQL_TLS_SERVER_NAME"
    )
    clean.delenv("SQL_HOST")
    assert given(clean, {}) == {}
    assert read({}).stores[0].address == "10.0.0.1/temporal"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"SQL_TLS": "false"}, {"sslmode": "disable"}),
        ({"SQL_TLS": "false", "SQL_TLS_CA_FILE": "/no/such"}, {"sslmode": "disable"}),
        ({"SQL_TLS": "true"}, {"sslmode": "verify-full", "sslrootcert": "AUTHORITIES"}),
        ({"SQL_TLS": "true", "SQL_TLS_CA_FILE": "FILE"}, {"sslmode": "verify-full", "sslrootcert": "FILE"}),
        ({"SQL_TLS": "true", "SQL_TLS_DISABLE_HOST_VERIFICATION": "true"}, {"sslmode": "require"}),
        (
            {"SQL_TLS": "true", "SQL_TLS_DISABLE_HOST_VERIFICATION": "true", "SQL_TLS_CA_FILE": "FILE"},
            {"sslmode": "verify-ca", "sslrootcert": "FILE"},
        ),
        (
            {"SQL_TLS": "true", "SQL_TLS_CERT_FILE": "FILE", "SQL_TLS_KEY_FILE": "FILE"},
            {"sslmode": "verify-full", "sslrootcert": "AUTHORITIES", "sslcert": "FILE", "sslkey": "FILE"},
        ),
    ],
)
def test_maps_tls(
    clean: pytest.MonkeyPatch, tmp_path: Path, variables: dict[str, str], expected: dict[str, str]
) -> None:
    """The vendor's switches become libpq's modes; on means that certificate and name are checked."""
    file = tmp_path / "file"
    file.touch()
    clean.setattr(module, "_authorities", lambda: "AUTHORITIES")
    found = given(clean, {name: value.replace("FILE", str(file)) for name, value in variables.items()})
    assert found == {name: value.replace("FILE", str(file)) for name, value in expected.items()}


@pytest.mark.parametrize("name", ["SQL_TLS_CA_FILE", "SQL_TLS_CERT_FILE", "SQL_TLS_KEY_FILE"])
def test_refuses_missing_tls_files(clean: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    """A file that does not exist, or is a folder, is named with its setting."""
    file = tmp_path / "file"
    file.touch()
    files = {other: str(file) for other in ("SQL_TLS_CA_FILE", "SQL_TLS_CERT_FILE", "SQL_TLS_KEY_FILE")}
    for wrong in (tmp_path / "no", tmp_path):
        with pytest.raises(SettingsError) as caught:
            given(clean, {"SQL_TLS": "true"} | files | {name: str(wrong)})
        assert (
            str(caught.value)
            == f'default: {name} is "{wrong}", which is not a readable file; mount it, or correct the path'
        )


def test_finds_this_machines_authorities(clean: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Psycopg's own OpenSSL knows no authorities: the machine's file is looked up, unless a variable names one."""
    bundle = tmp_path / "bundle"
    bundle.touch()
    clean.setattr(module, "_AUTHORITIES", ("/no/such", str(bundle)))
    clean.delenv("SSL_CERT_FILE", raising=False)
    clean.delenv("SSL_CERT_DIR", raising=False)
    assert given(clean, {"SQL_TLS": "true"})["sslrootcert"] == str(bundle)
    clean.setenv("SSL_CERT_DIR", "/etc/ssl/certs")
    assert given(clean, {})["sslrootcert"] == "system"


def resolve(host: str, *_: object, **__: object) -> list[Any]:
    """Resolve two names."""
    addresses = {"a": ["10.0.0.1"], "b": ["10.0.0.2", "fd00::2"]}.get(host)
    if addresses is None:
        raise socket.gaierror(-2, "Name or service not known")
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"SQL_HOST": "a"}, {"host": "name", "hostaddr": "10.0.0.1"}),
        ({"SQL_HOST": "a, b"}, {"host": "name,name,name", "hostaddr": "10.0.0.1,10.0.0.2,fd00::2"}),
        ({"PGHOST": "a"}, {"host": "name", "hostaddr": "10.0.0.1"}),
        (
            {"SQL_HOST": "b,a", "SQL_PORT": "1,2"},
            {"host": "name,name,name", "hostaddr": "10.0.0.2,fd00::2,10.0.0.1", "port": "1,1,2"},
        ),
        ({"SQL_HOST": "/run"}, {"host": "/run"}),
        ({}, {}),
    ],
)
def test_expects_another_name(clean: pytest.MonkeyPatch, variables: dict[str, str], expected: dict[str, str]) -> None:
    """With SQL_TLS_SERVER_NAME the host only says where to go; a socket has no certificate."""
    clean.setattr(socket, "getaddrinfo", resolve)
    found = given(clean, {"SQL_TLS": "true", "SQL_TLS_SERVER_NAME": "name"} | variables)
    assert {name: value for name, value in found.items() if name in ("host", "hostaddr", "port")} == expected


def test_waits_for_a_name_that_leads_nowhere(clean: pytest.MonkeyPatch) -> None:
    """A host that cannot be resolved is an error like libpq's, to be tried again."""
    clean.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(psycopg.OperationalError, match=r"failed to resolve host 'c': .* Name or service not known"):
        given(clean, {"SQL_TLS": "true", "SQL_TLS_SERVER_NAME": "name", "SQL_HOST": "c"})
