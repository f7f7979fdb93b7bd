import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from schema_migrator.errors import SourceError, TargetError
from schema_migrator.releases.source import Store, load, parse_version
from support.postgres.databases import RELEASES
from support.program.library import LIBRARY, NEEDED, library

AGAIN = "; fetch the release's files again"
ROOT_HINT = (
    "; set SCHEMA_MIGRATOR_SOURCES to the folder with one folder per server version,"
    " or with the vendor's postgresql/v12"
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a folder with a copy of one release."""
    shutil.copytree(RELEASES / "1.29.1", tmp_path / "1.29.1")
    return tmp_path


@pytest.fixture
def step(root: Path) -> Path:
    """Return the folder of the copy's visibility 1.2, of one SQL file."""
    return root / "1.29.1" / "postgresql" / "v12" / "visibility" / "versioned" / "v1.2"


def write(step: Path, **changes: Any) -> Path:  # noqa: ANN401 - any JSON
    """Change entries of a step's manifest."""
    path = step / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return path


def refused(root: Path) -> str:
    """Load the release; return why not."""
    with pytest.raises(SourceError) as caught:
        library(root).release("1.29.1")
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize("release", NEEDED)
def test_reads_every_release(release: str) -> None:
    """Each release ends at the versions that its server expects, from 1.0 on without a gap."""
    found = LIBRARY.release(release)
    assert (str(found.default.latest), str(found.visibility.latest)) == NEEDED[release] == compiled(release)
    assert str(found.default.versions[0]) == str(found.visibility.versions[0]) == "1.0"
    assert len(found.default.versions) == Version(NEEDED[release][0]).minor + 1


def compiled(release: str) -> tuple[str, str]:
    """Return the versions that the vendor compiles into the server, as a file beside the SQL has them."""
    text = (RELEASES / release / "postgresql/v12/version.go").read_text()
    default, visibility = (re.search(rf'const {name} = "(.+)"', text) for name in ("Version", "VisibilityVersion"))
    assert default is not None
    assert visibility is not None
    return default[1], visibility[1]


def test_reads_a_step() -> None:
    """A step has what the vendor's tool records, and its statements in the manifest's order."""
    step = LIBRARY.release("1.29.1").visibility.steps[2]
    raw = (RELEASES / "1.29.1/postgresql/v12/visibility/versioned/v1.2/manifest.json").read_bytes()
    assert step.md5 == hashlib.md5(raw, usedforsecurity=False).hexdigest()
    assert (str(step.version), str(step.min_compatible)) == ("1.2", json.loads(raw)["MinCompatibleVersion"])
    assert step.description == json.loads(raw)["Description"]
    assert {statement.file for statement in step.statements} == {"visibility/v1.2/advanced_visibility.sql"}


def test_knows_the_stores_tables() -> None:
    """The two stores share no table, so that a table tells which store it is of."""
    release = LIBRARY.release("1.32.2")
    assert release.visibility.tables == {"executions_visibility"}
    assert {"executions", "namespaces", "tasks_v2"} <= release.default.tables
    assert not release.default.tables & release.visibility.tables
    assert Store.DEFAULT.opposite is Store.VISIBILITY
    assert Store.VISIBILITY.opposite is Store.SECONDARY_VISIBILITY.opposite is Store.DEFAULT


def test_every_visibility_store_has_the_visibility_files() -> None:
    """The folder is that of the files, never the store's name; the steps say which store they are for."""
    release = LIBRARY.release("1.32.2")
    secondary = release.source(Store.SECONDARY_VISIBILITY)
    assert (secondary.store, secondary.folder) == (Store.SECONDARY_VISIBILITY, release.visibility.folder)
    assert secondary.steps == release.source(Store.VISIBILITY).steps
    assert [store.folder for store in Store] == ["temporal", "visibility", "visibility"]
    assert [store.prefix for store in Store] == ["DEFAULT", "VISIBILITY", "SECONDARY_VISIBILITY"]


@pytest.mark.parametrize(("wanted", "found"), [("1.29.1", "1.29.1"), ("v1.29.1", "1.29.1")])
def test_finds_a_release(root: Path, wanted: str, found: str) -> None:
    """A `v` before the version makes no difference, in the setting or in the folder's name."""
    assert library(root).release(wanted).version == found
    (root / "1.29.1").rename(root / "v1.29.1")
    assert library(root).release(wanted).version == found


def test_lists_releases_by_version(tmp_path: Path) -> None:
    """Other folders are left out, and 1.9 comes before 1.10."""
    for name in ("1.10.0", "1.9.3", "current", "1.10.0-rc1", "lost+found"):
        (tmp_path / name).mkdir()
    (tmp_path / "1.8.0").write_text("")
    assert library(tmp_path).versions() == ("1.9.3", "1.10.0")


def test_refuses_an_unnamed_release(root: Path) -> None:
    """Without TEMPORAL_VERSION the available releases are named."""
    with pytest.raises(SourceError) as caught:
        library(root).configured_release()
    assert str(caught.value) == (
        "the server version is not set; set TEMPORAL_VERSION to the version of the servers; schema-migrator releases"
        " lists the available ones (1.29.1)"
    )


@pytest.mark.parametrize("wanted", ["1.29", "1.29.2", "latest", ""])
def test_refuses_a_release_that_is_not_carried(root: Path, wanted: str) -> None:
    """Only exactly that version will do, and the hint says where others come from."""
    with pytest.raises(SourceError) as caught:
        library(root).release(wanted)
    assert str(caught.value) == (
        f'release "{wanted}" is not available in "{root}"; schema-migrator releases lists the available ones (1.29.1);'
        " give the files of another release by SCHEMA_MIGRATOR_SOURCES"
    )


def test_refuses_a_root_without_releases(tmp_path: Path) -> None:
    """An empty, a missing and a wrong folder of releases are named."""
    with pytest.raises(SourceError) as caught:
        library(tmp_path).versions()
    assert str(caught.value) == f'the folder of releases "{tmp_path}" contains no release{ROOT_HINT}'
    with pytest.raises(SourceError) as caught:
        library(tmp_path / "no").versions()
    assert (
        str(caught.value)
        == f'the folder of releases "{tmp_path}/no" cannot be read (No such file or directory){ROOT_HINT}'
    )
    (tmp_path / "file").write_text("")
    with pytest.raises(SourceError) as caught:
        library(tmp_path / "file").versions()
    assert str(caught.value) == f'the folder of releases "{tmp_path}/file" cannot be read (Not a directory){ROOT_HINT}'


def test_refuses_a_release_without_a_store(root: Path) -> None:
    """A missing or empty folder of a store is named."""
    folder = root / "1.29.1" / "postgresql" / "v12" / "visibility" / "versioned"
    shutil.rmtree(folder)
    assert refused(root) == f'release 1.29.1 has no folder "{folder}"{AGAIN}'
    folder.mkdir()
    (folder / "v1.0-old").mkdir()
    assert refused(root) == f'"{folder}" has no version folder, expected v1.0, v1.1 and so on{AGAIN}'


@pytest.mark.parametrize(
    ("gone", "before", "after", "missing"), [("v1.0", "nothing", "1.1", "v1.0"), ("v1.4", "1.3", "1.5", "v1.4")]
)
def test_refuses_a_gap(step: Path, root: Path, gone: str, before: str, after: str, missing: str) -> None:
    """A version that does not exist, first or in between, is named."""
    shutil.rmtree(step.parent / gone)
    expected = f'"{step.parent}" jumps from {before} to {after}, expected {missing} in between{AGAIN}'
    assert refused(root) == expected


def test_takes_a_new_major_version(step: Path, root: Path) -> None:
    """After 1.9 may come 2.0."""
    new = step.parent / "v2.0"
    shutil.copytree(step, new)
    write(new, CurrVersion="2.0")
    assert str(library(root).release("1.29.1").visibility.latest) == "2.0"


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("", "is not valid JSON: Expecting value: line 1 column 1 (char 0)"),
        ('{"CurrVersion": "1.2",}', "is not valid JSON: Expecting property name enclosed in double quotes: "),
        ("[]", "is not a JSON object"),
        ('"1.2"', "is not a JSON object"),
    ],
)
def test_refuses_a_manifest_that_is_no_json(step: Path, root: Path, raw: str, reason: str) -> None:
    """A manifest of another form is named, with the place where it goes wrong."""
    path = step / "manifest.json"
    path.write_text(raw)
    found = refused(root)
    assert found.startswith(f'"{path}" {reason}')
    assert found.endswith(AGAIN)


