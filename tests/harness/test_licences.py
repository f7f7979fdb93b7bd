"""Which licences the components of a release may have; tools/licences.py checks them."""

import json
import re
from pathlib import Path

import pytest

import licences


def check(folder: Path, *components: dict[str, object]) -> str:
    """Check an SBOM with these components, write the page into the folder; return what is refused."""
    described = {"metadata": {"component": {"name": "ours"}}, "components": components}
    (folder / "sbom.json").write_text(json.dumps(described))
    try:
        licences.main(["--page", str(folder / "page.md"), str(folder / "sbom.json")])
    except SystemExit as refused:
        return str(refused.code)
    return ""


def component(name: str, *texts: str, kind: str = "pypi") -> dict[str, object]:
    """Return a component of an SBOM."""
    found = [
        {"expression": text} if re.search(" (AND|OR|WITH) ", text) else {"license": {"name": text}} for text in texts
    ]
    purl = f"pkg:{kind}/{name}@1"
    return {"type": "library", "name": name, "purl": purl, "bom-ref": purl, "licenses": found}


@pytest.mark.parametrize(
    "texts",
    [
        ("MIT",),
        ("MIT License",),
        ("MIT", "BSD-3-Clause"),
        ("BSD License", "Apache Software License"),
        ("GPL-2.0-only OR MIT",),
        ("(MIT OR GPL-2.0-only) AND Unicode-3.0",),
        ("Apache-2.0 WITH LLVM-exception",),
    ],
    ids=" + ".join,
)
def test_permits(tmp_path: Path, texts: tuple[str, ...]) -> None:
    """An allowed licence, all of several, or one of a choice."""
    assert check(tmp_path, component("lib", *texts)) == ""


@pytest.mark.parametrize(
    "texts",
    [
        (),
        ("GPL-3.0-only",),
        ("Proprietary",),
        ("MIT", "AGPL-3.0-only"),
        ("MIT AND GPL-2.0-only",),
        ("(MIT OR Apache-2.0) AND LGPL-3.0-only",),
        ("GPL-2.0-only WITH Classpath-exception-2.0",),
    ],
    ids=" + ".join,
)
def test_refuses(tmp_path: Path, texts: tuple[str, ...]) -> None:
    """Any other licence, unknown ones and none included."""
    assert check(tmp_path, component("lib", *texts)).startswith('lib (Python packages) has the licence "')
    assert not (tmp_path / "page.md").exists()


def test_the_sentence(tmp_path: Path) -> None:
    """It names the component, its licence, what is allowed, and what to do."""
    (told,) = check(tmp_path, component("lib", "AGPL-3.0-only")).splitlines()
    assert told.startswith('lib (Python packages) has the licence "AGPL-3.0-only", expected 0BSD, Apache-2.0, ')
    assert told.endswith("; replace it, or add it to EXCEPTIONS in tools/licences.py with the reason")


def test_an_exception_is_for_one_component(tmp_path: Path) -> None:
    """Psycopg may be under the LGPL, others may not."""
    refused = check(tmp_path, component("psycopg", "LGPL-3.0-only"), component("lib", "LGPL-3.0-only"))
    assert [line.split()[0] for line in refused.splitlines()] == ["lib"]


def test_the_base_is_not_checked(tmp_path: Path) -> None:
    """Packages of Debian are the base's, whatever their licence."""
    assert check(tmp_path, component("tar", "GPL-3.0-only", kind="deb")) == ""


def test_the_page(tmp_path: Path) -> None:
    """It lists components by licence, without versions."""
    check(tmp_path, component("b", "MIT"), component("a", "MIT"), component("psycopg", "LGPL-3.0-only"))
    lines = (tmp_path / "page.md").read_text().splitlines()
    assert "| MIT | a, b |" in lines
    assert "| LGPL-3.0-only | psycopg (unmodified, a separate package that can be replaced) |" in lines
