"""What an image gets of its base: some packages of Debian with their entries, and the part of Python that loads."""

from pathlib import Path

import pytest

from image_root import SLIM, TOOLS, RootError, copy_root

FILES = {
    "libc6": ("/lib/x86_64-linux-gnu/libc.so.6", "/usr/share/doc/libc6/copyright", "/usr/share/doc/libc6/NEWS.gz"),
    "ca-certificates": ("/usr/sbin/update-ca-certificates", "/usr/share/ca-certificates/one.crt"),
    "bash": ("/bin/bash", "/usr/share/man/man1/bash.1.gz"),
    "perl-base": ("/usr/bin/perl",),
}
PYTHON = (
    "bin/python3.13",
    "bin/python3.13-config",
    "lib/libpython3.13.so.1.0",
    "lib/python3.13/json/decoder.py",
    "lib/python3.13/json/__pycache__/decoder.cpython-313.pyc",
    "lib/python3.13/unittest/case.py",
    "lib/python3.13/test/test_json.py",
    "lib/python3.13/site-packages/pip/__init__.py",
    "lib/python3.13/lib-dynload/_ssl.cpython-313-x86_64-linux-gnu.so",
    "lib/python3.13/lib-dynload/_sqlite3.cpython-313-x86_64-linux-gnu.so",
    "lib/python3.13/lib-dynload/_testcapi.cpython-313-x86_64-linux-gnu.so",
)


def write(path: Path, text: str) -> None:
    """Write a file, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Return a base image: folders merged into /usr, a database of dpkg, packages, and Python."""
    base = tmp_path / "base"
    for name in ("bin", "lib", "sbin"):
        (base / "usr" / name).mkdir(parents=True)
        (base / name).symlink_to(f"usr/{name}")
    names = {*SLIM, *TOOLS, "perl-base"}
    write(base / "var/lib/dpkg/status", "\n".join(f"Package: {name}\nVersion: 1\n" for name in sorted(names)))
    for name in names:
        files = FILES.get(name, ())
        suffix = ":amd64" if name == "libc6" else ""
        write(base / f"var/lib/dpkg/info/{name}{suffix}.list", "\n".join(("/.", "/lib", *files)) + "\n")
        for file in files:
            write(base / file.removeprefix("/"), name)
    for file in (*PYTHON, "bin/pip"):
        write(base / "usr/local" / file, file)
    write(base / "etc/ssl/certs/ca-certificates.crt", "certificates")
    write(base / "etc/ld.so.cache", "cache")
    return base


def files_of(root: Path) -> set[str]:
    """Return the files and links below a folder."""
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_symlink() or path.is_file()}


def test_the_slim_image(base: Path, tmp_path: Path) -> None:
    """No shell, no Perl, no pip, no documents but licences; nothing of Python that cannot load; dpkg's entries."""
    root = tmp_path / "slim"
    copy_root("slim", base, root)
    assert files_of(root) == {
        *("bin", "lib", "sbin"),
        *("etc/passwd", "etc/group", "etc/nsswitch.conf", "etc/ld.so.cache", "etc/ssl/certs/ca-certificates.crt"),
        *("usr/lib/x86_64-linux-gnu/libc.so.6", "usr/share/doc/libc6/copyright"),
        *("usr/local/bin/python3.13", "usr/local/lib/libpython3.13.so.1.0"),
        *(f"usr/local/lib/python3.13/{name}" for name in ("json/decoder.py", "unittest/case.py")),
        "usr/local/lib/python3.13/lib-dynload/_ssl.cpython-313-x86_64-linux-gnu.so",
        *(f"var/lib/dpkg/status.d/{name}" for name in SLIM),
    }
    assert (root / "var/lib/dpkg/status.d/libc6").read_text() == "Package: libc6\nVersion: 1\n"
    assert (root / "lib/x86_64-linux-gnu/libc.so.6").read_text() == "libc6"
    assert (root / "tmp").stat().st_mode & 0o7777 == 0o1777


def test_the_tools_image(base: Path, tmp_path: Path) -> None:
    """Only what the slim image lacks."""
    root = tmp_path / "tools"
    copy_root("tools", base, root)
    assert files_of(root) == {"usr/bin/bash", *(f"var/lib/dpkg/status.d/{name}" for name in TOOLS)}


@pytest.mark.parametrize("lacking", ["var/lib/dpkg/info/libc6:amd64.list", "var/lib/dpkg/status"])
def test_another_base(base: Path, tmp_path: Path, lacking: str) -> None:
    """A base without a package is refused by the package's name."""
    (base / lacking).write_text("") if lacking.endswith("status") else (base / lacking).unlink()
    with pytest.raises(RootError, match="base-files" if lacking.endswith("status") else "libc6"):
        copy_root("slim", base, tmp_path / "root")
