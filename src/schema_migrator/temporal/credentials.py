"""Reads how to connect to Temporal's frontend (address, API key, certificates), and checks it before connecting."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from schema_migrator.config import passwords
from schema_migrator.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

    from schema_migrator.config.client_fields import ClientSettings

_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/@\[\]]+):([0-9]{1,5})")
_MOST_PORTS = 65535
_TLS = "TEMPORAL_TLS"
_CA, _CERT, _KEY, _NAME = (
    f"{_TLS}_{name}" for name in ("SERVER_CA_CERT_PATH", "CLIENT_CERT_PATH", "CLIENT_KEY_PATH", "SERVER_NAME")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """The contents of the TLS files, and the name expected in the server's certificate.

    None means the system's authorities for `ca`, no client certificate for `cert` and `key`, and the address's own name
    for `server_name`.
    """

    ca: bytes | None
    cert: bytes | None
    key: bytes | None = field(repr=False)
    server_name: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """The frontend's address, and the API key and TLS settings to use with it. `tls` is None for plain text."""

    address: str
    api_key: str | None = field(repr=False)
    tls: Tls | None


def credentials(settings: ClientSettings) -> Credentials:
    """Read keys and certificates. Raises SettingsError for settings that could never work."""
    address = _address(settings.address)
    key = _api_key(settings)
    return Credentials(address=address, api_key=key, tls=_tls(settings, secret=key is not None))


def _address(text: str | None) -> str:
    if text is None:
        raise SettingsError(
            "the frontend's address is not set", hint="set TEMPORAL_ADDRESS, such as temporal-frontend:7233"
        )
    found = _ADDRESS.fullmatch(text)
    if found is None or not 0 < int(found[2]) <= _MOST_PORTS:
        shown = "a URL" if "://" in text or "@" in text else f'"{text}"'  # a URL may contain a password
        raise SettingsError(f"TEMPORAL_ADDRESS is {shown}, expected host:port, such as temporal-frontend:7233")
    return text


def _api_key(settings: ClientSettings) -> str | None:
    if settings.api_key is not None and settings.api_key_file is not None:
        raise SettingsError(
            "TEMPORAL_API_KEY and TEMPORAL_API_KEY_FILE are both set, expected one of them", hint="unset the other"
        )
    key = settings.api_key.get_secret_value() if settings.api_key else None
    if settings.api_key_file is not None:
        key = passwords.from_file(settings.api_key_file, "TEMPORAL_API_KEY_FILE", "API key").strip()
    if key is not None and not (key.isascii() and key.isprintable()):
        raise SettingsError("the API key cannot be sent, expected printable ASCII characters", hint="correct it")
    return key


def _tls(settings: ClientSettings, *, secret: bool) -> Tls | None:
    given = {
        name: value
        for name, value in (
            (_CA, settings.ca_file),
            (_CERT, settings.cert_file),
            (_KEY, settings.key_file),
            (_NAME, settings.server_name),
        )
        if value is not None
    }
    if settings.tls is False and given:
        raise SettingsError(f"{next(iter(given))} is set beside TEMPORAL_TLS=false", hint="unset one of them")
    if (settings.tls is None and not given and not secret) or settings.tls is False:
        return None
    _check_files(settings)
    return Tls(
        ca=_read(settings.ca_file, _CA),
        cert=_read(settings.cert_file, _CERT),
        key=_read(settings.key_file, _KEY),
        server_name=settings.server_name,
    )


def _check_files(settings: ClientSettings) -> None:
    """Check the files with OpenSSL, because the client library treats a broken file like one without certificates.

    Raises SettingsError.
    """
    if (settings.cert_file is None) != (settings.key_file is None):
        raise SettingsError(
            f"only one of {_CERT} and {_KEY} is set, expected both or none", hint="set the other one too"
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if settings.ca_file is not None:
        _read(settings.ca_file, _CA)
        try:
            context.load_verify_locations(settings.ca_file)
        except ssl.SSLError:
            raise SettingsError(f'{_CA}: "{settings.ca_file}" contains no certificate, expected PEM') from None
    if settings.cert_file is not None and settings.key_file is not None:
        _read(settings.cert_file, _CERT), _read(settings.key_file, _KEY)
        _check_pair(context, settings.cert_file, settings.key_file)


def _check_pair(context: ssl.SSLContext, cert: Path, key: Path) -> None:
    try:
        context.load_cert_chain(cert, key, password="")
    except ssl.SSLError as error:
        mismatch = error.reason == "KEY_VALUES_MISMATCH"
        raise SettingsError(
            f'{_CERT} "{cert}" and {_KEY} "{key}" '
            + ("do not belong together" if mismatch else "cannot be used, expected a certificate and its key in PEM"),
            hint="are both from the same Secret?" if mismatch else "is one of them empty, or is the key encrypted?",
        ) from None


def _read(path: Path | None, name: str) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(f'{name}: "{path}" cannot be read ({error.strerror})') from error
