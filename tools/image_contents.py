"""Print what syft does not find in an image, as JSON; tools/sbom.py runs this with the Python of the image.

That is Python itself, the native libraries of psycopg's wheel, with the versions that the libraries themselves answer,
and the SBOMs that wheels carry (PEP 770). It imports nothing that an image lacks.
"""

from __future__ import annotations

import ctypes
import json
import platform
import re
import sys
from pathlib import Path

import psycopg

OPENSSL_VERSION_STRING = 6
LDAP_OPT_API_INFO = 0
KRB5_BRAND = re.compile(rb"KRB5_BRAND: krb5-(\d[\d.]*)")
FAMILIES = {
    r"libpq-.*": "libpq",
    r"lib(ssl|crypto)-.*": "openssl",
    r"lib(krb5|gssapi_krb5|k5crypto|krb5support)-.*|libcom_err-.*\.so\.3.*": "krb5",
    r"lib(ldap|lber)-.*": "openldap",
    r"libcrypt-.*": "libxcrypt",
    r"libsasl2-.*": "cyrus-sasl-lib",
    r"libkeyutils-.*": "keyutils-libs",
    r"libcom_err-.*\.so\.2.*": "libcom_err",
}
"""Patterns of file names, with the library that the files belong to."""


class LdapInfo(ctypes.Structure):
    """What OpenLDAP tells about itself, LDAPAPIInfo in its ldap.h."""

    _fields_ = (
        ("info_version", ctypes.c_int),
        ("api_version", ctypes.c_int),
        ("protocol_version", ctypes.c_int),
        ("extensions", ctypes.POINTER(ctypes.c_char_p)),
        ("vendor_name", ctypes.c_char_p),
        ("vendor_version", ctypes.c_int),
    )


def main() -> None:
    """Print an object: the version of `python`, `libraries`, and `sboms` by their paths."""
    print(json.dumps({"python": platform.python_version(), "libraries": libraries(), "sboms": sboms()}))


def libraries() -> list[dict[str, object]]:
    """Return the name, version and files of each library; the version is null where the library cannot tell it."""
    folder = Path(psycopg.__file__).parents[1] / "psycopg_binary.libs"
    files: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        files.setdefault(family(path.name), []).append(path)
    return [
        {"name": name, "version": version(name, paths), "files": [str(path) for path in paths]}
        for name, paths in sorted(files.items())
    ]


def sboms() -> dict[str, object]:
    """Return the SBOMs that wheels carry."""
    found = [path for folder in sys.path for path in Path(folder).glob("*.dist-info/sboms/*.json")]
    return {str(path): json.loads(path.read_text(encoding="utf-8")) for path in sorted(found)}


def family(name: str) -> str:
    """Return the library that a file belongs to, its own name if that is unknown."""
    return next((library for pattern, library in FAMILIES.items() if re.fullmatch(pattern, name)), name)


def version(name: str, paths: list[Path]) -> str | None:
    """Return the version of a library, which has these files; nothing for one that has no way to ask for it."""
    match name:
        case "libpq":
            number = psycopg.pq.version()
            return f"{number // 10000}.{number % 10000}"
        case "openssl":
            return openssl(loaded("libcrypto-", paths))
        case "openldap":
            return openldap(loaded("libldap-", paths))
        case "krb5":
            brand = next((found for path in paths if (found := KRB5_BRAND.search(path.read_bytes()))), None)
            return brand[1].decode() if brand else None
        case _:
            return None


def loaded(prefix: str, paths: list[Path]) -> ctypes.CDLL:
    """Return the library among the files that psycopg has loaded."""
    return ctypes.CDLL(str(next(path for path in paths if path.name.startswith(prefix))))


def openssl(library: ctypes.CDLL) -> str:
    """Return OpenSSL's version."""
    library.OpenSSL_version.restype = ctypes.c_char_p
    return str(library.OpenSSL_version(OPENSSL_VERSION_STRING).decode())


def openldap(library: ctypes.CDLL) -> str:
    """Return OpenLDAP's version."""
    info = LdapInfo(info_version=1)
    library.ldap_get_option(None, LDAP_OPT_API_INFO, ctypes.byref(info))
    number = info.vendor_version
    return f"{number // 10000}.{number // 100 % 100}.{number % 100}"


if __name__ == "__main__":
    main()
