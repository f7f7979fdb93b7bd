"""Random settings and files against a server: whatever is refused leaves the database as it was."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schema_migrator.exit_codes import BUG, CODES
from support.postgres import fingerprint
from support.postgres.databases import RELEASES, Databases, bookkeeping
from support.program.random_input import JSON, KEYS, MANIFEST, MANY, SECRET, SQL, assignments
from support.program.references import run_here

KNOWN = {code.number for code in CODES} - {BUG}
BEGUN = "1.29.1"
ADDED = "v1.10"
OWN = ("SQL_HOST", "SQL_PORT", "SQL_USER", "SQL_DATABASE", "SQL_PASSWORD", "SQL_PASSWORD_FILE", "SQL_PASSWORD_COMMAND")


@dataclass(kw_only=True)
class Installed:
    """A visibility store that is in use, and a copy of its release with one more step, whose files may be anything."""

    databases: Databases
    root: Path
    before: Mapping[str, object]

    @property
    def step(self) -> Path:
        """The folder of the step."""
        return self.root / BEGUN / "postgresql/v12/visibility/versioned" / ADDED

    def run(self, command: str, variables: Mapping[str, str]) -> int:
        """Run a command in this process."""
        own = {
            "TEMPORAL_VERSION": BEGUN,
            "SCHEMA_MIGRATOR_SOURCES": str(self.root),
            "SCHEMA_MIGRATOR_STORES": "visibility",
        }
        env = dict(variables) | self.databases.env("visibility") | own | {"SCHEMA_MIGRATOR_WAIT_TIMEOUT": "0"}
        return run_here(env, command)

    def picture(self) -> Mapping[str, object]:
        """Return structure, rights and records."""
        with self.databases.admin(self.databases.visibility) as admin:
            return fingerprint.structure(admin) | {"records": bookkeeping(admin)}


@pytest.fixture
def installed(databases: Databases, tmp_path: Path) -> Installed:
    """Install the release, and add a step to its files."""
    shutil.copytree(RELEASES / BEGUN, tmp_path / BEGUN)
    made = Installed(databases=databases, root=tmp_path, before={})
    assert made.run("migrate", {}) == 0
    made.before = made.picture()
    made.step.mkdir()
    return made


MANIFESTS = st.dictionaries(st.sampled_from(KEYS), JSON, max_size=2)
COMMANDS = st.sampled_from(["migrate", "migrate", "plan", "status", "verify"])


@settings(MANY, max_examples=120)
@given(COMMANDS, assignments(2), MANIFESTS, SQL)
def test_a_refusal_changes_nothing(
    installed: Installed,
    capsys: pytest.CaptureFixture[str],
    command: str,
    given: list[tuple[str, str]],
    manifest: Mapping[str, object],
    text: str,
) -> None:
    """Commands that only look never change anything, and migrate only where it ends with 0; no secret is shown."""
    step = {"CurrVersion": "1.10", "MinCompatibleVersion": "0.1", "SchemaUpdateCqlFiles": ["own.sql"]}
    (installed.step / "manifest.json").write_text(json.dumps(MANIFEST | step | manifest))
    (installed.step / "own.sql").write_text(text, errors="replace")
    settings_ = {name: value for name, value in given if not name.endswith(OWN) and "\0" not in value}
    code = installed.run(command, settings_)
    said = "".join(capsys.readouterr())
    assert code in KNOWN, said
    assert "Traceback" not in said
    assert SECRET not in said
    if code == 0 and command == "migrate":
        installed.before = installed.picture()
    else:
        assert installed.picture() == installed.before, said
