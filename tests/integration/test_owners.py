"""Whose a store is: the owner of what is made, the rights of those who use it, and the schema that it is in."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from structlog.testing import capture_logs

from schema_migrator.errors import PreflightFailed
from support.postgres.databases import Databases, unique
from support.postgres.engine import Engine
from support.program.command import run_cli
from support.program.notices import events
from support.program.refusals import errors
from support.program.store_driver import Site, site
from support.vendor.tool import VendorTool, binary

NEW = ["chasm_node_maps", "current_chasm_executions", "task_queues_v2", "tasks_v2"]
"""Tables that default 1.15 to 1.19 make."""
OWNERS = """
SELECT DISTINCT relowner::regrole::text FROM pg_class WHERE relnamespace = 'public'::regnamespace
  AND relkind IN ('r', 'S')
UNION SELECT proowner::regrole::text FROM pg_proc p WHERE pronamespace = 'public'::regnamespace
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """Another login role, and the variables that let our program use it."""

    name: str
    variables: dict[str, str]


@pytest.fixture(scope="module")
def other(server: Engine) -> Iterator[Role]:
    """Create a role with a password; it outlives the databases."""
    name = unique("other")
    with server.connect() as admin:
        admin.execute(f"CREATE ROLE \"{name}\" LOGIN PASSWORD 'other'".encode())
    yield Role(name=name, variables={"SQL_USER": name, "SQL_PASSWORD": "other"})
    with server.connect() as admin:
        admin.execute(f'DROP ROLE "{name}"'.encode())


@pytest.fixture(params=["owner", "superuser"])
def role(request: pytest.FixtureRequest, server: Engine) -> dict[str, str]:
    """Return the variables for the owner's role, which is set already, or for a superuser's."""
    return {} if request.param == "owner" else superuser(server)


def superuser(server: Engine) -> dict[str, str]:
    """Return the variables for a superuser's role."""
    return {"SQL_USER": server.user, "SQL_PASSWORD": server.password or "none"}


@pytest.fixture(params=["member", "superuser"])
def stranger(request: pytest.FixtureRequest, server: Engine, other: Role, databases: Databases) -> dict[str, str]:
    """Return the variables for a role that does not own the store's tables and may change them."""
    if request.param == "superuser":
        return superuser(server)
    with databases.admin() as admin:
        admin.execute(f'GRANT "{databases.user}" TO "{other.name}"'.encode())
    return other.variables


def owners(where: Site) -> list[str]:
    """Return the owners of all that is in the schema public."""
    with where.databases.admin(where.name) as admin:
        return [name for (name,) in admin.execute(OWNERS).fetchall()]


def allow(where: Site, role: str) -> None:
    """Let a role make schemas in the database, and tables in its schema public."""
    where.admin(f'GRANT CREATE ON DATABASE "{where.name}" TO "{role}"', f'GRANT CREATE ON SCHEMA public TO "{role}"')


@pytest.mark.parametrize("executor", ["native", "sql-tool"])
def test_new_tables_get_the_owner_of_the_others(
    databases: Databases, other: Role, stranger: dict[str, str], executor: str
) -> None:
    """By a member of it, by a superuser, and by the vendor's tool: the owner uses all, and does the next upgrade."""
    where = site(databases, "default").install("1.14")
    allow(where, other.name)
    tool = {"SCHEMA_MIGRATOR_EXECUTOR": executor, "SCHEMA_MIGRATOR_SQL_TOOL": str(binary("1.32.2"))}
    done = where.migrate(DEFAULT_TARGET_VERSION="1.18", **stranger, **(tool if executor == "sql-tool" else {}))
    assert done.outcomes
    assert owners(where) == [databases.user]
    assert (done.whose.strays, done.whose.unreadable) == ((), ())
    done = where.migrate()
    assert [str(one.version) for one in done.outcomes] == ["1.19"]
    assert done.verdict is not None
    assert done.verdict.equal
    with where.connect() as owner:
        for table in NEW:
            owner.execute(f"SELECT FROM {table}".encode())


