"""A node at work: its object, what is done with it over its life, and the loop that does it."""

from __future__ import annotations

import inspect
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from time import monotonic_ns
from typing import Any, Protocol, runtime_checkable

from retain.pipeline.catalog import load_class
from retain.pipeline.errors import StateError, UsageError
from retain.pipeline.frame import Frame
from retain.pipeline.graph import Node
from retain.pipeline.ledger import Ledger, hand_of
from retain.pipeline.metrics import Meter
from retain.pipeline.packet import Packet
from retain.pipeline.past import Past, continued
from retain.pipeline.shares import Use
from retain.pipeline.stage import (
    Bounded,
    Collects,
    Flushes,
    GivesPackets,
    HearsFaults,
    Remembers,
    Reports,
    Salvages,
    Sink,
    Source,
    SourceInfo,
    Stage,
    StatValue,
)
from retain.pipeline.tracing import Tracer
from retain.pipeline.transport.base import Receiver, Sender, Stopped
from retain.pipeline.turns import Turns
from retain.pipeline.wire import Barrier, End, Fault

log = logging.getLogger(__name__)

_ROLES: dict[str, Any] = {"source": Source, "stage": Stage, "sink": Sink}


@runtime_checkable
class Discards(Protocol):
    def discard(self) -> None:
        """Of a sink: in place of ``close`` when the run was cut short."""


def create(node: Node) -> Any:
    """The node's object. Raises UsageError when its class or options do not fit."""
    try:
        made = load_class(node.target)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(
            f"Node {node.name!r}: {node.target!r} cannot be loaded ({error})."
        ) from error
    try:
        inspect.signature(made).bind(**node.options)
    except TypeError as error:
        raise UsageError(f"Node {node.name!r}: {node.target} does not fit: {error}.") from error
    return made(**node.options)


