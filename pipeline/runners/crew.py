"""Who works on a run: a process for each node, a station for each sink of the caller."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
import zmq

from retain.pipeline.graph import Node
from retain.pipeline.ledger import Ledger
from retain.pipeline.past import Past
from retain.pipeline.runners.control import Due, Report
from retain.pipeline.runners.process import Child, environment
from retain.pipeline.runners.rounds import Rounds
from retain.pipeline.runners.station import Station
from retain.pipeline.runners.wiring import Wiring
from retain.pipeline.wire import pack


class Crew:
    """All of it lives in the thread of the sockets; ``reports`` may be had from any."""

    def __init__(
        self,
        wiring: Wiring,
        control: zmq.Socket[bytes],
        stations: Mapping[str, Station],
        rounds: Rounds | None,
        number: Callable[[], int],
    ) -> None:
        self.wiring = wiring
        self.rounds, self._number = rounds, number
        self.stations = stations
        self.children: dict[str, Child] = {}
        self.done: set[str] = set()
        """Stations and processes whose work is done."""
        self.away: set[str] = set()
        """Nodes whose process is dead, its successor not there yet."""
        self._control = control
        self._stages = sum(node.role == "stage" for node in wiring.order)

    def reports(self) -> dict[str, Report]:
        """What each node said last of its present process."""
        told = {name: child.report for name, child in dict(self.children).items() if child.report}
        return told | {name: station.report() for name, station in self.stations.items()}

    def spawn(self, node: Node, past: Past) -> None:
        """Raises OSError."""
        if self.rounds:
            past = self.rounds.takes_over(node.name, past)
        spec = self.wiring.spec(node, past)
        assert spec.ledger
        Ledger.prepare(spec.ledger, len(spec.inputs), len(spec.outputs))
        self.children[node.name] = Child(spec, environment(self._stages))
        self.away.discard(node.name)

    def send_round(self) -> None:
        """Give the source its next round, unless somebody is away: he could not let it pass."""
        if self.rounds and not self.away:
            self.send(self.rounds.source, Due(self.rounds.due(self._number())))

    def end_rounds(self) -> None:
        """The source waits for none any more."""
        if self.rounds and self.rounds.source in self.children:
            self.send(self.rounds.source, Due(None))

    def send(self, name: str, message: msgspec.Struct) -> None:
        """Tell a process something, as soon as it listens."""
        child = self.children[name]
        if child.met:
            self._control.send_multipart([child.spec.identity.encode(), pack(message)])
        else:
            child.unheard.append(message)

    def speaker(self, identity: bytes) -> Child | None:
        """Whose words these are; None when they are the late ones of somebody dead."""
        life, _, name = identity.decode().partition("/")
        child = self.children[name]
        if int(life) != child.spec.life or name in self.away:
            return None
        if not child.met:
            child.met = True
            while child.unheard:
                self.send(name, child.unheard.popleft())
        return child
