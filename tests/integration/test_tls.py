"""TLS: each way that works, and each fault in one sentence, at once."""

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from support.postgres.databases import Databases
from support.postgres.tls import REFUSED, TlsFront
from support.program.command import Completed, run_cli
from support.program.refusals import errors


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """Certificates: of our authority, of another one, and a client's with its key."""

    authority: Path
    stranger: Path
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Secured:
    """A test's databases behind TLS, on a server with certificates for `localhost` and `db.example`."""

    databases: Databases

    def status(self, host: str = "localhost", **changes: str) -> Completed:
        """Run status on one store under these variables."""
        base = self.databases.env() | {"SQL_HOST": host, "SCHEMA_MIGRATOR_STORES": "default"}
        plain = {name: value for name, value in base.items() if not name.startswith("SSL_CERT")}
        return run_cli(plain | changes, "status")

    def works(self, host: str = "localhost", **changes: str) -> None:
        """Run status; assert that it gets through."""
        done = self.status(host, **changes)
        assert done.code == 0, done.stderr

    def refused(self, host: str = "localhost", code: int = 11, **changes: str) -> str:
        """Return the sentence; assert the exit code, and that nothing was waited for."""
        done = self.status(host, **changes)
        assert done.code == code, done.stderr
        assert "database.waiting" not in done.stderr
        (sentence,) = errors(done)
        address = f"{self.databases.user}@{host}:{self.databases.port}/{self.databases.default}"
        return sentence.removeprefix("error: default: ").replace(address, "ADDRESS")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Return the authority that the server and the client are certified by."""
    return trustme.CA()


@pytest.fixture(scope="module")
def files(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Write what clients need."""
    folder = tmp_path_factory.mktemp("tls")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    trustme.CA().cert_pem.write_to_path(folder / "stranger.pem")
    client = authority.issue_cert("client@example.org")
    client.cert_chain_pems[0].write_to_path(folder / "client.crt")
    client.private_key_pem.write_to_path(folder / "client.key")
    (folder / "client.key").chmod(0o600)
    return Files(
        authority=folder / "ca.pem",
        stranger=folder / "stranger.pem",
        certificate=folder / "client.crt",
        key=folder / "client.key",
    )


@contextmanager
def front(databases: Databases, authority: trustme.CA, *, ask: bool) -> Iterator[Secured]:
    """Speak TLS before the server; `ask` for a client certificate, too."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "db.example").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED if ask else ssl.CERT_NONE
    with TlsFront(context, databases.host, databases.port) as made:
        yield Secured(databases=databases.via(made.port))


@pytest.fixture
def secured(databases: Databases, authority: trustme.CA) -> Iterator[Secured]:
    """Return the databases behind TLS."""
    with front(databases, authority, ask=False) as made:
        yield made


@pytest.fixture
def asking(databases: Databases, authority: trustme.CA) -> Iterator[Secured]:
    """Return the databases behind TLS with client certificates."""
    with front(databases, authority, ask=True) as made:
        yield made


def test_checks_certificate_and_name(secured: Secured, files: Files) -> None:
    """SQL_TLS with the right authority and name connects."""
    secured.works(SQL_TLS="true", SQL_TLS_CA_FILE=str(files.authority))


def test_takes_the_machines_authorities(secured: Secured, files: Files) -> None:
    """Without a CA file those certificates count that the machine, or SSL_CERT_FILE, trusts."""
    secured.works(SQL_TLS="true", SSL_CERT_FILE=str(files.authority))
    assert secured.refused(SQL_TLS="true", SSL_CERT_FILE=str(files.stranger)) == UNKNOWN
    assert secured.refused(SQL_TLS="true") == UNKNOWN


UNKNOWN = (
    "no TLS connection to ADDRESS: SSL error: certificate verify failed; "
    "set SQL_TLS_CA_FILE to the authority that signed it"
)


@pytest.mark.parametrize("loose", ["false", "true"])
def test_wrong_authority(secured: Secured, files: Files, loose: str) -> None:
    """A certificate of another authority is refused, with or without a check of the name."""
    found = secured.refused(
        SQL_TLS="true", SQL_TLS_CA_FILE=str(files.stranger), SQL_TLS_DISABLE_HOST_VERIFICATION=loose
    )
    assert found == UNKNOWN


def test_wrong_name(secured: Secured, files: Files) -> None:
    """A certificate for another name is refused, and the setting that helps is named."""
    found = secured.refused("127.0.0.1", SQL_TLS="true", SQL_TLS_CA_FILE=str(files.authority))
    assert found == (
        'no TLS connection to ADDRESS: server certificate for "localhost" (and 1 other name) does not match '
        'host name "127.0.0.1"; set SQL_TLS_SERVER_NAME to a name that it has'
    )


def test_server_name(secured: Secured, files: Files) -> None:
    """SQL_TLS_SERVER_NAME is the name that the certificate has to have, wherever the server is."""
    tls = {"SQL_TLS": "true", "SQL_TLS_CA_FILE": str(files.authority)}
    secured.works("127.0.0.1", **tls, SQL_TLS_SERVER_NAME="db.example")
    secured.works("localhost", **tls, SQL_TLS_SERVER_NAME="db.example")
    found = secured.refused("localhost", **tls, SQL_TLS_SERVER_NAME="other")
    assert found == (
        'no TLS connection to ADDRESS: server certificate for "localhost" (and 1 other name) does not match '
        'host name "other"; set SQL_TLS_SERVER_NAME to a name that it has'
    )


def test_verification_off(secured: Secured, files: Files) -> None:
    """Without verification any name is taken, and without a CA file any certificate."""
    loose = {"SQL_TLS": "true", "SQL_TLS_DISABLE_HOST_VERIFICATION": "true"}
    secured.works("127.0.0.1", **loose)
    secured.works("127.0.0.1", **loose, SQL_TLS_CA_FILE=str(files.authority))


def test_libpqs_own_settings(secured: Secured, files: Files) -> None:
    """With SQL_TLS unset libpq's variables and connect attributes decide."""
    secured.works(PGSSLMODE="verify-ca", PGSSLROOTCERT=str(files.authority))
    secured.works(SQL_CONNECT_ATTRIBUTES=f"sslmode=verify-ca&sslrootcert={files.authority}")
    assert secured.refused(SQL_CONNECT_ATTRIBUTES=f"sslmode=verify-ca&sslrootcert={files.stranger}") == UNKNOWN