class Work:
    """One node's object with its counts. Runners drive it; it knows no transport."""

    def __init__(
        self,
        node: Node,
        meter: Meter,
        made: Any = None,
        save: str | None = None,
        on_open: Callable[[str, SourceInfo], None] = lambda name, info: None,
        past: Past | None = None,
        ledger: Ledger | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self.node = node
        self._tracer = tracer
        self.meter = meter
        self._made = made
        self._save = save
        self._on_open = on_open
        self._past = past or Past()
        self._ledger = ledger or Ledger(0, 0)
        self.created = False
        self._untouched = self._past.load is None
        """Neither a packet nor a state has come: there is nothing to save."""
        self._worked = 0
        """Packets that ``process`` has been done with."""
        self._told: set[str] = set()
        """Streams whose gap has been marked."""
        self._stopping = threading.Event()
        if self._past.stopped:
            self._stopping.set()
        self.given = self._past.sent
        """Frames of a source, in the whole run."""
        self._own_stats: Callable[[], Mapping[str, StatValue]] | None = None

    def create(self) -> None:
        """Make the object. Raises UsageError when it cannot play its role."""
        if self._made is None:
            self._made = create(self.node)
        if not isinstance(self._made, _ROLES[self.node.role]):
            raise UsageError(f"Node {self.node.name!r}: {self.node.target} is no {self.node.role}.")
        if self._save is not None and not isinstance(self._made, Remembers):
            raise UsageError(
                f"The state of {self.node.name!r} was asked for, but it has none to save."
            )
        if self._past.limit and isinstance(self._made, Bounded):
            self._made.shrink_to(self._past.limit)
        if self._past.load is not None:
            self._load(self._past.load)
        if isinstance(self._made, Reports):
            self._own_stats = self._made.stats
        self.created = True
        self.meter.state("running")

    def _load(self, path: str) -> None:
        try:
            self._made.load(path)
        except Exception as error:
            raise StateError(
                f"Node {self.node.name!r} cannot go on from its saved state: {error}"
            ) from error

    def frames(self) -> Iterator[Packet]:
        """Packets of a source, until its end or ``stop``."""
        source = self._made
        if self.over:
            return
        try:
            self._on_open(self.node.name, source.open())
            gives = isinstance(source, GivesPackets)
            given = source.packets() if gives else map(Packet, source.frames())
            packets = continued(given, self._past)
            start = monotonic_ns()
            while not self.over and (packet := next(packets, None)) is not None:
                now, frame = monotonic_ns(), packet.frame
                self.meter.served(now - start, now - frame.t_arrival_ns)
                self._trace(frame, start, now)
                self.meter.count("sent")
                self._ledger.gave(frame)
                self._ledger.count("sent")
                self.given += 1
                yield packet
                self.sample()
                start = monotonic_ns()
        except Exception:
            if not self.over:  # closing a source under its reader may well raise
                raise

    @property
    def over(self) -> bool:
        """Whether a source is to give no more."""
        return self._stopping.is_set() and self.given >= self._past.owed

    def process(self, packet: Packet) -> Iterator[Packet]:
        """What a stage makes of a packet (nothing, for a sink)."""
        if self._past.poison and hand_of(packet.frame) in self._past.poison:
            self._quarantine(packet.frame)
            return
        packet, self._untouched = self._marked(packet), False
        self.meter.count("received")
        began = start = monotonic_ns()
        spent = left = 0
        self._ledger.take(packet.frame)
        try:
            for out in _packets(self._made.process(packet)):
                left = monotonic_ns()
                spent += left - start
                self.meter.count("sent")
                self._ledger.count("sent")
                self._ledger.let_go()
                yield out
                self._ledger.take(packet.frame)
                start = monotonic_ns()
        except (Exception, SystemExit):
            self.meter.count("failed")
            raise
        self._worked += 1
        self._finish_all_but(self._made.collected if isinstance(self._made, Collects) else 0)
        self._ledger.let_go()
        now = monotonic_ns()
        spent += now - start
        self.meter.served(spent, (left or now) - packet.frame.t_arrival_ns)
        self._trace(packet.frame, began, now)
        self.sample()

    def _trace(self, frame: Frame, began_ns: int, ended_ns: int) -> None:
        if self._tracer:
            self._tracer.span(frame, began_ns, ended_ns)

    def _finish_all_but(self, collected: int) -> None:
        self._ledger.put("finished", self._worked - collected)

    def _quarantine(self, frame: Frame) -> None:
        log.error(
            "frame %d of %s is left out: it ended this process before", frame.seq, frame.stream
        )
        self.meter.count("quarantined")
        self._ledger.count("quarantined")

    def _marked(self, packet: Packet) -> Packet:
        """The packet; the first of a stream after a gap says that it is one."""
        frame = packet.frame
        if not self._past.gap or frame.stream in self._told:
            return packet
        self._told.add(frame.stream)
        return Packet(replace(frame, discontinuity=True), packet.results)

    def save_to(self, path: str) -> bool:
        """Write the state, between two packets; False when there is none. Raises StateError when
        the object cannot say at this moment what it holds."""
        if not isinstance(self._made, Remembers) or self._untouched:
            return False
        self._made.save(path)
        return True

    def finish(self, fault: Fault | None = None) -> Iterator[Packet]:
        """The end of the stream (``fault``: because something upstream failed): flush, then save
        the state where that was asked for, unless nothing came before the failure."""
        if fault and isinstance(self._made, HearsFaults):
            self._made.broke(fault)
        if isinstance(self._made, Flushes):
            for out in self._made.flush() or ():
                self.meter.count("sent")
                self._ledger.count("sent")
                yield out
        self._finish_all_but(0)
        if self._save is not None and not (fault and self._untouched):
            self._made.save(self._save)

    def salvage(self) -> None:
        """After a failure: save what is still of use, where a state was asked for."""
        if self._save and isinstance(self._made, Salvages) and not self._untouched:
            self._made.salvage(self._save)

    def turn(self, limits: Mapping[str, int]) -> Use:
        """A round passes: take the new limit, if there is one, and say what is needed."""
        if not isinstance(self._made, Bounded):
            return Use(0, 0)
        if self.node.name in limits:
            self._made.shrink_to(limits[self.node.name])
        return self._made.use()

    def stop(self) -> None:
        """Ask a source to end; from any thread."""
        self._stopping.set()
        if self.node.role == "source" and self._made is not None and self.over:
            try:
                self._made.close()
            except Exception:
                log.exception("closing %s failed", self.node.name)

    def close(self, aborted: bool = False) -> None:
        """Free the object; a sink of a run cut short leaves nothing under its final name."""
        if self._tracer:
            self._tracer.close()
        if self._made is None:
            return
        self.sample(last=True)
        if aborted and isinstance(self._made, Discards):
            self._made.discard()
        else:
            self._made.close()

    def sample(self, last: bool = False) -> None:
        """Take the object's own numbers, not too often. A source's from any thread: it may be
        waiting for a camera, and that is what they say."""
        self.meter.sample(self._own_stats, last)


class NodeLoop:
    """Runs one node in this thread, from its first packet to its last."""

    def __init__(
        self,
        work: Work,
        inbox: Receiver | None,
        outputs: Sequence[Sender],
        place: Callable[[Packet], Packet] = lambda packet: packet,
        on_fault: Callable[[Fault], None] = lambda fault: None,
        on_barrier: Callable[[Barrier], None] = lambda barrier: None,
        turns: Turns | None = None,
    ) -> None:
        self.work = work
        self._turn = threading.Lock()
        """Held while a packet goes to the outputs: a barrier comes before or after it on all."""
        self._asked: deque[Barrier] = deque()
        self._ended = False
        self.sent = 0
        """Packets that have gone to the outputs."""
        self._inbox = inbox
        self._outputs = outputs
        self._turns = turns
        """Of a source."""
        self._place = place
        """Puts a packet's pixels where all outputs can refer to them."""
        self._on_fault = on_fault
        self._on_barrier = on_barrier
        """Called with each barrier, before it goes on: what the node holds is of this moment."""
        self._fault: Fault | None = None
        self._upstream: Fault | None = None
        """Why the input ended, where it broke."""

    def run(self) -> Fault | None:
        """Work until the inputs end. A failed node takes and discards the rest of its input, so
        that nobody upstream waits for it; its fault has been told to ``on_fault`` by then."""
        aborted = self._guarded(self._work)
        if self._fault and not aborted:
            self._guarded(self.work.salvage)
        self._guarded(lambda: self.work.close(aborted))
        self.work.meter.state("failed" if self._fault else "done")
        with self._turn:
            self._ended = True
        for output in self._outputs:
            output.end(self._fault or self._upstream)
        self._answer()
        if self._fault and not aborted:
            self._guarded(self._discard_inputs)
        return self._fault

    def _work(self) -> None:
        self.work.create()
        if self._inbox is None:
            self._send(self.work.frames())
            return
        while not isinstance(item := self._inbox.recv(), End):
            if isinstance(item, Barrier):
                self._pass(item)
            elif item is not None:
                self._send(self.work.process(item))
        self._upstream = item.fault
        self._send(self.work.finish(item.fault))

    def ask(self, barrier: Barrier) -> None:
        """Let a source send a barrier, now or after the packet it is just sending; any thread."""
        self._asked.append(barrier)
        self._answer()

    def _answer(self) -> None:
        # Asked again after the lock was let go: who asked meanwhile found it taken.
        while self._asked and self._turn.acquire(blocking=False):
            try:
                while self._asked:
                    self._pass(self._asked.popleft())
            finally:
                self._turn.release()

    def _pass(self, barrier: Barrier) -> None:
        self._on_barrier(barrier)
        for output in () if self._ended else self._outputs:
            output.mark(barrier)

    def _send(self, packets: Iterable[Packet]) -> None:
        for packet in packets:
            placed = self._place(packet) if self._outputs else packet
            with self._turn:
                for output in self._outputs:
                    output.send(placed)
                self.sent += 1
                self._let_go()
            self._answer()

    def _let_go(self) -> None:
        """The round that is due after this frame; no barrier comes between the two."""
        if self._turns and (due := self._turns.take(self.work.given, lambda: self.work.over)):
            self._pass(due)

    def _discard_inputs(self) -> None:
        while self._inbox and not isinstance(item := self._inbox.recv(), End):
            self.work.meter.count("failed", isinstance(item, Packet))

    def _guarded(self, step: Callable[[], None]) -> bool:
        """Do one step; True when it was cut short. The first fault is the node's."""
        try:
            step()
        except Stopped:
            return True
        except (Exception, SystemExit) as error:
            if self._fault is None:
                log.debug("node %s failed", self.work.node.name, exc_info=True)
                self._fault = Fault.of(self.work.node.name, error)
                self.work.meter.state("failed")
                self._on_fault(self._fault)
        return False


def _packets(result: Packet | Iterable[Packet] | None) -> Iterable[Packet]:
    if result is None:
        return ()
    return (result,) if isinstance(result, Packet) else result
