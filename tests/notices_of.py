"""What a status tells of a store's owners, by kind, with the SQL that mends it."""

from schema_migrator import notices
from schema_migrator.store_status import StoreStatus


def events(found: StoreStatus) -> dict[str, str]:
    """Return the remedy of each kind of notice."""
    return {one.event: one.remedy for one in notices.standing(found.whose)}
