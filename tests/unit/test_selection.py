"""A secondary visibility store: its own connection and target, and what contradicts the selection of stores."""

from typing import Any

import pytest

from schema_migrator.config import selection
from schema_migrator.config.settings import Settings, read
from schema_migrator.errors import SettingsError
from schema_migrator.releases.source import Store

pytestmark = pytest.mark.usefixtures("clean")

ALL = {"SCHEMA_MIGRATOR_STORES": "default,visibility,secondary-visibility"}
UNSELECTED = "but nothing selects the secondary-visibility store; name the stores in SCHEMA_MIGRATOR_STORES, with or"


def given(variables: dict[str, str], *, on_stores: bool = True, **flags: Any) -> Settings:  # noqa: ANN401 - as argparse
    """Read the settings under these variables and flags."""
    return read(flags, variables, on_stores=on_stores)


def refused(variables: dict[str, str], **flags: Any) -> str:  # noqa: ANN401 - as argparse
    """Return why the settings are refused."""
    with pytest.raises(SettingsError) as caught:
        given(variables, **flags)
    return str(caught.value)


def test_has_a_connection_and_a_target_of_its_own() -> None:
    """Its variables override the common ones; those of visibility are not for it, nor its own for visibility."""
    own = {"SECONDARY_VISIBILITY_SQL_HOST": "second", "SECONDARY_VISIBILITY_TARGET_VERSION": "1.9"}
    found = given({**ALL, **own, "SQL_HOST": "b", "VISIBILITY_SQL_USER": "v", "VISIBILITY_TARGET_VERSION": "1.14"})
    assert [(store.sql.host, store.sql.user, store.target_version, store.database) for store in found.stores] == [
        ("b", None, None, "temporal"),
        ("b", "v", "1.14", "temporal_visibility"),
        ("second", None, "1.9", "temporal_secondary_visibility"),
    ]
    flags = {"SECONDARY_VISIBILITY_SQL_HOST": "f", "SECONDARY_VISIBILITY_SQL_DATABASE": "d"}
    assert given({**ALL, **own}, **flags).store(Store.SECONDARY_VISIBILITY).address == "f/d"


@pytest.mark.parametrize(
    ("store", "other"),
    [("DEFAULT", "VISIBILITY"), ("DEFAULT", "SECONDARY_VISIBILITY"), ("VISIBILITY", "SECONDARY_VISIBILITY")],
)
def test_refuses_any_two_stores_in_one_place(store: str, other: str) -> None:
    """The pair is named, with its variables; the third store is not."""
    names = [f"{prefix}_SQL_DATABASE" for prefix in (store, other)]
    said = [prefix.lower().replace("_", "-") for prefix in (store, other)]
    assert refused(ALL | dict.fromkeys(names, "t")) == (
        f'the {" and ".join(said)} stores are in the same database "t", expected a database for each; '
        f"set {' and '.join(names)} to different databases"
    )
    given(ALL | dict.fromkeys(names, "t") | {f"{other}_SQL_HOST": "elsewhere"})


def test_refuses_one_database_name_for_three() -> None:
    """All that have to be set are named."""
    assert refused(ALL | {"SQL_DATABASE": "t"}) == (
        'SQL_DATABASE is "t" for 3 stores, expected a database for each; set DEFAULT_SQL_DATABASE, '
        "VISIBILITY_SQL_DATABASE and SECONDARY_VISIBILITY_SQL_DATABASE, or one store in SCHEMA_MIGRATOR_STORES"
    )


@pytest.mark.parametrize(
    "name", ["SECONDARY_VISIBILITY_SQL_HOST", "SECONDARY_VISIBILITY_TARGET_VERSION", "SECONDARY_VISIBILITY_SQL_URI"]
)
def test_refuses_settings_of_a_store_that_nothing_selects(name: str) -> None:
    """Whoever sets one means the store, which would stay behind in silence; a flag is named as a flag."""
    assert refused({name: "1.9"}) == f"{name} is set, {UNSELECTED} without it"
    flag = f"--{name.lower().replace('_', '-')}"
    assert refused({}, **{name: "1.9"}) == f"{flag} is set, {UNSELECTED} without it"
    assert len(given({name: ""}).stores) == 2


def test_a_list_of_stores_is_a_decision() -> None:
    """One environment for several Jobs, and the chart, which always sets the list, may have more than a Job needs."""
    shared = {"SECONDARY_VISIBILITY_SQL_HOST": "second", "SECONDARY_VISIBILITY_TARGET_VERSION": "1.9"}
    for stores in ("default,visibility", "default", "visibility"):
        by_variable = given(shared | {"SCHEMA_MIGRATOR_STORES": stores}).stores
        by_flag = given(shared, SCHEMA_MIGRATOR_STORES=[stores]).stores
        names = [[str(store.store) for store in selected] for selected in (by_variable, by_flag)]
        assert names == [stores.split(",")] * 2


def test_only_commands_on_stores_care() -> None:
    """`namespaces` and `releases` read the same environment, and have no flag to select stores with."""
    assert len(given({"SECONDARY_VISIBILITY_SQL_HOST": "second"}, on_stores=False).stores) == 2


def test_a_service_link_is_no_setting() -> None:
    """Kubernetes writes SECONDARY_VISIBILITY_SQL_PORT for a Service of that name, which selects nothing."""
    links = {
        "SECONDARY_VISIBILITY_SQL_PORT": "tcp://10.0.0.1:5432",
        "SECONDARY_VISIBILITY_SQL_SERVICE_HOST": "10.0.0.1",
    }
    assert len(given(links).stores) == 2


def test_a_misspelt_variable_is_refused() -> None:
    """As with the other stores."""
    assert refused(ALL | {"SECONDARY_VISIBILITY_SQL_HOTS": "x"}) == (
        "SECONDARY_VISIBILITY_SQL_HOTS is set, but there is no such setting; "
        "did you mean SECONDARY_VISIBILITY_SQL_HOST?"
    )


def test_names_stores() -> None:
    """One, two and three, as the subject of a sentence."""
    assert selection.named([Store.SECONDARY_VISIBILITY]) == "the secondary-visibility store"
    assert selection.named([Store.DEFAULT, Store.VISIBILITY]) == "the default and visibility stores"
    assert selection.named(Store) == "the default, visibility and secondary-visibility stores"
