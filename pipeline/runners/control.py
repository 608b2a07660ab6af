"""What a parent and its workers say to each other besides frames."""

from __future__ import annotations

from typing import Any

import msgspec

from retain.pipeline.graph import Node, Role
from retain.pipeline.ledger import Ledger
from retain.pipeline.metrics import EdgeStats, NodeStats
from retain.pipeline.past import Past
from retain.pipeline.policy import Policy
from retain.pipeline.shares import Use
from retain.pipeline.stage import SourceInfo
from retain.pipeline.wire import Fault, Round, unpacker


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
    life: int
    """Of how many processes of this node it is: nobody's late words are taken for another's."""
    inputs: list[Port]
    outputs: list[Port]
    slots: int
    """Pictures its ring should hold, at least as many as downstream may have in hand at once."""
    save: str | None = None
    past: Past = Past()
    every: int = 0
    """Of a source: frames between two rounds."""
    waits: bool = False
    """Whether it waits for a round that is due."""
    ledger: str | None = None
    """File of its counts."""
    restarts: bool = False
    """Whether a node that raises is started again, as one that died."""
    log_level: int = 30
    stdin: int | None = None
    """A source's descriptor of the caller's standard input; its own one brings this spec."""

    @property
    def node(self) -> Node:
        return Node(self.name, self.role, self.target, self.options)

    @property
    def identity(self) -> str:
        """Its name on the control socket."""
        return f"{self.life}/{self.name}"

    def open_ledger(self) -> Ledger:
        return Ledger(len(self.inputs), len(self.outputs), self.ledger)


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
    dying: bool = False
    """Its process ends now, to be started again."""


class Report(_Control, frozen=True, tag="report/1"):
    """Worker: numbers, twice a second and at the end."""

    node: NodeStats
    edges: list[EdgeStats]
    """The edges that lead out of it."""
    starving_s: float
    """How long it has been waiting for a free slot."""
    last: bool = False
    """The node is done; its process waits for ``Exit``, because others may still read its ring."""
    gone: list[int] = []
    """By input: packets that came when their pixels had gone with a dead process."""


class Passed(_Control, frozen=True, tag="passed/1"):
    """Worker: a barrier has come by, and the node's state, if it has any, is saved."""

    number: int
    saved: bool
    sent: int
    """Packets that went out before it, in the whole run."""
    node: NodeStats
    edges: list[EdgeStats]
    """Counts of this process so far; the edges are those that lead out."""
    error: str = ""
    """Why its state could not be saved: there will be no snapshot."""
    use: Use = Use(0, 0)
    """What a stage says of its bytes."""


class Turned(_Control, frozen=True, tag="turned/1"):
    """Worker: a round has come by, and its limit is taken."""

    number: int
    use: Use


class Rewired(_Control, frozen=True, tag="rewired/1"):
    """Worker: its end of an edge now leads to the successor of ``src``."""

    src: str
    arrived: int
    """Packets of this edge that ever reached it."""


class Rewire(_Control, frozen=True, tag="rewire/1"):
    """Parent: a process has died. Neighbours find its successor elsewhere: ``sources`` gives the
    address by producer, ``targets`` the address and the packets taken so far by consumer."""

    sources: dict[str, str]
    targets: dict[str, tuple[str, int]]
    void: int
    """Number of the last barrier sent: those up to it are given up."""


class Snap(_Control, frozen=True, tag="snap/1"):
    """Parent, to sources: send this barrier."""

    number: int


class Due(_Control, frozen=True, tag="due/1"):
    """Parent, to the source: the next round, for the frame it is due at; None: there are no more,
    as somebody has failed who would have to let them pass."""

    round: Round | None


class Stop(_Control, frozen=True, tag="stop/1"):
    """Parent: end your source (``drain``), or stop where you are."""

    drain: bool


class Exit(_Control, frozen=True, tag="exit/1"):
    """Parent: everyone is done."""


def state_file(directory: str, number: int, index: int) -> str:
    """Where node ``index`` saves its state for barrier ``number``."""
    return f"{directory}/snapshot-{number}/{index}"


read_from_worker = unpacker(Opened | Failed | Report | Passed | Turned | Rewired)
read_from_parent = unpacker(Stop | Exit | Rewire | Snap | Due)