@pytest.mark.parametrize(
    ("key", "value"),
    [("CurrVersion", None), ("CurrVersion", "one"), ("CurrVersion", 1.2), ("MinCompatibleVersion", "0.1-beta")],
)
def test_refuses_a_manifest_without_versions(step: Path, root: Path, key: str, value: object) -> None:
    """A version that is none is shown as it stands there."""
    path = write(step, **{key: value})
    assert refused(root) == f'"{path}" has {key} {json.dumps(value)}, expected a version such as "1.0"{AGAIN}'


def test_refuses_a_manifest_of_another_version(step: Path, root: Path) -> None:
    """Manifest and folder must agree."""
    path = write(step, CurrVersion="1.3")
    assert refused(root) == f'"{path}" has CurrVersion 1.3, expected 1.2 as its folder says{AGAIN}'


@pytest.mark.parametrize("names", ["a.sql", [1], ["../v1.1/a.sql"], ["/etc/passwd"], [".."], [""], ["a\\b.sql"]])
def test_refuses_files_elsewhere(step: Path, root: Path, names: object) -> None:
    """A manifest can name only files of its own folder."""
    path = write(step, SchemaUpdateCqlFiles=names)
    assert (
        refused(root)
        == f'"{path}" has SchemaUpdateCqlFiles {json.dumps(names)}, expected names of files beside it{AGAIN}'
    )


