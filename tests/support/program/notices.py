"""What a status tells of a store's owners, by kind, with the SQL that mends it."""

from schema_migrator.commands.status import StoreStatus
from schema_migrator.planning import notices


def events(found: StoreStatus) -> dict[str, str]:
    """Return the remedy of each kind of notice."""
    return {one.event: one.remedy for one in notices.standing(found.whose)}
