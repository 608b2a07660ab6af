"""What an edge does when its consumer is slower than its producer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from retain.pipeline.errors import UsageError, nearest

Kind = Literal["block", "latest", "drop_oldest", "drop_newest", "rate"]

_KINDS = ("block", "latest", "drop_oldest", "drop_newest", "rate")
_PATTERN = re.compile(r"(?P<kind>[a-z_]+)(?:\((?P<arg>[0-9.]+)\))?")
BLOCK_DEPTH = 4
"""Packets a ``block`` edge may hold: enough to hide a hand-over, few enough to stay young."""


@dataclass(frozen=True, slots=True)
class Policy:
    """One of ``block``, ``latest``, ``drop_oldest(n)``, ``drop_newest(n)``, ``rate(fps)``.

    block        the producer waits; nothing is lost (finite sources)
    latest       a one-slot mailbox: a newer packet replaces the waiting one
    drop_oldest  at most n wait; the oldest makes room
    drop_newest  at most n wait; a newcomer is refused
    rate         at most fps packets per second of *presentation* time pass; those wait as in latest
    """

    kind: Kind
    depth: int = 1
    fps: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Policy:
        """Read the written form. Raises UsageError with the nearest valid form."""
        match = _PATTERN.fullmatch(text.strip())
        kind = match["kind"] if match else text.strip().partition("(")[0]
        arg = match["arg"] if match else None
        if match is None or kind not in _KINDS:
            raise UsageError(f"{text!r} is not an edge policy.", hint=nearest(kind, _KINDS))
        if kind == "block" and arg is None:
            return cls("block", BLOCK_DEPTH)
        if kind == "latest" and arg is None:
            return cls("latest")
        if kind in ("drop_oldest", "drop_newest") and arg and arg.isdigit() and int(arg) > 0:
            return cls("drop_oldest" if kind == "drop_oldest" else "drop_newest", int(arg))
        if kind == "rate" and arg and float(arg) > 0:
            return cls("rate", 1, float(arg))
        example = {"drop_oldest": "(8)", "drop_newest": "(8)", "rate": "(2.0)"}.get(kind, "")
        raise UsageError(f"{text!r} is not an edge policy.", hint=f"Write {kind}{example}.")

    def __str__(self) -> str:
        if self.kind == "rate":
            return f"rate({self.fps:g})"
        return f"{self.kind}({self.depth})" if self.kind.startswith("drop") else self.kind


BLOCK = Policy("block", BLOCK_DEPTH)
