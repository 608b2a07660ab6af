"""What a parent and its workers say to each other besides frames."""

from __future__ import annotations

from typing import Any

import msgspec

from retain.pipeline.graph import Node, Role
from retain.pipeline.metrics import EdgeStats, NodeStats
from retain.pipeline.policy import Policy
from retain.pipeline.stage import SourceInfo
from retain.pipeline.wire import Fault, unpacker


class Port(msgspec.Struct, frozen=True):
    """One edge as a node sees it: its other end, its policy, its socket file."""

    peer: str
    policy: Policy
    address: str


class Spec(msgspec.Struct, frozen=True):
    """All a worker needs to know. Written as JSON to its standard input."""

    name: str
    role: Role
    target: str
    options: dict[str, Any]
    index: int
    """Number of the node in the graph's order; names its ring."""
    directory: str
    """The run's private directory of socket files."""
    control: str
    parent_pid: int
    inputs: list[Port]
    outputs: list[Port]
    slots: int
    """Pictures its ring should hold, at least as many as downstream may have in hand at once."""
    save: str | None = None
    log_level: int = 30
    stdin: int | None = None
    """A source's descriptor of the caller's standard input; its own one brings this spec."""

    @property
    def node(self) -> Node:
        return Node(self.name, self.role, self.target, self.options)


class _Control(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    pass


class Opened(_Control, frozen=True, tag="opened/1"):
    """Worker: the source is open."""

    info: SourceInfo


class Failed(_Control, frozen=True, tag="failed/1"):
    """Worker: the node has failed; it takes and discards the rest of its input."""

    fault: Fault
    fatal: bool = False
    """Its edges have failed: it can do nothing more, not even discard."""


class Report(_Control, frozen=True, tag="report/1"):
    """Worker: numbers, twice a second and at the end."""

    node: NodeStats
    edges: list[EdgeStats]
    """The edges that lead out of it."""
    starving_s: float
    """How long it has been waiting for a free slot."""
    last: bool = False
    """The node is done; its process waits for ``Exit``, because others may still read its ring."""


class Stop(_Control, frozen=True, tag="stop/1"):
    """Parent: end your source (``drain``), or stop where you are."""

    drain: bool


class Exit(_Control, frozen=True, tag="exit/1"):
    """Parent: everyone is done."""


read_from_worker = unpacker(Opened | Failed | Report)
read_from_parent = unpacker(Stop | Exit)
