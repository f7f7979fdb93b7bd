import itertools
import time
from collections.abc import Iterator

import psycopg
import pytest
import tenacity

from schema_migrator.errors import NoIdentity, TokenRefused, TokenUnavailable
from schema_migrator.postgres import connection
from schema_migrator.postgres.connect_failures import ConnectFailure, refusal

AT = 'connection failed: connection to server at "10.0.0.1", port 5432 failed: '


@pytest.mark.parametrize(
    ("text", "kind", "line"),
    [
        (
            "failed to resolve host 'db': [Errno -2] Name or service not known",
            ConnectFailure.ABSENT,
            "failed to resolve host 'db': [Errno -2] Name or service not known",
        ),
        (f"{AT}Connection refused\n\tIs the server running?", ConnectFailure.ABSENT, "Connection refused"),
        (
            f"{AT}FATAL:  the database system is starting up",
            ConnectFailure.ABSENT,
            "the database system is starting up",
        ),
        (f"{AT}FATAL:  sorry, too many clients already", ConnectFailure.ABSENT, "sorry, too many clients already"),
        (f'{AT}FATAL:  database "t" does not exist', ConnectFailure.ABSENT, 'database "t" does not exist'),
        (
            f"{AT}SSL error: unexpected eof while reading",
            ConnectFailure.ABSENT,
            "SSL error: unexpected eof while reading",
        ),
        (f"{AT}FATAL:  Datenbank fehlt", ConnectFailure.ABSENT, "Datenbank fehlt"),
        ("connection timeout expired", ConnectFailure.ABSENT, "connection timeout expired"),
        (
            f'{AT}FATAL:  password authentication failed for user "u"',
            ConnectFailure.REJECTED,
            'password authentication failed for user "u"',
        ),
        *(
            (f"{AT}FATAL:  {words}", ConnectFailure.REJECTED, words)
            for words in (
                # RDS, Cloud SQL, AlloyDB and Azure about tokens, as users have quoted them.
                'PAM authentication failed for user "u"',
                'Cloud SQL IAM service account authentication failed for user "u@p.iam"',
                'AlloyDB IAM user authentication failed for user "u"',
                "The access token does not have a valid audience claim. Please acquire a new token for the resource",
                "An error occurred while validating the access token. Please acquire a new token and retry",
                "Service Principals cannot generate AAD_AUTH_TOKENTYPE_APP_USER tokens for role[u]",
            )
        ),
        (f"{AT}FATAL:  SASL authentication failed", ConnectFailure.REJECTED, "SASL authentication failed"),
        (f'{AT}FATAL:  role "u" does not exist', ConnectFailure.NO_ROLE, 'role "u" does not exist'),
        (f"{AT}FATAL:  no such user: u", ConnectFailure.NO_ROLE, "no such user: u"),
        (
            f'{AT}FATAL:  Peer authentication failed for user "u"',
            ConnectFailure.FORBIDDEN,
            'Peer authentication failed for user "u"',
        ),
        (
            f'{AT}FATAL:  pg_hba.conf rejects connection for host "10.0.0.2", user "u", database "t", no encryption',
            ConnectFailure.FORBIDDEN,
            'pg_hba.conf rejects connection for host "10.0.0.2", user "u", database "t", no encryption',
        ),
        (
            f'{AT}FATAL:  database "t" is not currently accepting connections',
            ConnectFailure.FORBIDDEN,
            'database "t" is not currently accepting connections',
        ),
        (f"{AT}fe_sendauth: no password supplied", ConnectFailure.NO_PASSWORD, "fe_sendauth: no password supplied"),
        (
            f'{AT}FATAL:  no pg_hba.conf entry for host "10.0.0.2", user "u", database "t", SSL encryption',
            ConnectFailure.FORBIDDEN,
            'no pg_hba.conf entry for host "10.0.0.2", user "u", database "t", SSL encryption',
        ),
        (
            f'{AT}FATAL:  permission denied for database "t"\nDETAIL:  User does not have CONNECT privilege.',
            ConnectFailure.FORBIDDEN,
            'permission denied for database "t"',
        ),
        (
            f'{AT}FATAL:  role "u" is not permitted to log in',
            ConnectFailure.FORBIDDEN,
            'role "u" is not permitted to log in',
        ),
        (f"{AT}SSL error: certificate verify failed", ConnectFailure.TLS, "SSL error: certificate verify failed"),
        (f"{AT}SSL error: tlsv1 alert unknown ca", ConnectFailure.TLS, "SSL error: tlsv1 alert unknown ca"),
        (
            f"{AT}server does not support SSL, but SSL was required",
            ConnectFailure.TLS,
            "server does not support SSL, but SSL was required",
        ),
        (
            f'{AT}FATAL:  certificate authentication failed for user "u"',
            ConnectFailure.TLS,
            'certificate authentication failed for user "u"',
        ),
        ('connection is bad: invalid sslmode value: "on"', ConnectFailure.MISTAKEN, 'invalid sslmode value: "on"'),
        (
            'connection is bad: invalid integer value "x" for connection option "keepalives_idle"',
            ConnectFailure.MISTAKEN,
            'invalid integer value "x" for connection option "keepalives_idle"',
        ),
        (
            'connection is bad: definition of service "db" not found',
            ConnectFailure.MISTAKEN,
            'definition of service "db" not found',
        ),
        (
            'connection is bad: service file "/etc/pg_service.conf" not found',
            ConnectFailure.MISTAKEN,
            'service file "/etc/pg_service.conf" not found',
        ),
        (
            f'{AT}FATAL:  unrecognized configuration parameter "ssl_mode"',
            ConnectFailure.MISTAKEN,
            'unrecognized configuration parameter "ssl_mode"',
        ),
        (
            f"{AT}FATAL:  unsupported startup parameter in options: x",
            ConnectFailure.MISTAKEN,
            "unsupported startup parameter in options: x",
        ),
    ],
)
def test_tells_refusals_apart(text: str, kind: ConnectFailure, line: str) -> None:
    """What may come up yet is waited for; what only a person can change is not; the reason stays."""
    assert refusal(psycopg.OperationalError(text)) == (kind, line)


