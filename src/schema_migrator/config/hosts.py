"""Hosts and ports: converts them from the form that people write to the form that libpq accepts."""

from __future__ import annotations

import re

from pydantic_core import PydanticCustomError

_MOST = 65535


def bare(value: object) -> object:
    """Remove the brackets from IPv6 addresses: the vendor's tool needs them, libpq refuses them."""
    return re.sub(r"\[([\w:.%]+)\](?=\s*(,|$))", r"\1", value) if isinstance(value, str) else value


def bracketed(hosts: str) -> str:
    """Return hosts in the form that can precede a port: IPv6 addresses in brackets."""
    return ",".join(f"[{host}]" if ":" in host and not host.startswith("/") else host for host in hosts.split(","))


def ports(value: object) -> object:
    """Return one or several ports, separated by commas. Raises pydantic's error if one is not a port."""
    if value is None:
        return None
    texts = [port.strip() for port in str(value).split(",")]
    for port in texts:
        if not re.fullmatch("[0-9]+", port):
            raise PydanticCustomError("int_parsing", "a whole number")
        number = int(port.lstrip("0")[:6] or "0")
        if number < 1:
            raise PydanticCustomError("greater_than_equal", "at least 1", {"ge": "1"})
        if number > _MOST:
            raise PydanticCustomError("less_than_equal", "at most 65535", {"le": str(_MOST)})
    return ",".join(texts)
