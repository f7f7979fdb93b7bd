"""The licence files of the modules in the vendor's binary; vendor/notices.py copies them."""

from pathlib import Path

import fetch
import notices
import pytest


def touch(folder: Path, *names: str) -> None:
    """Make empty files."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_which_files(tmp_path: Path) -> None:
    """Licences and notices at any depth, but none of code, of test data or of hidden folders."""
    wanted = ["LICENSE", "LICENCE.md", "COPYING", "NOTICE.txt", "PATENTS", "LICENSE-GO", "inner/copied/license.txt"]
    touch(tmp_path, *wanted)
    touch(tmp_path, "license.go", "licenses.json", "README.md", "testdata/COPYING", ".github/LICENSE", "_old/LICENSE")
    assert sorted(str(path.relative_to(tmp_path)) for path in notices.licence_files(tmp_path)) == sorted(wanted)


def test_the_name_of_a_folder() -> None:
    """As the module cache has it on file systems that ignore case."""
    assert notices.escaped("github.com/BurntSushi/toml") == "github.com/!burnt!sushi/toml"


def test_which_modules() -> None:
    """The main one and the others; in place of a replaced one, what replaces it."""
    info = {
        "Main": {"Path": "a.example/main", "Version": "v1.0.0"},
        "Deps": [
            {"Path": "a.example/old", "Version": "v1.1.0", "Replace": {"Path": "a.example/new", "Version": "v2.0.0"}},
        ],
    }
    found = [(module.module, module.version) for module in notices.modules(info)]
    assert found == [("a.example/main", "1.0.0"), ("a.example/new", "2.0.0")]


def test_a_module_without_a_licence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused, because it may not be passed on."""
    touch(tmp_path, "go", notices.STANDARD_LIBRARY.as_posix(), "module/README.md")
    info = {"GoVersion": "go1.27.3", "Main": {"Path": "a.example/main", "Version": "v1.0.0"}}
    found = fetch.Download(
        module="a.example/main", version="1.0.0", folder=tmp_path / "module", zip_hash="", mod_hash=""
    )
    monkeypatch.setattr(notices, "build_info", lambda _: info)
    monkeypatch.setattr(notices, "go_root", lambda: tmp_path)
    monkeypatch.setattr(fetch, "download", lambda _: [found])
    with pytest.raises(notices.NoticesError) as refused:
        notices.collect(tmp_path / "binary", tmp_path / "target")
    assert str(refused.value) == (
        "a.example/main v1.0.0 has no licence file, expected one of LICENSE, COPYING, NOTICE;"
        " look for its licence, then add it to WITHOUT_A_FILE"
    )
    touch(tmp_path, "module/LICENSE")
    notices.collect(tmp_path / "binary", tmp_path / "target")
    assert (tmp_path / "target/a.example/main@v1.0.0/LICENSE").exists()
    assert (tmp_path / "target/go@1.27.3/LICENSE").exists()
