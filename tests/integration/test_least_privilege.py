"""The rights in docs/security.md: each block is enough for its command, and nothing in it is too much."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

import pytest
from psycopg import sql

from support.postgres.databases import Databases, unique
from support.program.command import run_cli
from support.visibility.executions import fill

PAGE = Path(__file__).resolve().parents[2] / "docs" / "security.md"
BLOCK = re.compile(r"```sql\n-- (?P<title>.*)\n(?P<statements>(?:.*;\n)+)```")
GRANT = re.compile(r"GRANT (?P<rights>[A-Z, ]+) ON (?P<rest>.*)")
BEFORE = "1.9"


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A database that belongs to nobody of ours and gives PUBLIC nothing, and a role without any right."""

    databases: Databases
    role: str
    database: str

    def run(self, *args: str, **changes: str) -> int:
        """Run our program as the role; return the exit code."""
        env = self.databases.env() | {"SQL_USER": self.role, "SCHEMA_MIGRATOR_STORES": "visibility"}
        env |= {"VISIBILITY_SQL_DATABASE": self.database, "SCHEMA_MIGRATOR_WAIT_TIMEOUT": "1"} | changes
        return run_cli(env, *args).code

    def grant(self, statements: list[str]) -> None:
        """Run statements of the page as the superuser, under this site's names."""
        names = {"temporal": self.database, "owner": self.databases.user}
        names |= {"postgres": self.database} | dict.fromkeys(("migrator", "auditor", "server", "creator"), self.role)
        words = re.compile(rf"\b({'|'.join(names)})\b")
        with self.databases.admin(self.database) as admin:
            for statement in statements:
                admin.execute(words.sub(lambda word: names[word[0]], statement).encode())

    def install(self, target: str = "") -> None:
        """Let the owner of the databases install the store, and fill it."""
        owner = replace(self, role=self.databases.user)
        with self.databases.admin(self.database) as admin:
            for kind, name in (("DATABASE", self.database), ("SCHEMA", "public")):
                admin.execute(f'GRANT ALL ON {kind} "{name}" TO "{owner.role}"'.encode())
        assert owner.run("migrate", VISIBILITY_TARGET_VERSION=target) == 0

    def fill(self) -> None:
        """Put some rows in."""
        with self.databases.admin(self.database) as admin:
            fill(admin, 50)


@contextmanager
def site(databases: Databases) -> Iterator[Site]:
    """Make a site, as yet without its role; drop it at the end."""
    made = Site(databases=databases, role="", database=unique("least"))
    database = sql.Identifier(made.database)
    with databases.admin() as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(database))
        admin.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))
    with databases.admin(made.database) as admin:
        admin.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
    try:
        yield made
    finally:
        with databases.admin() as admin:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(database))


@contextmanager
def plain(site: Site) -> Iterator[Site]:
    """Give a site a role without any right; drop it, and what it has made, at the end."""
    made = replace(site, role=unique("plain"))
    role = sql.Identifier(made.role)
    with site.databases.admin() as admin:
        password = sql.Literal(site.databases.password)
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, password))
    try:
        yield made
    finally:
        with site.databases.admin() as admin:
            admin.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(f"{made.role}_new")))
        with site.databases.admin(site.database) as admin:
            admin.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(role))
            admin.execute(sql.SQL("DROP ROLE {}").format(role))


def migrates(site: Site) -> Iterator[int]:
    """Install, fill, upgrade online, and all that looks."""
    yield site.run("migrate", VISIBILITY_TARGET_VERSION=BEFORE)
    site.fill()
    yield site.run("migrate", "--rewrite", "online")
    yield from (site.run(name) for name in ("plan", "verify", "status"))


def migrates_unproven(site: Site) -> Iterator[int]:
    """Install and upgrade without proof."""
    for target in ({"VISIBILITY_TARGET_VERSION": BEFORE}, {}):
        yield site.run("migrate", "--no-verify", "--rewrite", "in-place", **target)


def watches_load(site: Site) -> Iterator[int]:
    """Upgrade with an eye on the server's load, as a member of the owner."""
    site.grant(blocks()["migrate by a member"])
    yield site.run("migrate", "--rewrite", "online", "--max-load", "10000")


def creates(site: Site) -> Iterator[int]:
    """Create a database, by way of one that not everybody may connect to, and migrate it."""
    env = {"VISIBILITY_SQL_DATABASE": f"{site.role}_new"}
    yield site.run("create-database", "--through", site.database, **env)
    yield site.run("migrate", **env)


def looks(site: Site) -> Iterator[int]:
    """Look at an upgrade that is to come, and rehearse in a database of somebody else."""
    databases = site.databases
    login = f"{databases.user}:{quote(databases.password, safe='')}"
    uri = f"postgresql://{login}@{databases.host}:{databases.port}/{databases.create()}"
    yield from (site.run(name, SCHEMA_MIGRATOR_REHEARSE_ON=uri) for name in ("plan", "verify", "status"))


def runs(*commands: str) -> Callable[[Site], Iterator[int]]:
    """Return what runs commands, each of them words."""
    return lambda site: (site.run(*command.split()) for command in commands)


def nothing(_: Site) -> None:
    """Leave the database empty."""


def older(site: Site) -> None:
    """Let the owner of the tables install an older version, with rows."""
    site.install(BEFORE)
    site.fill()


SCENARIOS: dict[str, tuple[Callable[[Site], None], Callable[[Site], Iterator[int]]]] = {
    "migrate": (nothing, migrates),
    "migrate --no-verify": (nothing, migrates_unproven),
    "migrate by a member": (older, runs("migrate --rewrite online")),
    "migrate --max-load": (older, watches_load),
    "status": (Site.install, runs("status", "plan")),
    "wait": (Site.install, runs("wait --for database --for schema")),
    "verify": (Site.install, runs("verify")),
    "verify --rehearse-on": (older, looks),
    "create-database": (nothing, creates),
}
"""What is there before, and what a role does with the rights of a block: the exit codes."""


def blocks() -> dict[str, list[str]]:
    """Return the page's statements by the titles of their blocks."""
    found = BLOCK.finditer(PAGE.read_text(encoding="utf-8"))
    return {one["title"]: one["statements"].splitlines() for one in found}


def poorer(statements: list[str]) -> Iterator[list[str]]:
    """Yield the statements with each right left out."""
    for number, statement in enumerate(statements):
        parts = GRANT.fullmatch(statement)
        rights = parts["rights"].split(", ") if parts else [""]
        for right in rights:
            left = ", ".join(other for other in rights if other != right)
            kept = [f"GRANT {left} ON {parts['rest']}"] if parts and left else []
            yield [*statements[:number], *kept, *statements[number + 1 :]]


def test_every_block_is_tested() -> None:
    """And every test is of a block."""
    assert blocks().keys() == SCENARIOS.keys()


@pytest.mark.parametrize("title", SCENARIOS)
def test_is_enough_and_no_more(databases: Databases, title: str) -> None:
    """With all of the rights every command works, and with one of them less not."""
    statements, (prepare, work) = blocks()[title], SCENARIOS[title]
    with ExitStack() as stack:
        place = stack.enter_context(site(databases))
        prepare(place)
        for number, granted in enumerate((statements, *poorer(statements))):
            if number and prepare is not Site.install:  # what is only looked at stays as it is
                place = stack.enter_context(site(databases))
                prepare(place)
            with plain(place) as made:
                made.grant(granted)
                code = next(filter(None, work(made)), 0)
            assert (code == 0) is (granted == statements), granted
