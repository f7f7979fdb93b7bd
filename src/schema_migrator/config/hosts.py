"""Hosts and ports as people give them, and as libpq takes them."""

from __future__ import annotations

import re

from pydantic_core import PydanticCustomError

_MOST = 65535


def bare(value: object) -> object:
    """Take the brackets off IPv6 addresses: the vendor's tool wants them, libpq does not."""
    return re.sub(r"\[([\w:.%]+)\](?=\s*(,|$))", r"\1", value) if isinstance(value, str) else value


def bracketed(hosts: str) -> str:
    """Return hosts as they stand before a port."""
    return ",".join(f"[{host}]" if ":" in host and not host.startswith("/") else host for host in hosts.split(","))


def ports(value: object) -> object:
    """Return one port or several, separated by commas. Raises pydantic's errors."""
    if value is None:
        return None
    found = [port.strip() for port in str(value).split(",")]
    for port in found:
        if not re.fullmatch("[0-9]+", port):
            raise PydanticCustomError("int_parsing", "a whole number")
        number = int(port.lstrip("0")[:6] or "0")
        if number < 1:
            raise PydanticCustomError("greater_than_equal", "at least 1", {"ge": "1"})
        if number > _MOST:
            raise PydanticCustomError("less_than_equal", "at most 65535", {"le": str(_MOST)})
    return ",".join(found)
