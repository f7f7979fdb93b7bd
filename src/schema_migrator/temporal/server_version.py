"""The version of the server behind a frontend."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from schema_migrator import events
from schema_migrator.errors import MigratorError
from schema_migrator.temporal import frontend
from schema_migrator.temporal.credentials import credentials

if TYPE_CHECKING:
    from schema_migrator.concurrency import Interrupt
    from schema_migrator.config.client_fields import ClientSettings
    from schema_migrator.temporal.credentials import Credentials

_PATIENCE = 3.0


def ask(client: ClientSettings, interrupt: Interrupt) -> str | None:
    """Return the version that the frontend reports; None, with a warning, if it does not answer within 3 seconds.

    Without an address nothing is asked. Raises SettingsError if the settings of the client are wrong.
    """
    if client.address is None:
        return None
    shown = credentials(client)
    try:
        return frontend.run(_ask(shown), interrupt)
    except MigratorError as error:
        interrupt.check()
        events.logger().warning("frontend.unknown_version", frontend=shown.address, reason=error.message)
        return None


async def _ask(shown: Credentials) -> str | None:
    found = await frontend.reach(shown, patience=_PATIENCE, began=time.monotonic())
    from temporalio.api.workflowservice.v1 import GetSystemInfoRequest  # noqa: PLC0415 - slow to load

    answer = await found.ask(found.workflows.get_system_info, GetSystemInfoRequest())
    return answer.server_version or None
