"""Tokens for RDS by botocore itself: the signature, each kind of identity, each way to fail."""

import hashlib
import hmac
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import pytest

from schema_migrator.config.settings import read
from schema_migrator.errors import MigratorError, exit_code
from schema_migrator.identity import tokens
from schema_migrator.identity.aws import region_of
from support.cloud.endpoint import Answer, FakeCloud, Request
from support.cloud.identities import secret, set_environment, written

HOST = "temporal.cluster-abc123.eu-central-1.rds.amazonaws.com"
KEYS = {
    "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
}
NOTHING = hashlib.sha256(b"").hexdigest()
DENIED = "Not authorized to perform sts:AssumeRoleWithWebIdentity"
IRSA = "give the pod's ServiceAccount an IAM role (IRSA or EKS Pod Identity), or set AWS_ACCESS_KEY_ID and"


def token(patch: pytest.MonkeyPatch, **variables: str) -> str:
    """Return a token for a role of the default store."""
    set_environment(patch, **{"SQL_AUTH": "aws", "SQL_HOST": HOST, "SQL_USER": "migrator"} | variables)
    return tokens.password(read({}).stores[0]) or ""


def refused(patch: pytest.MonkeyPatch, code: int, **variables: str) -> str:
    """Return why there is none; the error carries none of the library's, which could have a token in it."""
    with pytest.raises(MigratorError) as caught:
        token(patch, **variables)
    assert exit_code(caught.value) == code
    assert caught.value.__context__ is None
    return str(caught.value).removeprefix("default: ")


def query(found: str) -> dict[str, str]:
    """Return the parameters of a token."""
    return dict(parse_qsl(urlsplit(f"https://{found}").query))


def signature(secret_key: str, region: str, service: str, request: dict[str, str], body: str = NOTHING) -> str:
    """Sign a request by its query, as AWS documents version 4 of its signature.

    `request` has host, path and the parameters, whose names begin with X-Amz or not.
    """
    given = {name: value for name, value in request.items() if name not in ("host", "path", "X-Amz-Signature")}
    parameters = urlencode(sorted(given.items()), quote_via=quote, safe="")
    canonical = f"GET\n{request['path']}\n{parameters}\nhost:{request['host']}\n\nhost\n{body}"
    moment = given["X-Amz-Date"]
    scope = f"{moment[:8]}/{region}/{service}/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{secret_key}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()


def test_the_documented_signature() -> None:
    """The example in AWS's documentation of presigned requests, by which the next test judges."""
    example = {
        "host": "examplebucket.s3.amazonaws.com",
        "path": "/test.txt",
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": "AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request",
        "X-Amz-Date": "20130524T000000Z",
        "X-Amz-Expires": "86400",
        "X-Amz-SignedHeaders": "host",
    }
    found = signature(KEYS["AWS_SECRET_ACCESS_KEY"], "us-east-1", "s3", example, "UNSIGNED-PAYLOAD")
    assert found == "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"


def test_signs_a_login(nobody: pytest.MonkeyPatch) -> None:
    """A token names host, port and role, is for the host's region, lasts 15 minutes, and has the right signature."""
    moment = datetime(2026, 11, 28, 6, 30, tzinfo=UTC)
    nobody.setattr("botocore.auth.get_current_datetime", lambda: moment)
    found = token(nobody, **KEYS, SQL_PORT="6432", AWS_REGION="us-east-1")
    given = query(found)
    assert found.startswith(f"{HOST}:6432/?Action=connect&DBUser=migrator&")
    assert given["X-Amz-Credential"] == f"{KEYS['AWS_ACCESS_KEY_ID']}/20261128/eu-central-1/rds-db/aws4_request"
    assert (given["X-Amz-Date"], given["X-Amz-Expires"]) == ("20261128T063000Z", "900")
    request = {"host": f"{HOST}:6432", "path": "/"} | given
    expected = signature(KEYS["AWS_SECRET_ACCESS_KEY"], "eu-central-1", "rds-db", request)
    assert given["X-Amz-Signature"] == expected


@pytest.mark.parametrize(
    ("host", "region"),
    [
        ("db.abc.us-gov-west-1.rds.amazonaws.com", "us-gov-west-1"),
        ("db.abc.cn-north-1.rds.amazonaws.com.cn", "cn-north-1"),
        ("proxy.proxy-abc.ap-southeast-2.rds.amazonaws.com.", "ap-southeast-2"),
        ("DB.ABC.EU-WEST-3.RDS.AMAZONAWS.COM", "eu-west-3"),
        ("db.internal", ""),
        ("10.0.0.1", ""),
    ],
)
def test_region_of_a_host(host: str, region: str) -> None:
    """An endpoint's own name has its region."""
    assert region_of(host) == region


@pytest.mark.parametrize("name", ["AWS_REGION", "AWS_DEFAULT_REGION"])
def test_region_of_the_environment(nobody: pytest.MonkeyPatch, name: str) -> None:
    """For any other host the environment's counts."""
    found = token(nobody, **KEYS, SQL_HOST="db.internal", **{name: "eu-west-1"})
    assert "/eu-west-1/rds-db/" in query(found)["X-Amz-Credential"]


