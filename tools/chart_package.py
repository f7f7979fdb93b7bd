"""Package the chart so that one commit always gives the same bits, and sign it if a key is given; `make chart` runs it.

HELM names the helm to use, SOURCE_DATE_EPOCH the time that every file in the package gets.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

LATEST = 8**11 - 1
"""The largest time that fits into the header of a tar archive."""


class PackageError(Exception):
    """The chart could not be packaged or signed."""


def main() -> int:
    """Write the package and its provenance file; the exit code is 1 after a failure, reported on stderr."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("chart", type=Path, help="folder of the chart")
    parser.add_argument("destination", type=Path, help="folder for the package")
    parser.add_argument("--sign-key", metavar="KEY", help="fingerprint or user of the GnuPG key that signs the package")
    given = parser.parse_args()
    try:
        package = write(given.chart, given.destination, epoch(os.environ.get("SOURCE_DATE_EPOCH", "")))
        earlier = earlier_provenance(package)
        signed = sign(package, given.sign_key) if given.sign_key else earlier
    except (PackageError, OSError) as error:
        sys.stderr.write(f"chart: {error}\n")
        return 1
    for path in filter(None, (package, signed)):
        print(f"{path} sha256:{digest(path)}")
    return 0


def epoch(text: str) -> int:
    """Return the time that the files get. Raises PackageError."""
    if not (text.isascii() and text.isdigit() and int(text) <= LATEST):
        raise PackageError(
            f'SOURCE_DATE_EPOCH is "{text}", expected seconds since 1970;'
            " set it to the output of `git log -1 --format=%ct`"
        )
    return int(text)


def write(chart: Path, destination: Path, time: int) -> Path:
    """Let helm package the chart, and put the package into the destination with that time on its files."""
    destination.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=destination, prefix=".chart-") as folder:
        run(helm(), "package", str(chart), "--destination", folder)
        (made,) = Path(folder).glob("*.tgz")
        made.write_bytes(normalised(made.read_bytes(), time))
        return made.replace(destination / made.name)


def normalised(package: bytes, time: int) -> bytes:
    """Return the package with that time on its files, in place of the current one, which helm writes."""
    archive, compressed = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.USTAR_FORMAT) as target:
        for name, content in files(package):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(content), time
            target.addfile(entry, io.BytesIO(content))
    # By default gzip stores a file's name and the current time.
    with gzip.GzipFile(filename="", mode="wb", fileobj=compressed, mtime=0) as stream:
        stream.write(archive.getvalue())
    return compressed.getvalue()


def files(package: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the content of each file of a package."""
    with tarfile.open(fileobj=io.BytesIO(package), mode="r:gz") as source:
        for entry in source:
            if (content := source.extractfile(entry)) is not None:
                yield entry.name, content.read()


def sign(package: Path, key: str) -> Path:
    """Write the provenance file after helm has verified it with the public key. Raises PackageError."""
    with tempfile.TemporaryDirectory(dir=package.parent, prefix=".sign-") as folder:
        copy, signed, keyring = (Path(folder, name) for name in (package.name, f"{package.name}.prov", "keyring.gpg"))
        copy.write_bytes(package.read_bytes())
        run(*gpg(key, signed), "--digest-algo", "SHA512", "--clearsign", text=provenance(package))
        run(*gpg(key, keyring), "--export", key)
        run(helm(), "verify", str(copy), "--keyring", str(keyring))
        return signed.replace(package.with_name(signed.name))


def gpg(key: str, output: Path) -> tuple[str, ...]:
    """Return the beginning of a command line of GnuPG."""
    return "gpg", "--quiet", "--local-user", key, "--output", str(output)


def provenance(package: Path) -> str:
    """Return what helm expects in a provenance file: the chart's description and the digest of its package."""
    (description,) = (content for name, content in files(package.read_bytes()) if name.split("/")[1:] == ["Chart.yaml"])
    return f"{description.decode()}\n...\nfiles:\n  {package.name}: sha256:{digest(package)}\n"


def earlier_provenance(package: Path) -> Path | None:
    """Return the provenance file of an earlier run if it is of exactly this package; remove any other."""
    found = package.with_name(f"{package.name}.prov")
    if found.exists() and f"sha256:{digest(package)}" in found.read_text(encoding="utf-8"):
        return found
    found.unlink(missing_ok=True)
    return None


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def helm() -> str:
    """Return the helm to use; `make` builds the one that tools/helm pins."""
    return os.environ.get("HELM", "helm")


def run(*command: str, text: str | None = None) -> None:
    """Run a program. Raises PackageError with its output if it fails."""
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise PackageError(f"there is no program {command[0]}; install it, or add its folder to PATH") from None
    if done.returncode:
        output = " ".join((done.stderr or done.stdout).split())
        raise PackageError(f"{Path(command[0]).name} ended with {done.returncode}: {output}")


if __name__ == "__main__":
    sys.exit(main())
