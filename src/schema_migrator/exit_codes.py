"""Every exit code, what it means, and whether a retry cures it: one table for documents, help and chart."""

from __future__ import annotations

from dataclasses import dataclass

BUG = 70
"""The exit code of a fault of this program (EX_SOFTWARE of sysexits.h)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """An exit code: a short name, what it means, whether the same command may succeed later (None for success)."""

    number: int
    name: str
    meaning: str
    retry: bool | None = False


CODES = (
    Code(number=0, name="done", meaning="each store is at its target, or above it", retry=None),
    Code(
        number=1,
        name="worth a retry",
        meaning="the database was not there, the connection was lost, a table lock or a statement took too long",
        retry=True,
    ),
    Code(number=2, name="input", meaning="wrong use, settings or files; nothing in a database was touched"),
    Code(number=3, name="refused", meaning="a person must settle something that has no code of its own"),
    Code(number=4, name="lock held", meaning="another run held the advisory lock until the deadline", retry=True),
    Code(number=10, name="password", meaning="the server does not accept the role or its password"),
    Code(number=11, name="TLS", meaning="a certificate is not accepted, or one side does without TLS"),
    Code(number=12, name="rights", meaning="the role lacks a right, or the server a feature; a read-only server too"),
    Code(number=20, name="wrong store", meaning="the database holds the tables of the other store"),
    Code(number=21, name="unknown state", meaning="the schema is at no version that the release's files explain"),
    Code(number=22, name="version moved", meaning="another program changed the recorded version during the run"),
    Code(number=23, name="drift", meaning="a schema, or the result of a step, is not what the release's files make"),
    Code(number=24, name="damage", meaning="a table or an index is damaged on the disk"),
    Code(number=25, name="not at target", meaning="`--check`: a store is not at its target"),
    Code(number=26, name="not ours", meaning="somebody else's objects are where an online rewrite has its own"),
    Code(number=30, name="lock too long", meaning="a step would lock a table for longer than `--max-lock-seconds`"),
    Code(number=31, name="rewrite blocked", meaning="something forbids the online rewrite of a table"),
    Code(number=32, name="no space", meaning="the server's disk has too little room"),
    Code(number=33, name="row does not fit", meaning="a row's value does not fit a column or check of the new version"),
    Code(number=34, name="SQL error", meaning="PostgreSQL refused a statement; its transaction was rolled back"),
    Code(number=40, name="frontend", meaning="Temporal's frontend does not let us in, or what answers is none"),
    Code(number=41, name="namespace missing", meaning="`namespaces --check`: a namespace does not exist"),
    Code(number=42, name="namespace refused", meaning="the frontend refuses a namespace"),
    Code(number=BUG, name="bug", meaning="a fault of this program: please report it"),
    Code(number=129, name="SIGHUP", meaning="stopped; what was not committed was rolled back", retry=True),
    Code(number=130, name="SIGINT", meaning="stopped; what was not committed was rolled back", retry=True),
    Code(number=143, name="SIGTERM", meaning="stopped; what was not committed was rolled back", retry=True),
)
"""Every exit code there is; 0 to 4 by what to do next, from 10 on the cause: access, schema, plan, frontend."""
HOPELESS = tuple(code.number for code in CODES if code.retry is False)
"""The codes that no retry cures, ascending: a Job that ends with one has failed for good."""
