"""A store that upgrades are measured on."""

from collections.abc import Mapping
from dataclasses import dataclass

from support.visibility.rewriting import Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredStore:
    """A visibility store at the version `start` with so many rows, to be copied.

    `about`: what the figures depend on.
    """

    origin: Origin
    start: str
    rows: int
    about: Mapping[str, str]

    @property
    def server(self) -> str:
        """PostgreSQL's version."""
        return self.about["PostgreSQL"].partition(",")[0]
