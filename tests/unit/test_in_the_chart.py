"""Messages where the chart runs the program: its values beside our settings, and what its Secrets lack."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from schema_migrator import events
from schema_migrator.config import chart
from schema_migrator.config.options import all_options
from schema_migrator.config.settings import read
from schema_migrator.errors import SettingsError
from schema_migrator.postgres import conninfo

VALUES = Path(__file__).resolve().parents[2] / "charts" / "temporal-migrations" / "values.yaml"


@pytest.fixture(autouse=True)
def nothing_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin outside of Kubernetes and of the chart."""
    for name in ("KUBERNETES_SERVICE_HOST", "HOSTNAME", chart.VARIABLE):
        monkeypatch.delenv(name, raising=False)


def exists(values: Any, path: str) -> bool:  # noqa: ANN401 - YAML
    """Whether the chart has a value; a store's own connection takes the fields of the common one."""
    names = path.split(".")
    if names[0] == "databases" and "connection" in names:
        return exists(values, ".".join(names[names.index("connection") :]))
    for name in names:
        if not isinstance(values, dict) or name not in values:
            return False
        values = values[name]
    return True


def every_value() -> Iterator[str]:
    """Yield each value that a message may name."""
    for job in ("migrate", "verify", "preflight", "drift", "namespaces"):
        for named in chart.values(job).values():
            yield from named.split(" and ")
    yield from (f"connection.{key}" for key in ("hostKey", "portKey", "userKey", "passwordKey"))
    yield "createDatabase"


def test_every_value_exists() -> None:
    """A value that is renamed in the chart is renamed here."""
    values = yaml.safe_load(VALUES.read_text())
    assert not [path for path in every_value() if not exists(values, path)]
    assert not exists(values, "connection.hosts")


@pytest.mark.parametrize("job", ["migrate", "preflight", "drift", "namespaces"])
def test_every_setting_has_a_value(job: str) -> None:
    """Each setting of the program, and nothing that the program does not read."""
    assert chart.values(job).keys() == {option.variable for option in all_options()}


IN_THE_CHART = {
    "set TEMPORAL_VERSION to one of 1.2": "set TEMPORAL_VERSION (in the chart: serverVersion) to one of 1.2",
    "without --adopt, see --adopt": "without --adopt (in the chart: settings.adopt), see --adopt",
    "set SQL_TLS=true": "set SQL_TLS=true (in the chart: connection.tls.enabled)",
    "unset DEFAULT_TARGET_VERSION": "unset DEFAULT_TARGET_VERSION (in the chart: databases.default.targetVersion)",
    "use --rewrite in-place or wait": "use --rewrite in-place (in the chart: settings.rewrite) or wait",
    "raise SCHEMA_MIGRATOR_STATEMENT_TIMEOUT": (
        "raise SCHEMA_MIGRATOR_STATEMENT_TIMEOUT (in the chart: settings.statementTimeout)"
    ),
    "--max-replica-lag off, please": "--max-replica-lag off (in the chart: settings.maxReplicaLag), please",
    "correct the settings SQL_TLS_*": "correct the settings SQL_TLS_*",
    "run schema-migrator verify, or ALTER TABLE x": "run schema-migrator verify, or ALTER TABLE x",
    "of MY_SQL_HOST and x.SQL_HOST": "of MY_SQL_HOST and x.SQL_HOST",
}


