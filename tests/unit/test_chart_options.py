"""The chart's values for the program's settings: what `make docs` makes of an option, and that nobody forgot to."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import jsonschema
import pytest
from pydantic import BeforeValidator, Field, SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

import chart_options
from schema_migrator.config import values
from schema_migrator.config.options import Option, all_options, run_options
from schema_migrator.config.settings import read

ROOT = Path(__file__).resolve().parents[2]


class Invented(BaseSettings):
    """An option of each kind, as a later version may have them."""

    switch: bool = Field(default=False)
    number: int | None = Field(None, ge=1, le=9)
    seconds: float = Field(0.5, ge=0)
    word: Literal["a", "b"] | None = Field(None)
    path: Path | None = Field(None)
    text: str | None = Field(None)
    limit: values.Limit = Field("1GB")  # type: ignore[assignment]
    names: Annotated[tuple[str, ...], BeforeValidator(values.split_names)] = Field(())
    pairs: Annotated[tuple[tuple[str, str], ...], BeforeValidator(values.labels)] = Field(())
    secret: SecretStr | None = Field(None)


KINDS: dict[str, tuple[Any, list[object], list[object]]] = {
    "switch": (False, [True], ["true", None, 1]),
    "number": (None, [1, 9, None], [0, 10, "x", 1.5]),
    "seconds": (0.5, [0, 1.25], [-1, "1"]),
    "word": ("", ["", "a"], ["c", None]),
    "path": ("", ["", "/a/b"], [1]),
    "text": ("", ["", "x"], [1, []]),
    "limit": ("1GB", ["off", False, "1.5 GB", 4096, ""], [True, "1 GigaByte", 0]),
    "names": ([], [["a", "b"]], ["a", [""], [1]]),
    "pairs": ({}, [{"a": "b"}], [{"a": 1}, "a=b"]),
}


def field(name: str) -> FieldInfo:
    """Return an invented option's field."""
    return Invented.model_fields[name]


@pytest.mark.parametrize("name", KINDS)
def test_a_new_option(name: str) -> None:
    """Its default and its schema come from its type and its limits; the default fits the schema."""
    default, taken, refused = KINDS[name]
    schema = chart_options.schema_of(field(name))
    assert chart_options.default_of(field(name), schema) == default
    validator = jsonschema.Draft202012Validator(schema)
    assert [value for value in (default, *taken) if not validator.is_valid(value)] == []
    assert [value for value in refused if validator.is_valid(value)] == []


def test_a_secret_is_placed_by_hand() -> None:
    """A value in plain text would be for everybody who may read the release."""
    option = Option(variable="SQL_TOKEN", flag="--sql-token", field=field("secret"), commands=frozenset())
    with pytest.raises(chart_options.ByHandError) as refused:
        chart_options.value_of("token", option, "SQL_")
    assert "SQL_TOKEN is a secret" in str(refused.value)


MEANINGS = {
    "requires --backup-command; unset: not checked": "Requires `settings.backupCommand`; unset: not checked.",
    "until then as with --hold-cutover": "Until then as with `mode`.",
    "what servers of TEMPORAL_VERSION need": "What servers of `serverVersion` need.",
    "`native`, or another": "`native`, or another.",
}


@pytest.mark.parametrize("text", MEANINGS)
def test_meanings(text: str) -> None:
    """A sentence that names values in place of flags and variables."""
    assert chart_options.in_the_chart(text) == MEANINGS[text]


@pytest.mark.parametrize("file", chart_options.WRITERS)
def test_the_chart_has_them_all(file: str) -> None:
    """A setting without a value, or one that has changed, is noticed: `make docs` writes it."""
    text = (ROOT / file).read_text(encoding="utf-8")
    assert chart_options.WRITERS[file](text) == text


def test_they_are_counted() -> None:
    """Every option of a run is among them, or has its place in another value."""
    elsewhere = {"TEMPORAL_VERSION", *(f"{store}_TARGET_VERSION" for store in STORES), *SCHEMA_MIGRATOR}
    named = {value.variable for value in chart_options.settings()}
    assert named == {option.variable for option in run_options()} - elsewhere
    assert len(named) == len(chart_options.settings()) == len(run_options()) - len(elsewhere)
    assert len(all_options()) > 100


STORES = ("DEFAULT", "VISIBILITY", "SECONDARY_VISIBILITY")
SCHEMA_MIGRATOR = {
    f"SCHEMA_MIGRATOR_{name}"
    for name in ("STORES", "SOURCES", "ACCEPTED", "REHEARSE_ON", "HOLD_CUTOVER", "HOLD_TIMEOUT", "CUTOVER_WINDOW")
}


def test_defaults_mean_the_same(clean: pytest.MonkeyPatch) -> None:
    """The program reads every default of the chart as its own."""
    own = read({}).run
    for value in chart_options.settings():
        clean.setenv(value.variable, chart_options.text_of(value.default))
    assert read({}).run == own


def test_the_template_is_json() -> None:
    """Each list in the template is one that helm can read, with the word for false where it is another."""
    text = chart_options.template("")
    lists = [json.loads(part.partition("{{- end }}")[0]) for part in text.split("-}}\n")[1:]]
    assert [len(found) for found in lists] == [
        len(chart_options.settings()),
        len(chart_options.connection()),
        len(chart_options.bootstrap()),
    ]
    words = {row["value"]: row["false"] for row in lists[0] if "false" in row}
    assert words == dict.fromkeys(("maxChangeLog", "maxReplicaLag", "maxSlotWal", "maxArchiveLag"), "off")


def test_markers_are_asked_for() -> None:
    """A values file without its place is refused, and not written over."""
    with pytest.raises(ValueError, match="no single place"):
        chart_options.values_yaml("settings: {}\n")
