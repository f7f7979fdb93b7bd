"""What is in the images: no more than what runs, by whom, how large."""

import json
import zlib
from typing import Any

import pytest

from support.kubernetes.containers import Image

LARGEST = {"slim": 60_000_000, "tools": 90_000_000}
"""Compressed, as a registry keeps them, in bytes."""

ONLY_FOR_TOOLS = {"bash", "cat", "cp", "dash", "grep", "ls", "sed", "sh", "temporal-sql-tool"}
UNWANTED = {"apt", "cc", "curl", "dpkg", "gcc", "go", "make", "mount", "perl", "pip", "pip3", "su", "uv"}
PROGRAMS = """
import json, os
names = [
    name
    for folder in os.environ["PATH"].split(":")
    if os.path.isdir(folder)
    for name in os.listdir(folder)
    if os.access(os.path.join(folder, name), os.X_OK)
]
print(json.dumps(names))
"""
MODULES = """
import importlib, json, os, sys
failed = {}
for path in sys.path:
    if path.endswith("lib-dynload"):
        for file in os.listdir(path):
            name = file.split(".")[0]
            try:
                importlib.import_module(name)
            except ImportError as error:
                failed[name] = str(error)
print(json.dumps(failed))
"""
FILES = """
import json, os, stat
special, writable, compiled = [], [], 0
for folder, _, names in os.walk("/"):
    if folder.startswith(("/proc", "/sys", "/dev")):
        continue
    for name in names:
        mode = os.lstat(os.path.join(folder, name)).st_mode
        special += [os.path.join(folder, name)] * bool(mode & (stat.S_ISUID | stat.S_ISGID))
        writable += [os.path.join(folder, name)] * (bool(mode & stat.S_IWOTH) and not stat.S_ISLNK(mode))
        compiled += name.endswith(".pyc")
print(json.dumps([special, writable, compiled]))
"""
LICENCES = """
import importlib.metadata, json
print(json.dumps([
    each.metadata["Name"]
    for each in importlib.metadata.distributions()
    if not any("licen" in str(file).lower() or "copying" in str(file).lower() for file in each.files or ())
]))
"""
SOURCES = """
import schema_migrator, json, psycopg, rich
print(json.dumps([module.__cached__ for module in (schema_migrator, psycopg, rich, json)]))
"""
pytestmark = pytest.mark.image


def asked(image: Image, code: str) -> Any:  # noqa: ANN401 - JSON of any shape
    """Return what Python code prints in an image, as JSON."""
    return json.loads(image.python(code))


def test_programs(image: Image, tools_image: Image) -> None:
    """Python and the program, no shell; what scripts need is in the tools image alone; no package manager in either."""
    slim, tools = (set(asked(each, PROGRAMS)) for each in (image, tools_image))
    assert {name for name in slim if not name.startswith("python3")} == {"python", "schema-migrator"}
    assert tools > ONLY_FOR_TOOLS
    assert not UNWANTED & tools


def test_every_module_of_python_loads(each_image: Image) -> None:
    """No library of the base that one of them needs was left out."""
    assert asked(each_image, MODULES) == {}


def test_files(each_image: Image) -> None:
    """None runs as another user, none can be written by everybody."""
    special, writable, compiled = asked(each_image, FILES)
    assert (special, writable) == ([], [])
    assert compiled > 500


def test_compiled_files_are_used(image: Image) -> None:
    """They carry no time, so that two builds are equal; Python takes them all the same."""
    for path in asked(image, SOURCES):
        flags = image.python(f"import sys; print(open({path!r}, 'rb').read(8)[4])")
        assert flags == "1\n", f"{path} is checked against the time of its source"


def test_licences(image: Image, tools_image: Image) -> None:
    """Each library has its licence with it, so do Debian's packages, the vendor's files and the program."""
    assert asked(image, LICENCES) == []
    look = (
        "import glob; print(*glob.glob('/usr/share/temporal-schema-migrator/releases/1*/LICENSE'),"
        " *glob.glob('/usr/share/doc/*/LICENSE'), *glob.glob('/usr/share/doc/*/copyright'))"
    )
    found = tools_image.python(look)
    for name in ("releases/1.32.2/LICENSE", "temporal-schema-migrator/LICENSE", "libssl3/copyright"):
        assert name in found


def test_labels_and_user(each_image: Image) -> None:
    """A numeric user; where it comes from, and of which commit."""
    described = each_image.client.images.get(each_image.name).attrs["Config"]
    assert described["User"] == "65532:65532"
    labels = described["Labels"]
    assert labels["org.opencontainers.image.title"] == "temporal-schema-migrator"
    for name in ("version", "revision", "source", "created", "base.name"):
        assert labels[f"org.opencontainers.image.{name}"], name


@pytest.mark.parametrize("kind", LARGEST)
def test_how_large_it_is(image: Image, tools_image: Image, kind: str) -> None:
    """Compressed, as a registry keeps it."""
    packer = zlib.compressobj(6, wbits=31)
    name = (image if kind == "slim" else tools_image).name
    size = sum(len(packer.compress(chunk)) for chunk in image.client.images.get(name).save())
    assert size + len(packer.flush()) < LARGEST[kind]
