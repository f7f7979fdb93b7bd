"""The SBOMs of the images, compared with what is really in the images, in both directions."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import notices
import pytest

from support.kubernetes.containers import IMAGE

pytestmark = pytest.mark.image
ROOT = Path(__file__).parents[2]
SQL_TOOL = "/usr/local/libexec/temporal-sql-tool"
BASE = "org.opencontainers.image.base.name"
GENERATE = {"ca-certificates"}
"""Packages whose files in the image are written while they are installed, so that no list of files names them."""
NOTICES = "/usr/share/doc/temporal-schema-migrator/go/pkg/mod"
LOOK = """
import json, os, platform, re, sys
from importlib.metadata import distributions
from pathlib import Path

def packages():
    folder = Path("/var/lib/dpkg/status.d")
    files = [path for path in folder.iterdir() if path.suffix != ".md5sums"] if folder.is_dir() else []
    for path in files or [Path("/var/lib/dpkg/status")]:
        for entry in path.read_text().split("\\n\\n"):
            if "Status: install ok installed" in entry:
                yield [re.search("^" + field + ": (.*)", entry, re.MULTILINE)[1] for field in ("Package", "Version")]

print(json.dumps({
    "pypi": [[re.sub("[-_.]+", "-", found.name.lower()), found.version] for found in distributions()],
    "deb": list(packages()),
    "files": [os.path.join(folder, name) for root in ("/usr/bin", "/usr/sbin", "/usr/lib", "/usr/share", "/etc")
              for folder, _, names in os.walk(root) for name in names],
    "python": platform.python_version(),
    "libraries": [str(path) for folder in sys.path for path in Path(folder).glob("*.libs/*")],
    "sboms": [json.loads(path.read_text()) for folder in sys.path
              for path in Path(folder).glob("*.dist-info/sboms/*")],
}))
"""
"""What an image's own Python says about it."""
OWNERS = """
import json, os, re
from pathlib import Path

owners = {}
for listed in Path("/var/lib/dpkg/info").glob("*.list"):
    for path in listed.read_text().splitlines():
        where = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
        owners[where] = re.sub(":.*", "", listed.stem)
print(json.dumps(owners))
"""
"""Which package each file of the base belongs to, on a system whose /bin and /lib are links."""


@dataclass(frozen=True, kw_only=True)
class Described:
    """An image, and the SBOM that the project's tool writes of it."""

    name: str
    path: Path

    @cached_property
    def components(self) -> list[dict[str, Any]]:
        """The components of the SBOM."""
        found: list[dict[str, Any]] = json.loads(self.path.read_text(encoding="utf-8"))["components"]
        return found

    @cached_property
    def found(self) -> dict[str, Any]:
        """What is really in the image."""
        found: dict[str, Any] = json.loads(
            output("docker", "run", "--entrypoint=python3", *ONCE, self.name, "-c", LOOK)
        )
        return found

    def named(self, kind: str) -> list[tuple[str, str]]:
        """Return names and versions of the components of a kind, as their package URLs have them."""
        prefix = f"pkg:{kind}/"
        return sorted(
            (component["name"], component["version"])
            for component in self.components
            if component.get("purl", "").startswith(prefix)
        )


ONCE = ("--rm", "--network=none")


def asked(image: str, question: str) -> dict[str, Any]:
    """Return what Python in an image prints."""
    found: dict[str, Any] = json.loads(output("docker", "run", "--entrypoint=python3", *ONCE, image, "-c", question))
    return found


def output(*command: str) -> str:
    """Return what a program prints."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def write(name: str, path: Path) -> None:
    """Write the SBOM of an image."""
    output(sys.executable, "tools/sbom.py", str(path), "--image", name, "--syft", os.environ.get("SYFT") or "syft")


@pytest.fixture(scope="module", params=["", "-tools"], ids=["slim", "tools"])
def described(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Described:
    """Return each image with its SBOM."""
    name, path = f"{IMAGE}{request.param}", tmp_path_factory.mktemp("sbom") / "image.cdx.json"
    write(name, path)
    return Described(name=name, path=path)


@pytest.fixture(scope="module")
def binary(described: Described, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path | None]:
    """Return the vendor's binary out of an image; nothing where there is none."""
    target = tmp_path_factory.mktemp("binary") / "temporal-sql-tool"
    container = output("docker", "create", described.name).strip()
    command = ("docker", "cp", f"{container}:{SQL_TOOL}", str(target))
    copied = subprocess.run(command, capture_output=True, check=False)
    yield target if copied.returncode == 0 else None
    output("docker", "rm", container)


def test_python_packages(described: Described) -> None:
    """Every distribution that Python sees, with its version, and no other."""
    assert [(normal(name), version) for name, version in described.named("pypi")] == pairs(described.found["pypi"])


