"""The table of releases, and the id that git computes for a folder."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

TABLE = Path(__file__).resolve().parent / "releases.txt"
_FILE, _FOLDER = b"100644 ", b"40000 "  # the vendor's files are all plain ones; a Go module keeps no other mode


def read_table(path: Path = TABLE) -> dict[str, str]:
    """Return the tree id of every release, by version, lowest version first."""
    lines = (line.split() for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#"))
    return dict(sorted(((version, tree) for version, tree in lines), key=lambda pair: order(pair[0])))


def write_table(trees: Mapping[str, str], path: Path = TABLE) -> None:
    """Write the table, lowest version first; the comment at its head stays."""
    head = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    lines = [f"{version} {trees[version]}" for version in sorted(trees, key=order)]
    path.write_text("".join(f"{line}\n" for line in (*head, *lines)), encoding="utf-8")


def order(version: str) -> tuple[int, ...]:
    """Return the key by which versions are sorted."""
    return tuple(int(number) for number in version.split("."))


def tree_id(folder: Path) -> str:
    """Return the id of the tree object that git makes of a folder, 40 hex digits."""
    return _tree(folder).hex()


def _tree(folder: Path) -> bytes:
    # git sorts a folder as if its name ended with a slash.
    paths = sorted(folder.iterdir(), key=lambda path: path.name + "/" * path.is_dir())
    entries = (
        _FOLDER + path.name.encode() + b"\0" + _tree(path)
        if path.is_dir()
        else _FILE + path.name.encode() + b"\0" + _object("blob", path.read_bytes())
        for path in paths
    )
    return _object("tree", b"".join(entries))


def _object(kind: str, content: bytes) -> bytes:
    header = f"{kind} {len(content)}\0".encode()
    return hashlib.sha1(header + content, usedforsecurity=False).digest()
