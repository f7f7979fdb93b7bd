"""The image as people run it: beside a PostgreSQL, restricted, with any user, stopped in the middle."""

import json

import pytest

from schema_migrator.errors import MigratorError
from support.kubernetes.containers import Image
from support.postgres.databases import STORES, Databases
from support.postgres.statement_gate import gate, pids
from support.program.references import NEWEST, References, latest, picture
from support.program.refusals import errors
from support.program.store_driver import site
from support.vendor.chart_line import LINE
from support.vendor.kill_points import Points, Stop, stops
from support.vendor.kill_sweep import Sweep
from support.vendor.tool import FOLDERS
from support.waiting import await_none

WORKERS = (
    "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'schema-migrator/%' AND datname = current_database()"
)
SCRIPT = """#!/bin/bash
set -e
tool() {{
  temporal-sql-tool --endpoint="{host}" --port="5432" --user="{user}" --password="$PASSWORD" \\
    --database="{database}" --plugin="postgres12" "$@"
}}
tool create
tool setup-schema -v 0.0
tool update-schema -d /etc/temporal/schema/postgresql/v12/{folder}/versioned
"""
pytestmark = pytest.mark.image


def test_migrates_and_then_does_nothing(each_image: Image, databases: Databases, references: References) -> None:
    """Without arguments it migrates; read-only, without capabilities, as any user."""
    env = each_image.environment(databases)
    for user in ("65532:65532", "1234567:0", "0:0"):
        done = each_image.run(env, user=user)
        assert done.code == 0, done.stderr
        for store in STORES:
            assert picture(databases, store) == references.picture(store, (NEWEST, latest(NEWEST, store)))
    assert done.stdout.count("nothing to do") == len(STORES)


def test_a_half_applied_database(image: Image, databases: Databases) -> None:
    """It says how far the step came, resumes it, and proves the result."""
    site(databases, "visibility").half_install("1.2", 37)
    site(databases, "default").half_install("1.0", 21)
    env = image.environment(databases, SCHEMA_MIGRATOR_OUTPUT="json")
    found = json.loads(image.run(env, "status").stdout)["stores"]
    assert [(one["state"], one["step"], one["statements_applied"]) for one in found] == [
        ("between", "1.0", 21),
        ("between", "1.2", 37),
    ]
    assert image.run(env).code == 0
    verdicts = json.loads(image.run(env, "verify").stdout)["stores"]
    assert [(one["version"], one["equal"]) for one in verdicts] == [("1.19", True), ("1.14", True)]


def test_stopped_in_the_middle_of_a_statement(image: Image, databases: Databases) -> None:
    """SIGTERM to process 1: exit 143 at once, nothing half done, and the next run is at target."""
    older = image.environment(databases, TEMPORAL_VERSION="1.29.1")
    assert image.run(older).code == 0
    env = image.environment(databases)
    with (
        gate(databases, "visibility", "by_temporal_external_payload_size_bytes ON") as stopped,
        image.started(env) as container,
    ):
        stopped.await_arrival()
        container.stop(timeout=25)
        done = image.finish(container)
        await_none(lambda: pids(stopped.admin, WORKERS))
    assert done.code == 143, done.stderr
    assert site(databases, "visibility").verify().equal
    assert image.run(env).code == 0


def test_a_wrong_password(image: Image, databases: Databases) -> None:
    """One sentence, exit 10, and the secret nowhere."""
    done = image.run(image.environment(databases, SQL_PASSWORD="s3cret"), "migrate", "--wait-timeout", "1")
    assert done.code == 10
    assert "make the Secret and the role's password the same" in done.stderr
    assert "s3cret" not in done.stderr + done.stdout


def test_no_user_is_named(image: Image) -> None:
    """The image's user has no name that libpq could take for a role."""
    done = image.run({"SQL_HOST": image.host})
    assert (done.code, errors(done)) == (
        2,
        [
            f"error: {store}: no role is set, and this system has no name for user 65532; set SQL_USER"
            for store in ("default", "visibility")
        ],
    )


def test_the_vendors_binary(tools_image: Image, databases: Databases, references: References) -> None:
    """The executor sql-tool has its binary in the image, of the release that the image is for."""
    env = tools_image.environment(
        databases,
        SQL_USER=databases.vendor_user,
        SQL_PASSWORD=databases.vendor_password,
        SCHEMA_MIGRATOR_EXECUTOR="sql-tool",
    )
    done = tools_image.run(env)
    assert done.code == 0, done.stderr
    assert '"by": "temporal-sql-tool"' in done.stderr
    for store in STORES:
        assert picture(databases, store) == references.picture(store, (NEWEST, latest(NEWEST, store)))


@pytest.mark.parametrize("store", STORES)
def test_the_operators_script(tools_image: Image, databases: Databases, references: References, store: str) -> None:
    """The scripts of the Temporal operator: bash, flags, the password in a variable of theirs."""
    script = SCRIPT.format(
        host=tools_image.host, user=databases.user, database=databases.name(store), folder=FOLDERS[store]
    )
    for _ in range(2):
        done = tools_image.run({"PASSWORD": databases.password}, "-c", script, entrypoint="/bin/bash")
        assert done.code == 0, done.stderr
    assert picture(databases, store) == references.picture(store, (NEWEST, latest(NEWEST, store)))


@pytest.mark.parametrize("stop", list(stops()), ids=lambda stop: stop.name)
def test_the_charts_line(
    tools_image: Image, databases: Databases, references: References, all_points: Points, stop: Stop
) -> None:
    """The official chart's shell line brings every state of the sweep's spread to its target."""

    def heal(databases: Databases, release: str, store: str, database: str) -> None:
        root = (
            "/etc/temporal/schema" if release == NEWEST else f"/usr/share/temporal-schema-migrator/releases/{release}"
        )
        line = LINE.format(folder=f"{root}/postgresql/v12/{FOLDERS[store]}/versioned")
        env = tools_image.environment(databases, SQL_PLUGIN="postgres12", SQL_DATABASE=database)
        done = tools_image.run(env, "-c", line, entrypoint="/bin/sh")
        if done.code:
            raise MigratorError(done.stderr)

    sweep = Sweep(databases=databases, references=references, heal=heal)
    assert sweep.outcome(stop.find(all_points(stop.release, stop.store)), stop.retries).problem == ""


def test_help_and_releases(each_image: Image) -> None:
    """They need no database."""
    assert each_image.run({}, "--help").stdout.startswith("usage: schema-migrator")
    assert NEWEST in each_image.run({}, "releases").stdout
