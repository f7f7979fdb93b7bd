"""How far an archive is behind, by the names of segments."""

import pytest

from schema_migrator.online.archive import behind

MB = 1024 * 1024
SEGMENT = 16 * MB


@pytest.mark.parametrize(
    ("archived", "current", "size", "bytes_behind"),
    [
        ("000000010000000000000003", "000000010000000000000004", SEGMENT, 0),
        ("000000010000000000000003", "000000010000000000000003", SEGMENT, 0),
        ("000000010000000000000003", "000000010000000000000006", SEGMENT, 2 * SEGMENT),
        ("0000000100000000000000FF", "000000010000000100000001", SEGMENT, SEGMENT),
        ("00000001000000000000003F", "000000010000000100000001", 64 * MB, 64 * MB),
        ("000000010000000000000003.00000028.backup", "000000010000000000000006", SEGMENT, 2 * SEGMENT),
        ("00000002.history", "000000020000000000000006", SEGMENT, None),
        ("000000010000000000000003", "000000020000000000000006", SEGMENT, None),
        ("", "000000010000000000000006", SEGMENT, None),
    ],
)
def test_how_far_behind(archived: str, current: str, size: int, bytes_behind: int | None) -> None:
    """Complete segments count, also over the end of a log. A backup's label has a segment, other timelines none."""
    assert behind(archived, current, size) == bytes_behind
