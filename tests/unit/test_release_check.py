"""A tag is compared with every place that has the version, and the changelog gives the release's notes."""

from dataclasses import replace
from pathlib import Path

import pytest

import release

PLACES = {
    "__version__ in src/schema_migrator/__init__.py": "0.2.0",
    "version in charts/temporal-migrations/Chart.yaml": "0.2.0",
    "appVersion in charts/temporal-migrations/Chart.yaml": "0.2.0",
}
FITTING = release.Facts(versions=PLACES, heading="0.2.0", dated="2026-03-01")
FIX = "change it and run `make docs`, or tag another commit"
CHANGELOG = """# Changelog

## 0.2.0 - 2026-03-01

### Added

- A line that is
  wrapped ([details](docs/verify.md), [site](https://site.example)).
- Another one:

  ```sh
  make first
  make second
  ```

Text that is
wrapped too.

## 0.1.0 - 2026-01-31

- The first one.
"""


def test_takes_a_tag_that_fits() -> None:
    """The sentence names the tag."""
    assert release.check("v0.2.0", FITTING) == ["v0.2.0 fits the package, the chart and CHANGELOG.md"]


@pytest.mark.parametrize("place", PLACES)
def test_refuses_a_place_with_another_version(place: str) -> None:
    """Each place by itself."""
    found = replace(FITTING, versions={**PLACES, place: "0.1.9"})
    assert list(release.problems("v0.2.0", found)) == [f"{place} is 0.1.9, expected 0.2.0: {FIX}"]


@pytest.mark.parametrize("dated", ["unreleased", "2026-02-30", "20260301", "01.03.2026"])
def test_refuses_a_changelog_without_a_date(dated: str) -> None:
    """A day has the form of the other headings."""
    expected = f'CHANGELOG.md dates 0.2.0 "{dated}", expected a date such as 2026-01-31'
    assert list(release.problems("v0.2.0", replace(FITTING, dated=dated))) == [expected]


@pytest.mark.parametrize("tag", ["", "0.2.0", "v0.2", "v0.2.0-rc1", "v0.2.0; true", "v0.2.0\n"])
def test_refuses_what_is_no_tag_of_a_release(tag: str) -> None:
    """Nothing else is compared then."""
    assert list(release.problems(tag, FITTING)) == [f'the tag is "{tag}", expected one such as v0.1.0']


def test_says_everything_at_once() -> None:
    """One run shows all that is wrong."""
    found = replace(FITTING, heading="0.3.0", dated="unreleased")
    with pytest.raises(release.ReleaseError) as caught:
        release.check("v0.2.0", found)
    assert str(caught.value) == (
        f"the first heading of CHANGELOG.md is 0.3.0, expected 0.2.0: {FIX}; "
        'CHANGELOG.md dates 0.3.0 "unreleased", expected a date such as 2026-01-31'
    )


def test_reads_the_repository() -> None:
    """All versions are those of the package, whatever the date is."""
    found = release.facts(release.ROOT)
    assert list(found.versions) == list(PLACES)
    assert {*found.versions.values(), found.heading} == {found.heading}


def test_refuses_a_changelog_without_an_entry(tmp_path: Path) -> None:
    """The sentence says what a heading looks like."""
    for name in (release.CHART, release.PACKAGE):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes((release.ROOT / name).read_bytes())
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n")
    with pytest.raises(release.ReleaseError, match=r"and a heading `## VERSION - DATE` in CHANGELOG\.md$"):
        release.facts(tmp_path)


def test_notes_have_a_paragraph_on_a_line() -> None:
    """Code stays, headings stay, relative links lead to the source, and the next entry is left out."""
    lines = release.notes(CHANGELOG, "0.2.0", "https://h.example/v0.2.0/").splitlines()
    assert lines == [
        "### Added",
        "",
        "- A line that is wrapped ([details](https://h.example/v0.2.0/docs/verify.md), [site](https://site.example)).",
        "- Another one:",
        "",
        "  ```sh",
        "  make first",
        "  make second",
        "  ```",
        "",
        "Text that is wrapped too.",
    ]


def test_notes_of_the_last_entry() -> None:
    """It ends with the file, and links stay as they are without a source."""
    assert release.notes(CHANGELOG, "0.1.0") == "- The first one."


def test_notes_of_a_version_that_is_missing() -> None:
    """The sentence says which heading is missing."""
    with pytest.raises(release.ReleaseError, match=r"^CHANGELOG\.md has no heading for 9\.9\.9, expected"):
        release.notes(CHANGELOG, "9.9.9")
