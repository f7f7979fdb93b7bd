"""What is pushed and signed, with commands that only note how they were called."""

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import publish

DIGEST = "sha256:" + "a" * 64
BUILD = publish.Build(
    registry="registry.example/temporal",
    version="0.2.0",
    platforms="linux/amd64,linux/arm64",
    flags=("--pull",),
    output="oci-mediatypes=true",
)
STUB = """#!{python}
import json, sys
with open({log!r}, "a") as log:
    log.write(json.dumps(sys.argv) + "\\n")
{body}
"""
METADATA = """
place = sys.argv[sys.argv.index("--metadata-file") + 1]
open(place, "w").write(json.dumps({"containerimage.digest": DIGEST}))
""".replace("DIGEST", repr(DIGEST))


@pytest.fixture
def calls(tmp_path: Path) -> Path:
    """Return the file that stubs write their arguments to."""
    return tmp_path / "calls"


def stub(folder: Path, name: str, body: str) -> str:
    """Write a command that notes its arguments and does no more than `body`."""
    path = folder / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(STUB.format(python=sys.executable, log=str(folder / "calls"), body=body))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def called(calls: Path) -> list[list[str]]:
    """Return how stubs were called, each without its own path."""
    return [json.loads(line)[1:] for line in calls.read_text().splitlines()]


def option(call: list[str], name: str) -> str:
    """Return an option's value."""
    return call[call.index(name) + 1]


