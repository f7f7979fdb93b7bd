"""Which releases of Temporal the table lacks."""

import new_releases
import pytest
import trees

KNOWN = ("1.20.0", "1.29.1", "1.29.2")


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        (("1.20.0", "1.29.1", "1.29.2"), []),
        (("1.29.10", "1.29.9", "1.30.0", "1.29.2"), ["1.29.9", "1.29.10", "1.30.0"]),
        (("1.30.0-rc.1", "1.30.0-145.0", "0.0.0-20240101000000-abcdefabcdef"), []),
        (("1.19.1", "0.9.0"), []),
    ],
    ids=["all known", "by number", "not final", "older than the table"],
)
def test_final_releases_above_the_lowest(listed: tuple[str, ...], expected: list[str]) -> None:
    """Lowest first, in the order in which `make release-add` takes them."""
    assert new_releases.missing(listed, KNOWN) == expected


def test_asks_for_the_versions_of_the_vendors_module() -> None:
    """A release that the table lacked would be found."""
    older = [version for version in trees.read_table() if trees.order(version) < (1, 32)]
    assert "1.32.2" in new_releases.missing(new_releases.listed(), older)
