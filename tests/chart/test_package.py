"""The package of the chart: what is in it, that it is the same every time, and its signature."""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from schema_migrator import __version__
from support.kubernetes.charts import given
from support.kubernetes.helm import CHART, NEWEST, ROOT, helm

pytestmark = pytest.mark.chart
EPOCH = 1_700_000_000
CI = sorted(path.stem.removesuffix("-values") for path in (CHART / "ci").glob("*-values.yaml"))
NAME = f"temporal-migrations-{__version__}.tgz"
SIGNER = "Chart signer <signer@git.example>"
TEMPLATES = ("NOTES.txt", "_helpers.tpl", "_options.tpl", "accepted.yaml", "drift.yaml", "extra.yaml", "job.yaml")
TEMPLATES += ("namespaces.yaml", "networkpolicy.yaml", "preflight.yaml", "serviceaccount.yaml", "tests/verify.yaml")
TEMPLATES += ("trigger.yaml", "verify.yaml")


def package(destination: Path, *args: str, chart: Path = CHART, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the tool that `make chart` runs."""
    command = [sys.executable, str(ROOT / "tools" / "chart_package.py"), str(chart), str(destination), *args]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH), **variables}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a package of the chart."""
    folder = tmp_path_factory.mktemp("package")
    done = package(folder)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in folder.iterdir()] == [NAME]
    return folder / NAME


def test_what_is_in_it(made: Path) -> None:
    """The chart without the values of its tests, as files that everybody may read, all of one time."""
    with tarfile.open(made) as archive:
        entries = archive.getmembers()
    expected = {".helmignore", "Chart.yaml", "README.md", "values.schema.json", "values.yaml"}
    expected |= {f"templates/{name}" for name in TEMPLATES}
    assert {entry.name for entry in entries} == {f"temporal-migrations/{name}" for name in expected}
    assert {(entry.mtime, entry.mode, entry.uid, entry.gid) for entry in entries} == {(EPOCH, 0o644, 0, 0)}


def test_leftovers_of_editors_stay_out(made: Path, tmp_path: Path) -> None:
    """Two people with different leftovers, modes and times get the same bits."""
    chart = tmp_path / CHART.name
    shutil.copytree(CHART, chart, copy_function=shutil.copyfile)
    for name in (".values.yaml.swp", "values.yaml~", "templates/job.yaml.orig", ".DS_Store"):
        (chart / name).write_text("{{ broken")
    (chart / "values.yaml").chmod(0o600)
    os.utime(chart / "Chart.yaml", (1, 1))
    assert package(tmp_path, chart=chart).returncode == 0
    assert (tmp_path / NAME).read_bytes() == made.read_bytes()


def test_the_time_is_the_only_difference(made: Path, tmp_path: Path) -> None:
    """Another commit of the same chart gives another package, so the time does come from the variable."""
    assert package(tmp_path, SOURCE_DATE_EPOCH=str(EPOCH + 1)).returncode == 0
    with tarfile.open(tmp_path / NAME) as other, tarfile.open(made) as archive:
        assert {entry.mtime for entry in other} == {EPOCH + 1}
        assert {entry.mtime for entry in archive} == {EPOCH}
        assert other.getnames() == archive.getnames()
    assert (tmp_path / NAME).read_bytes() != made.read_bytes()


@pytest.mark.parametrize("values", CI)
def test_renders_like_the_folder(made: Path, values: str) -> None:
    """Helm makes the same of both, so no template needs a file that the package lacks."""
    from_package, from_folder = (
        helm("template", "release", str(chart), "--kube-version", NEWEST, *given(values)) for chart in (made, CHART)
    )
    assert (from_package.returncode, from_folder.returncode) == (0, 0), from_package.stderr
    assert from_package.stdout
    assert from_package.stdout == from_folder.stdout


@pytest.mark.parametrize("text", ["", "yesterday", "-1", "1.5", "9" * 12])
def test_a_time_that_is_none(tmp_path: Path, text: str) -> None:
    """It is refused with the way to get one, and nothing is written."""
    done = package(tmp_path, SOURCE_DATE_EPOCH=text)
    expected = "expected seconds since 1970; set it to the output of `git log -1 --format=%ct`"
    assert (done.returncode, done.stderr) == (1, f'chart: SOURCE_DATE_EPOCH is "{text}", {expected}\n')
    assert not list(tmp_path.iterdir())


