import json
from datetime import timedelta
from pathlib import Path

import pytest

from schema_migrator.config.settings import read_client
from schema_migrator.errors import SettingsError
from schema_migrator.temporal.namespace_spec import read_specs
from schema_migrator.temporal.search_attributes import surplus_columns

pytestmark = pytest.mark.usefixtures("clean")
VARIABLE = "SCHEMA_MIGRATOR_NAMESPACES"


def refused(text: str) -> str:
    """Return why a list is refused, without the variable's name."""
    with pytest.raises(SettingsError) as caught:
        read_specs(read_client({VARIABLE: text}))
    assert str(caught.value).startswith(VARIABLE)
    return str(caught.value).removeprefix(VARIABLE)


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("3d", timedelta(days=3)),
        ("72h", timedelta(days=3)),
        ("1d12h30m15s", timedelta(days=1, hours=12, minutes=30, seconds=15)),
        ("36500d", timedelta(days=36_500)),
    ],
)
def test_retentions(text: str, length: timedelta) -> None:
    """Days, hours, minutes and seconds, in this order."""
    (one,) = read_specs(read_client({VARIABLE: json.dumps([{"name": "a", "retention": text}])}))
    assert one.retention == length


@pytest.mark.parametrize(
    "value", ["", "3", "3 d", "d", "-3d", "0h", "0d0h", "3w", "3h2d", "1e9d", "9999999d", "36501d", "٣d"]
)
def test_retentions_that_are_none(value: str) -> None:
    """What is no duration is shown, with an example."""
    found = refused(json.dumps([{"name": "a", "retention": value}]))
    assert found == f': number 1, retention is "{value}", expected a duration such as 72h or 3d, at most 36500d'


@pytest.mark.parametrize("name", ["", " ", "a`b", "x` OR 1=1 OR `x", "a\nb"])
def test_search_attributes_that_no_query_could_name(name: str) -> None:
    """The server would take them, and they would hold a column for good."""
    found = refused(json.dumps([{"name": "a", "searchAttributes": {name: "Int"}}]))
    assert "expected a name of printable letters, none of them a backquote" in found
    assert "\n" not in found


@pytest.mark.parametrize("text", ['"ameide"', '"a","b"'])
def test_quoted_names(text: str) -> None:
    """A name with its quotes is an accident of quoting."""
    assert refused(text).strip()


def test_a_refused_value_is_one_line_and_short() -> None:
    """Whatever is in it."""
    found = refused(json.dumps([{"name": "a", "retention": "a\nb" + "x" * 1000}]))
    assert ("\n" in found, len(found) < 400) == (False, True)


def test_a_retention_that_is_a_number() -> None:
    """YAML's 72 is no duration: it could be hours or days."""
    found = refused('[{"name": "a", "retention": 72}]')
    assert found == ': number 1, retention is "72", expected a duration such as 72h or 3d, at most 36500d'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a,,b", ': number 2, name is "", expected a name without surrounding spaces'),
        ("a,b,a", ' has the namespace "a" twice; set it once'),
        ("temporal-system", ': number 1, name is "temporal-system", expected a namespace that is not Temporal\'s own'),
        ('[{"name": " a"}]', ': number 1, name is " a", expected a name without surrounding spaces'),
        ('[{"name": "a\\nb"}]', ': number 1, name is "a\\nb", expected a name without surrounding spaces'),
        ('[{"name": 1}]', ': number 1, name is "1", expected a name without surrounding spaces'),
        ('[{"name": "%s"}]' % ("x" * 1001), f': number 1, name is "{"x" * 200}...", expected at most 1000 bytes'),
        ("[{}]", ": number 1 has no name; set its name"),
        ('["a"]', ": number 1, expected an object"),
        ('{"name": "a"}', ", expected a list of objects"),
        ('[{"name": "a", "description": 1}]', ': number 1, description is "1", expected a text'),
        ('[{"name": "a", "data": ["x"]}]', ": number 1, data, expected an object of texts"),
        ('[{"name": "a", "data": {"x": 1}}]', ': number 1, data.x is "1", expected a text'),
        (
            '[{"name": "a", "retentionDays": 3}]',
            (
                ": number 1 has retentionDays, which is unknown, expected name, description, owner, retention,"
                " data or searchAttributes"
            ),
        ),
        (
            '[{"name": "a", "searchAttributes": {"X": "String"}}]',
            (
                ': number 1, searchAttributes.X is "String", expected '
                "'Text', 'Keyword', 'Int', 'Double', 'Bool', 'Datetime' or 'KeywordList'"
            ),
        ),
        ('[{"name": "a"', " is not valid JSON: EOF while parsing an object at line 1 column 13"),
    ],
)
def test_refuses(text: str, reason: str) -> None:
    """Each mistake is told with its place."""
    assert refused(text) == reason


def test_one_source(tmp_path: Path) -> None:
    """A list and a file at once, or a file that cannot be read, are refused."""
    path = tmp_path / "list"
    file = {f"{VARIABLE}_FILE": str(path)}
    with pytest.raises(SettingsError) as caught:
        read_specs(read_client({VARIABLE: "a", **file}))
    assert str(caught.value) == f"{VARIABLE} and {VARIABLE}_FILE are both set, expected one of them; unset the other"
    with pytest.raises(SettingsError) as caught:
        read_specs(read_client(file))
    assert str(caught.value) == f'{VARIABLE}_FILE: "{path}" cannot be read (No such file or directory)'
    path.write_bytes(b"\xff")
    with pytest.raises(SettingsError) as caught:
        read_specs(read_client(file))
    assert str(caught.value) == f'{VARIABLE}_FILE: "{path}" is not UTF-8 text'


def test_surplus_columns() -> None:
    """Of the columns that have one name the first stays, whatever order they come in."""
    assert surplus_columns({"Keyword02": "a", "Int01": "b", "Keyword01": "a", "Keyword03": "a"}) == (
        "Keyword02",
        "Keyword03",
    )
    assert surplus_columns({"Keyword01": "a", "Int01": "b"}) == ()
