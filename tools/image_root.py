"""Copies what an image needs from its base: some Debian packages and Python. The Dockerfile runs it.

The base image also has a package manager, shells, Perl and pip, which no migration runs. The packages are named below,
and their entries of dpkg's database are copied with them, so that scanners see them:
/var/lib/dpkg/status.d/<package>, as in distroless images.
"""

import argparse
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

SLIM = (
    "base-files",
    "ca-certificates",
    "libbz2-1.0",
    "libc6",
    "libffi8",
    "libgcc-s1",
    "liblzma5",
    "libssl3",
    "libuuid1",
    "netbase",
    "tzdata",
    "zlib1g",
)
TOOLS = (
    "bash",
    "coreutils",
    "dash",
    "grep",
    "libacl1",
    "libattr1",
    "libgmp10",
    "libpcre2-8-0",
    "libselinux1",
    "libtinfo6",
    "sed",
)
PACKAGES = {"slim": SLIM, "tools": TOOLS}
"""What the program and Python load; and what scripts around the vendor's tool use."""

MERGED = ("bin", "lib", "lib32", "lib64", "libx32", "sbin")
"""Folders of / that are links into /usr, which belong to no package."""

GENERATED = {"ca-certificates": ("etc/ssl/certs/ca-certificates.crt",)}
"""Files that a package writes when it is installed."""

UNUSED = re.compile(
    r"usr/share/(doc/.*/(?!copyright$)[^/]+|info/|lintian/|locale/|man/|bash-completion/|bug/|menu/)"
    r"|usr/share/(ca-certificates|zoneinfo/(posix|right))/|usr/lib/[^/]+/gconv/|etc/(skel|update-motd\.d|logcheck|cron|init)|usr/sbin/|var/(backups|mail|spool|local|cache)"
    r"|(home|root|boot|media|mnt|opt|srv|proc|sys|dev|run)/"
)
"""Parts of packages that nothing here reads. Licences (`copyright`) stay."""

WITHOUT_LIBRARY = "_crypt|_curses|_curses_panel|_dbm|_gdbm|_sqlite3|_tkinter|nis|readline|ossaudiodev|spwd"
UNUSED_PYTHON = re.compile(
    r"(config-[^/]*|curses|dbm|ensurepip|idlelib|lib2to3|pydoc_data|site-packages|sqlite3|test|tkinter|turtledemo|venv"
    r"|__pycache__|.*/(__pycache__|tests?))/.+"
    rf"|lib-dynload/({WITHOUT_LIBRARY}|_test.*|_ctypes_test|_xx.*|xx.*)\..*"
)
"""Parts of Python's library that the program does not import, or whose C library is in no package above."""


class RootError(Exception):
    """The base image lacks something that the image needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A Debian package of the base: its entry in dpkg's status file, and the files that it installed."""

    name: str
    entry: str
    files: tuple[str, ...]


def main() -> int:
    """Copy; the exit code is 1 after a failure, told on stderr."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=PACKAGES, help="`slim`, or what `tools` has in addition")
    parser.add_argument("base", type=Path, help="the root folder of the base image")
    parser.add_argument("root", type=Path, help="the folder to make")
    args = parser.parse_args()
    try:
        copy_root(args.kind, args.base, args.root)
    except (RootError, OSError) as error:
        sys.stderr.write(f"image_root: {error}\n")
        return 1
    return 0


def copy_root(kind: str, base: Path, root: Path) -> None:
    """Make the folder that becomes a layer of the image."""
    root.mkdir(parents=True)
    if kind == "slim":
        make_system(base, root)
        copy_python(base, root)
    for package in packages_of(base, PACKAGES[kind]):
        copy_package(base, root, package)


def packages_of(base: Path, names: Sequence[str]) -> Iterator[Package]:
    """Read dpkg's database of the base."""
    stanzas = (base / "var/lib/dpkg/status").read_text().split("\n\n")
    entries = {stanza.split("\n", 1)[0].removeprefix("Package: "): stanza.strip() + "\n" for stanza in stanzas}
    for name in names:
        if name not in entries:
            raise RootError(f"the base image has no package {name}, expected a Debian 12 image with Python")
        yield Package(name=name, entry=entries[name], files=files_of(base, name))


def files_of(base: Path, name: str) -> tuple[str, ...]:
    """Return the paths that a package installed or wrote, relative to the root."""
    folder = base / "var/lib/dpkg/info"
    listing = next((path for path in (folder / f"{name}.list", *folder.glob(f"{name}:*.list")) if path.exists()), None)
    if listing is None:
        raise RootError(f"dpkg's database of the base image does not list the files of {name}")
    listed = (path.removeprefix("/") for path in listing.read_text().splitlines())
    return (*listed, *GENERATED.get(name, ()))


def copy_package(base: Path, root: Path, package: Package) -> None:
    """Copy a package's files, and its entry of dpkg's database."""
    for path in wanted(package.files):
        copy_file(base / path, root / merged(base, path))
    status = root / "var/lib/dpkg/status.d" / package.name
    status.parent.mkdir(parents=True, exist_ok=True)
    status.write_text(package.entry)


def wanted(paths: Iterable[str]) -> Iterator[str]:
    """Leave out what nothing here reads."""
    return (path for path in paths if path not in MERGED and not UNUSED.match(path))


def merged(base: Path, path: str) -> str:
    """Return where a file really is: dpkg lists /lib/... for what is in /usr/lib."""
    top, _, rest = path.partition("/")
    return f"usr/{path}" if rest and top in MERGED and (base / top).is_symlink() else path


def copy_file(source: Path, target: Path) -> None:
    """Copy a file or a link; a folder appears with what is in it."""
    if source.is_symlink() or source.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target, follow_symlinks=False)


def make_system(base: Path, root: Path) -> None:
    """Make what belongs to no package. The cache of libraries is the base's, which finds libpython in /usr/local/lib.

    /etc/passwd has no user 65532, whose name libpq would take for the name of a database role.
    """
    for name in MERGED:
        if (base / name).is_symlink():
            (root / name).symlink_to((base / name).readlink())
            (root / "usr" / name).mkdir(parents=True, exist_ok=True)
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)
    (root / "etc").mkdir()
    copy_file(base / "etc/ld.so.cache", root / "etc/ld.so.cache")
    (root / "etc/passwd").write_text("root:x:0:0:root:/:/sbin/nologin\n")
    (root / "etc/group").write_text("root:x:0:\n")
    (root / "etc/nsswitch.conf").write_text("hosts: files dns\n")


def copy_python(base: Path, root: Path) -> None:
    """Copy the interpreter and the part of its library that can be imported here."""
    local = base / "usr/local"
    library = next(local.glob("lib/python3.*"))
    for path in (*local.glob("bin/python*"), *local.glob("lib/libpython3*.so*")):
        if not path.name.endswith("-config"):
            copy_file(path, root / path.relative_to(base))
    for path in sorted(library.rglob("*")):
        if not UNUSED_PYTHON.fullmatch(str(path.relative_to(library))):
            copy_file(path, root / path.relative_to(base))


if __name__ == "__main__":
    sys.exit(main())
