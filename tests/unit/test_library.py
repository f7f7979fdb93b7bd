import shutil
from pathlib import Path

import pytest

from schema_migrator.errors import SourceError
from schema_migrator.releases.library import Library, ranges
from support.postgres.databases import RELEASES
from support.program.library import LIBRARY, NEEDED, library


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """Return a folder laid out as in the vendor's images, with the files of 1.31.0."""
    shutil.copytree(RELEASES / "1.31.0" / "postgresql", tmp_path / "schema" / "postgresql")
    return tmp_path / "schema"


def refused(found: Library) -> str:
    """Return why the configured release is refused."""
    with pytest.raises(SourceError) as caught:
        found.configured_release()
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize("wanted", ["1.30.4", "v1.30.4", "1.30.4.1", "v1.30.4.12"])
def test_the_fourth_number_of_an_images_tag_does_not_count(wanted: str) -> None:
    """`1.30.4.1` is the vendor's second image of 1.30.4."""
    assert library(RELEASES, wanted).configured_release().version == "1.30.4"


@pytest.mark.parametrize("wanted", ["1.30.4.1.1", "1.30.4-rc.1", "1.30", "1.30.99.1"])
def test_no_other_version_stands_in(wanted: str) -> None:
    """Only a fourth number is left out, and only if the other three are a release's."""
    assert refused(library(RELEASES, wanted)).startswith(f'release "{wanted}" is not available in "{RELEASES}"; ')


def test_a_folder_as_in_the_vendors_images_has_the_configured_release(given: Path) -> None:
    """Its files are those of TEMPORAL_VERSION, whichever that is; the fourth number does not count here either."""
    found = library(given, "1.40.2.1")
    assert found.versions() == ("1.40.2",)
    release = found.configured_release()
    assert (release.version, release.folder) == ("1.40.2", given)
    assert release.visibility.release == "1.40.2"
    assert release.visibility.steps == LIBRARY.release("1.31.0").visibility.steps


def test_files_without_a_version_are_nobodys(given: Path) -> None:
    """Such a folder does not say which release it is."""
    assert refused(library(given)) == "the server version is not set; set TEMPORAL_VERSION to the version of the files"


@pytest.mark.parametrize("wanted", ["latest", "1.33.0-rc.1", "1.33.0-alpine"])
def test_files_of_what_is_no_version_are_nobodys(given: Path, wanted: str) -> None:
    """A tag that is no version does not name the files either."""
    assert refused(library(given, wanted)) == (
        f'release "{wanted}" is not available in "{given}"; set TEMPORAL_VERSION to the version of the files'
    )


def test_given_files_stand_beside_the_others(given: Path) -> None:
    """The releases of all folders are available."""
    found = Library(folders=(given, RELEASES), configured="1.40.2")
    assert found.versions() == (*NEEDED, "1.40.2")
    assert found.configured_release().folder == given
    assert found.release("1.29.1").folder == RELEASES / "1.29.1"


def test_refuses_files_under_the_version_of_other_files(given: Path) -> None:
    """Files of one release, mounted under the default TEMPORAL_VERSION, do not pass for that release."""
    assert refused(Library(folders=(given, RELEASES), configured="1.32.2")) == (
        f'the files in "{given}" differ from those of release 1.32.2 in "{RELEASES / "1.32.2"}"; set TEMPORAL_VERSION'
        " to the version of the files"
    )
    assert Library(folders=(given, RELEASES), configured="1.31.0").configured_release().folder == given


def test_every_folder_has_to_have_releases(given: Path, tmp_path: Path) -> None:
    """A folder that nothing was copied into is an error, although another has the release."""
    (tmp_path / "empty").mkdir()
    found = refused(Library(folders=(tmp_path / "empty", RELEASES), configured="1.32.2"))
    assert found.startswith(f'the folder of releases "{tmp_path / "empty"}" contains no release; ')
    assert given.is_dir()


def test_reads_each_set_of_files_once() -> None:
    """71 releases share 16 sets, each read as the newest release that has it, newest first."""
    sets = [release.version for release in LIBRARY.sets()]
    assert len(sets) == 16
    assert sets[:4] == ["1.32.2", "1.31.2", "1.31.0", "1.30.9"]
    assert [release.version for release in LIBRARY.releases()] == list(NEEDED)
    assert all(release.visibility.release == release.version for release in LIBRARY.releases())


def test_ranges() -> None:
    """A range has no gap and stays within one minor."""
    assert ranges(["1.9.0", "1.9.1", "1.9.3", "1.10.0", "1.10.1"]) == ["1.9.0 to 1.9.1", "1.9.3", "1.10.0 to 1.10.1"]
