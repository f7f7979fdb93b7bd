"""The WAL archive: whether the server's archiver fails, and how far behind it is.

Every role may read pg_stat_archiver. It names the last segment that was archived; how many segments have been written
since follows from the current one. Counting the files in pg_wal/archive_status would need pg_monitor.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, LiteralString

if TYPE_CHECKING:
    from schema_migrator.postgres.connection import Connection

# A segment's name has 8 hexadecimal digits each for its timeline, its log and its number (source: xlog_internal.h).
_SEGMENT = re.compile(r"(?P<timeline>[0-9A-F]{8})(?P<log>[0-9A-F]{8})(?P<number>[0-9A-F]{8})")
_LOG_BYTES = 2**32
_LOOK: LiteralString = """
SELECT coalesce(a.last_archived_wal, ''), pg_walfile_name(pg_current_wal_lsn()),
  pg_size_bytes(current_setting('wal_segment_size')),
  CASE WHEN a.last_failed_time > a.last_archived_time OR a.last_archived_time IS NULL THEN a.last_failed_wal END,
  round(extract(epoch FROM clock_timestamp() - coalesce(a.last_archived_time, a.stats_reset)))::int
FROM pg_catalog.pg_stat_archiver a WHERE current_setting('archive_mode') <> 'off' AND NOT pg_is_in_recovery()
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """The server's WAL archive.

    `failed`: the segment that the archiver could not archive last and has not archived since; empty if there is none.
    `seconds` since it last succeeded, None if unknown. `behind`: bytes of complete segments that are not archived, None
    if nothing tells.
    """

    failed: str = ""
    seconds: int | None = None
    behind: int | None = None


def look(conn: Connection) -> Archive | None:
    """Return the state of the archive, None if the server has none or is a standby, which writes no WAL."""
    row = conn.execute(_LOOK).fetchone()
    if row is None:
        return None
    archived, current, size, failed, seconds = row
    return Archive(failed=failed or "", seconds=seconds, behind=behind(archived, current, size))


def behind(archived: str, current: str, size: int) -> int | None:
    """Return the bytes of segments between the last one archived and the current one, which is not complete.

    None if the last one archived is no segment (`00000002.history`), or belongs to another timeline.
    """
    last, now = _SEGMENT.match(archived), _SEGMENT.match(current)
    if last is None or now is None or last["timeline"] != now["timeline"]:
        return None
    written = (_position(now, size) - _position(last, size)) // size - 1
    return max(written, 0) * size


def _position(segment: re.Match[str], size: int) -> int:
    return int(segment["log"], 16) * _LOG_BYTES + int(segment["number"], 16) * size