def test_functions_go_along_and_extensions_stay(databases: Databases, other: Role, stranger: dict[str, str]) -> None:
    """What a fresh store's steps make beside tables, where set-up alone was done by the owner."""
    where = site(databases, "visibility").half_install("1.0", 0)
    allow(where, other.name)
    assert where.migrate(**stranger).outcomes
    assert owners(where) == [databases.user]


def test_an_owner_who_may_not_be_given_them(databases: Databases, other: Role) -> None:
    """A role that may not give tables away: plan says so and what is lacking, migrate too, and the remedy works."""
    with databases.admin() as admin:
        admin.execute(f'GRANT "{databases.user}" TO "{other.name}"'.encode())
    where = site(databases, "default").install("1.14")
    allow(where, other.name)
    where.admin(
        "ALTER SCHEMA public OWNER TO CURRENT_USER",
        f'GRANT USAGE ON SCHEMA public TO "{databases.user}"',
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
    )
    (notice,) = [one for one in where.foresee(**other.variables).notices if one.event == "tables.owners"]
    assert all(table in notice.found for table in NEW)
    assert f'will belong to "{other.name}" and not to "{databases.user}"' in notice.found
    assert f'GRANT CREATE ON SCHEMA "public" TO "{databases.user}";' in notice.remedy
    done = where.migrate(**other.variables)
    assert [one.table for one in done.whose.strays] == NEW
    assert where.status().whose.unreadable == tuple(NEW)
    refused = run_cli(waiting(where), "wait", "--for", "schema")
    assert refused.code == 1
    assert f'the role "{databases.user}" may not read 4 tables of the schema' in refused.stderr
    told = events(where.status())["tables.owners"]
    where.admin(told)
    assert owners(where) == [databases.user]
    assert run_cli(waiting(where), "wait", "--for", "schema").code == 0


def waiting(where: Site, **variables: str) -> dict[str, str]:
    """Return the environment for a process that does not wait for long."""
    return {**where.databases.env(), **where.variables, "SCHEMA_MIGRATOR_WAIT_TIMEOUT": "2", **variables}


def test_rights_that_new_tables_lack(databases: Databases) -> None:
    """Those that the server has to the other tables: the GRANT is told before and after, and given by nobody."""
    where = site(databases, "default").install("1.14")
    databases.grant(where.name)
    grant = (
        'GRANT SELECT, INSERT, UPDATE, DELETE ON "public"."chasm_node_maps", "public"."current_chasm_executions",'
        f' "public"."task_queues_v2", "public"."tasks_v2" TO "{databases.server_user}";'
    )
    (ahead,) = where.foresee().notices
    assert (ahead.event, ahead.remedy) == ("tables.rights", grant)
    with capture_logs() as logs:
        where.migrate(SCHEMA_MIGRATOR_LOG_LEVEL="info")
    assert [one["remedy"] for one in logs if one["event"] == "tables.rights"] == [grant]
    as_server = {"SQL_USER": databases.server_user, "SQL_PASSWORD": databases.server_password}
    refused = run_cli(waiting(where, **as_server), "wait", "--for", "schema")
    assert refused.code == 1
    assert errors(refused)[-1].startswith(
        f'error: default: the role "{databases.server_user}" may not read 4 tables of the schema at '
    )
    where.admin(f'GRANT CREATE ON DATABASE "{where.name}" TO "{databases.server_user}"')
    told = run_cli(waiting(where, **as_server), "verify")
    assert told.code == 12
    assert errors(told) == [
        f'error: default: the role "{databases.server_user}" may not read {", ".join(NEW)} of the default store; '
        + grant.replace("SELECT, INSERT, UPDATE, DELETE", "SELECT")
    ]
    where.admin(grant)
    assert where.status().whose.unreadable == ()
    assert where.foresee().notices == ()
    assert run_cli(waiting(where, **as_server), "wait", "--for", "schema").code == 0
    assert run_cli(waiting(where, **as_server), "verify").code == 0


@pytest.mark.parametrize("where_given", ["", "IN SCHEMA public"], ids=["everywhere", "in the schema"])
def test_default_privileges_are_enough(databases: Databases, where_given: str) -> None:
    """Where the role's default privileges give them, nothing is said."""
    where = site(databases, "default").install("1.14")
    databases.grant(where.name)
    where.run(
        f"ALTER DEFAULT PRIVILEGES {where_given} GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES"
        f' TO "{databases.server_user}"'
    )
    assert where.foresee().notices == ()
    assert where.migrate().whose.rights
    assert events(where.status()) == {}


