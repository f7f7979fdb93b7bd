"""A new release in one command, tried with releases that are left out on purpose."""

import shutil
from pathlib import Path

import fetch
import pytest
import release_add
import trees

from support.postgres.databases import RELEASES


@pytest.fixture
def place(tmp_path: Path) -> release_add.Place:
    """Return table, pins and files as they were before 1.30.5, whose files 1.30.9 pins."""
    made = release_add.Place(
        table=tmp_path / "releases.txt", go_sum=tmp_path / "go.sum", releases=tmp_path / "releases"
    )
    shutil.copy(trees.TABLE, made.table)
    table = trees.read_table()
    trees.write_table({version: tree for version, tree in table.items() if version < "1.30.5"}, made.table)
    lines = fetch.GO_SUM.read_text().splitlines()
    made.go_sum.write_text("".join(f"{line}\n" for line in lines if line.split()[1].partition("/")[0] < "v1.30.9"))
    shutil.copytree(RELEASES, made.releases, symlinks=True)
    for version in table.keys() - trees.read_table(made.table).keys():
        (made.releases / version).unlink()
    shutil.rmtree(made.releases / "trees" / table["1.30.9"])
    return made


def test_adds_a_release_with_new_files(place: release_add.Place) -> None:
    """Table, pins and files become those of the repository, and what is new is told in words."""
    told = list(release_add.add("1.30.9", place))
    assert told == [
        "1.30.9 has the git tree 89a4d59d9858206fdc14c08ee62e130896f67f53",
        "default store, compared with 1.30.4: nothing is new",
        "visibility store, compared with 1.30.4:",
        "  version 1.10 has another text: 2 statements before, no statement now",
        "  version 1.11 has another text: 15 statements before, no statement now",
        "  version 1.12 has another text: 2 statements before, no statement now",
        "  version 1.13 has another text: 2 statements before, 19 statements now",
        "  a kind of statement that no earlier file has: CREATE INDEX CONCURRENTLY, in version 1.13",
    ]
    assert trees.read_table(place.table)["1.30.9"] == trees.read_table()["1.30.9"]
    assert {*fetch.read_pins(place.go_sum)} <= {*fetch.read_pins(fetch.GO_SUM)}
    assert "1.30.9" in [pin.version for pin in fetch.read_pins(place.go_sum)]
    assert trees.tree_id(place.releases / "1.30.9" / "postgresql" / "v12") == trees.read_table()["1.30.9"]


def test_adds_a_release_with_the_files_of_another(tmp_path: Path) -> None:
    """Only the table grows: the pins stay, and the version becomes a link to the files that are there."""
    place = release_add.Place(table=tmp_path / "releases.txt", releases=tmp_path / "releases")
    shutil.copy(trees.TABLE, place.table)
    shutil.copytree(RELEASES, place.releases, symlinks=True)
    table = trees.read_table()
    trees.write_table({version: tree for version, tree in table.items() if version != "1.31.5"}, place.table)
    (place.releases / "1.31.5").unlink()
    pins = place.go_sum.read_text()
    assert list(release_add.add("1.31.5", place)) == [
        f"1.31.5 has the git tree {table['1.31.5']}",
        "these are the files of 1.31.3 to 1.31.4, 1.32.0 to 1.32.2: no file is new",
    ]
    assert place.go_sum.read_text() == pins
    assert place.table.read_text() == trees.TABLE.read_text()
    assert (place.releases / "1.31.5").resolve() == (place.releases / "1.32.2").resolve()


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("1.29.1", "1.29.1 is in releases.txt already"),
        ("1.33", '"1.33" is no release, expected a version such as 1.33.0'),
        ("latest", '"latest" is no release, expected a version such as 1.33.0'),
    ],
)
def test_refuses_what_is_no_new_release(place: release_add.Place, version: str, message: str) -> None:
    """Nothing is written then, nor for a release that does not exist."""
    before = place.table.read_text(), place.go_sum.read_text()
    with pytest.raises(fetch.FetchError) as caught:
        list(release_add.add(version, place))
    assert str(caught.value) == message
    with pytest.raises(fetch.FetchError, match=r"go.temporal.io/server v?1.30.999 did not come: "):
        list(release_add.add("1.30.999", place))
    assert (place.table.read_text(), place.go_sum.read_text()) == before


def test_words_for_kinds_of_statements() -> None:
    """A kind tells what is done, not to what."""
    assert release_add.kind("ALTER TABLE a ADD COLUMN b int GENERATED ALWAYS AS (c) STORED") == (
        "ALTER TABLE ADD COLUMN GENERATED STORED"
    )
    assert release_add.kind("CREATE UNIQUE INDEX i ON t (a)") == "CREATE UNIQUE"
    assert release_add.kind("INSERT INTO t VALUES (1)") == "INSERT"
