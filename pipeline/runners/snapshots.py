"""States of the whole graph at one moment: what nodes tell as a barrier passes, put together.

What a snapshot is on disk: pipeline/states.py.
"""

from __future__ import annotations

import logging
import os
import queue
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from retain.pipeline.errors import StateError
from retain.pipeline.graph import Graph, Node
from retain.pipeline.metrics import EdgeStats, NodeStats
from retain.pipeline.runners.control import Passed, Snap, state_file
from retain.pipeline.runners.rounds import Holdings, Rounds
from retain.pipeline.states import write

log = logging.getLogger(__name__)


@dataclass
class Snapshot:
    """What every node was when barrier ``number`` passed it."""

    number: int
    passed: dict[str, Passed] = field(default_factory=dict)
    came: dict[str, dict[str, int]] = field(default_factory=dict)
    """Packets by producer that sinks of the caller had taken."""
    holdings: Holdings | None = None

    def counts(self) -> tuple[list[NodeStats], list[EdgeStats]]:
        """Of processes; sinks of the caller go on counting."""
        told = [p for name, p in self.passed.items() if name not in self.came]
        return [p.node for p in told], [edge for p in told for edge in p.edges]


Wanted = Callable[["Snapshot | None"], None]
"""Called with the next whole snapshot, or None when it has to be given up."""


class Snapshots:
    """At most one being made and the last one that is whole, in the run's private directory."""

    def __init__(self, directory: str, nodes: Sequence[Node], rounds: Rounds | None = None) -> None:
        self._directory, self._rounds = directory, rounds
        self._index = {node.name: number for number, node in enumerate(nodes)}
        self.number = 0
        """Of the last barrier sent."""
        self._making: Snapshot | None = None
        self._wanted: list[Wanted] = []
        self.last: Snapshot | None = None

    def begin(self) -> Snap | None:
        """The message to sources; None while another snapshot is being made. Raises OSError."""
        if self._making:
            return None
        self.next_number()
        os.mkdir(self.folder(self.number))
        self._making = Snapshot(self.number)
        return Snap(self.number)

    def next_number(self) -> int:
        """Of another barrier."""
        self.number += 1
        return self.number

    def want(self, tell: Wanted) -> None:
        """``tell`` of the one that is being made, or the next."""
        self._wanted.append(tell)

    def passed(self, name: str, told: Passed, came: Mapping[str, int] | None = None) -> None:
        """The barrier has passed this node; with the last one, the snapshot is whole."""
        made = self._making
        if made is None or told.number != made.number:
            return  # one that was given up
        if told.error:
            self.give_up()
            return
        made.passed[name] = told
        if came is not None:
            made.came[name] = dict(came)
        if len(made.passed) == len(self._index):
            # Of every round before it all have told, and of none after it the last one to pass.
            uses = {name: told.use for name, told in made.passed.items()}
            made.holdings = self._rounds.holdings.as_of(uses) if self._rounds else None
            before, self.last, self._making = self.last, made, None
            self._answer(made)
            self._remove(before)

    def give_up(self) -> int:
        """The barrier on its way may not come everywhere any more. Returns its number."""
        made, self._making = self._making, None
        self._remove(made)
        self._answer(None)
        return self.number

    def state_of(self, name: str) -> str | None:
        """The file with this node's last state."""
        if self.last is None or not self.last.passed[name].saved:
            return None
        return state_file(self._directory, self.last.number, self._index[name])

    def spare(self) -> Path:
        """A new folder on the same disk, for links. Raises StateError when the run is over."""
        try:
            return Path(tempfile.mkdtemp(dir=self._directory, prefix="export-"))
        except OSError:
            raise StateError("The graph gave no snapshot: it has ended.") from None

    def folder(self, number: int) -> str:
        return f"{self._directory}/snapshot-{number}"

    def _answer(self, snapshot: Snapshot | None) -> None:
        wanted, self._wanted = self._wanted, []
        for tell in wanted:
            tell(snapshot)

    def _remove(self, snapshot: Snapshot | None) -> None:
        if snapshot:
            shutil.rmtree(self.folder(snapshot.number), ignore_errors=True)


class Export:
    """One snapshot on its way from the thread of the sockets to whoever asked for it."""

    def __init__(self, snapshots: Snapshots) -> None:
        self._snapshots = snapshots
        self._answer: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._sent: dict[str, int] = {}
        self._states: dict[str, str] = {}
        self._holdings: Holdings | None = None
        self._spare = snapshots.spare()

    def keep(self, made: Snapshot | None) -> None:
        """Link its files elsewhere, as the next one takes its place. In the sockets' thread."""
        self._holdings = made.holdings if made else None
        try:
            for name, told in made.passed.items() if made else ():
                self._sent[name] = told.sent
                if path := self._snapshots.state_of(name):
                    self._states[name] = str(self._spare / Path(path).name)
                    os.link(path, self._states[name])
        except OSError as error:  # nobody waits any more, or the disk is full
            log.info("A snapshot was not kept: %s", error)
            made = None
        self._answer.put(made is not None)

    def write(self, folder: Path, graph: Graph, timeout: float) -> None:
        """Wait, then write. Raises StateError."""
        try:
            if not self._answer.get(timeout=timeout):
                raise StateError(
                    "The graph gave no snapshot: it begins or ends, or a process has just died."
                )
            write(folder, graph, self._sent, self._states, self._holdings)
        except queue.Empty:
            raise StateError(f"The graph gave no snapshot within {timeout:g} s.") from None
        finally:
            shutil.rmtree(self._spare, ignore_errors=True)
