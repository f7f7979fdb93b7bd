import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import fetch
import pytest
import trees

from support.postgres.databases import RELEASES

ZIP = "go.temporal.io/server v1.29.1 h1:sgiMveg/8e51lA62pWb9VzC5WTRitKFyT6XsjonHUhE="
MOD = "go.temporal.io/server v1.29.1/go.mod h1:pc0n6DRcN06V4WNhaxdxE3KaZIS3KSDNKdca6uu6RuU="


TREE = "5b846f0f5815dcc87b30c785ee6269ee7e48f9ad"
"""What `git rev-parse v1.29.1:schema/postgresql/v12` says in the vendor's repository."""
TABLE = {"1.29.0": TREE, "1.29.1": TREE}


def run(folder: Path, *lines: str, table: Mapping[str, str] = TABLE) -> None:
    """Fetch what a go.sum of these lines pins."""
    go_sum = folder / "go.sum"
    go_sum.write_text("".join(f"{line}\n" for line in lines))
    fetch.fetch(fetch.read_pins(go_sum), table, folder / "releases")


def test_brings_a_pinned_set_of_files_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All files of both stores and the licence come, writable; every version is a link; the second run asks nobody."""
    run(tmp_path, ZIP, MOD)
    releases = tmp_path / "releases"
    files = releases / "trees" / TREE
    versions = {path.parent.name for path in files.glob("postgresql/v12/temporal/versioned/v*/manifest.json")}
    assert {"v1.0", "v1.18"} <= versions
    assert (releases / "1.29.0/postgresql/v12/visibility/versioned/v1.9/manifest.json").is_file()
    assert "MIT" in (files / "LICENSE").read_text()
    assert all(path.stat().st_mode & 0o200 for path in files.rglob("*"))
    assert sorted(path.name for path in releases.iterdir()) == ["1.29.0", "1.29.1", "trees"]
    assert {(releases / version).resolve() for version in TABLE} == {files}
    monkeypatch.setattr(fetch, "download", lambda _: pytest.fail("it asked again"))
    run(tmp_path, ZIP, MOD)


def test_a_tree_id_is_gits_own(tmp_path: Path) -> None:
    """The id equals git's for a folder with sub-folders whose names sort around a file's."""
    for name in ("a/x.sql", "a.sql", "a-b/y.sql", "a0", "b/c/d.json"):
        path = tmp_path / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name}\n")
    git = ["git", "-C", str(tmp_path / "files")]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "."], check=True)
    expected = subprocess.run([*git, "write-tree"], check=True, capture_output=True, text=True).stdout.strip()
    shutil.rmtree(tmp_path / "files" / ".git")
    assert trees.tree_id(tmp_path / "files") == expected


def test_refuses_files_that_are_not_the_vendors_tree(tmp_path: Path) -> None:
    """A changed file is found in each run, also in files that are there already."""
    run(tmp_path, ZIP, MOD)
    files = tmp_path / "releases" / "trees" / TREE
    with (files / "postgresql/v12/visibility/versioned/v1.9/manifest.json").open("a") as file:
        file.write("\n")
    with pytest.raises(fetch.FetchError) as caught:
        run(tmp_path, ZIP, MOD)
    found = trees.tree_id(files / "postgresql/v12")
    assert str(caught.value) == (
        f"the files of 1.29.1 in {files} are the git tree {found}, releases.txt expects {TREE};"
        " remove the folder and run this again"
    )


@pytest.mark.parametrize(
    ("lines", "table", "message"),
    [
        ([ZIP, MOD], {"1.29.0": TREE}, "go.sum pins 1.29.1, which releases.txt does not list"),
        (
            [ZIP, MOD],
            {**TABLE, "1.30.0": "0" * 40},
            "go.sum pins no release with the files of 1.30.0; run `make release-add` for it",
        ),
        (
            [ZIP, MOD, ZIP.replace("1.29.1", "1.29.0"), MOD.replace("1.29.1", "1.29.0")],
            TABLE,
            "go.sum pins 1.29.1 and 1.29.0, which have the same files; remove one",
        ),
    ],
)
def test_pins_and_table_agree(tmp_path: Path, lines: list[str], table: dict[str, str], message: str) -> None:
    """There is one pin for each set of files, and a version for each pin."""
    with pytest.raises(fetch.FetchError) as caught:
        run(tmp_path, *lines, table=table)
    assert str(caught.value) == message
    assert [path.name for path in tmp_path.iterdir()] == ["go.sum"]


def test_replaces_copies_of_single_releases(tmp_path: Path) -> None:
    """A folder of one release, as it was made before the sets, becomes a link; one with other files stays."""
    run(tmp_path, ZIP, MOD)
    old, strange = (tmp_path / "releases" / version for version in TABLE)
    for folder in (old, strange):
        folder.unlink()
        (folder / "postgresql").mkdir(parents=True)
        (folder / "LICENSE").write_text("")
    (strange / "notes.txt").write_text("mine")
    with pytest.raises(fetch.FetchError) as caught:
        run(tmp_path, ZIP, MOD)
    assert str(caught.value) == f"{strange} has other files than the vendor's; move it away and run this again"
    assert (strange / "notes.txt").read_text() == "mine"
    assert old.is_symlink()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            [ZIP.replace("h1:sg", "h1:xx"), MOD],
            (
                '"go.temporal.io/server v1.29.1" is h1:sgiMveg/8e51lA62pWb9VzC5WTRitKFyT6XsjonHUhE=, '
                "go.sum expects h1:xxiMveg/8e51lA62pWb9VzC5WTRitKFyT6XsjonHUhE="
            ),
        ),
        (
            [ZIP, MOD.replace("h1:pc", "h1:xx")],
            (
                '"go.temporal.io/server v1.29.1/go.mod" is h1:pc0n6DRcN06V4WNhaxdxE3KaZIS3KSDNKdca6uu6RuU=, '
                "go.sum expects h1:xx0n6DRcN06V4WNhaxdxE3KaZIS3KSDNKdca6uu6RuU="
            ),
        ),
        ([MOD], 'go.sum has no line "go.temporal.io/server v1.29.1", so the download cannot be trusted'),
        (
            [ZIP],
            'go.sum has no line "go.temporal.io/server v1.29.1/go.mod", so the download cannot be trusted',
        ),
    ],
)
def test_refuses_what_is_not_pinned(tmp_path: Path, lines: list[str], message: str) -> None:
    """A wrong and a missing hash fail by name, and nothing is written, go.sum included."""
    with pytest.raises(fetch.FetchError) as caught:
        run(tmp_path, *lines)
    assert str(caught.value) == message
    assert [path.name for path in tmp_path.iterdir()] == ["go.sum"]
    assert (tmp_path / "go.sum").read_text().splitlines() == lines


def test_every_release_has_pinned_files() -> None:
    """The table's 71 releases have 16 sets of files, with a pin and both of its hashes for each."""
    pins, table = fetch.read_pins(fetch.GO_SUM), trees.read_table()
    assert len(table) == 71
    assert len(pins) == len(fetch.by_tree(pins, table)) == 16
    assert all(pin.zip_hash and pin.mod_hash for pin in pins)


def test_the_files_on_disk_are_the_vendors_trees() -> None:
    """Every release's schema folder has the tree id of the table."""
    found = {path: trees.tree_id(path / "postgresql/v12") for path in (RELEASES / "trees").iterdir()}
    assert {version: found[(RELEASES / version).resolve()] for version in trees.read_table()} == trees.read_table()