def test_tls_switched_off(secured: Secured) -> None:
    """A server that wants TLS says so, and the setting that helps is named."""
    assert secured.refused(code=12, SQL_TLS="false") == (
        f"the server refuses this role or host at ADDRESS: {REFUSED}; allow it in the server's pg_hba.conf or"
        " set SQL_TLS=true"
    )


def test_server_without_tls(databases: Databases) -> None:
    """A server that does without TLS is refused where TLS is asked for."""
    assert Secured(databases=databases).refused(databases.host, SQL_TLS="true") == (
        "no TLS connection to ADDRESS: server does not support SSL, but SSL was required; "
        "set SQL_TLS=false, or enable ssl on the server"
    )


def certified(files: Files, **changes: str) -> dict[str, str]:
    """Return the settings of a client with a certificate."""
    return {
        "SQL_TLS": "true",
        "SQL_TLS_CA_FILE": str(files.authority),
        "SQL_TLS_CERT_FILE": str(files.certificate),
        "SQL_TLS_KEY_FILE": str(files.key),
    } | changes


def test_client_certificate(asking: Secured, files: Files) -> None:
    """A server that asks for a certificate of ours gets it; without one the settings are named."""
    asking.works(**certified(files))
    assert asking.refused(SQL_TLS="true", SQL_TLS_CA_FILE=str(files.authority)) == (
        "no TLS connection to ADDRESS: SSL error: tlsv13 alert certificate required; "
        "set SQL_TLS_CERT_FILE and SQL_TLS_KEY_FILE"
    )


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (
            lambda key: key.chmod(0o644),
            (
                'private key file "KEY" has group or world access; file must have permissions u=rw (0600) or less if '
                "owned by the current user, or permissions u=rw,g=r (0640) or less if owned by root; "
                "mount its Secret with defaultMode: 0440, owned by root"
            ),
        ),
        (
            lambda key: key.write_text("nonsense"),
            'could not load private key file "KEY": unsupported; correct the settings SQL_TLS_*',
        ),
        (
            trustme.CA().issue_cert("x").private_key_pem.write_to_path,
            'could not load private key file "KEY": key values mismatch; correct the settings SQL_TLS_*',
        ),
    ],
)
def test_client_key(
    asking: Secured, files: Files, tmp_path: Path, spoil: Callable[[Path], object], reason: str
) -> None:
    """A key that others may read, as a Secret's volume has it by default, or that is none, is refused."""
    key = tmp_path / "key"
    key.write_bytes(files.key.read_bytes())
    key.chmod(0o600)
    spoil(key)
    found = asking.refused(**certified(files, SQL_TLS_KEY_FILE=str(key)))
    assert found.replace(str(key), "KEY") == f"no TLS connection to ADDRESS: {reason}"


def test_missing_tls_file(secured: Secured) -> None:
    """A file that does not exist is named with its setting, before connecting."""
    done = secured.status(SQL_TLS="true", SQL_TLS_CA_FILE="/no/such")
    assert done.code == 2
    assert errors(done) == [
        ('error: default: SQL_TLS_CA_FILE is "/no/such", which is not a readable file; mount it, or correct the path')
    ]


def test_migrates_over_tls(secured: Secured, files: Files) -> None:
    """All connections of a migration are made the same way."""
    tls = {"SQL_HOST": "localhost", "SQL_TLS": "true", "SQL_TLS_CA_FILE": str(files.authority)}
    done = run_cli(secured.databases.env() | tls, "migrate", "--store", "visibility")
    assert done.code == 0, done.stderr
