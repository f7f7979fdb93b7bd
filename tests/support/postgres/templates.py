"""Starting states, each made once on a server and copied from then on."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from psycopg import sql

from support.postgres.databases import Databases, create_database, create_roles, drop, named, unique
from support.postgres.engine import Engine

Make = Callable[[Databases, str], None]
"""Brings an empty database into a state: the databases whose roles do that, and its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Templates:
    """The states of one server; their tables belong to roles that exist for this alone."""

    maker: Databases
    names: dict[Hashable, str] = field(default_factory=dict)

    def name(self, state: Hashable, make: Make) -> str:
        """Return the database of a state, which is made the first time."""
        if state not in self.names:
            name = unique("temporal_template")
            create_database(self.maker.engine, name, self.maker.user)
            make(self.maker, name)
            with self.maker.admin() as admin:
                # Else a copy's new owner would get all templates with what REASSIGN OWNED gives it.
                admin.execute(
                    sql.SQL("ALTER DATABASE {} OWNER TO {}").format(
                        sql.Identifier(name), sql.Identifier(self.maker.engine.user)
                    )
                )
            self.names[state] = name
        return self.names[state]


_MADE: dict[Engine, Templates] = {}


def copy_state(databases: Databases, name: str, state: Hashable, make: Make) -> str:
    """Create a database of that name in a state, as if its owner had made all of it; return the name."""
    if databases.engine not in _MADE:
        _MADE[databases.engine] = Templates(maker=named(databases.engine))
        create_roles(_MADE[databases.engine].maker)
    templates = _MADE[databases.engine]
    template = templates.name(state, make)
    create_database(databases.engine, name, databases.user, template)
    with databases.admin(name) as admin:
        admin.execute(
            sql.SQL("REASSIGN OWNED BY {} TO {}").format(
                sql.Identifier(templates.maker.user), sql.Identifier(databases.user)
            )
        )
        if admin.execute("SELECT to_regclass('public.schema_version')").fetchone() != (None,):
            admin.execute("UPDATE public.schema_version SET db_name = %s WHERE db_name = %s", [name, template])
    return name


def forget(engine: Engine) -> None:
    """Drop a server's templates and their roles."""
    if engine in _MADE:
        templates = _MADE.pop(engine)
        with engine.connect() as admin:
            for name in templates.names.values():
                admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
        drop(templates.maker)