@pytest.mark.parametrize("text", IN_THE_CHART)
def test_the_charts_value_beside_a_setting(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each setting once, with the chart's value; outside of the chart nothing changes."""
    assert chart.named(text) == text
    monkeypatch.setenv(chart.VARIABLE, "migrate")
    assert chart.named(text) == IN_THE_CHART[text]


def test_events_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What an event says to do is said in the chart's words; numbers and names stay as they are."""
    monkeypatch.setenv(chart.VARIABLE, "migrate")
    events.configure("info", terminal=False)
    events.logger().warning("schema.writable_by_others", remedy="set SQL_CONNECT_ATTRIBUTES", seconds=3)
    event = json.loads(capsys.readouterr().err)
    assert event["remedy"] == "set SQL_CONNECT_ATTRIBUTES (in the chart: connection.connectAttributes)"
    assert (event["event"], event["seconds"]) == ("schema.writable_by_others", 3)


def test_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can type a command into a Job: the message says how it is run from a copy of the pod."""
    text = "for the SQL that repairs them: schema-migrator verify --default-target-version 1.5"
    create = "create it: schema-migrator create-database"
    for name, value in {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "HOSTNAME": "migrations-x7k2p"}.items():
        monkeypatch.setenv(name, value)
    assert (chart.named(text), chart.named(create)) == (text, create)
    monkeypatch.setenv(chart.VARIABLE, "migrate A=b/c")
    assert chart.named(text) == (
        f"{text} (in the chart: databases.default.targetVersion); in this cluster, from a copy of the pod:"
        " kubectl debug -it migrations-x7k2p --copy-to=look --container=migrate"
        " -- schema-migrator verify --default-target-version 1.5"
    )
    assert chart.named(create) == f"{create} (in the chart: createDatabase)"


def test_a_jobs_own_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Job that makes namespaces has a patience of its own."""
    monkeypatch.setenv(chart.VARIABLE, "namespaces TEMPORAL_API_KEY=a/b")
    said = chart.named("raise SCHEMA_MIGRATOR_WAIT_TIMEOUT")
    assert said == "raise SCHEMA_MIGRATOR_WAIT_TIMEOUT (in the chart: namespaceBootstrap.waitTimeout)"


REFERENCES = "DEFAULT_SQL_USER=temporal-db/username DEFAULT_SQL_PASSWORD=temporal-db/password"
CREATE = "create it in the Job's namespace, or correct the chart's"
LACKING: dict[str, tuple[str, dict[str, str], str]] = {
    "a key": (
        REFERENCES,
        {"DEFAULT_SQL_PASSWORD": "x"},
        f"Secret temporal-db has no key username; {CREATE} connection.userKey",
    ),
    "an empty key": (
        REFERENCES,
        {"DEFAULT_SQL_PASSWORD": "\n", "DEFAULT_SQL_USER": "x"},
        f"Secret temporal-db has no key password; {CREATE} connection.passwordKey",
    ),
    "the Secret": (
        REFERENCES,
        {},
        (
            "there is no Secret temporal-db, or it has no keys password, username; "
            f"{CREATE} connection.passwordKey and connection.userKey"
        ),
    ),
    "a certificate": (
        "VISIBILITY_SQL_TLS_CA_FILE=db-tls/ca.crt",
        {"VISIBILITY_SQL_TLS_CA_FILE": "/nowhere/ca.crt"},
        f"there is no Secret db-tls, or it has no key ca.crt; {CREATE} connection.tls.caKey",
    ),
    "two Secrets": (
        "DEFAULT_SQL_URI=a/uri VISIBILITY_SQL_URI=b/uri",
        {},
        (
            "there is no Secret a, or it has no key uri; there is no Secret b, or it has no key uri; "
            f"{CREATE} connection.uriKey"
        ),
    ),
    "the API key": (
        "TEMPORAL_API_KEY=temporal-api-key/token",
        {},
        (
            "there is no Secret temporal-api-key, or it has no key token; "
            f"{CREATE} namespaceBootstrap.apiKey.existingSecret"
        ),
    ),
}


@pytest.mark.parametrize("case", LACKING)
def test_what_a_secret_lacks(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said before anything is contacted, by the Secret's name and key."""
    references, environ, sentence = LACKING[case]
    for name, value in {chart.VARIABLE: f"migrate {references}", "SQL_HOST": "db", **environ}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as refused:
        read({})
    assert str(refused.value) == sentence


def test_secrets_that_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key with a value, and a file that is mounted, are all that is asked for."""
    (tmp_path / "ca.crt").write_text("x")
    references = f"{REFERENCES} DEFAULT_SQL_TLS_CA_FILE=db-tls/ca.crt"
    given = {"DEFAULT_SQL_USER": "u", "DEFAULT_SQL_PASSWORD": "p", "DEFAULT_SQL_TLS": "true", "SQL_HOST": "db"}
    given |= {"DEFAULT_SQL_TLS_CA_FILE": str(tmp_path / "ca.crt"), chart.VARIABLE: f"migrate {references}"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert read({}).stores[0].user == "u"


def test_the_pods_name_in_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """In Kubernetes alone, and never longer than PostgreSQL keeps."""
    monkeypatch.setenv("HOSTNAME", "temporal-temporal-migrations-x7k2p")
    assert conninfo.session_name("lock") == f"{conninfo.APPLICATION} lock"
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert conninfo.session_name() == f"{conninfo.APPLICATION} in temporal-temporal-migrations-x7k2p"
    worker = conninfo.session_name("worker 0123abcd")
    assert worker.startswith(f"{conninfo.APPLICATION} worker 0123abcd in ")
    assert worker.endswith("migrations-x7k2p")
    assert len(worker) == 63
