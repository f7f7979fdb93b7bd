"""Write the SBOM of the wheel or of an image as CycloneDX JSON; `make sbom` runs it.

The wheel's components are those that uv.lock pins, and an image's are what syft finds in it, with what its wheels bring
besides Python packages. An SBOM has no serial number and no time, so that the same input gives the same bytes.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any

from packaging.markers import Marker

from schema_migrator import __version__

Document = dict[str, Any]
"""A part of a CycloneDX document."""
ROOT = Path(__file__).resolve().parent.parent
NAME = "temporal-schema-migrator"
UV = Path(sys.executable).with_name("uv")
PROBE = Path(__file__).with_name("image_contents.py")
SYFT_PINS = ROOT / "tools" / "syft" / "go.mod"
LINUX = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "implementation_name": "cpython"}
PYTHONS = tuple(f"3.{minor}" for minor in range(11, 16))
CATALOGERS = "-pe-binary-package-cataloger,-binary-classifier-cataloger"
"""What syft does not look for: pip's launchers for Windows, and programs that are known by their package already."""
SYFT_SETTINGS = {"SYFT_CHECK_FOR_APP_UPDATE": "false", "SYFT_CACHE_TTL": "0", "SYFT_FILE_METADATA_SELECTION": "none"}
NATIVE: Mapping[str, tuple[str, str]] = {
    "libpq": ("PostgreSQL", "postgresql:postgresql"),
    "openssl": ("Apache-2.0", "openssl:openssl"),
    "krb5": ("MIT", "mit:kerberos_5"),
    "openldap": ("OLDAP-2.8", "openldap:openldap"),
    "libxcrypt": ("LGPL-2.1-or-later", ""),
    "cyrus-sasl-lib": ("BSD-3-Clause-Attribution", ""),
    "keyutils-libs": ("LGPL-2.0-or-later", ""),
    "libcom_err": ("MIT", ""),
}
"""The licence of each native library, and vendor and product in the CPE dictionary if its version is known."""
LINKED = ("pkg:cargo/", "pkg:generic/")
"""What wheels declare of what is linked into their modules: crates, and OpenSSL in that of cryptography."""
TITLES: Mapping[str, str] = {"The MIT License": "MIT"}
"""SPDX ids of licences by the first lines of their texts."""


class SbomError(Exception):
    """An SBOM could not be written."""


def main() -> int:
    """Write one SBOM; the exit code is 1 after a failure, told on stderr."""
    args = arguments()
    try:
        document = wheel() if args.image is None else image(args.image, args.syft)
    except (SbomError, OSError) as error:
        sys.stderr.write(f"sbom: {error}\n")
        return 1
    args.target.parent.mkdir(parents=True, exist_ok=True)
    args.target.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(f"{args.target}: {len(document['components'])} components")
    return 0


def arguments() -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path, help="the file to write")
    parser.add_argument("--image", help="the name of an image in the local Docker daemon (without it: the wheel)")
    parser.add_argument("--syft", default="syft", help="the program syft (the one on the PATH)")
    return parser.parse_args()


def wheel() -> Document:
    """Return the SBOM of the wheel: what Linux needs of uv.lock; what only an extra needs is optional."""
    required = {component["purl"] for component in locked()["components"]}
    document = locked("--all-extras")
    document["components"] = [
        component | licences(component["name"]) | ({} if component["purl"] in required else {"scope": "optional"})
        for component in document["components"]
        if needed_on_linux(component)
    ]
    kept = {component["bom-ref"] for component in document["components"]}
    described = document["metadata"]["component"]
    described |= {"version": __version__, "purl": f"pkg:pypi/{NAME}@{__version__}"} | licences(NAME)
    document["dependencies"] = list(dependencies(document["dependencies"], kept | {described["bom-ref"]}))
    return without_chance(document)


def locked(*options: str) -> Document:
    """Return what uv makes of uv.lock."""
    command = [str(UV), "export", "--quiet", "--frozen", "--no-dev", "--format", "cyclonedx1.5", *options]
    return run(command)


def needed_on_linux(component: Document) -> bool:
    """Tell whether the marker of a locked package lets some Python on Linux have it."""
    markers = [
        Marker(entry["value"]) for entry in component.get("properties", ()) if entry["name"] == "uv:package:marker"
    ]
    environments = [{**LINUX, "python_version": python, "python_full_version": f"{python}.0"} for python in PYTHONS]
    return any(all(marker.evaluate(entry) for marker in markers) for entry in environments)


def licences(package: str) -> Document:
    """Return the licences of an installed Python package as its metadata have them."""
    try:
        about = metadata(package).json
    except PackageNotFoundError:
        raise SbomError(
            f"the package {package} is not installed, expected it for its licence; run `make setup`"
        ) from None
    if expression := about.get("license_expression"):
        return {"licenses": [{"expression": expression}]}
    classifiers = [text.rpartition(" :: ")[2] for text in about.get("classifier", []) if text.startswith("License")]
    return {"licenses": [{"license": {"name": name}} for name in classifiers or [about.get("license")] if name]}


def dependencies(entries: Iterable[Document], kept: set[str]) -> Iterator[Document]:
    """Yield the dependencies among the components that are kept."""
    for entry in entries:
        if entry["ref"] in kept:
            yield entry | {"dependsOn": [ref for ref in entry.get("dependsOn", ()) if ref in kept]}


