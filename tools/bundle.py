"""Packs everything that a release has into one archive, for a network that reaches no registry.

The archive holds the images, the chart, the wheel with its locked dependencies, the SBOMs, checksums, and a README with
the commands that load it into a mirror.
"""

import argparse
import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
UV = str(Path(sys.executable).with_name("uv"))
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
WHEELS = ("manylinux_2_28", "manylinux_2_17", "manylinux2014")
README = """temporal-schema-migrator {version}, for a network that reaches no registry

Check what arrived, then load images, chart and wheel. registry.example stands for your registry.

    sha256sum --check --quiet SHA256SUMS
    for image in images/*-{first}.tar; do docker load --input "$image"; done
    for image in temporal-schema-migrator:{version} temporal-schema-migrator:{version}-tools; do
      docker tag $image registry.example/$image && docker push registry.example/$image
    done
    helm push chart/temporal-migrations-{version}.tgz oci://registry.example/charts
    pip install --no-index --find-links wheels "temporal-schema-migrator[{extras}]"

Without a registry: `ctr --namespace k8s.io images import images/slim-{first}.tar` on each node, and
`helm install temporal-migrations chart/temporal-migrations-{version}.tgz` with your values.
The wheels are for Python {pythons} on Linux ({machines}). The SBOMs in sbom/ are CycloneDX.
"""


class BundleError(Exception):
    """Something that belongs into the bundle is missing, or could not be fetched."""


def main() -> int:
    """Pack; the exit code is 1 after a failure, told on stderr."""
    args = arguments()
    try:
        with tempfile.TemporaryDirectory() as folder:
            content = Path(folder, f"temporal-schema-migrator-{args.version}")
            collect(content, args)
            (content / "README").write_text(readme(args))
            (content / "SHA256SUMS").write_text("".join(checksums(content)))
            print(pack(content, DIST / f"{content.name}-bundle.tar", args.time))
    except (BundleError, OSError) as error:
        sys.stderr.write(f"bundle: {error}\n")
        return 1
    return 0


def arguments() -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("version", help="of the program")
    parser.add_argument("time", type=int, help="of all files in the archive, in seconds since 1970")
    parser.add_argument("--arch", nargs="+", choices=MACHINES, default=["amd64"], help="of images and wheels")
    parser.add_argument("--python", nargs="+", default=["3.13"], metavar="3.N", help="of the wheels (default: 3.13)")
    parser.add_argument("--clouds", default="", metavar="aws,gcp,azure", help="whose libraries the wheels include")
    return parser.parse_args()


def collect(content: Path, args: argparse.Namespace) -> None:
    """Copy what the other targets of make built, and fetch the dependencies' wheels."""
    for arch in args.arch:
        copy(f"images/*-{arch}.tar", content / "images", 2)
    copy(f"temporal-migrations-{args.version}.tgz", content / "chart", 1)
    copy("sbom/*.json", content / "sbom", 1)
    copy(f"temporal_schema_migrator-{args.version}-*.whl", content / "wheels", 1)
    for arch in args.arch:
        for python in args.python:
            fetch_wheels(content / "wheels", MACHINES[arch], python, extras(args))


def extras(args: argparse.Namespace) -> list[str]:
    """Return the extras of the program whose dependencies are in the bundle."""
    return ["namespaces", *filter(None, args.clouds.split(","))]


def copy(pattern: str, folder: Path, least: int) -> None:
    """Copy files of dist/. Raises BundleError if there are fewer than expected."""
    found = sorted(DIST.glob(pattern))
    if len(found) < least:
        raise BundleError(
            f"dist/ has {len(found)} files {pattern}, expected {least}; run make bundle, which builds them"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for path in found:
        shutil.copyfile(path, folder / path.name)


def fetch_wheels(folder: Path, machine: str, python: str, extras: Sequence[str]) -> None:
    """Download the locked dependencies for a machine and a Python, those of the extras included."""
    exporting = [UV, "export", "--quiet", "--frozen", "--no-dev", "--no-emit-project"]
    exporting += [word for extra in extras for word in ("--extra", extra)]
    with tempfile.NamedTemporaryFile("w+", suffix=".txt") as locked:
        run([*exporting, "--output-file", locked.name])
        platforms = [option for name in WHEELS for option in ("--platform", f"{name}_{machine}")]
        options = ["--quiet", "--require-hashes", "--no-deps", "--only-binary", ":all:", "--python-version", python]
        run([sys.executable, "-m", "pip", "download", *options, *platforms, "--dest", str(folder), "-r", locked.name])


def run(command: Sequence[str]) -> None:
    """Run a command. Raises BundleError with what it wrote."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BundleError(f"{' '.join(command[:4])} failed: {done.stderr.strip()}")


def readme(args: argparse.Namespace) -> str:
    """Return the text that says how to load the bundle."""
    return README.format(
        version=args.version,
        first=args.arch[0],
        extras=",".join(extras(args)),
        pythons=", ".join(args.python),
        machines=", ".join(MACHINES[arch] for arch in args.arch),
    )


def checksums(content: Path) -> Iterator[str]:
    """Return a line per file, as sha256sum reads them."""
    for path in sorted(content.rglob("*")):
        if path.is_file():
            with path.open("rb") as opened:
                yield f"{hashlib.file_digest(opened, 'sha256').hexdigest()}  {path.relative_to(content)}\n"


def pack(content: Path, target: Path, time: int) -> Path:
    """Write the archive, without names, rights and times of this machine."""

    def plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.uid = info.gid = 0
        info.uname = info.gname = ""
        info.mode, info.mtime = 0o755 if info.isdir() else 0o644, time
        return info

    with tarfile.open(target, "w") as archive:
        for path in (content, *sorted(content.rglob("*"))):
            archive.add(path, path.relative_to(content.parent), recursive=False, filter=plain)
    return target


if __name__ == "__main__":
    sys.exit(main())
