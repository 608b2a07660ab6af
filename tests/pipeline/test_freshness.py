"""Frames stay young, however slow the consumer: simulated with the edge's own logic."""

from __future__ import annotations

import heapq
import itertools
import sys
from collections.abc import Callable

import numpy as np
import pytest
from runtime_parts import Recorder, frame

from retain.pipeline.graph import Graph
from retain.pipeline.packet import Packet
from retain.pipeline.policy import Policy
from retain.pipeline.run import start
from retain.pipeline.transport.credit import Outlet, Window

INTERVAL, HOP = 1 / 30, 0.001


class Simulation:
    """A source, one edge and a consumer under a clock that only moves from event to event."""

    def __init__(self, policy: str, service: float, frames: int = 600) -> None:
        chosen = Policy.parse(policy)
        self.outlet, self.window = Outlet(chosen), Window(chosen)
        self.service, self.now, self.busy = service, 0.0, False
        self.arrived: dict[int, float] = {}
        self.inbox: list[Packet] = []
        self.ages: list[float] = []
        self._order = itertools.count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        for seq in range(frames):
            self.at(seq * INTERVAL, lambda seq=seq: self.captured(seq))
        self.ask()
        while self._events:
            self.now, _, event = heapq.heappop(self._events)
            event()

    def at(self, when: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._order), event))

    def captured(self, seq: int) -> None:
        self.arrived[seq] = self.now
        item = Packet(frame(seq, 1, 1))
        if self.outlet.box.room(item):
            self.outlet.put(item)
        self.pump()

    def pump(self) -> None:
        while item := self.outlet.take():
            self.at(self.now + HOP, lambda item=item: self.received(item))

    def received(self, item: Packet) -> None:
        self.window.arrived()
        self.inbox.append(item)
        self.serve()

    def serve(self) -> None:
        if self.busy or not self.inbox:
            return self.ask()
        item, self.busy = self.inbox.pop(0), True
        self.ask()
        return self.at(self.now + self.service, lambda: self.done(item))

    def done(self, item: Packet) -> None:
        self.busy = False
        self.ages.append(self.now - self.arrived[item.frame.seq])
        self.serve()

    def ask(self) -> None:
        if packets := self.window.ask(len(self.inbox), idle=not self.busy):
            self.at(self.now + HOP, lambda: (self.outlet.grant(packets), self.pump()))


@pytest.mark.parametrize("slower", range(1, 21))
def test_latest_is_young_for_any_consumer(slower: int) -> None:
    service = slower * INTERVAL
    run = Simulation("latest", service)
    assert np.percentile(run.ages, 95) <= INTERVAL + service + 0.005
    assert max(run.ages[:-1]) <= INTERVAL + service + 0.005, "the last one waits for no newer"
    assert len(run.ages) >= 0.9 * 600 / (slower + 2 * HOP / INTERVAL)


@pytest.mark.parametrize("policy", ["block", "drop_oldest(4)"])
def test_the_simulation_sees_age_where_an_edge_does_queue(policy: str) -> None:
    service = 10 * INTERVAL
    run = Simulation(policy, service)
    assert np.percentile(run.ages, 95) > INTERVAL + service + 0.005


@pytest.mark.slow
def test_real_processes_keep_frames_young() -> None:
    """No assertion on time: the machine may be busy. Prints what it saw."""
    graph = Graph()
    graph.source("cam", "runtime_parts:Clip", frames=60, width=1920, height=1080, pause_s=INTERVAL)
    graph.stage("slow", "runtime_parts:Mean", delay_s=0.08)
    graph.sink("out")
    graph.connect("cam", "slow", "out", policy="latest")
    report = start(graph, sinks={"out": Recorder()}).wait(30)
    assert report.ok
    spread = report.stats.node("slow").age_ms
    sys.stdout.write(f"age at exit: p50 {spread.p50:.1f} ms, p95 {spread.p95:.1f} ms\n")
