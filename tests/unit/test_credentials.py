from pathlib import Path

import pytest
import trustme

from schema_migrator.config.settings import read_client
from schema_migrator.errors import SettingsError
from schema_migrator.temporal.credentials import credentials

pytestmark = pytest.mark.usefixtures("clean")
EXAMPLE = "such as temporal-frontend:7233"
CA, CERT, KEY = (f"TEMPORAL_TLS_{name}_PATH" for name in ("SERVER_CA_CERT", "CLIENT_CERT", "CLIENT_KEY"))


def refused(**given: str) -> str:
    """Return why these settings are refused."""
    with pytest.raises(SettingsError) as caught:
        credentials(read_client({"TEMPORAL_ADDRESS": "h:1", **given}))
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("temporal", '"temporal"'),
        ("temporal:", '"temporal:"'),
        (":7233", '":7233"'),
        ("temporal:0", '"temporal:0"'),
        ("temporal:65536", '"temporal:65536"'),
        ("temporal:x", '"temporal:x"'),
        ("::1:7233", '"::1:7233"'),
        ("a b:7233", '"a b:7233"'),
        ("https://user:secret@temporal:7233", "a URL"),
    ],
)
def test_addresses_that_are_none(address: str, shown: str) -> None:
    """What is no host with a port is shown, unless it may hold a secret."""
    assert refused(TEMPORAL_ADDRESS=address) == f"TEMPORAL_ADDRESS is {shown}, expected host:port, {EXAMPLE}"


def test_no_address() -> None:
    """There is no default: a pod would wait for itself."""
    assert refused(TEMPORAL_ADDRESS="") == f"the frontend's address is not set; set TEMPORAL_ADDRESS, {EXAMPLE}"


@pytest.mark.parametrize(
    ("given", "tls"),
    [
        ({}, False),
        ({"TEMPORAL_TLS": "true"}, True),
        ({"TEMPORAL_TLS": "false"}, False),
        ({"TEMPORAL_API_KEY": "key"}, True),
        ({"TEMPORAL_API_KEY": "key", "TEMPORAL_TLS": "false"}, False),
        ({"TEMPORAL_TLS_SERVER_NAME": "name"}, True),
    ],
)
def test_when_tls_is_used(given: dict[str, str], tls: bool) -> None:  # noqa: FBT001 - a table of cases
    """Where it is asked for, and where a key or a certificate would make no sense without it."""
    found = credentials(read_client({"TEMPORAL_ADDRESS": "[::1]:7233", **given}))
    assert (found.tls is not None) == tls
    assert "key" not in repr(found).replace("api_key", "")


def test_files(tmp_path: Path) -> None:
    """Files are read and looked at before anything is contacted."""
    ca, other = trustme.CA(), trustme.CA().issue_cert("b")
    made = ca.issue_cert("a")
    paths = {name: tmp_path / name for name in ("ca", "cert", "key", "other", "bad", "gone")}
    ca.cert_pem.write_to_path(paths["ca"])
    made.cert_chain_pems[0].write_to_path(paths["cert"])
    made.private_key_pem.write_to_path(paths["key"])
    other.private_key_pem.write_to_path(paths["other"])
    paths["bad"].write_text("nonsense")
    name = {key: str(path) for key, path in paths.items()}
    found = credentials(read_client({"TEMPORAL_ADDRESS": "h:1", CA: name["ca"], CERT: name["cert"], KEY: name["key"]}))
    assert found.tls is not None
    assert found.tls.key == paths["key"].read_bytes()
    assert refused(**{CA: name["bad"]}) == f'{CA}: "{name["bad"]}" contains no certificate, expected PEM'
    assert refused(**{CA: name["gone"]}) == f'{CA}: "{name["gone"]}" cannot be read (No such file or directory)'
    assert refused(**{CERT: name["cert"]}) == (
        f"only one of {CERT} and {KEY} is set, expected both or none; set the other one too"
    )
    assert refused(**{CERT: name["cert"], KEY: name["other"]}) == (
        f'{CERT} "{name["cert"]}" and {KEY} "{name["other"]}" do not belong together; are both from the same Secret?'
    )
    assert refused(**{CERT: name["cert"], KEY: name["bad"]}) == (
        f'{CERT} "{name["cert"]}" and {KEY} "{name["bad"]}" cannot be used, expected a certificate and its key in PEM; '
        "is one of them empty, or is the key encrypted?"
    )
    assert refused(**{CA: name["ca"], "TEMPORAL_TLS": "false"}) == (
        f"{CA} is set beside TEMPORAL_TLS=false; unset one of them"
    )


def test_api_keys(tmp_path: Path) -> None:
    """From a variable or a file, with a line break at its end; never shown."""
    path = tmp_path / "key"
    path.write_text("s3cret\n")
    file = {"TEMPORAL_API_KEY_FILE": str(path)}
    assert credentials(read_client({"TEMPORAL_ADDRESS": "h:1", **file})).api_key == "s3cret"
    assert refused(**file, TEMPORAL_API_KEY="s3cret") == (
        "TEMPORAL_API_KEY and TEMPORAL_API_KEY_FILE are both set, expected one of them; unset the other"
    )
    assert refused(TEMPORAL_API_KEY="s3\ncret") == (
        "the API key cannot be sent, expected printable ASCII characters; correct it"
    )
    path.unlink()
    assert refused(**file) == (
        f'the API key file "{path}" cannot be read (No such file or directory); correct TEMPORAL_API_KEY_FILE'
    )
    path.touch()
    assert refused(**file) == f'the API key file "{path}" gives no API key; correct TEMPORAL_API_KEY_FILE'