def test_of_several_hosts_the_most_telling_counts() -> None:
    """A host that is down does not hide that another one has rejected the password."""
    text = f'{AT}Connection refused\n\tIs it running?\n{AT}FATAL:  password authentication failed for user "u"\n'
    assert refusal(psycopg.OperationalError(text))[0] is ConnectFailure.REJECTED


def test_has_words_for_an_error_without_any() -> None:
    """An empty message is replaced by the error's kind."""
    assert refusal(psycopg.OperationalError("")) == (ConnectFailure.ABSENT, "OperationalError")
    assert refusal(None) == (ConnectFailure.ABSENT, "None")


def refusals(error: Exception, *, renews: bool, patience: float = 0) -> Iterator[bool]:
    """Yield for each attempt that fails in this way whether there is another one."""
    limit = connection._Patience(patience, time.monotonic(), renews=renews)
    state = tenacity.RetryCallState(tenacity.Retrying(), None, (), {})
    for number in itertools.count(1):
        state.attempt_number = number
        state.set_exception((type(error), error, None))
        yield limit.left(state) > 0


WRONG = psycopg.OperationalError(f'{AT}FATAL:  password authentication failed for user "u"')


@pytest.mark.parametrize(
    ("error", "renews", "again"),
    [
        (WRONG, False, [False, False]),
        # A password that is read anew may have changed between its reading and the login.
        (WRONG, True, [True, False]),
        (TokenRefused("x"), True, [True, False]),
        (NoIdentity("x"), True, [True, False]),
        (TokenUnavailable("x"), True, [False, False]),
        (psycopg.OperationalError(f"{AT}Connection refused"), True, [False, False]),
    ],
)
def test_without_patience(error: Exception, renews: bool, again: list[bool]) -> None:  # noqa: FBT001 - a table
    """What is asked for once is asked for twice if the answer may be another one."""
    assert list(itertools.islice(refusals(error, renews=renews), 2)) == again


@pytest.mark.parametrize("error", [TokenRefused("x"), NoIdentity("x"), TokenUnavailable("x"), WRONG])
def test_with_patience(error: Exception) -> None:
    """Whatever may come right within seconds is tried again; whether for long depends on what it is."""
    assert all(itertools.islice(refusals(error, renews=True, patience=60), 3))
