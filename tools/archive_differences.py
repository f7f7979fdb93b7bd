"""Names the first difference between two wheels, two chart packages or two images (OCI archives)."""

import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A file of an archive, as far as two builds can differ in it; `time` in whatever unit the archive has."""

    name: str
    kind: str
    mode: int
    owner: str
    time: str
    link: str
    digest: str


END = Member(name="the end", kind="", mode=0, owner="", time="", link="", digest="")


def first_difference(first: Path, second: Path) -> str:
    """Say where two archives differ first; empty if they are equal bit for bit."""
    ours, theirs = first.read_bytes(), second.read_bytes()
    if ours == theirs:
        return ""
    pairs = zip_longest(members_of(ours), members_of(theirs))
    texts = (member_difference(*pair) for pair in pairs)
    return next((text for text in texts if text), "the same members, but packed differently")


def member_difference(ours: Member | None, theirs: Member | None) -> str:
    """Say how two members at one place of the archives differ; empty if they do not."""
    if ours is None or theirs is None:
        return f"only one has {(ours or theirs or END).name}"
    if ours.name != theirs.name:
        return f"{ours.name} is where the other has {theirs.name}"
    fields = [name for name, value in asdict(ours).items() if value != getattr(theirs, name)]
    return ", ".join(f"{ours.name}: {name} {getattr(ours, name)} and {getattr(theirs, name)}" for name in fields)


def members_of(archive: bytes) -> Iterator[Member]:
    """Return what is in a wheel, in a (compressed) tar, or in the layers of an image."""
    if zipfile.is_zipfile(io.BytesIO(archive)):
        return zip_members(archive)
    if blobs := oci_blobs(archive):
        return image_members(blobs)
    return tar_members(archive, "")


def zip_members(archive: bytes) -> Iterator[Member]:
    """Return what is in a wheel."""
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        for info in opened.infolist():
            yield Member(
                name=info.filename,
                kind=str(info.compress_type),
                mode=info.external_attr >> 16,
                owner=str(info.create_system),
                time=str(info.date_time),
                link="",
                digest=digest(opened.read(info)),
            )


def tar_members(archive: bytes, place: str) -> Iterator[Member]:
    """Return what is in a tar, compressed or not; `place` stands before each name."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        for info in opened:
            content = opened.extractfile(info)
            yield Member(
                name=place + info.name,
                kind=info.type.decode(),
                mode=info.mode,
                owner=f"{info.uid}:{info.gid} {info.uname}:{info.gname}",
                time=str(info.mtime),
                link=info.linkname,
                digest=digest(content.read() if content else b""),
            )


def oci_blobs(archive: bytes) -> dict[str, bytes]:
    """Return the files of an OCI layout by name; none if it is another tar."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        files = {info.name: opened.extractfile(info) for info in opened if info.isfile()}
        return {name: file.read() for name, file in files.items() if file} if "oci-layout" in files else {}


def image_members(blobs: dict[str, bytes]) -> Iterator[Member]:
    """Return an image's configuration, part by part, and what is in each of its layers."""

    def blob(descriptor: dict[str, Any]) -> bytes:
        return blobs["blobs/" + descriptor["digest"].replace(":", "/")]

    for image in json.loads(blobs["index.json"])["manifests"]:
        manifest = json.loads(blob(image))
        for number, layer in enumerate(manifest["layers"], 1):
            yield from tar_members(blob(layer), f"layer {number}: ")
        for name, value in json.loads(blob(manifest["config"])).items():
            yield part(f"configuration: {name}", value)
        yield part("manifest: annotations", [manifest.get("annotations"), image.get("annotations")])


def part(name: str, value: object) -> Member:
    """Return a part of a configuration as if it were a file."""
    return replace(END, name=name, digest=json.dumps(value, sort_keys=True))


def digest(content: bytes) -> str:
    """Return the hash that stands for a file's content."""
    return hashlib.sha256(content).hexdigest()
