"""Pushes the images and the chart to a registry, and signs what was pushed.

`make publish-images`, `make publish-chart` and `make sign` run it.

dist/published/ gets a file for each artifact, which says in one line where it is: `registry.example/name@sha256:...`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

DIST = Path(__file__).resolve().parent.parent / "dist"
IMAGE = "temporal-schema-migrator"
STAGES: Mapping[str, str] = {"image": "slim", "image-tools": "tools"}
"""The Dockerfile's stage of each image."""
SUFFIXES: Mapping[str, str] = {"image": "", "image-tools": "-tools"}
"""What the tag of each image has after the version."""
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class PublishError(Exception):
    """Something was not pushed or not signed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """What `docker buildx build` needs to know beside the stage."""

    registry: str
    version: str
    platforms: str
    flags: tuple[str, ...] = ()
    output: str = ""
    """More options of the exporter, as `--output` separates them."""


def main() -> int:
    """Do what the command line asks; the exit code is 1 after a failure, reported on stderr."""
    args = parsed()
    try:
        if args.command == "sign":
            sign(DIST, shlex.split(os.environ.get("COSIGN_FLAGS", "")))
        elif args.command == "images":
            push_images(build_of(args), DIST)
        else:
            push_chart(args.registry, args.version, DIST)
    except (PublishError, OSError) as error:
        sys.stderr.write(f"publish: {error}\n")
        return 1
    return 0


def parsed() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (("images", "build and push both images"), ("chart", "push the packaged chart")):
        command = commands.add_parser(name, help=text)
        command.add_argument("--registry", type=registry, required=True, help="such as registry.example/temporal")
        command.add_argument("--version", required=True)
        if name == "images":
            command.add_argument("--platforms", default="linux/amd64,linux/arm64")
            command.add_argument("--flags", default="", help="more arguments of docker buildx build")
            command.add_argument("--output-options", default="", help="more options of its --output")
    commands.add_parser("sign", help="sign what was pushed, by cosign ($COSIGN, $COSIGN_FLAGS)")
    return parser.parse_args()


def build_of(args: argparse.Namespace) -> Build:
    """Return what the command line says of the images."""
    return Build(
        registry=args.registry,
        version=args.version,
        platforms=args.platforms,
        flags=tuple(shlex.split(args.flags)),
        output=args.output_options,
    )


def registry(text: str) -> str:
    """Return a registry's address without a scheme. Raises ArgumentTypeError where it has none or is empty."""
    if not text or "://" in text:
        raise argparse.ArgumentTypeError(f'"{text}" is no registry, expected REGISTRY=registry.example/temporal')
    return text.rstrip("/")


def push_images(build: Build, dist: Path) -> None:
    """Build and push each image, and write where it is."""
    for name in STAGES:
        metadata = dist / "published" / f"{name}.json"
        metadata.parent.mkdir(parents=True, exist_ok=True)
        run(build_command(name, build, metadata))
        digest = digest_of(metadata)
        metadata.unlink()
        note(dist, name, f"{build.registry}/{IMAGE}@{digest}")


def build_command(name: str, build: Build, metadata: Path) -> list[str]:
    """Return the command that builds and pushes an image for all platforms."""
    tag = f"{build.registry}/{IMAGE}:{build.version}{SUFFIXES[name]}"
    output = ",".join(filter(None, ("type=registry", f"name={tag}", build.output)))
    return [
        *("docker", "buildx", "build", "--platform", build.platforms, "--target", STAGES[name]),
        *("--metadata-file", str(metadata), "--output", output, *build.flags, "."),
    ]


def digest_of(metadata: Path) -> str:
    """Return the digest that buildx wrote. Raises PublishError if there is none."""
    found = json.loads(metadata.read_text(encoding="utf-8")).get("containerimage.digest", "")
    if not DIGEST.fullmatch(found):
        raise PublishError(f'docker buildx wrote the digest "{found}" into {metadata}, expected sha256:...')
    return str(found)


def push_chart(address: str, version: str, dist: Path) -> None:
    """Push the chart that `make chart` packaged, and write where it is."""
    package = needed(dist / f"temporal-migrations-{version}.tgz", "chart")
    plain = ["--plain-http"] if address.startswith("127.0.0.1:") else []
    said = run([os.environ["HELM"], "push", str(package), f"oci://{address}/charts", *plain], keep=True)
    digest = DIGEST.search(said)
    if digest is None:
        raise PublishError(f'helm push said "{said.strip()}", expected a line with the digest')
    note(dist, "chart", f"{address}/charts/temporal-migrations@{digest[0]}")


def note(dist: Path, name: str, reference: str) -> None:
    """Write where an artifact is, for the steps that sign and attest it."""
    (dist / "published").mkdir(parents=True, exist_ok=True)
    (dist / "published" / name).write_text(f"{reference}\n", encoding="utf-8")
    print(f"pushed {name}: {reference}", flush=True)


def sign(dist: Path, flags: Sequence[str]) -> None:
    """Sign all that a release has. Raises PublishError before the first signature if something is missing."""
    for command in sign_commands(dist):
        run([os.environ["COSIGN"], *command[:1], *flags, *command[1:]])


def sign_commands(dist: Path) -> list[list[str]]:
    """Return cosign's arguments: each artifact and all that it lists, each image's bill of materials, the checksums."""
    checksums = needed(dist / "SHA256SUMS", "checksums")
    commands = []
    for name in (*STAGES, "chart"):
        place = needed(dist / "published" / name, "publish-images publish-chart")
        reference = place.read_text(encoding="utf-8").strip()
        commands.append(["sign", "--yes", "--recursive", reference])
        if name in STAGES:
            sbom = needed(dist / "sbom" / f"{name}.cdx.json", "sbom")
            commands.append(["attest", "--yes", "--type", "cyclonedx", "--predicate", str(sbom), reference])
    return [*commands, ["sign-blob", "--yes", "--bundle", f"{checksums}.sigstore.json", str(checksums)]]


def needed(path: Path, target: str) -> Path:
    """Return a file's path. Raises PublishError, which names the target of make that writes it, if it is missing."""
    if not path.is_file():
        raise PublishError(f"{path} does not exist; run `make {target}` first")
    return path


def run(command: Sequence[str], *, keep: bool = False) -> str:
    """Run a command; return its output if it is kept. Raises PublishError if the command fails."""
    print(f"+ {shlex.join(command)}", flush=True)
    pipe = subprocess.PIPE if keep else None
    done = subprocess.run(command, stdout=pipe, stderr=subprocess.STDOUT if keep else None, text=True, check=False)
    if done.returncode:
        raise PublishError(f"`{shlex.join(command)}` ended with {done.returncode}: {done.stdout or ''}".rstrip(": \n"))
    return done.stdout or ""


if __name__ == "__main__":
    sys.exit(main())
