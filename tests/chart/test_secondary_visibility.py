"""The chart's third store, `databases.secondaryVisibility`: nothing of it while it is off, all of it while it is on."""

import os
from typing import Any
from unittest.mock import patch

import kubernetes_validate
import pytest

from schema_migrator.config import chart
from schema_migrator.config.settings import Settings, read
from schema_migrator.releases.source import Store
from support.kubernetes.charts import one, pod, refusal, render, set_json, trigger, variables
from support.kubernetes.helm import NEWEST, Manifest

pytestmark = pytest.mark.chart

NAME = "SECONDARY_VISIBILITY"
TLS = {"enabled": True, "existingSecret": "second-tls", "caKey": "ca.crt"}


def rendered(*args: str, **store: object) -> list[Manifest]:
    """Render the chart with the store on."""
    return render("minimal", *set_json(databases={"secondaryVisibility": {"enabled": True, **store}}), *args)


def env(manifests: list[Manifest]) -> dict[str, Any]:
    """Return the variables of the migration's container."""
    (container,) = pod(manifests)["containers"]
    return variables(container)


def settings(given: dict[str, Any]) -> Settings:
    """Read variables as the program in the pod does; what comes from a Secret stands for itself."""
    plain = {name: value if isinstance(value, str) else "x" for name, value in given.items()}
    with patch.dict(os.environ, plain | {chart.VARIABLE: "migrate"}, clear=True):
        return read({})


@pytest.mark.parametrize("value", [None, {"enabled": False, "connection": {"host": "second"}}])
def test_nothing_of_it_while_it_is_off(value: object) -> None:
    """Nor if an older release's values, which --reuse-values keeps, lack it; what is set for it changes nothing."""
    plain, off = render("minimal"), render("minimal", *set_json(**{"databases.secondaryVisibility": value}))
    assert off == plain
    assert env(plain)["SCHEMA_MIGRATOR_STORES"] == "default,visibility"
    assert not [name for name in env(plain) if name.startswith(NAME)]
    assert NAME.lower() not in str(plain).lower().replace("-", "_")


def test_on() -> None:
    """Its store is selected, and its connection is the common one but for its own fields and its database."""
    manifests = rendered(targetVersion="1.9", connection={"host": "second", "existingSecret": "second-db"})
    found = env(manifests)
    assert found["SCHEMA_MIGRATOR_STORES"] == "default,visibility,secondary-visibility"
    assert {name: value for name, value in found.items() if name.startswith(NAME)} == {
        f"{NAME}_SQL_DATABASE": "temporal_secondary_visibility",
        f"{NAME}_TARGET_VERSION": "1.9",
        f"{NAME}_SQL_HOST": "second",
        f"{NAME}_SQL_PORT": "5432",
        f"{NAME}_SQL_USER": found["VISIBILITY_SQL_USER"],
        f"{NAME}_SQL_PASSWORD": {"secretKeyRef": {"name": "second-db", "key": "password", "optional": True}},
    }
    assert f"{NAME}_SQL_PASSWORD=second-db/password" in found[chart.VARIABLE].split()
    assert "VISIBILITY_TARGET_VERSION" not in found
    assert trigger(manifests) != trigger(render("minimal"))
    assert one(manifests, "ConfigMap")["data"]["secondary-visibility"] == "1.9"


def test_the_program_reads_it() -> None:
    """The visibility files against another database, under names that messages give the chart's values for."""
    found = env(rendered(connection={"host": "second"}))
    store = settings(found).store(Store.SECONDARY_VISIBILITY)
    assert (store.store.folder, store.sql.host, store.database) == (
        "visibility",
        "second",
        "temporal_secondary_visibility",
    )
    assert not found.keys() - chart.values("migrate").keys() - {chart.VARIABLE}
    values = chart.values("migrate")
    assert values[f"{NAME}_TARGET_VERSION"] == "databases.secondaryVisibility.targetVersion"
    assert values[f"{NAME}_SQL_HOST"] == "databases.secondaryVisibility.connection.host"


def test_certificates_of_its_own() -> None:
    """A volume's name and a path are in lower case, as Kubernetes wants them."""
    manifests = rendered(connection={"tls": TLS})
    place = "/etc/temporal-migrations/tls/secondary-visibility"
    assert env(manifests)[f"{NAME}_SQL_TLS_CA_FILE"] == f"{place}/ca.crt"
    found = pod(manifests)
    assert [volume["name"] for volume in found["volumes"]] == ["tls-secondary-visibility"]
    assert [mount["mountPath"] for mount in found["containers"][0]["volumeMounts"]] == [place]
    for manifest in manifests:
        kubernetes_validate.validate(manifest, NEWEST, strict=True)


def test_it_may_be_the_only_one() -> None:
    """A Job of its own, for example where the database is one of another cluster."""
    off = {"default": {"enabled": False}, "visibility": {"enabled": False}}
    manifests = rendered(*set_json(**{f"databases.{name}": value for name, value in off.items()}))
    found = settings(env(manifests))
    assert [store.store for store in found.stores] == [Store.SECONDARY_VISIBILITY]


def test_its_variables_in_a_shared_config_map() -> None:
    """The chart says which stores are meant, and what `extraEnv` has for the third one stops no Job."""
    extra = [{"name": f"{NAME}_SQL_HOST", "value": "second"}]
    found = env(render("minimal", *set_json(extraEnv=extra)))
    assert found[f"{NAME}_SQL_HOST"] == "second"
    assert [str(store.store) for store in settings(found).stores] == ["default", "visibility"]


@pytest.mark.parametrize(
    ("store", "said"),
    [
        ({"targetVersion": 1.1}, "databases.secondaryVisibility.targetVersion is the number 1.1: quote it"),
        ({"connection": {"host": ""}}, "the secondary-visibility store has no host: set connection.host"),
        ({"hots": "x"}, "additional properties 'hots' not allowed"),
    ],
)
def test_what_is_refused(store: dict[str, object], said: str) -> None:
    """As for the other stores, and only while it is on."""
    assert said in refusal(*set_json(databases={"secondaryVisibility": {"enabled": True, **store}}))
