"""SQL_AUTH beside other settings: what it takes the place of, what it needs, what it never does without."""

import subprocess
import sys
from pathlib import Path

import pytest

from schema_migrator.config.settings import read
from schema_migrator.errors import SettingsError
from schema_migrator.identity import tokens
from schema_migrator.postgres.conninfo import parameters
from support.cloud.endpoint import FakeCloud
from support.cloud.identities import azure_imds, secret, set_environment, written

OVER_TLS = "; set SQL_TLS=true, or sslmode=require or stricter"
FROM_THE_URI = "; remove the password from the URI, or unset the other one"
ONE_HOST = ", expected one host: a token is valid for one; set SQL_HOST to the endpoint of the database or cluster"
HOST = "temporal.abc.eu-central-1.rds.amazonaws.com"


def refused(patch: pytest.MonkeyPatch, variables: dict[str, str], **flags: str) -> str:
    """Return why the settings are refused."""
    for name, value in variables.items():
        patch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        parameters(read(flags).stores[0])
    return str(caught.value).removeprefix("default: ")


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        ({"SQL_PASSWORD": "x"}, "SQL_PASSWORD and SQL_AUTH are both set, expected one of them; unset the others"),
        (
            {"SQL_PASSWORD_COMMAND": "x"},
            "SQL_PASSWORD_COMMAND and SQL_AUTH are both set, expected one of them; unset the others",
        ),
        (
            {"SQL_PASSWORD_FILE": "/x"},
            "SQL_PASSWORD_FILE and SQL_AUTH are both set, expected one of them; unset the others",
        ),
        (
            {"SQL_URI": "postgresql://u:x@h/"},
            f"SQL_URI has a password, but SQL_AUTH is set too, expected one of them{FROM_THE_URI}",
        ),
        ({"SQL_AUTH": "oracle"}, 'SQL_AUTH is "oracle", expected aws, gcp or azure'),
    ],
)
def test_beside_a_password(nobody: pytest.MonkeyPatch, variables: dict[str, str], found: str) -> None:
    """Two ways at one place leave open which counts."""
    assert refused(nobody, {"SQL_AUTH": "gcp"} | variables) == found


def test_a_stores_own_beats_the_common_one(nobody: pytest.MonkeyPatch, cloud: FakeCloud, tmp_path: Path) -> None:
    """A token for one store and a password for the other, whichever is the common setting."""
    expected = secret()
    set_environment(nobody, **azure_imds(cloud, lambda: expected), SQL_AUTH="azure")
    nobody.setenv("VISIBILITY_SQL_PASSWORD_FILE", written(tmp_path / "password", "of the file"))
    assert [tokens.password(store) for store in read({}).stores] == [expected, "of the file"]
    assert [store.renews_password for store in read({}).stores] == [True, True]
    set_environment(nobody, SQL_AUTH="", SQL_PASSWORD="common", VISIBILITY_SQL_PASSWORD_FILE="")
    nobody.setenv("VISIBILITY_SQL_AUTH", "azure")
    assert [tokens.password(store) for store in read({}).stores] == ["common", expected]
    assert [store.renews_password for store in read({}).stores] == [False, True]


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        (
            {"SQL_TLS": "false"},
            "SQL_AUTH=gcp is set beside SQL_TLS=false, but a token is sent over TLS alone",
        ),
        *(
            (
                {"SQL_TLS": "", **variables},
                f"SQL_AUTH=gcp is set, but with sslmode={mode} a server without TLS would get the token",
            )
            for mode, variables in (
                ("prefer", {}),
                ("allow", {"SQL_CONNECT_ATTRIBUTES": "sslmode=allow"}),
                ("disable", {"PGSSLMODE": "disable"}),
                ("prefer", {"SQL_URI": "postgresql://h/?sslmode=prefer"}),
            )
        ),
    ],
)
def test_never_without_tls(nobody: pytest.MonkeyPatch, variables: dict[str, str], found: str) -> None:
    """Each way to allow a connection without TLS is refused."""
    assert refused(nobody, {"SQL_AUTH": "gcp", **variables}) == found + OVER_TLS


