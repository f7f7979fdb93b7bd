import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from support.postgres.databases import RELEASES

VENDOR = RELEASES.parent / "vendor"


def load() -> ModuleType:
    """Import the script, which is in no package."""
    spec = importlib.util.spec_from_file_location("fetch", VENDOR / "fetch.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fetch"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


fetch = load()
ZIP = "go.temporal.io/server v1.29.1 h1:sgiMveg/8e51lA62pWb9VzC5WTRitKFyT6XsjonHUhE="
MOD = "go.temporal.io/server v1.29.1/go.mod h1:pc0n6DRcN06V4WNhaxdxE3KaZIS3KSDNKdca6uu6RuU="


def run(folder: Path, *lines: str) -> None:
    """Fetch what a go.sum of these lines pins."""
    go_sum = folder / "go.sum"
    go_sum.write_text("".join(f"{line}\n" for line in lines))
    fetch.fetch(fetch.read_pins(go_sum), folder / "releases")


def test_brings_a_pinned_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All files of both stores and the licence come, writable; the second run asks nobody."""
    run(tmp_path, ZIP, MOD)
    release = tmp_path / "releases" / "1.29.1"
    versions = {path.parent.name for path in release.glob("postgresql/v12/temporal/versioned/v*/manifest.json")}
    assert {"v1.0", "v1.18"} <= versions
    assert (release / "postgresql/v12/visibility/versioned/v1.9/manifest.json").is_file()
    assert "MIT" in (release / "LICENSE").read_text()
    assert all(path.stat().st_mode & 0o200 for path in release.rglob("*"))
    assert [path.name for path in release.parent.iterdir()] == ["1.29.1"]
    monkeypatch.setattr(fetch, "download", lambda _: pytest.fail("it asked again"))
    run(tmp_path, ZIP, MOD)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            [ZIP.replace("h1:sg", "h1:xx"), MOD],
            (
                '"go.temporal.io/server v1.29.1" is h1:sgiMveg/8e51lA62pWb9VzC5WTRitKFyT6XsjonHUhE=, '
                "go.sum expects h1:xxiMveg/8e51lA62pWb9VzC5WTRitKFyT6XsjonHUhE="
            ),
        ),
        (
            [ZIP, MOD.replace("h1:pc", "h1:xx")],
            (
                '"go.temporal.io/server v1.29.1/go.mod" is h1:pc0n6DRcN06V4WNhaxdxE3KaZIS3KSDNKdca6uu6RuU=, '
                "go.sum expects h1:xx0n6DRcN06V4WNhaxdxE3KaZIS3KSDNKdca6uu6RuU="
            ),
        ),
        ([MOD], 'go.sum has no line "go.temporal.io/server v1.29.1", so the download cannot be trusted'),
        (
            [ZIP],
            'go.sum has no line "go.temporal.io/server v1.29.1/go.mod", so the download cannot be trusted',
        ),
    ],
)
def test_refuses_what_is_not_pinned(tmp_path: Path, lines: list[str], message: str) -> None:
    """A wrong and a missing hash fail by name, and nothing is written, go.sum included."""
    with pytest.raises(fetch.FetchError) as caught:
        run(tmp_path, *lines)
    assert str(caught.value) == message
    assert [path.name for path in tmp_path.iterdir()] == ["go.sum"]
    assert (tmp_path / "go.sum").read_text().splitlines() == lines


def test_pins_five_releases() -> None:
    """The repository's go.sum names each carried release with both hashes."""
    pins = fetch.read_pins(fetch.GO_SUM)
    assert [pin.version for pin in pins] == ["1.25.1", "1.29.1", "1.30.9", "1.31.5", "1.32.2"]
    assert all(pin.zip_hash and pin.mod_hash for pin in pins)