def test_the_interpreter(described: Described) -> None:
    """Python itself, once, with its version."""
    found = [component["version"] for component in described.components if component["name"] == "python"]
    assert found == [described.found["python"]]


def test_debian_packages(described: Described) -> None:
    """Every package of the image, and no other."""
    assert described.named("deb") == pairs(described.found["deb"])


def test_files_of_debian_packages(described: Described) -> None:
    """Every program and library of the base belongs to a package of the SBOM, and every such package has files."""
    label = f'{{{{index .Config.Labels "{BASE}"}}}}'
    owners = asked(output("docker", "image", "inspect", "--format", label, described.name).strip(), OWNERS)
    owned = {path: owners[path] for path in described.found["files"] if path in owners}
    assert sorted({*owned.values(), *GENERATE}) == [name for name, _ in described.named("deb")]
    code = [path for path in described.found["files"] if re.match("/usr/(bin|sbin)/|/usr/lib/.*[.]so", path)]
    assert [path for path in code if path not in owned] == []


def test_go_modules(described: Described, binary: Path | None) -> None:
    """Every module in the vendor's binary, and none in the image without it."""
    modules = []
    if binary is not None:
        info = notices.build_info(binary)
        modules = [(module.module, f"v{module.version}") for module in notices.modules(info)]
        modules.append(("stdlib", info["GoVersion"]))
    assert described.named("golang") == sorted(modules)


def test_only_one_image_has_the_binary(described: Described, binary: Path | None) -> None:
    """The image whose name ends with `-tools`."""
    assert (binary is not None) == described.name.endswith("-tools")


def test_libraries_in_wheels(described: Described) -> None:
    """Every file that a wheel brings in its folder of libraries belongs to one component."""
    occurrences = [
        place["location"]
        for component in described.components
        for place in component.get("evidence", {}).get("occurrences", ())
    ]
    assert sorted(path for path in occurrences if ".libs/" in path) == sorted(described.found["libraries"])
    versions = {component["name"]: component.get("version") for component in described.components}
    for name in ("libpq", "openssl", "krb5", "openldap"):
        assert re.fullmatch(r"\d+(\.\d+)+", versions[name])


def test_what_wheels_declare(described: Described) -> None:
    """Every crate that the SBOM of a wheel lists as shipped, and no other."""
    declared = {
        (component["name"], component["version"])
        for sbom in described.found["sboms"]
        for component in sbom["components"]
        if component["purl"].startswith("pkg:cargo/") and component.get("scope") != "excluded"
    }
    assert set(described.named("cargo")) == declared
    assert declared


def test_nothing_else(described: Described) -> None:
    """Beside these there is only the operating system."""
    others = [
        component
        for component in described.components
        if not re.match("pkg:(pypi|deb|golang|cargo)/", component.get("purl", ""))
    ]
    names = [component["name"] for component in others if "evidence" not in component]
    assert names == ["debian", "python"]


def test_licence_files_of_the_modules(described: Described, binary: Path | None) -> None:
    """The image with the vendor's binary carries the licence of every module that has one."""
    if binary is None:
        return
    for module in notices.modules(notices.build_info(binary)):
        folder = f"{NOTICES}/{notices.escaped(module.module)}@v{notices.escaped(module.version)}/"
        has_one = any(path.startswith(folder) for path in described.found["files"])
        assert has_one != (module.module in notices.WITHOUT_A_FILE), module


def test_names_no_build_machine(described: Described) -> None:
    """No path or name of this machine, no mirror of a registry, no local file."""
    text = described.path.read_text(encoding="utf-8")
    assert "file://" not in text
    assert found_in(text, str(ROOT), str(Path.home()), socket.gethostname(), *mirrors()) == []


def test_the_same_twice(described: Described, tmp_path: Path) -> None:
    """The same image gives the same bytes."""
    write(described.name, tmp_path / "again.cdx.json")
    assert (tmp_path / "again.cdx.json").read_bytes() == described.path.read_bytes()


def pairs(found: list[list[str]]) -> list[tuple[str, str]]:
    """Return names and versions, sorted."""
    return sorted((name, version) for name, version in found)


def normal(name: str) -> str:
    """Return the name of a Python package as PyPI writes it."""
    return re.sub("[-_.]+", "-", name.lower())


def found_in(text: str, *forbidden: str) -> list[str]:
    """Return what a text should not have and has."""
    return [word for word in forbidden if re.search(rf"(?<![\w.-]){re.escape(word)}(?![\w.-])", text)]


def mirrors() -> list[str]:
    """Return the hosts of registries that this machine uses in place of the public ones."""
    variables = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX", "GOPROXY")
    urls = " ".join(os.environ.get(name, "") for name in variables)
    return [host for host in re.findall(r"https?://(?:[^/@\s]*@)?([^/:,\s]+)", urls) if host not in PUBLIC]


PUBLIC = {"pypi.org", "files.pythonhosted.org", "proxy.golang.org"}