def test_refuses_a_step_of_no_files(step: Path, root: Path) -> None:
    """A step is empty only where its manifest says that it may be."""
    path = write(step, SchemaUpdateCqlFiles=[])
    assert refused(root) == f'"{path}" names no SQL file and does not set AllowNoCqlFiles{AGAIN}'
    write(step, AllowNoCqlFiles=True)
    assert library(root).release("1.29.1").visibility.steps[2].statements == ()


def test_refuses_missing_files(step: Path, root: Path) -> None:
    """A missing SQL file and a missing manifest are named."""
    path = step / "advanced_visibility.sql"
    path.unlink()
    assert refused(root) == f'"{path}" cannot be read (No such file or directory){AGAIN}'
    manifest = step / "manifest.json"
    manifest.unlink()
    assert refused(root) == f'"{manifest}" cannot be read (No such file or directory){AGAIN}'


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"SELECT '\xe4';", "is not UTF-8 text: invalid continuation byte at byte 8"),
        (b"SELECT 1;\0DROP", "contains a zero byte, expected SQL text"),
    ],
)
def test_refuses_bytes_that_are_no_text(step: Path, root: Path, raw: bytes, reason: str) -> None:
    """Another encoding, or a zero byte that would end a statement early, is refused."""
    path = step / "advanced_visibility.sql"
    path.write_bytes(raw)
    assert refused(root) == f'"{path}" {reason}{AGAIN}'


KNOWN = "1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 1.9"


@pytest.mark.parametrize(
    ("wanted", "found"), [(None, "1.9"), ("1.0", "1.0"), ("v1.5", "1.5"), ("1", "1.0"), ("1.5.0", "1.5")]
)
def test_finds_a_target(wanted: str | None, found: str) -> None:
    """The target is the release's latest version unless said, always in the release's own spelling."""
    assert str(LIBRARY.release("1.29.1").visibility.target(wanted)) == found


@pytest.mark.parametrize("wanted", ["latest", "1.x", "-1", "1.9\n", "１.9", ""])  # noqa: RUF001 - a wide digit
def test_refuses_a_target_that_is_no_version(wanted: str) -> None:
    """What is no version is shown, with the versions that there are."""
    with pytest.raises(TargetError) as caught:
        LIBRARY.release("1.29.1").visibility.target(wanted)
    assert str(caught.value) == (
        f'the visibility target version is "{wanted}", expected a version such as "1.9"; use one of {KNOWN}'
    )
    assert caught.value.exit_code == 2
    assert parse_version(wanted) is None


def test_refuses_an_unknown_target() -> None:
    """A version of another release is refused with the versions of this one."""
    with pytest.raises(TargetError) as caught:
        LIBRARY.release("1.29.1").visibility.target("1.10")
    assert str(caught.value) == (
        "the visibility target version is 1.10, which release 1.29.1 does not have; "
        f"use one of {KNOWN}, or another TEMPORAL_VERSION"
    )


def test_a_manifest_nested_without_end(root: Path, step: Path) -> None:
    """It is refused like any that is none."""
    path = step / "manifest.json"
    path.write_text("[" * 100_000)
    assert refused(root) == f'"{path}" is nested too deeply for a manifest{AGAIN}'


@pytest.mark.parametrize("key", ["CurrVersion", "MinCompatibleVersion"])
@pytest.mark.parametrize("digits", [10, 5000])
def test_a_version_of_many_digits(root: Path, step: Path, key: str, digits: int) -> None:
    """It is no version, and not all of it is shown."""
    path = write(step, **{key: "1." + "9" * digits})
    said = refused(root)
    assert said.startswith(f'"{path}" has {key} "1.999')
    assert said.endswith(f', expected a version such as "1.0"{AGAIN}')
    assert len(said) < 500


def test_a_target_of_many_digits() -> None:
    """It is no version either."""
    with pytest.raises(TargetError, match=r'target version is "1\.999.*\.\.\.", expected a version such as "1\.9"'):
        LIBRARY.release("1.29.1").visibility.target("1." + "9" * 5000)


def test_folders_with_names_of_many_digits(root: Path, step: Path) -> None:
    """They hold no release and no step."""
    (root / ("9" * 200)).mkdir()
    (step.parent / f"v1.{'9' * 200}").mkdir()
    assert library(root).versions() == ("1.29.1",)
    assert library(root).release("1.29.1").visibility.latest == Version("1.9")


