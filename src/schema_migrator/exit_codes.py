"""Every exit code, its meaning, and whether a retry can help: one table for documents, help and chart."""

from __future__ import annotations

from dataclasses import dataclass

BUG = 70
"""The exit code for a bug in this program (EX_SOFTWARE in sysexits.h)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """An exit code: its short name, its meaning, and whether a retry may succeed later (None for success)."""

    number: int
    name: str
    meaning: str
    retry: bool | None = False


CODES = (
    Code(number=0, name="done", meaning="each store is at its target or above it", retry=None),
    Code(
        number=1,
        name="worth a retry",
        meaning="the database, or the cloud that gives tokens, did not answer, the connection was lost, or a lock or"
        " statement timed out",
        retry=True,
    ),
    Code(
        number=2,
        name="input",
        meaning="wrong usage, settings or files, or no cloud identity for `SQL_AUTH`; no database was touched",
    ),
    Code(number=3, name="refused", meaning="somebody must resolve a problem that has no code of its own"),
    Code(number=4, name="lock held", meaning="another run held the advisory lock until the deadline", retry=True),
    Code(
        number=10,
        name="password",
        meaning="the server rejects the role, its password or its token, or the cloud refuses the identity a token",
    ),
    Code(number=11, name="TLS", meaning="a certificate is rejected, or only one side uses TLS"),
    Code(number=12, name="rights", meaning="the role lacks a privilege, or the server lacks a feature or is read-only"),
    Code(number=20, name="wrong store", meaning="the database has the tables of another store"),
    Code(number=21, name="unknown state", meaning="the schema matches no version in the release's files"),
    Code(number=22, name="version moved", meaning="another program changed the recorded version during the run"),
    Code(
        number=23,
        name="drift",
        meaning="a schema, or the result of a step, differs from what the release's files produce",
    ),
    Code(number=24, name="damage", meaning="a table or an index is damaged on the disk"),
    Code(number=25, name="not at target", meaning="`--check`: a store is not at its target"),
    Code(number=26, name="not ours", meaning="an object of another owner is where an online rewrite keeps its own"),
    Code(number=30, name="lock too long", meaning="a step would lock a table for longer than `--max-lock-seconds`"),
    Code(number=31, name="rewrite blocked", meaning="a blocker prevents the online rewrite of a table"),
    Code(
        number=32,
        name="no space",
        meaning="the server's disk has too little free space, or a change log has reached `--max-change-log`",
    ),
    Code(
        number=33,
        name="row does not fit",
        meaning="a row's value does not fit a column or check constraint of the new version",
    ),
    Code(number=34, name="SQL error", meaning="PostgreSQL rejected a statement; its transaction was rolled back"),
    Code(
        number=35,
        name="cutover held",
        meaning="nobody asked for the cutover within `--hold-timeout`; the copy is kept",
    ),
    Code(
        number=36,
        name="no backup",
        meaning="`--backup-command` reports no backup that is as new as `--require-backup-within` requires",
    ),
    Code(
        number=40,
        name="frontend",
        meaning="the frontend refuses the connection, or the address is not a Temporal frontend",
    ),
    Code(number=41, name="namespace missing", meaning="`namespaces --check`: a namespace does not exist"),
    Code(number=42, name="namespace refused", meaning="the frontend rejects a namespace"),
    Code(number=BUG, name="bug", meaning="a bug in this program: please report it"),
    Code(number=129, name="SIGHUP", meaning="stopped by the signal; uncommitted work was rolled back", retry=True),
    Code(number=130, name="SIGINT", meaning="stopped by the signal; uncommitted work was rolled back", retry=True),
    Code(number=143, name="SIGTERM", meaning="stopped by the signal; uncommitted work was rolled back", retry=True),
)
"""Every exit code. 0 to 4 say what to do next; from 10 on they name the cause: access, schema, plan, frontend."""
HOPELESS = tuple(code.number for code in CODES if code.retry is False)
"""The codes that no retry cures, in ascending order: a Job that exits with one of them has failed for good."""