def planted(where: Site, other: Role, name: str) -> None:
    """Let another role make a schema that "$user" leads to, as it may in its own right."""
    where.admin(
        f'GRANT CREATE ON DATABASE "{where.name}" TO "{other.name}"',
        f'SET ROLE "{other.name}"; CREATE SCHEMA "{name}"; GRANT ALL ON SCHEMA "{name}" TO PUBLIC; RESET ROLE',
    )


def test_a_schema_planted_by_way_of_user(databases: Databases, other: Role, role: dict[str, str]) -> None:
    """Nothing is installed into it unless it is named; schema and owner are told everywhere."""
    where = site(databases, "visibility", **role)
    name = role.get("SQL_USER", databases.user)
    planted(where, other, name)
    found = where.status()
    assert (found.whose.schema, found.whose.schema_owner) == (name, other.name)
    assert "schema.owner" in events(found)
    error = where.refused()
    assert isinstance(error, PreflightFailed)
    assert (
        f'leads to the schema "{name}" only by "$user" or by default, and it belongs to "{other.name}"' in error.detail
    )
    assert "search_path=public" in error.detail
    assert where.migrate(SQL_CONNECT_ATTRIBUTES="search_path=public").whose.schema == "public"


def test_a_schema_planted_beside_an_installation(databases: Databases, other: Role, role: dict[str, str]) -> None:
    """Status and wait say where the tables are, and not that migrate would install them."""
    where = site(databases, "visibility", **role).install()
    planted(where, other, role.get("SQL_USER", databases.user))
    assert where.status().elsewhere == "public"
    env = waiting(where)
    told = run_cli(env, "status")
    assert "tables of the store are in the schema public; set search_path to choose" in " ".join(told.stdout.split())
    assert "installs it" not in told.stdout
    waited = run_cli(env, "wait", "--for", "schema")
    assert waited.code == 1
    assert ", but tables of the store are in the schema public; waited" in waited.stderr
    assert "are also in the schema public" in where.refused().detail
    named = {"SQL_CONNECT_ATTRIBUTES": "search_path=public"}
    assert (where.status(**named).up_to_date, where.status(**named).elsewhere) == (True, "")


@pytest.mark.parametrize("owner", ["member", "database owner"])
def test_schemas_that_user_may_lead_to(databases: Databases, other: Role, owner: str) -> None:
    """Of a role that ours is a member of, or of the database's owner."""
    where = site(databases, "visibility")
    if owner == "member":
        where.admin(f'GRANT "{other.name}" TO "{databases.user}"')
        planted(where, other, databases.user)
    else:
        where.admin(
            f'ALTER DATABASE "{where.name}" OWNER TO "{other.name}"',
            f'GRANT CREATE ON DATABASE "{where.name}" TO "{databases.user}"',
        )
        planted(where, other, databases.user)
    try:
        assert where.migrate().whose.schema == databases.user
    finally:
        where.admin(f'ALTER DATABASE "{where.name}" OWNER TO "{databases.user}"')
        where.admin(f'REVOKE "{other.name}" FROM "{databases.user}"')


@pytest.mark.parametrize("who", ["everybody", "one role"])
def test_a_schema_in_which_others_may_create(databases: Databases, other: Role, role: dict[str, str], who: str) -> None:
    """Plan, status and migrate say so with a REVOKE, and where that has run no more."""
    where = site(databases, "visibility", **role)
    where.admin("ALTER SCHEMA public OWNER TO CURRENT_USER", "REVOKE ALL ON SCHEMA public FROM PUBLIC")
    grantee = "PUBLIC" if who == "everybody" else f'"{other.name}"'
    where.admin(
        f'GRANT USAGE, CREATE ON SCHEMA public TO "{databases.user}"', f"GRANT CREATE ON SCHEMA public TO {grantee}"
    )
    (notice,) = [one for one in where.foresee().notices if one.event == "schema.writable_by_others"]
    named = "everybody" if who == "everybody" else f'"{other.name}"'
    assert notice.found.startswith(f'{named} may create functions and operators in the schema "public"')
    assert notice.remedy.startswith('REVOKE CREATE ON SCHEMA "public" FROM')
    with capture_logs() as logs:
        where.migrate(SCHEMA_MIGRATOR_LOG_LEVEL="info")
    assert "schema.writable_by_others" in [one["event"] for one in logs]
    where.admin(events(where.status())["schema.writable_by_others"])
    assert events(where.status()) == {}


