"""Whatever is given: an exit code of the table and none for a bug, one clear refusal, and never a secret.

No server is asked here: libpq checks the parameters, and then nobody answers. What a refusal leaves in a database is
asserted in tests/integration/test_refused_at_random.py.
"""

import io
import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schema_migrator.cli import arguments, main
from schema_migrator.config.options import flag_of
from schema_migrator.exit_codes import BUG, CODES
from support.postgres.databases import RELEASES
from support.program.library import library
from support.program.random_input import JSON, KEYS, MANIFEST, MANY, SECRET, SQL, TEXT, assignments, flags, uris

pytestmark = pytest.mark.random

KNOWN = {code.number for code in CODES} - {BUG}
COMMANDS = ("migrate", "plan", "status", "verify", "wait", "releases", "create-database", "nix", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """A folder of releases with one small release."""

    root: Path

    @property
    def step(self) -> Path:
        """The folder of the visibility store's only step."""
        return self.root / "1.29.1/postgresql/v12/visibility/versioned/v1.0"

    def run(self, argv: Sequence[str], variables: Mapping[str, str]) -> tuple[int, str]:
        """Run a command line in this process; return its exit code and all that it wrote."""
        base = {"SCHEMA_MIGRATOR_WAIT_TIMEOUT": "0", "SCHEMA_MIGRATOR_SOURCES": str(self.root), "SQL_USER": "u"}
        base |= {"TEMPORAL_VERSION": "1.29.1", "SCHEMA_MIGRATOR_TERMINATION_LOG": "/no/such/log"}
        out, err = io.StringIO(), io.StringIO()
        with patch.dict(os.environ, base | dict(variables), clear=True), redirect_stdout(out), redirect_stderr(err):
            code = main.run(argv)
        return code, out.getvalue() + err.getvalue()

    def check(self, argv: Sequence[str], variables: Mapping[str, str] | None = None) -> int:
        """Run; see that it ends as it should."""
        code, said = self.run(argv, variables or {})
        assert code in KNOWN, (code, said)
        assert "Traceback" not in said
        assert SECRET not in said, said
        assert code == 0 or '"run.failed"' in said or "error: " in said
        return code


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """Return a release with one step a store, while nobody answers at any address."""
    root = tmp_path_factory.mktemp("releases")
    for store in ("temporal", "visibility"):
        place = f"1.29.1/postgresql/v12/{store}/versioned/v1.0"
        shutil.copytree(RELEASES / place, root / place)

    def nobody(**parameters: Any) -> None:  # noqa: ANN401 - psycopg's own
        timeless = {
            name: value for name, value in parameters.items() if name not in ("autocommit", "prepare_threshold")
        }
        psycopg.conninfo.make_conninfo(**timeless).encode()
        raise psycopg.OperationalError("connection refused")

    def nowhere(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    with (
        patch("schema_migrator.postgres.pipelines.PipelineConnection.connect", nobody),
        patch("socket.getaddrinfo", nowhere),
        patch("schema_migrator.cli.arguments.parser", cache(arguments.parser)),  # 30 ms each
    ):
        yield Ground(root=root)


WORDS = st.one_of(
    st.sampled_from(["--check", "--adopt", "--abandon", "--for", "--nix", "-x", "--", "schema", "a"]), TEXT
)


@settings(MANY, max_examples=1500)
@given(st.sampled_from(COMMANDS), assignments(5), st.booleans(), st.lists(WORDS, max_size=2), st.booleans())
def test_command_lines(
    ground: Ground,
    command: str,
    given: list[tuple[str, str]],
    joined: bool,  # noqa: FBT001
    more: list[str],
    as_json: bool,  # noqa: FBT001
) -> None:
    """Flags with any values, unknown ones, and words that belong to none."""
    argv = [command, *flags(given, joined=joined), *more, *(["--output", "json"] if as_json else [])]
    ground.check([word for word in argv if word not in ("-h", "--help")])


@settings(MANY, max_examples=1500)
@given(
    st.sampled_from(COMMANDS[:7]),
    assignments(8),
    st.dictionaries(st.from_regex(r"[A-Za-z_]{1,12}", fullmatch=True), TEXT),
)
def test_environments(ground: Ground, command: str, given: list[tuple[str, str]], more: dict[str, str]) -> None:
    """Variables of ours with any values, in any case, and other people's."""
    more = {name: value for name, value in more.items() if not name.startswith("PG")}
    ground.check([command, *(["--for", "database"] if command == "wait" else [])], {**more, **dict(given)})


@settings(MANY, max_examples=1500)
@given(uris(), st.sampled_from(["SQL_URI", "DEFAULT_SQL_URI", "VISIBILITY_SQL_URI"]), st.booleans())
def test_uris(ground: Ground, uri: str, variable: str, as_flag: bool) -> None:  # noqa: FBT001
    """A URI, whatever is not escaped in it, is taken or refused, and no part of its password shown."""
    if as_flag:
        ground.check(["status", flag_of(variable), uri])
    else:
        ground.check(["status", "--output", "json"], {variable: uri})


@settings(MANY, max_examples=700)
@given(
    st.dictionaries(st.sampled_from(KEYS), JSON, min_size=1).map(lambda more: json.dumps(MANIFEST | more).encode())
    | st.binary(max_size=60)
    | JSON.map(lambda any_: json.dumps(any_).encode())
)
def test_manifests(ground: Ground, content: bytes) -> None:
    """A manifest of any content is read or refused by name."""
    path = ground.step / "manifest.json"
    before = path.read_bytes()
    try:
        path.write_bytes(content)
        assert ground.check(["status"]) in (1, 2)
    finally:
        path.write_bytes(before)


LEAVES = ("COMMIT", "BEGIN", "ROLLBACK", "END", "SET")


@settings(MANY, max_examples=1000)
@given(SQL)
def test_sql_files(ground: Ground, text: str) -> None:
    """SQL of any content is split or refused, and what is left to run leaves no transaction."""
    (name,) = MANIFEST["SchemaUpdateCqlFiles"]
    path = ground.step / name
    before = path.read_bytes()
    try:
        path.write_bytes(text.encode(errors="surrogatepass"))
        if ground.check(["status"]) == 1:
            step = library(ground.root).release("1.29.1").visibility.steps[0]
            assert [one.text for one in step.statements if one.text.upper().split()[0].rstrip(";") in LEAVES] == []
    finally:
        path.write_bytes(before)