@pytest.mark.parametrize(
    ("variables", "mode"),
    [
        ({"SQL_TLS": "true"}, "verify-full"),
        ({"SQL_TLS": "true", "SQL_TLS_DISABLE_HOST_VERIFICATION": "true"}, "require"),
        ({"SQL_TLS": "", "SQL_CONNECT_ATTRIBUTES": "sslmode=require"}, "require"),
        ({"SQL_TLS": "", "SQL_CONNECT_ATTRIBUTES": "sslrootcert=system"}, "verify-full"),
        # A service file could say something else, and would beat the variable.
        ({"SQL_TLS": "", "PGSSLMODE": "verify-ca", "SQL_CONNECT_ATTRIBUTES": "service=x"}, "verify-ca"),
    ],
)
def test_strict_modes(nobody: pytest.MonkeyPatch, cloud: FakeCloud, variables: dict[str, str], mode: str) -> None:
    """The modes that insist on TLS are taken, and given to libpq."""
    set_environment(nobody, **azure_imds(cloud), SQL_AUTH="azure", SQL_USER="u", **variables)
    assert parameters(read({}).stores[0])["sslmode"] == mode


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        ({}, "SQL_AUTH=aws is set, but there is no host to make a token for; set SQL_HOST"),
        ({"SQL_HOST": HOST}, "SQL_AUTH=aws is set, but there is no role to make a token for; set SQL_USER"),
        (
            {"SQL_HOST": "a,b"},
            'SQL_AUTH=aws is set, but SQL_HOST is "a,b"' + ONE_HOST,
        ),
        (
            {"PGHOST": "/run"},
            'SQL_AUTH=aws is set, but SQL_HOST is "/run"' + ONE_HOST,
        ),
        (
            {"SQL_HOST": HOST, "SQL_DIRECT_HOST": "a,b"},
            'SQL_AUTH=aws is set, but SQL_DIRECT_HOST is "a,b"' + ONE_HOST.replace("SQL_", "SQL_DIRECT_"),
        ),
    ],
)
def test_what_aws_makes_a_token_of(nobody: pytest.MonkeyPatch, variables: dict[str, str], found: str) -> None:
    """Host and role are part of the token."""
    assert refused(nobody, {"SQL_AUTH": "aws", **variables}) == found


def test_roles_of_service_accounts(nobody: pytest.MonkeyPatch) -> None:
    """The database's name of a Google service account is not its e-mail address."""
    user = "migrator@project.iam.gserviceaccount.com"
    assert refused(nobody, {"SQL_AUTH": "gcp", "SQL_USER": user}) == (
        f'SQL_USER is "{user}", but in Cloud SQL and AlloyDB the name of the role ends before .gserviceaccount.com;'
        " set it without that end"
    )


@pytest.mark.parametrize(
    ("cloud", "package", "module"),
    [
        ("aws", "botocore", "botocore.config"),
        ("gcp", "google-auth", "google.auth"),
        ("azure", "azure-identity", "azure.identity"),
    ],
)
def test_missing_library(nobody: pytest.MonkeyPatch, cloud: str, package: str, module: str) -> None:
    """Each cloud's library is an extra, loaded only when it is asked for."""
    nobody.setitem(sys.modules, module, None)
    given = {"SQL_AUTH": cloud, "SQL_HOST": HOST, "SQL_USER": "u"}
    assert refused(nobody, given) == (
        f"SQL_AUTH={cloud} needs the package {package}, which is not installed;"
        f" pip install 'temporal-schema-migrator[{cloud}]', or an image that is built with CLOUDS={cloud}"
    )


def test_no_library_is_loaded_without_need() -> None:
    """The program without SQL_AUTH loads none of them."""
    code = (
        "import sys; from schema_migrator.identity import tokens; from schema_migrator.config.settings import read;"
        "tokens.password(read({}).stores[0]);"
        "print([name for name in sys.modules if name.partition('.')[0] in ('botocore', 'google', 'azure', 'requests')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