def image(name: str, syft: str) -> Document:
    """Return the SBOM of an image."""
    version = name.rpartition(":")[2]
    command = [
        syft,
        "scan",
        f"docker:{name}",
        "--quiet",
        "--output=cyclonedx-json@1.6",
        f"--select-catalogers={CATALOGERS}",
    ]
    document = run([*command, f"--source-name={NAME}", f"--source-version={version}"], **SYFT_SETTINGS)
    found = run(
        ["docker", "run", "--rm", "--interactive", "--network=none", "--entrypoint=python3", name, "-"],
        given=PROBE.read_text(encoding="utf-8"),
    )
    declared = [entry for path, sbom in found["sboms"].items() for entry in embedded(path, sbom)]
    document["components"] = [
        *(tidied(entry) for entry in document["components"]),
        interpreter(found["python"]),
        *native(found["libraries"], declared),
        *(entry for entry in declared if entry["purl"].startswith(LINKED)),
    ]
    document["metadata"]["tools"]["components"][0]["version"] = syft_version()
    return without_chance(document)


def syft_version() -> str:
    """Return the version of syft that is pinned; the program that Go builds does not know its own."""
    pinned = re.search(r"^\s*github\.com/anchore/syft v(\S+)", SYFT_PINS.read_text(encoding="utf-8"), re.MULTILINE)
    return pinned[1] if pinned else ""


def tidied(component: Document) -> Document:
    """Return what syft found with the licences that Python packages name as classifiers, which syft passes over.

    It loses what is no licence, a NOTICE file that syft names by its hash, and the path that a wheel came from.
    """
    named = [entry for entry in component.get("licenses", ()) if not hashed(entry)]
    references = [entry for entry in component.get("externalReferences", ()) if not entry["url"].startswith("file:")]
    known = {key: value for key, value in component.items() if key not in {"licenses", "externalReferences"}}
    if not named and component.get("purl", "").startswith("pkg:pypi/"):
        named = licences(component["name"])["licenses"]
    given = {"licenses": named, "externalReferences": references}
    return known | {key: value for key, value in given.items() if value}


def hashed(licence: Document) -> bool:
    """Tell whether syft knows a licence by the hash of its text alone."""
    return bool(licence.get("license", {}).get("name", "").startswith("sha256:"))


def interpreter(version: str) -> Document:
    """Return Python itself."""
    return {**described("python", version, "python:python"), "licenses": [{"license": {"id": "PSF-2.0"}}]}


def embedded(path: str, sbom: Document) -> Iterator[Document]:
    """Yield the components that the SBOM of a wheel declares, but for the wheel itself and what is not shipped."""
    own = sbom["metadata"].get("component", {}).get("purl")
    for component in sbom["components"]:
        if component["purl"] != own and component.get("scope") != "excluded":
            purl = component["purl"].partition("?")[0]
            kept = {key: component[key] for key in ("type", "name", "version") if key in component}
            named = [recognised(entry) for entry in component.get("licenses", ())]
            if not named and component["name"] in NATIVE:
                named = [{"license": {"id": NATIVE[component["name"]][0]}}]
            yield {"bom-ref": f"{purl}#{Path(path).name}", **kept, "licenses": named, "purl": purl, **located([path])}


def recognised(licence: Document) -> Document:
    """Return a licence by its SPDX id if it is given as a text that starts with its name."""
    text = licence.get("license", {}).get("text", {}).get("content", "")
    title = base64.b64decode(text).decode().partition("\n")[0]
    return {"license": {"id": TITLES[title]}} if title in TITLES else licence


def native(libraries: Iterable[Document], declared: Iterable[Document]) -> Iterator[Document]:
    """Yield the native libraries, those that a wheel declares with the version from there."""
    known = {component["name"]: component for component in declared if not component["purl"].startswith(LINKED)}
    for library in libraries:
        name, version = library["name"], library["version"]
        if name not in NATIVE:
            raise SbomError(
                f"{library['files'][0]} belongs to no library that tools/image_contents.py knows; add it there"
            )
        licence, cpe = NATIVE[name]
        component = known.get(name) or described(name, version, cpe)
        yield component | {"licenses": [{"license": {"id": licence}}], **located(library["files"])}


def described(name: str, version: str | None, cpe: str) -> Document:
    """Return a library that no wheel declares."""
    component = {"bom-ref": f"native:{name}", "type": "library", "name": name}
    if version is None:
        return component
    scanned = {"cpe": f"cpe:2.3:a:{cpe}:{version}:*:*:*:*:*:*:*", "purl": f"pkg:generic/{name}@{version}"}
    return component | {"version": version} | scanned


def located(paths: Iterable[str]) -> Document:
    """Return where a component was found."""
    return {"evidence": {"occurrences": [{"location": path} for path in paths]}}


def without_chance(document: Document) -> Document:
    """Return an SBOM without what differs between two runs on the same input."""
    document.pop("serialNumber", None)
    document["metadata"].pop("timestamp", None)
    return document


def run(command: list[str], given: str = "", **variables: str) -> Document:
    """Return the JSON that a program prints. Raises SbomError."""
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **variables}, input=given, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SbomError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()}")
    document: Document = json.loads(done.stdout)
    return document


if __name__ == "__main__":
    sys.exit(main())
