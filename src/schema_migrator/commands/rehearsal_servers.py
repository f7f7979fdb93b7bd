"""The servers on which `verify`, `plan` and `status` rehearse if they are to write nothing to the stores."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, TypeAlias

from schema_migrator.config.rehearsal_place import EMBEDDED, VARIABLE
from schema_migrator.config.settings import StoreSettings
from schema_migrator.config.sql_fields import SqlSettings
from schema_migrator.diagnosis.stage import OtherServer, Stage
from schema_migrator.errors import MigratorError, SettingsError, Stopped
from schema_migrator.postgres import connection
from schema_migrator.releases.source import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schema_migrator.concurrency import Interrupt
    from schema_migrator.config.rehearsal_place import RehearsalPlace
    from schema_migrator.config.settings import Settings

EmbeddedServer: TypeAlias = Callable[[], AbstractContextManager[SqlSettings]]
"""Starts the embedded PostgreSQL for the block, and gives the settings that lead to it."""
Stages: TypeAlias = Callable[[Store], Stage | None]
"""Gives a store's stage; None if it is rehearsed in its own database."""
_DATABASE = "postgres"


@contextmanager
def opened(settings: Settings, interrupt: Interrupt, embedded: EmbeddedServer | None = None) -> Iterator[Stages]:
    """Yield what gives each store its stage. Servers are connected or started when a rehearsal needs them."""
    place = settings.rehearsal_place
    if place is None:
        yield lambda _: None
        return
    with ExitStack() as stack:
        servers = _Servers(place, settings.run.wait_timeout, interrupt, embedded, stack)
        yield servers.stage


class _Servers:
    """The connections of all stores to one place, closed by `stack`."""

    def __init__(
        self,
        place: RehearsalPlace,
        patience: float,
        interrupt: Interrupt,
        embedded: EmbeddedServer | None,
        stack: ExitStack,
    ) -> None:
        self._place = place
        self._patience = patience
        self._interrupt = interrupt
        self._embedded = embedded
        self._stack = stack
        self._turns = threading.Lock()
        self._sql = place.sql

    def stage(self, store: Store) -> Stage:
        """Return the stage of a store."""
        return Stage(lambda: self._connect(store), self._turns, self._interrupt)

    def _connect(self, store: Store) -> OtherServer:
        """Connect. Called in turns, so that the embedded server is started once."""
        self._sql = self._sql or self._started()
        database = self._sql.database or _DATABASE
        settings = StoreSettings(
            store=store, database=database, target_version=None, sql=self._sql, exposed=self._place.exposed
        )
        try:
            conn = connection.connect(settings, self._interrupt, patience=self._patience)
        except Stopped:
            raise
        except MigratorError as error:
            error.message = f"{VARIABLE}: {error.message}"
            error.hint = f"correct {VARIABLE}, or start that server"
            raise
        self._stack.callback(conn.close)
        name = settings.address if self._place.sql else f"the {EMBEDDED} server"
        return OtherServer(conn=conn, settings=settings, name=name)

    def _started(self) -> SqlSettings:
        if self._embedded is None:
            raise SettingsError(
                f"{VARIABLE} is {EMBEDDED}, which cannot be started here", hint="name a server by its URI"
            )
        return self._stack.enter_context(self._embedded())
