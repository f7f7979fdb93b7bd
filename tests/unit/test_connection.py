import psycopg
import pytest

from schema_migrator.postgres.connect_failures import Refusal, refusal

AT = 'connection failed: connection to server at "10.0.0.1", port 5432 failed: '


@pytest.mark.parametrize(
    ("text", "kind", "line"),
    [
        (
            "failed to resolve host 'db': [Errno -2] Name or service not known",
            Refusal.ABSENT,
            "failed to resolve host 'db': [Errno -2] Name or service not known",
        ),
        (f"{AT}Connection refused\n\tIs the server running?", Refusal.ABSENT, "Connection refused"),
        (f"{AT}FATAL:  the database system is starting up", Refusal.ABSENT, "the database system is starting up"),
        (f"{AT}FATAL:  sorry, too many clients already", Refusal.ABSENT, "sorry, too many clients already"),
        (f'{AT}FATAL:  database "t" does not exist', Refusal.ABSENT, 'database "t" does not exist'),
        (f"{AT}SSL error: unexpected eof while reading", Refusal.ABSENT, "SSL error: unexpected eof while reading"),
        (f"{AT}FATAL:  Datenbank fehlt", Refusal.ABSENT, "Datenbank fehlt"),
        ("connection timeout expired", Refusal.ABSENT, "connection timeout expired"),
        (
            f'{AT}FATAL:  password authentication failed for user "u"',
            Refusal.REJECTED,
            'password authentication failed for user "u"',
        ),
        (f"{AT}FATAL:  SASL authentication failed", Refusal.REJECTED, "SASL authentication failed"),
        (f'{AT}FATAL:  role "u" does not exist', Refusal.NO_ROLE, 'role "u" does not exist'),
        (f"{AT}FATAL:  no such user: u", Refusal.NO_ROLE, "no such user: u"),
        (
            f'{AT}FATAL:  Peer authentication failed for user "u"',
            Refusal.FORBIDDEN,
            'Peer authentication failed for user "u"',
        ),
        (
            f'{AT}FATAL:  pg_hba.conf rejects connection for host "10.0.0.2", user "u", database "t", no encryption',
            Refusal.FORBIDDEN,
            'pg_hba.conf rejects connection for host "10.0.0.2", user "u", database "t", no encryption',
        ),
        (
            f'{AT}FATAL:  database "t" is not currently accepting connections',
            Refusal.FORBIDDEN,
            'database "t" is not currently accepting connections',
        ),
        (f"{AT}fe_sendauth: no password supplied", Refusal.NO_PASSWORD, "fe_sendauth: no password supplied"),
        (
            f'{AT}FATAL:  no pg_hba.conf entry for host "10.0.0.2", user "u", database "t", SSL encryption',
            Refusal.FORBIDDEN,
            'no pg_hba.conf entry for host "10.0.0.2", user "u", database "t", SSL encryption',
        ),
        (
            f'{AT}FATAL:  permission denied for database "t"\nDETAIL:  User does not have CONNECT privilege.',
            Refusal.FORBIDDEN,
            'permission denied for database "t"',
        ),
        (
            f'{AT}FATAL:  role "u" is not permitted to log in',
            Refusal.FORBIDDEN,
            'role "u" is not permitted to log in',
        ),
        (f"{AT}SSL error: certificate verify failed", Refusal.TLS, "SSL error: certificate verify failed"),
        (f"{AT}SSL error: tlsv1 alert unknown ca", Refusal.TLS, "SSL error: tlsv1 alert unknown ca"),
        (
            f"{AT}server does not support SSL, but SSL was required",
            Refusal.TLS,
            "server does not support SSL, but SSL was required",
        ),
        (
            f'{AT}FATAL:  certificate authentication failed for user "u"',
            Refusal.TLS,
            'certificate authentication failed for user "u"',
        ),
        ('connection is bad: invalid sslmode value: "on"', Refusal.MISTAKEN, 'invalid sslmode value: "on"'),
        (
            'connection is bad: invalid integer value "x" for connection option "keepalives_idle"',
            Refusal.MISTAKEN,
            'invalid integer value "x" for connection option "keepalives_idle"',
        ),
        (
            'connection is bad: definition of service "db" not found',
            Refusal.MISTAKEN,
            'definition of service "db" not found',
        ),
        (
            'connection is bad: service file "/etc/pg_service.conf" not found',
            Refusal.MISTAKEN,
            'service file "/etc/pg_service.conf" not found',
        ),
        (
            f'{AT}FATAL:  unrecognized configuration parameter "ssl_mode"',
            Refusal.MISTAKEN,
            'unrecognized configuration parameter "ssl_mode"',
        ),
        (
            f"{AT}FATAL:  unsupported startup parameter in options: x",
            Refusal.MISTAKEN,
            "unsupported startup parameter in options: x",
        ),
    ],
)
def test_tells_refusals_apart(text: str, kind: Refusal, line: str) -> None:
    """What may come up yet is waited for; what only a person can change is not; the reason stays."""
    assert refusal(psycopg.OperationalError(text)) == (kind, line)


def test_of_several_hosts_the_most_telling_counts() -> None:
    """A host that is down does not hide that another one has rejected the password."""
    text = f'{AT}Connection refused\n\tIs it running?\n{AT}FATAL:  password authentication failed for user "u"\n'
    assert refusal(psycopg.OperationalError(text))[0] is Refusal.REJECTED


def test_has_words_for_an_error_without_any() -> None:
    """An empty message is replaced by the error's kind."""
    assert refusal(psycopg.OperationalError("")) == (Refusal.ABSENT, "OperationalError")
    assert refusal(None) == (Refusal.ABSENT, "None")