@pytest.mark.parametrize("description", ["a" * 256, "a\0b", "\ud800", {"a": "b"}, 7])
def test_a_description_that_cannot_be_recorded(root: Path, step: Path, description: object) -> None:
    """What schema_update_history could not take is found before anything runs."""
    path = write(step, Description=description)
    assert refused(root).startswith(f'"{path}" has a Description that cannot be recorded')


@pytest.mark.parametrize("name", ["\ud800.sql", "a\0.sql"])
def test_a_file_name_that_no_file_has(root: Path, step: Path, name: str) -> None:
    """Half a letter and a zero byte are no part of a name."""
    write(step, SchemaUpdateCqlFiles=[name])
    assert "expected names of files beside it" in refused(root)


@pytest.mark.parametrize("name", ["manifest.json", "advanced_visibility.sql"])
@pytest.mark.parametrize("kind", ["device", "pipe", "folder", "loop"])
def test_what_is_no_file(root: Path, step: Path, name: str, kind: str) -> None:
    """A device does not fill the memory, and a pipe is not waited for."""
    path = step / name
    path.unlink()
    if kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(path)
    said = refused(root)
    assert said == (
        f'"{path}" cannot be read (Too many levels of symbolic links){AGAIN}'
        if kind == "loop"
        else f'"{path}" is not a file{AGAIN}'
    )


def test_a_file_without_end(root: Path, step: Path) -> None:
    """What is larger than any file of a release is not read to its end."""
    path = step / "advanced_visibility.sql"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    assert refused(root) == f'"{path}" has more than 16 MB{AGAIN}'


def test_a_folder_that_cannot_be_read(root: Path, step: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named; root may read everything, so a loop of links has to do here, and a name that is too long."""
    versions = step.parent
    shutil.rmtree(versions)
    versions.symlink_to(versions)
    assert refused(root).startswith(f'release 1.29.1 has no folder "{versions}"')
    versions.unlink()
    versions.mkdir()

    def denied(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", denied)
    with pytest.raises(SourceError, match="cannot be read"):
        load(versions, store=Store.VISIBILITY, release="1.29.1")


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("COMMIT;", 1, "COMMIT"),
        ("SELECT 1;\n-- x\n  commit work;", 3, "COMMIT"),
        ("CREATE TABLE a (b int);\nROLLBACK TO SAVEPOINT c", 2, "ROLLBACK"),
        ("savepoint a", 1, "SAVEPOINT"),
        ("RELEASE a", 1, "RELEASE"),
        ("BEGIN", 1, "BEGIN"),
        ("start\n transaction", 1, "START TRANSACTION"),
        ("END", 1, "END"),
        ("ABORT", 1, "ABORT"),
        ("PREPARE TRANSACTION 'x'", 1, "PREPARE"),
        ("SET search_path = mine", 1, "SET"),
        ("SET SESSION AUTHORIZATION mine", 1, "SET SESSION"),
        ("SET LOCAL role = mine", 1, "SET LOCAL"),
        ("RESET ALL", 1, "RESET"),
        ("DISCARD ALL", 1, "DISCARD"),
        ("/* ; */ COMMIT", 1, "COMMIT"),
        ("SELECT a$b$ FROM c; COMMIT; SELECT $b$ d", 1, "COMMIT"),
        ("SELECT ';'; COMMIT -- ;", 1, "COMMIT"),
        ("DO $$ BEGIN NULL; END $$; COMMIT", 1, "COMMIT"),
    ],
)
def test_sql_that_leaves_its_transaction(root: Path, step: Path, text: str, line: int, words: str) -> None:
    """It is refused when it is loaded, with its place: in a rehearsal it would change the database."""
    (step / "advanced_visibility.sql").write_text(text)
    assert refused(root) == (
        f"visibility/v1.2/advanced_visibility.sql:{line} contains {words}, which reaches beyond the step's"
        " transaction; remove it: each step runs in one transaction with schema-migrator's settings"
    )


@pytest.mark.parametrize(
    "text",
    [
        "SET CONSTRAINTS ALL DEFERRED",
        "DO $$ BEGIN COMMIT; END $$",
        "SELECT 'x; COMMIT;'",
        "-- ; COMMIT\nSELECT 1",
        'SELECT "; COMMIT"',
        "CREATE TABLE commit (set int)",
        "UPDATE a SET b = 1",
        "SELECT $a$; ROLLBACK; $a$",
        "BEGINNING",
    ],
)
def test_sql_that_only_has_such_words(root: Path, step: Path, text: str) -> None:
    """The words mean nothing within texts, names, comments, bodies and other statements."""
    (step / "advanced_visibility.sql").write_text(text)
    assert library(root).release("1.29.1").visibility.steps[2].files[0].text == text