def test_a_broken_chart(tmp_path: Path) -> None:
    """What helm says of it is passed on, and nothing is written."""
    chart = tmp_path / "broken"
    chart.mkdir()
    done = package(tmp_path / "out", chart=chart)
    assert done.returncode == 1
    assert done.stderr.startswith("chart: helm ended with 1: Error: Chart.yaml file is missing")
    assert not list((tmp_path / "out").iterdir())


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A signed package, the home of the key, and the public key as helm wants it."""

    package: Path
    home: str
    keyring: Path


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signed]:
    """Return a package that a new key has signed. The agent's socket needs a short path."""
    folder = tmp_path_factory.mktemp("signed")
    with tempfile.TemporaryDirectory(prefix="gpg") as home:
        gpg(home, "--passphrase", "", "--quick-generate-key", SIGNER, "ed25519", "sign", "never")
        done = package(folder, "--sign-key", SIGNER, GNUPGHOME=home)
        assert done.returncode == 0, done.stderr
        gpg(home, "--output", str(folder / "keyring.gpg"), "--export", SIGNER)
        yield Signed(package=folder / NAME, home=home, keyring=folder / "keyring.gpg")
        stop = ("gpgconf", "--homedir", home, "--kill", "all")
        subprocess.run(stop, check=True)


def gpg(home: str, *args: str) -> None:
    """Run GnuPG."""
    command = ("gpg", "--homedir", home, "--quiet", "--batch", *args)
    subprocess.run(command, capture_output=True, check=True)


def verified(found: Path, keyring: Path) -> subprocess.CompletedProcess[str]:
    """Let helm verify a package."""
    return helm("verify", str(found), "--keyring", str(keyring))


def test_helm_verifies_the_signature(signed: Signed, made: Path) -> None:
    """It names the signer and the digest of the same bits that an unsigned package has."""
    done = verified(signed.package, signed.keyring)
    assert done.returncode == 0, done.stderr
    assert f"Signed by: {SIGNER}" in done.stdout
    assert f"sha256:{hashlib.sha256(made.read_bytes()).hexdigest()}" in done.stdout


def test_helm_refuses_another_package(signed: Signed, tmp_path: Path) -> None:
    """One byte more, and the provenance file is not of this package."""
    shutil.copy(f"{signed.package}.prov", tmp_path)
    (tmp_path / NAME).write_bytes(signed.package.read_bytes() + b"\0")
    done = verified(tmp_path / NAME, signed.keyring)
    assert done.returncode == 1
    assert "sha256 sum does not match" in done.stderr


@pytest.mark.parametrize(("later", "stays"), [(0, True), (1, False)])
def test_a_provenance_file_is_of_the_package_beside_it(
    signed: Signed, tmp_path: Path, later: int, *, stays: bool
) -> None:
    """Packaging again without a key keeps it beside the same bits, and removes it beside others."""
    shutil.copy(f"{signed.package}.prov", tmp_path)
    assert package(tmp_path, SOURCE_DATE_EPOCH=str(EPOCH + later)).returncode == 0
    assert (tmp_path / f"{NAME}.prov").exists() is stays


def test_a_key_that_is_missing(signed: Signed, tmp_path: Path) -> None:
    """What GnuPG says is passed on, and no provenance file is written."""
    done = package(tmp_path, "--sign-key", "nobody@git.example", GNUPGHOME=signed.home)
    assert done.returncode == 1
    assert done.stderr.startswith('chart: gpg ended with 2: gpg: skipped "nobody@git.example": No secret key')
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_a_program_that_is_missing(tmp_path: Path) -> None:
    """It is named."""
    done = package(tmp_path, HELM="no-such-helm")
    expected = "chart: there is no program no-such-helm; install it, or add its folder to PATH\n"
    assert (done.returncode, done.stderr) == (1, expected)
