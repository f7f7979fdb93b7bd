"""Two builds are compared bit for bit, and the first difference is named."""

import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import pytest

from archive_differences import first_difference

Files = Mapping[str, str]


def wheel(files: Files, *, year: int = 2020) -> bytes:
    """Return a zip."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as opened:
        for name, text in files.items():
            opened.writestr(zipfile.ZipInfo(name, (year, 1, 1, 0, 0, 0)), text)
    return made.getvalue()


def tar(files: Mapping[str, bytes], *, mtime: int = 0, mode: int = 0o644) -> bytes:
    """Return a tar."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as opened:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.mode = len(content), mtime, mode
            opened.addfile(info, io.BytesIO(content))
    return made.getvalue()


def package(files: Files, *, mtime: int = 0, mode: int = 0o644, level: int = 9) -> bytes:
    """Return a compressed tar."""
    contents = {name: text.encode() for name, text in files.items()}
    return gzip.compress(tar(contents, mtime=mtime, mode=mode), level, mtime=0)


def image(*layers: bytes, **configuration: object) -> bytes:
    """Return an OCI archive."""
    blobs: dict[str, bytes] = {}

    def blob(content: bytes) -> dict[str, str]:
        digest = sha256(content).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = content
        return {"digest": f"sha256:{digest}"}

    config = blob(json.dumps(configuration).encode())
    manifest = blob(json.dumps({"layers": [blob(layer) for layer in layers], "config": config}).encode())
    index = json.dumps({"manifests": [manifest]}).encode()
    files = {"oci-layout": b"{}", "index.json": index, **blobs}
    return tar(files)


FIRST = {"a": "one", "b": "two"}
CASES = {
    "the same wheel": (wheel(FIRST), wheel(FIRST), ""),
    "another file": (wheel(FIRST), wheel({"a": "one", "c": "two"}), "b is where the other has c"),
    "a file more": (wheel(FIRST), wheel({"a": "one"}), "only one has b"),
    "a time of a wheel": (
        wheel(FIRST),
        wheel(FIRST, year=2021),
        "a: time (2020, 1, 1, 0, 0, 0) and (2021, 1, 1, 0, 0, 0)",
    ),
    "a time": (package(FIRST), package(FIRST, mtime=7), "a: time 0 and 7"),
    "a mode": (package(FIRST), package(FIRST, mode=0o600), "a: mode 420 and 384"),
    "the compression": (package(FIRST), package(FIRST, level=1), "the same members, but packed differently"),
    "a layer": (
        image(package(FIRST), package(FIRST)),
        image(package(FIRST), package(FIRST, mtime=7)),
        "layer 2: a: time 0 and 7",
    ),
    "a configuration": (
        image(created="1970"),
        image(created="1971"),
        'configuration: created: digest "1970" and "1971"',
    ),
}


@pytest.mark.parametrize(("ours", "theirs", "expected"), CASES.values(), ids=CASES)
def test_names_the_first_difference(tmp_path: Path, ours: bytes, theirs: bytes, expected: str) -> None:
    """In a wheel, a chart package or an image: which member, what of it, and both values."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(ours)
    second.write_bytes(theirs)
    assert first_difference(first, second) == expected


def test_names_what_differs_in_a_file(tmp_path: Path) -> None:
    """By its hashes, not by its text."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(package(FIRST))
    second.write_bytes(package({"a": "one", "b": "2.0"}))
    hashes = [sha256(text).hexdigest() for text in (b"two", b"2.0")]
    assert first_difference(first, second) == f"b: digest {hashes[0]} and {hashes[1]}"
