"""Where the two ends meet, and what may be open to whom."""

from __future__ import annotations

import ipaddress
import re

from retain.pipeline.errors import UsageError

_TCP = re.compile(r"tcp://(?P<host>\[[0-9A-Fa-f:.%\w]+\]|[^:/\[\]\s]+):(?P<port>\d{1,5}|\*)")


def check(address: str, *, binds: bool, encrypted: bool, insecure: bool) -> str:
    """``address`` (``tcp://HOST:PORT``; ``*`` as port takes a free one) when it may be used so.

    Raises UsageError for another form, and for one that other hosts reach without encryption
    unless that is asked for with ``insecure``.
    """
    match = _TCP.fullmatch(address)
    if not match or (match["port"] != "*" and int(match["port"]) > 65535):
        raise UsageError(f"{address!r} is no address between hosts.", hint="Write tcp://HOST:PORT.")
    if not encrypted and not insecure and not is_loopback(match["host"]):
        does = "would be open to every host that reaches it" if binds else "would not be encrypted"
        raise UsageError(
            f"{address!r} {does}: there is no key.",
            hint="Make keys with `retain keys new NAME` and give key and "
            f"{'allow' if binds else 'server'}; insecure=true goes without, for a network "
            "where everyone may see and forge the pictures.",
        )
    return address


def is_loopback(host: str) -> bool:
    """Whether only this host reaches ``host``. Names other than localhost may be anything."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