def test_the_remedy_for_an_open_schema_keeps_our_right(databases: Databases) -> None:
    """Where our role may create as everybody may, the REVOKE comes with a GRANT, and the next upgrade goes through."""
    where = site(databases, "visibility").install("1.12")
    where.admin(
        "ALTER SCHEMA public OWNER TO CURRENT_USER",
        "REVOKE ALL ON SCHEMA public FROM PUBLIC",
        "GRANT USAGE, CREATE ON SCHEMA public TO PUBLIC",
    )
    where.admin(events(where.status())["schema.writable_by_others"])
    assert where.migrate().outcomes
    assert events(where.status()) == {}


def test_json_names_schema_and_owner(databases: Databases) -> None:
    """In status, plan and migrate, as in their texts."""
    env = waiting(site(databases, "visibility"))
    for command in ("status", "plan", "migrate", "plan"):
        (found,) = json.loads(run_cli(env, command, "--output", "json").stdout)["stores"]
        assert (found["schema"], found["schema_owner"], found["notices"]) == ("public", "pg_database_owner", [])
        assert 'schema "public", which "pg_database_owner" owns' in " ".join(run_cli(env, command).stdout.split())


@pytest.mark.parametrize("store", ["default", "visibility"])
@pytest.mark.parametrize("rewrite", ["online", "in-place"])
def test_two_tenants_in_two_schemas(databases: Databases, role: dict[str, str], store: str, rewrite: str) -> None:
    """Each goes its way in the schema that its search_path names, and hears nothing of the other."""
    base = site(databases, store, SCHEMA_MIGRATOR_REWRITE=rewrite, **role)
    first, second = (base.given(SQL_CONNECT_ATTRIBUTES=f"search_path={name}") for name in ("ta", "tb"))
    base.run("CREATE SCHEMA ta", "CREATE SCHEMA tb")
    versions = {"default": ("1.14", "1.19"), "visibility": ("1.12", "1.14")}[store]
    target = f"{store.upper()}_TARGET_VERSION"
    first.migrate(**{target: versions[0]})
    second.migrate(**{target: versions[0]})
    for tenant in (second, first):
        done = tenant.migrate()
        assert done.verdict is not None
        assert done.verdict.equal
    fresh = site(databases, store).given(SQL_CONNECT_ATTRIBUTES="search_path=tc", **role)
    base.run("CREATE SCHEMA tc")
    assert fresh.migrate().outcomes
    for tenant in (first, second, fresh):
        found = tenant.status()
        assert (found.up_to_date, found.elsewhere, events(found)) == (True, "", {})
    with base.connect() as owner:
        assert owner.execute("SELECT count(*) FROM pg_class WHERE relname = 'pg_class'").fetchone() == (1,)


@pytest.mark.parametrize("path", ["theirs", '"$user"'])
def test_tenants_of_two_roles(databases: Databases, other: Role, path: str) -> None:
    """The search_path that the server keeps for a role says which schema is meant, too."""
    name = "theirs" if path == "theirs" else other.name
    base = site(databases, "visibility").install()
    base.admin(f'GRANT CREATE ON DATABASE "{base.name}" TO "{other.name}"')
    base.admin(f'SET ROLE "{other.name}"; CREATE SCHEMA {name}; RESET ROLE')
    base.admin(f'ALTER ROLE "{other.name}" IN DATABASE "{base.name}" SET search_path = {path}')
    theirs = base.given(**other.variables)
    assert theirs.migrate().whose.schema == name
    assert theirs.status().up_to_date


