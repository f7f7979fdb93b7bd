"""Changes the pure modules a little, one place at a time, and runs the unit tests on each change; `make mutants`.

mutmut makes the mutants, in a copy of the working tree. Which modules and which tests is in pyproject.toml.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path

import reliability_data
import reliability_page
from reliability_data import MUTANTS, ROOT, commit, read

KILLED = (1, 3, 24, 36, 152, 255, -24)
"""mutmut's codes for a mutant that a test found, or with which the tests did not end."""
SURVIVED = (0, 5, 33)
"""For a mutant that all its tests accept, or whose function no test calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survivor:
    """A mutant that no test found: its function, and the lines that it changed."""

    function: str
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How many mutants a module had, how many of them the tests found, and the others."""

    mutants: int
    found: int
    survivors: tuple[Survivor, ...]


def main() -> None:
    """Run the mutants, keep the scores, write docs/reliability.md, and print the score of each module."""
    args = arguments()
    with copy() as folder:
        modules = [module for module in pure_modules() if fnmatch(module, f"*{args.only}*")]
        configure(folder, modules)
        mutate(folder, args.jobs)
        scores = {module: score(folder, module) for module in modules}
    keep(scores)
    reliability_page.write()
    show(scores)


def show(scores: Mapping[str, Score]) -> None:
    """Print the score of each module, and what no test found and nobody has explained."""
    for module, found in scores.items():
        print(f"{module}: {found.found} of {found.mutants} mutants were found")
        for survivor in found.survivors:
            if not reliability_data.explained(asdict(survivor)):
                print(
                    f"  not found, in {survivor.function}:", f"  - {survivor.before}", f"  + {survivor.after}", sep="\n"
                )


def arguments() -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="modules with that text in their path")
    parser.add_argument("--jobs", type=int, default=2, help="mutants side by side (2)")
    return parser.parse_args()


def pure_modules() -> Sequence[str]:
    """Return the modules that pyproject.toml names for mutmut."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    names: Sequence[str] = settings["tool"]["mutmut"]["source_paths"]
    return names


@contextmanager
def copy() -> Iterator[Path]:
    """Copy what git knows or could add, and the vendor's files; yield the folder."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    with tempfile.TemporaryDirectory(prefix="mutation-") as name:
        for file in (file for file in listed if (ROOT / file).is_file()):
            (Path(name) / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / file, Path(name) / file)
        shutil.copytree(ROOT / "releases", Path(name) / "releases", symlinks=True)
        yield Path(name)


def configure(folder: Path, modules: Sequence[str]) -> None:
    """Leave the copy only these modules to mutate."""
    file = folder / "pyproject.toml"
    text = file.read_text(encoding="utf-8")
    for module in pure_modules():
        if module not in modules:
            text = text.replace(f'  "{module}",\n', "")
    file.write_text(text, encoding="utf-8")


def mutate(folder: Path, jobs: int) -> None:
    """Run mutmut in the copy."""
    environment = {**os.environ, "PYTHONPATH": "", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", str(jobs)]
    run = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if run.returncode:
        raise SystemExit(f"mutmut ended with {run.returncode}: {run.stdout[-2000:]}")


def score(folder: Path, module: str) -> Score:
    """Return what mutmut has found of a module."""
    meta = json.loads((folder / "mutants" / f"{module}.meta").read_text(encoding="utf-8"))
    codes = meta["exit_code_by_key"]
    missed = [name for name, code in codes.items() if code in SURVIVED]
    odd = {name: code for name, code in codes.items() if code not in (*KILLED, *SURVIVED)}
    if odd:
        raise SystemExit(f"mutants of {module} that were neither found nor missed: {odd}")
    return Score(
        mutants=len(codes),
        found=len(codes) - len(missed),
        survivors=tuple(survivor_of(folder, name) for name in missed),
    )


def survivor_of(folder: Path, name: str) -> Survivor:
    """Return which lines a mutant has changed."""
    command = [sys.executable, "-m", "mutmut", "show", name]
    shown = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.splitlines()
    removed = [line[1:].strip() for line in shown if line.startswith("-") and not line.startswith("---")]
    added = [line[1:].strip() for line in shown if line.startswith("+") and not line.startswith("+++")]
    return Survivor(function=function_of(name), before=" ".join(removed), after=" ".join(added))


def function_of(mutant: str) -> str:
    """Return the function that a mutant's name is made from, after its class if it is a method."""
    mangled = mutant.rpartition(".")[2].partition("__mutmut")[0]
    return mangled.removeprefix("xǁ").replace("ǁ", ".") if "ǁ" in mangled else mangled.removeprefix("x_")


def keep(scores: Mapping[str, Score]) -> None:
    """Write the scores beside those of other modules from before."""
    known = set(pure_modules())
    before = {module: kept for module, kept in read(MUTANTS).items() if module in known}
    now = {module: asdict(found) | {"commit": commit()} for module, found in scores.items()}
    reliability_data.write(MUTANTS, before | now)


if __name__ == "__main__":
    main()