def test_name_in_the_certificate(nobody: pytest.MonkeyPatch) -> None:
    """Behind another name or an address, the name that the certificate has is the endpoint's."""
    assert token(nobody, **KEYS, SQL_HOST="10.0.0.1", SQL_TLS_SERVER_NAME=HOST).startswith(f"{HOST}:5432/")


def test_past_the_pooler(nobody: pytest.MonkeyPatch) -> None:
    """The direct connection gets a token for its own host and port."""
    direct = HOST.replace("temporal", "direct")
    set_environment(nobody, **KEYS, SQL_AUTH="aws", SQL_HOST=HOST, SQL_USER="u", SQL_DIRECT_HOST=direct)
    nobody.setenv("SQL_DIRECT_PORT", "5433")
    store = read({}).stores[0]
    assert (tokens.password(store.direct("x")) or "").startswith(f"{direct}:5433/")
    assert (tokens.password(store) or "").startswith(f"{HOST}:5432/")


def test_keys_in_a_file_are_read_anew(nobody: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keys that something renews in a file count from the next connection on."""
    for name in ("AKIAFIRSTXXXXXXXXXXX", "AKIASECONDXXXXXXXXXX"):
        text = f"[default]\naws_access_key_id = {name}\naws_secret_access_key = x\n"
        written(tmp_path / "aws-credentials", text)
        assert query(token(nobody))["X-Amz-Credential"].startswith(name)


def keys(name: str) -> dict[str, str]:
    """Return keys as the metadata endpoints of containers and instances give them."""
    until = (datetime.now(UTC) + timedelta(hours=6)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"AccessKeyId": name, "SecretAccessKey": "x", "Token": secret(), "Expiration": until, "Code": "Success"}


def sts(request: Request) -> Answer:
    """Answer AssumeRoleWithWebIdentity."""
    found = keys(f"ASIA{request.form['RoleArn'][-4:]}")
    inner = "".join(f"<{name}>{found[name]}</{name}>" for name in ("AccessKeyId", "SecretAccessKey", "Expiration"))
    action = request.form["Action"]
    return Answer(
        body=f'<{action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><{action}Result><Credentials>{inner}'
        f"<SessionToken>{found['Token']}</SessionToken></Credentials></{action}Result></{action}Response>"
    )


def web_identity(cloud: FakeCloud, folder: Path, jwt: str) -> dict[str, str]:
    """Return what the webhook of IRSA sets in a pod."""
    return {
        "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/Role",
        "AWS_WEB_IDENTITY_TOKEN_FILE": written(folder / "web-identity", jwt),
        "AWS_ENDPOINT_URL_STS": cloud.url,
    }


def test_web_identity(nobody: pytest.MonkeyPatch, cloud: FakeCloud, tmp_path: Path) -> None:
    """IRSA: the ServiceAccount's token becomes keys of a role, for each connection anew."""
    jwt = secret()
    cloud.on("/", sts)
    found = [query(token(nobody, **web_identity(cloud, tmp_path, jwt))) for _ in range(2)]
    assert [given["X-Amz-Credential"].partition("/")[0] for given in found] == ["ASIARole", "ASIARole"]
    assert found[0]["X-Amz-Security-Token"] != found[1]["X-Amz-Security-Token"]
    assert [request.form["WebIdentityToken"] for request in cloud.asked] == [jwt, jwt]


def test_pod_identity(nobody: pytest.MonkeyPatch, cloud: FakeCloud, tmp_path: Path) -> None:
    """EKS Pod Identity: the agent on the node gives keys for the pod's token."""
    cloud.on("/v1/credentials", Answer(body=keys("ASIAPODIDENTITY")))
    found = token(
        nobody,
        AWS_CONTAINER_CREDENTIALS_FULL_URI=f"{cloud.url}/v1/credentials",
        AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=written(tmp_path / "pod", "the pod's token"),
    )
    assert query(found)["X-Amz-Credential"].startswith("ASIAPODIDENTITY/")
    assert [request.headers["authorization"] for request in cloud.asked] == ["the pod's token"]


def test_instance(nobody: pytest.MonkeyPatch, cloud: FakeCloud) -> None:
    """An instance's metadata, by the version of their protocol that asks for a session first."""
    cloud.on("/latest/api/token", Answer(body="session"))
    cloud.on("/latest/meta-data/iam/security-credentials/", Answer(body="role"))
    cloud.on("/latest/meta-data/iam/security-credentials/role", Answer(body=keys("ASIAINSTANCE")))
    there = {"AWS_EC2_METADATA_DISABLED": "false", "AWS_EC2_METADATA_SERVICE_ENDPOINT": cloud.url}
    assert query(token(nobody, **there))["X-Amz-Credential"].startswith("ASIAINSTANCE/")
    assert cloud.asked[-1].headers["x-aws-ec2-metadata-token"] == "session"


def test_no_identity(nobody: pytest.MonkeyPatch, cloud: FakeCloud, tmp_path: Path) -> None:
    """Nothing is found, half of it is, or what is found leads nowhere."""
    assert refused(nobody, 2) == (
        "SQL_AUTH=aws finds no identity: neither keys, nor a web identity, nor an endpoint of a container or an"
        f" instance; {IRSA} AWS_SECRET_ACCESS_KEY"
    )
    half = refused(nobody, 2, AWS_ACCESS_KEY_ID="AKIAIOSFODNN7EXAMPLE")
    assert half.startswith("SQL_AUTH=aws finds no identity: Partial credentials found in env, missing: AWS_SECRET")
    nobody.delenv("AWS_ACCESS_KEY_ID")
    gone = web_identity(cloud, tmp_path, secret()) | {"AWS_WEB_IDENTITY_TOKEN_FILE": "/no/such"}
    assert refused(nobody, 2, **gone).startswith(
        "SQL_AUTH=aws finds no identity: [Errno 2] No such file or directory: '/no/such'; "
    )


def test_no_region(nobody: pytest.MonkeyPatch) -> None:
    """Neither the host nor the environment has one."""
    assert refused(nobody, 2, **KEYS, SQL_HOST="db.internal") == (
        'no AWS region is set, and the host "db.internal" does not name one;'
        " set AWS_REGION, or SQL_HOST to the endpoint's own name"
    )


def failure(code: str, message: str, status: int) -> Answer:
    """Return an error of STS."""
    inner = f"<Code>{code}</Code><Message>{message}</Message>"
    return Answer(status=status, body=f"<ErrorResponse><Error>{inner}</Error></ErrorResponse>")


def test_role_refused(nobody: pytest.MonkeyPatch, cloud: FakeCloud, tmp_path: Path) -> None:
    """STS's own words are told, without the token that they quote."""
    jwt = secret()
    cloud.on("/", lambda request: failure("AccessDenied", f"{DENIED} by {request.form['WebIdentityToken']}", 403))
    assert refused(nobody, 10, **web_identity(cloud, tmp_path, jwt)) == (
        f"AWS refuses the identity its keys: AccessDenied: {DENIED} by ***;"
        " correct the trust policy of the IAM role, or the role that the ServiceAccount names"
    )


def test_pod_without_an_association(nobody: pytest.MonkeyPatch, cloud: FakeCloud) -> None:
    """The agent of EKS Pod Identity does not know the ServiceAccount."""
    cloud.on("/", Answer(status=400, body={"message": "no association", "token": "t"}))
    nobody.setattr("botocore.utils.ContainerMetadataFetcher.SLEEP_TIME", 0)
    found = refused(nobody, 10, AWS_CONTAINER_CREDENTIALS_FULL_URI=f"{cloud.url}/v1/credentials")
    assert found.startswith("AWS refuses the identity its keys: Error when retrieving credentials from container-role:")


@pytest.mark.parametrize("status", [500, 503, 429, 0])
def test_no_answer(nobody: pytest.MonkeyPatch, cloud: FakeCloud, tmp_path: Path, status: int) -> None:
    """An endpoint that fails, has too much to do or is not there may be there later."""
    cloud.on("/", failure("Throttling", "Rate exceeded", status))
    there = {} if status else {"AWS_ENDPOINT_URL_STS": "http://127.0.0.1:1"}
    found = refused(nobody, 1, **web_identity(cloud, tmp_path, secret()) | there)
    assert found.startswith("AWS gives no answer about the identity: ")
    assert found.endswith("; can this pod reach it, through network policies and proxies?")
    assert ("Throttling: Rate exceeded" in found) == bool(status)


def test_agent_that_is_not_there(nobody: pytest.MonkeyPatch) -> None:
    """The agent of EKS Pod Identity may start after the pod."""
    nobody.setattr("botocore.utils.ContainerMetadataFetcher.SLEEP_TIME", 0)
    found = refused(nobody, 1, AWS_CONTAINER_CREDENTIALS_FULL_URI="http://127.0.0.1:1/")
    assert found.startswith("AWS gives no answer about the identity: Error when retrieving credentials from container")


def test_by_a_proxy(nobody: pytest.MonkeyPatch, cloud: FakeCloud, tmp_path: Path) -> None:
    """The library's own variables for proxies and authorities apply; STS is the one of the pod's own region."""
    cloud.on("/", sts)
    given = web_identity(cloud, tmp_path, secret()) | {"HTTPS_PROXY": cloud.url, "AWS_CA_BUNDLE": str(cloud.bundle)}
    del given["AWS_ENDPOINT_URL_STS"]
    found = query(token(nobody, **given, AWS_REGION="eu-west-1"))["X-Amz-Credential"]
    assert re.fullmatch(r"ASIARole/\d+/eu-central-1/rds-db/aws4_request", found)
    assert [request.host for request in cloud.asked] == ["sts.eu-west-1.amazonaws.com"]