def test_pushes_both_images(tmp_path: Path, calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each stage under its tag, for all platforms; where each one is can be read afterwards."""
    stub(tmp_path, "docker", METADATA)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    publish.push_images(BUILD, tmp_path / "dist")
    slim, tools = called(calls)
    assert slim[:2] == ["buildx", "build"]
    assert "--pull" in slim
    name = "type=registry,name=registry.example/temporal/temporal-schema-migrator:0.2.0"
    assert [option(call, "--target") for call in (slim, tools)] == ["slim", "tools"]
    assert [option(call, "--output") for call in (slim, tools)] == [
        f"{name}{suffix},oci-mediatypes=true" for suffix in ("", "-tools")
    ]
    assert [option(call, "--platform") for call in (slim, tools)] == ["linux/amd64,linux/arm64"] * 2
    published = tmp_path / "dist" / "published"
    expected = f"registry.example/temporal/temporal-schema-migrator@{DIGEST}\n"
    assert {path.name: path.read_text() for path in published.iterdir()} == dict.fromkeys(publish.STAGES, expected)


def test_an_archive_is_built_as_what_is_pushed() -> None:
    """The archive of an air gap and the registry get the same bits: make gives both the same options."""
    targets = ["publish-images", "dist/images/slim-amd64.tar"]
    command = ["make", "--dry-run", "-o", "setup", *targets, "REGISTRY=registry.example", "DOCKER_FLAGS=--pull"]
    said = subprocess.run(command, cwd=publish.DIST.parent, capture_output=True, text=True, check=True).stdout
    pushed, archived = re.findall(r"SOURCE_DATE_EPOCH=\d+ (?:.+\\\n)+.+", said)
    for same in ("--pull", "--provenance=false", "--sbom=false", "oci-mediatypes=true,rewrite-timestamp=true"):
        assert same in pushed
        assert same in archived


def test_refuses_a_build_without_a_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tag alone could not be signed."""
    stub(tmp_path, "docker", 'open(sys.argv[sys.argv.index("--metadata-file") + 1], "w").write("{}")')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    with pytest.raises(publish.PublishError, match=r'^docker buildx wrote the digest "" into \S+, expected sha256:'):
        publish.push_images(BUILD, tmp_path / "dist")


def test_pushes_the_chart(tmp_path: Path, calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its digest is what helm says."""
    dist = tmp_path / "dist"
    dist.mkdir()
    (dist / "temporal-migrations-0.2.0.tgz").touch()
    monkeypatch.setenv("HELM", stub(tmp_path, "helm", f'print("Pushed: x\\nDigest: {DIGEST}", file=sys.stderr)'))
    publish.push_chart("registry.example/temporal", "0.2.0", dist)
    package = str(dist / "temporal-migrations-0.2.0.tgz")
    assert called(calls) == [["push", package, "oci://registry.example/temporal/charts"]]
    expected = f"registry.example/temporal/charts/temporal-migrations@{DIGEST}\n"
    assert (dist / "published" / "chart").read_text() == expected


def test_refuses_a_chart_that_is_not_there(tmp_path: Path) -> None:
    """The sentence names the target that packages it."""
    with pytest.raises(
        publish.PublishError, match=r"temporal-migrations-0\.2\.0\.tgz does not exist; run `make chart`"
    ):
        publish.push_chart("registry.example", "0.2.0", tmp_path)


def test_signs_each_artifact_by_digest(tmp_path: Path, calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images with their bill of materials, the chart without one, and the checksums as a file."""
    dist = published(tmp_path)
    monkeypatch.setenv("COSIGN", stub(tmp_path, "cosign", ""))
    publish.sign(dist, ["--key", "k"])
    attest = ["attest", "--key", "k", "--yes", "--type", "cyclonedx", "--predicate"]
    sums = str(dist / "SHA256SUMS")
    assert called(calls) == [
        ["sign", "--key", "k", "--yes", "--recursive", f"r.example/image@{DIGEST}"],
        [*attest, str(dist / "sbom" / "image.cdx.json"), f"r.example/image@{DIGEST}"],
        ["sign", "--key", "k", "--yes", "--recursive", f"r.example/image-tools@{DIGEST}"],
        [*attest, str(dist / "sbom" / "image-tools.cdx.json"), f"r.example/image-tools@{DIGEST}"],
        ["sign", "--key", "k", "--yes", "--recursive", f"r.example/chart@{DIGEST}"],
        ["sign-blob", "--key", "k", "--yes", "--bundle", f"{sums}.sigstore.json", sums],
    ]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("published/chart", "run `make publish-images publish-chart` first"),
        ("sbom/image.cdx.json", "run `make sbom` first"),
        ("SHA256SUMS", "run `make checksums` first"),
    ],
)
def test_signs_nothing_of_a_half_release(
    tmp_path: Path, calls: Path, monkeypatch: pytest.MonkeyPatch, name: str, sentence: str
) -> None:
    """What is missing is named before the first signature."""
    dist = published(tmp_path)
    (dist / name).unlink()
    monkeypatch.setenv("COSIGN", stub(tmp_path, "cosign", ""))
    with pytest.raises(publish.PublishError) as caught:
        publish.sign(dist, [])
    assert str(caught.value) == f"{dist / name} does not exist; {sentence}"
    assert not calls.exists()


def published(folder: Path) -> Path:
    """Return a folder as it is when everything was pushed."""
    dist = folder / "dist"
    for name in ("image", "image-tools", "chart"):
        publish.note(dist, name, f"r.example/{name}@{DIGEST}")
    (dist / "sbom").mkdir()
    for name in publish.STAGES:
        (dist / "sbom" / f"{name}.cdx.json").touch()
    (dist / "SHA256SUMS").touch()
    return dist


def test_says_which_command_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its exit code, and what it said."""
    dist = tmp_path / "dist"
    dist.mkdir()
    (dist / "temporal-migrations-0.2.0.tgz").touch()
    monkeypatch.setenv("HELM", stub(tmp_path, "helm", 'sys.exit("denied")'))
    with pytest.raises(publish.PublishError, match=r"^`\S+/helm push .*` ended with 1: denied$"):
        publish.push_chart("registry.example", "0.2.0", dist)


@pytest.mark.parametrize("address", ["", "https://registry.example", "oci://registry.example"])
def test_refuses_what_is_no_registry(address: str) -> None:
    """`make publish-images` without REGISTRY says what is missing."""
    command = [sys.executable, "tools/publish.py", "images", "--version", "0.2.0", "--registry", address]
    done = subprocess.run(command, cwd=publish.DIST.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f'"{address}" is no registry, expected REGISTRY=registry.example/temporal' in done.stderr
