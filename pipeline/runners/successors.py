"""Dead processes are replaced (docs/runtime.md).

In a ``live`` graph the dead one alone is, from its last saved state, and what it had in hand is
counted as lost. In a ``finite`` graph all are, from the last state of the whole graph, and do the
work since then again: the caller's sinks are passed over what they have had.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from msgspec.structs import replace

from retain.pipeline.graph import Graph
from retain.pipeline.past import Past
from retain.pipeline.runners.accounts import Accounts, Pair
from retain.pipeline.runners.control import Rewire
from retain.pipeline.runners.crew import Crew
from retain.pipeline.runners.process import Child
from retain.pipeline.runners.snapshots import Snapshot, Snapshots
from retain.pipeline.runners.supervisor import Record, Supervision
from retain.pipeline.stage import SourceInfo


class Successors:
    """Runs in the thread of the sockets."""

    def __init__(
        self,
        graph: Graph,
        crew: Crew,
        accounts: Accounts,
        snapshots: Snapshots,
        supervision: Supervision,
        pasts: Mapping[str, Past],
    ) -> None:
        self._graph, self._crew = graph, crew
        self._wiring = crew.wiring
        self._accounts, self._snapshots = accounts, snapshots
        self._supervision, self._pasts = supervision, pasts
        self._records = {name: Record() for name in graph.nodes}
        self._rng = Random()
        self._due: dict[str, float] = {}
        """Who died, and when the work goes on."""
        self._point: Snapshot | None = None
        """Where a finite graph's work goes on; None: at its beginning."""

    def replace(
        self, name: str, now: float, sources: Mapping[str, SourceInfo]
    ) -> tuple[float, str]:
        """``name`` has died: arrange that its work goes on. Returns after how many seconds, or why
        it cannot, in a sentence."""
        child = self._crew.children[name]
        code, hand = child.process.returncode, child.ledger.hand
        wait_s = self._records[name].died(now, code, hand, self._supervision, self._rng)
        if wait_s is None:
            return 0.0, f"It has died {len(self._records[name].deaths)} times in a short while."
        if why := self._cannot_repeat(sources):
            return 0.0, why
        if self._graph.promise == "live":
            self._part(name)
        else:
            self._clear_away()
        self._due[name] = now + wait_s
        return wait_s, ""

    def look(self, now: float, draining: bool) -> list[str]:
        """Start those who are due. Returns for which deaths. Raises OSError.

        ``draining``: the sources have been asked to end, so their successors give nothing that
        has not been given.
        """
        if not any(due <= now for due in self._due.values()):
            return []
        if self._graph.promise == "finite":
            begun, self._due = list(self._due), {}
            self._do_again(draining)
            return begun
        begun = [name for name, due in self._due.items() if due <= now]
        for name in begun:
            del self._due[name]
            self._succeed(name, draining)
        return begun

    def give_up(self) -> None:
        """Nobody is started any more."""
        self._crew.done |= self._crew.away
        self._due.clear()

    def still_needed(self, name: str) -> bool:
        """Of a finite graph's node that is done: whether somebody may still read its pictures."""
        ends = {dst for _, dst in self._wiring.outputs(name)}
        return self._graph.promise == "finite" and not ends <= self._crew.done

    def _cannot_repeat(self, sources: Mapping[str, SourceInfo]) -> str:
        """Why the work cannot be done again, if so, in a sentence."""
        if self._graph.promise == "live":
            return ""
        if any(info.kind == "live" or not info.repeats for info in sources.values()):
            return "Its work cannot be done again: the source gives every frame once."
        if not self._graph.repeats:
            return "Its work cannot be done again exactly: edges join, or one may drop."
        if self._crew.done.intersection(self._crew.stations):
            return "Its work cannot be done again: a sink has closed."
        return ""

    # Live: one process.

    def _part(self, name: str) -> None:
        """It is counted off; its neighbours are told where its successor will be, and all others
        that the barrier on its way may be lost: where edges join, they would wait for it."""
        self._lay_down(name)
        self._crew.away.add(name)
        inputs, outputs = self._wiring.inputs(name), self._wiring.outputs(name)
        for pair in (*inputs, *outputs):
            self._wiring.renew(pair)
        void = self._snapshots.give_up()
        for other in self._wiring.index:
            above = [pair for pair in inputs if pair[0] == other]
            below = [pair for pair in outputs if pair[1] == other]
            if other in self._crew.away:
                for pair in (*above, *below):  # nobody has any of it
                    self._accounts.settle(pair, 0)
            else:
                self._rewire(other, above, below, void)

    def _rewire(self, other: str, above: list[Pair], below: list[Pair], void: int) -> None:
        """Tell ``other`` of the new addresses of its edges; it is ``above`` or ``below`` the dead
        one, or neither."""
        rewire = Rewire(
            {pair[0]: self._wiring.address(pair) for pair in below},
            {pair[1]: (self._wiring.address(pair), self._accounts.owed(pair)) for pair in above},
            void,
        )
        if station := self._crew.stations.get(other):
            for rewired in station.rewire(rewire):
                self._accounts.settle((rewired.src, other), rewired.arrived)
        else:
            self._crew.send(other, rewire)

    def _lay_down(self, name: str) -> None:
        """What the dead one's ledger says is what counts from now on."""
        child = self._crew.children[name]
        child.bury(0.0)
        child.report = None
        self._accounts.bury(child.spec, child.ledger)

    def _succeed(self, name: str, draining: bool) -> None:
        source = self._graph.nodes[name].role == "source"
        past = Past(
            load=self._state_of(name),
            last=self._crew.children[name].last_frame() if source else None,
            poison=self._records[name].poison,
            gap=not source,
            void=self._snapshots.number,
            ended=[src for src, dst in self._wiring.inputs(name) if self._ended(src, dst)],
            stopped=source and draining,
        )
        if self._crew.rounds:
            self._crew.rounds.lose()
        self._crew.spawn(self._graph.nodes[name], past)
        self._crew.send_round()

    def _state_of(self, name: str) -> str | None:
        """The file with its last state: of this run, or of the one that this run goes on from."""
        if self._snapshots.last:
            return self._snapshots.state_of(name)
        return self._pasts.get(name, Past()).load

    def _ended(self, src: str, dst: str) -> bool:
        """Whether this producer is done and dead, so that nobody tells ``dst`` of its end."""
        child = self._crew.children.get(src)
        if child is None or src not in self._crew.done or child.process.poll() is None:
            return False
        if child.report:  # its last words become the ledger's, which know what was lost
            self._lay_down(src)
        self._accounts.settle((src, dst), 0)
        return True

    # Finite: all processes.

    def _clear_away(self) -> None:
        """End them all; the sinks of the caller stay, and wait at the new addresses."""
        children = self._crew.children.values()
        for child in children:
            child.kill()
        for child in children:
            child.bury(0.0)
            child.report = None
        self._crew.away.update(self._crew.children)
        self._crew.done.intersection_update(self._crew.stations)
        for edge in self._graph.edges:
            self._wiring.renew((edge.src, edge.dst))
        void = self._snapshots.give_up()
        point = self._point = self._snapshots.last if self._sinks_remember() else None
        if self._crew.rounds:
            self._crew.rounds.back_to(point.holdings if point else None)
        self._accounts.clear()
        if point:
            self._accounts.begin_at(*point.counts())
        for name, station in self._crew.stations.items():
            addresses = {p[0]: self._wiring.address(p) for p in self._wiring.inputs(name)}
            station.replay(addresses, point.came[name] if point else {}, void)

    def _do_again(self, draining: bool) -> None:
        """They start from the last state of the graph, or from the beginning."""
        point, void = self._point, self._snapshots.number
        for name, child in list(self._crew.children.items()):
            node = self._graph.nodes[name]
            past = self._pasts.get(name, Past())
            source = node.role == "source"
            if point:
                sent = point.passed[name].sent if source else 0
                past = Past(self._snapshots.state_of(name), sent)
            past = replace(
                past,
                poison=self._records[name].poison,
                void=void,
                owed=_given(child) if source else 0,
                stopped=source and draining,
            )
            self._crew.spawn(node, past)
        self._crew.send_round()

    def _sinks_remember(self) -> bool:
        """Whether what sinks in processes of their own have written is part of the last state."""
        sinks = [name for name, node in self._graph.nodes.items() if node.role == "sink"]
        own = [name for name in sinks if name not in self._crew.stations]
        return all(self._snapshots.state_of(name) for name in own)


def _given(child: Child) -> int:
    """Frames that a finite source had sent in the whole run when it died."""
    past = child.spec.past
    return max(past.owed, past.sent + child.ledger["sent"])
