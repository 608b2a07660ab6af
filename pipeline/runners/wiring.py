"""Who talks to whom, and where: what each process of a run is told."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Mapping

from retain.pipeline.graph import CALLER, Graph, Node
from retain.pipeline.past import Past
from retain.pipeline.runners.accounts import Pair
from retain.pipeline.runners.control import Port, Spec
from retain.pipeline.transport.credit import BLOCK_WINDOW
from retain.pipeline.transport.ipc import edge_address

SPARE_SLOTS = 2
"""Pictures a stage may keep beside the one in hand: the previous one, say."""


class Wiring:
    """Addresses of a run's edges in its private directory. An edge that lost an end to a death
    gets a new one, so that nothing meant for the dead arrives."""

    def __init__(
        self, graph: Graph, directory: str, save: Mapping[str, str], restarts: bool
    ) -> None:
        self.graph, self.directory = graph, directory
        self.control = f"ipc://{directory}/control"
        self.order = graph.order()
        self.index = {node.name: number for number, node in enumerate(self.order)}
        self._save, self._restarts = save, restarts and graph.promise == "live"
        self._turns: Counter[Pair] = Counter()
        self._lives: Counter[str] = Counter()

    def inputs(self, name: str) -> list[Pair]:
        return [(edge.src, edge.dst) for edge in self.graph.inputs(name)]

    def outputs(self, name: str) -> list[Pair]:
        return [(edge.src, edge.dst) for edge in self.graph.outputs(name)]

    def renew(self, pair: Pair) -> None:
        """Give an edge another address."""
        self._turns[pair] += 1

    def address(self, pair: Pair) -> str:
        src, dst = (self.index[name] for name in pair)
        return edge_address(self.directory, src, dst, self._turns[pair])

    def spec(self, node: Node, past: Past) -> Spec:
        """What the next process of ``node`` is told."""
        name = node.name
        self._lives[name] += 1
        place = self.index[name]
        return Spec(
            name=name,
            role=node.role,
            target=node.target,
            options=node.options,
            index=place,
            directory=self.directory,
            control=self.control,
            parent_pid=os.getpid(),
            life=self._lives[name],
            inputs=[
                Port(edge.src, edge.policy, self.address((edge.src, name)))
                for edge in self.graph.inputs(name)
            ],
            outputs=[
                Port(edge.dst, edge.policy, self.address((name, edge.dst)))
                for edge in self.graph.outputs(name)
            ],
            slots=_slots(self.graph, name),
            save=self._save.get(name),
            past=past,
            every=self.graph.budget.every if self.graph.budget else 0,
            waits=self.graph.promise == "finite",
            ledger=None if node.target == CALLER else f"{self.directory}/{place}.words",
            restarts=self._restarts and node.role != "source",
            log_level=logging.getLogger("retain").getEffectiveLevel(),
        )


def _slots(graph: Graph, name: str) -> int:
    """Pictures of ``name`` that may be in use at once, if all below it pass them on."""
    slots, seen, ahead = SPARE_SLOTS, set(), [name]
    while ahead:
        for edge in graph.outputs(ahead.pop()):
            if (edge.src, edge.dst) not in seen:
                seen.add((edge.src, edge.dst))
                window = BLOCK_WINDOW if edge.policy.kind == "block" else 1
                slots += edge.policy.depth + window + 1 + SPARE_SLOTS
                ahead.append(edge.dst)
    return slots
