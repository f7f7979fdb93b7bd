"""Plants faults in a copy of the program, one by one, and runs the tests that have to find each; `make sabotages`.

Which faults there are, and which tests have to find each, is in tests/data/sabotages.toml.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import reliability_data
import reliability_page
from reliability_data import ROOT, SABOTAGES, commit, read
from support.sabotages import SOURCE, Sabotage, sabotages

SECONDS = 600
"""After so long the tests of a fault count as having found it: something hangs."""
FAILED = 1
"""pytest's exit code when a test failed."""


def main() -> None:
    """Plant what was asked for, write docs/reliability.md, and name the faults that nothing has found."""
    args = arguments()
    wanted = [sabotage for sabotage in sabotages() if args.only in f"{sabotage.file}: {sabotage.what}"]
    with ThreadPoolExecutor(args.jobs) as pool:
        found = dict(
            zip(
                (sabotage.what for sabotage in wanted), pool.map(partial(planted, shown=args.show), wanted), strict=True
            )
        )
    keep(found)
    reliability_page.write()
    missed = [what for what, by in found.items() if not by]
    print(f"{len(found) - len(missed)} of {len(found)} faults were found", *missed, sep="\n  not: ")
    sys.exit(bool(missed))


def arguments() -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="faults with that text in their file or their name")
    parser.add_argument("--jobs", type=int, default=2, help="faults side by side (2)")
    parser.add_argument("--show", action="store_true", help="show what pytest says of a fault that nothing finds")
    return parser.parse_args()


def planted(sabotage: Sabotage, *, shown: bool) -> str:
    """Return which test finds a fault, or nothing."""
    with sabotaged(sabotage) as source:
        began = time.monotonic()
        found = found_by(source, sabotage.tests, shown=shown)
    print(f"{sabotage.what}: {found or 'NOT FOUND'}, {time.monotonic() - began:.0f} s", flush=True)
    return found


@contextmanager
def sabotaged(sabotage: Sabotage) -> Iterator[Path]:
    """Copy the program, and plant the fault in the copy; yield the folder to import from."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as name:
        package = Path(name) / SOURCE.name
        shutil.copytree(SOURCE, package, ignore=shutil.ignore_patterns("__pycache__"))
        (package / sabotage.file).write_text(sabotage.planted(SOURCE), encoding="utf-8")
        yield package.parent


def found_by(source: Path, tests: Sequence[str], *, shown: bool) -> str:
    """Run tests on the program in a folder; return the first one that fails, or nothing if all pass."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider", "--no-header"]
    environment = {**os.environ, "PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        run = subprocess.run(
            [*command, *tests], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return "a test that does not end"
    if run.returncode not in (0, FAILED):
        raise SystemExit(f"pytest ended with {run.returncode}: {run.stdout[-2000:]}{run.stderr[-2000:]}")
    if shown and run.returncode == 0:
        print(run.stdout[-2000:])
    failed = [line for line in run.stdout.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    return failed[0].partition(" ")[2].partition(" - ")[0].removeprefix("tests/") if failed else ""


def keep(found: Mapping[str, str]) -> None:
    """Write which test has found what, beside what was found of other faults before."""
    known = {sabotage.what for sabotage in sabotages()}
    before = {what: kept for what, kept in read(SABOTAGES).items() if what in known}
    now = {what: {"found_by": by, "commit": commit()} for what, by in found.items()}
    reliability_data.write(SABOTAGES, before | now)


if __name__ == "__main__":
    main()