def test_the_vendors_tool_and_a_second_tenant(databases: Databases) -> None:
    """It looks up tables by their names alone, which is found before anything is changed."""
    base = site(databases, "visibility")
    base.run("CREATE SCHEMA ta", "CREATE SCHEMA tb")
    first, second = (base.given(SQL_CONNECT_ATTRIBUTES=f"search_path={name}") for name in ("ta", "tb"))
    first.migrate()
    tool = {"SCHEMA_MIGRATOR_EXECUTOR": "sql-tool", "SCHEMA_MIGRATOR_SQL_TOOL": str(binary("1.32.2"))}
    error = second.refused(**tool)
    assert (
        "the vendor's tool looks visibility tables up by their names alone, and the schema ta has them too"
        in error.detail
    )


EVENT_TRIGGER = """
CREATE FUNCTION admin_set_owner() RETURNS event_trigger LANGUAGE plpgsql AS $$
DECLARE one record;
BEGIN
  FOR one IN SELECT * FROM pg_event_trigger_ddl_commands() WHERE command_tag IN ('CREATE TABLE', 'CREATE TABLE AS') LOOP
    EXECUTE format('ALTER TABLE %s OWNER TO {group}', one.object_identity);
  END LOOP;
END $$
"""
GIVING = """
CREATE EVENT TRIGGER set_owner ON ddl_command_end WHEN TAG IN ('CREATE TABLE', 'CREATE TABLE AS')
EXECUTE FUNCTION admin_set_owner()
"""


@pytest.fixture(scope="module")
def group(server: Engine) -> Iterator[str]:
    """Create a group role; it outlives the databases."""
    name = unique("group")
    with server.connect() as admin:
        admin.execute(f"CREATE ROLE {name}".encode())
    yield name
    with server.connect() as admin:
        admin.execute(f"DROP ROLE {name}".encode())


def give_to(where: Site, group: str) -> None:
    """Make an event trigger that gives each new table to a group which our role and the vendor's are in."""
    where.admin(
        f'GRANT {group} TO "{where.databases.user}"',
        f"GRANT USAGE, CREATE ON SCHEMA public TO {group}",
        EVENT_TRIGGER.replace("{group}", group),
        GIVING,
    )


WAYS: dict[str, Callable[[], dict[str, str]]] = {
    "": dict,
    "no verify": lambda: {"SCHEMA_MIGRATOR_NO_VERIFY": "true"},
    "online": lambda: {"SCHEMA_MIGRATOR_REWRITE": "online"},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("start", [None, "1.9"], ids=["fresh", "upgrade"])
def test_an_event_trigger_that_gives_tables_away(
    group: str, databases: Databases, role: dict[str, str], start: str | None, way: str
) -> None:
    """Installed and upgraded, in place and online, as the vendor's tool leaves it."""
    ours, theirs = site(databases, "visibility", **role), site(databases, "visibility").at(databases.create())
    tool = VendorTool(version="1.32.2", databases=databases)
    for where in (ours, theirs):
        if start:
            where.install(start)
        give_to(where, group)
    done = ours.migrate(**WAYS[way]())
    assert way == "no verify" or (done.verdict is not None and done.verdict.equal)
    if start:
        tool.update("visibility", database=theirs.name)
    else:
        tool.migrate("visibility", database=theirs.name)
    assert without_grants(ours) == without_grants(theirs)
    assert owned(ours) == owned(theirs)


def without_grants(where: Site) -> str:
    """Return the structure, rights and owners left out."""
    return where.dump("--schema-only", "--no-owner")


def owned(where: Site) -> list[tuple[str, str]]:
    """Return the tables with their owners."""
    query = "SELECT relname::text, relowner::regrole::text FROM pg_class WHERE relnamespace = 'public'::regnamespace"
    with where.databases.admin(where.name) as admin:
        return sorted(admin.execute(f"{query} AND relkind = 'r'".encode()).fetchall())


def test_an_event_trigger_that_takes_tables_away(group: str, databases: Databases) -> None:
    """A group that our role is not in: nobody is told to grant a right on what is gone."""
    where = site(databases, "visibility").install("1.9")
    definer = EVENT_TRIGGER.replace("{group}", group).replace("LANGUAGE plpgsql", "LANGUAGE plpgsql SECURITY DEFINER")
    where.admin(definer, GIVING)
    error = where.refused()
    assert error.message.startswith(
        "the role has no privilege on what it created itself in a rehearsal, which was rolled back"
    )
    assert "event trigger" in error.hint
