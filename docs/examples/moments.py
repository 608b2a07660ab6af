"""Print the moments worth keeping, as they come."""

import sys

from retain.pipeline.graph import Graph
from retain.pipeline.packet import Packet
from retain.pipeline.results import Route
from retain.pipeline.run import start


class Print:
    """A sink is any object with these two methods; it runs in this process."""

    def process(self, packet: Packet) -> None:
        route = packet.get("route", Route)
        if route.state != "discard":
            print(f"{packet.frame.seconds:8.2f} s  {route.state:7}  {route.reason}")

    def close(self) -> None:
        pass


graph = Graph()
graph.source("video", "retain.pipeline.sources.any:AnySource", source=sys.argv[1], fps=2)
graph.stage("encode", "retain.models.curvestream:Encode")
graph.stage("remember", "retain.models.curvestream:Remember", max_entries=32)
graph.sink("print")
graph.connect("video", "encode", "remember", "print")
with start(graph, runner="local", sinks={"print": Print()}) as run:
    report = run.wait()
sys.exit(0 if report.ok else f"stopped early: {report.errors}")
