"""States of the whole graph at one moment: what nodes tell as a barrier passes, put together."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from retain.pipeline.graph import Node
from retain.pipeline.metrics import EdgeStats, NodeStats
from retain.pipeline.runners.control import Passed, Snap, state_file


@dataclass
class Snapshot:
    """What every node was when barrier ``number`` passed it."""

    number: int
    passed: dict[str, Passed] = field(default_factory=dict)
    came: dict[str, dict[str, int]] = field(default_factory=dict)
    """Packets by producer that sinks of the caller had taken."""

    def counts(self) -> tuple[list[NodeStats], list[EdgeStats]]:
        """Of processes; sinks of the caller go on counting."""
        told = [p for name, p in self.passed.items() if name not in self.came]
        return [p.node for p in told], [edge for p in told for edge in p.edges]


class Snapshots:
    """At most one being made and the last one that is whole, in the run's private directory."""

    def __init__(self, directory: str, nodes: Sequence[Node]) -> None:
        self._directory = directory
        self._index = {node.name: number for number, node in enumerate(nodes)}
        self._number = 0
        self._making: Snapshot | None = None
        self.last: Snapshot | None = None

    def begin(self) -> Snap | None:
        """The message to sources; None while another snapshot is being made."""
        if self._making:
            return None
        self._number += 1
        os.mkdir(f"{self._directory}/snapshot-{self._number}")
        self._making = Snapshot(self._number)
        return Snap(self._number)

    def passed(self, name: str, told: Passed, came: Mapping[str, int] | None = None) -> None:
        """The barrier has passed this node; with the last one, the snapshot is whole."""
        made = self._making
        if made is None or told.number != made.number:
            return  # one that was given up
        made.passed[name] = told
        if came is not None:
            made.came[name] = dict(came)
        if len(made.passed) == len(self._index):
            before, self.last, self._making = self.last, made, None
            self._remove(before)

    def give_up(self) -> int:
        """A process has died: the barrier on its way may not come everywhere. Its number."""
        made, self._making = self._making, None
        self._remove(made)
        return self._number

    def state_of(self, name: str) -> str | None:
        """The file with this node's last state."""
        if self.last is None or not self.last.passed[name].saved:
            return None
        return state_file(self._directory, self.last.number, self._index[name])

    def _remove(self, snapshot: Snapshot | None) -> None:
        if snapshot:
            shutil.rmtree(f"{self._directory}/snapshot-{snapshot.number}", ignore_errors=True)
