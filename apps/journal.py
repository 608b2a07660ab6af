"""What `retain watch` writes down while it runs: results.jsonl, running counts, summary.json."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

import retain
from retain.apps.drawing import clock, size
from retain.apps.running import Footage, StreamOptions
from retain.pipeline.frame import Frame
from retain.pipeline.metrics import GraphStats
from retain.pipeline.packet import Packet
from retain.pipeline.redact import redact
from retain.pipeline.results import Held, Route
from retain.pipeline.run import RunReport
from retain.pipeline.sources.stored import description
from retain.pipeline.stage import StatValue

if TYPE_CHECKING:
    from retain.apps.watch import WatchOptions


class Journal(Footage):
    """A sink: one line of JSON per frame, with every number behind the decision.

    ``{"stream", "seq", "pts", "time_base", "seconds", "results": {"route": ..., "held": ...}}``.
    ``held`` is there when the memory's entries changed, and names each by ``seq``, ``tier`` and
    ``reason``; everything else about an entry stands on the line of its own frame.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.routed: Counter[str] = Counter()
        """Frames by the state the router gave them."""
        self.held: Held | None = None
        self._file = path.open("wb")
        self._encoder = msgspec.json.Encoder()

    def process(self, packet: Packet) -> None:
        route, held = packet.get("route", Route), packet.get("held", Held)
        self._file.write(self._encoder.encode(line_of(packet, self.held)) + b"\n")
        self.held = held
        self.routed[route.state] += 1
        self.count(packet.frame)

    def close(self) -> None:
        self._file.close()

    def stats(self) -> Mapping[str, StatValue]:
        return {"lines": self.frames}

    def line(self, elapsed_s: float, stats: GraphStats) -> str:
        """How far it is, for a person."""
        if not self.held:
            return f"starting … {elapsed_s:.0f} s"
        tiers = Counter(entry.tier for entry in self.held.entries)
        dropped = dropped_frames(stats)
        return (
            f"{clock(self.footage_s)} watched, {self.frames} frames, "
            f"{self.footage_s / max(elapsed_s, 1e-9):.1f}x real time · "
            f"holding {tiers['clear']} clear + {tiers['blurred']} blurred, "
            f"{size(self.held.nbytes)} of {size(self.held.byte_budget)}"
            + (f" · {dropped} dropped" if dropped else "")
        )


def line_of(packet: Packet, before: Held | None) -> dict[str, Any]:
    """A line of results.jsonl; ``before`` is what the memory held at the line before."""
    held = packet.get("held", Held)
    results: dict[str, Any] = {"route": packet.get("route", Route)}
    if before is None or held.entries != before.entries:
        entries = [{"seq": e.seq, "tier": e.tier, "reason": e.reason} for e in held.entries]
        results["held"] = msgspec.structs.asdict(held) | {"entries": entries}
    return moment(packet.frame) | {"results": results}


def moment(frame: Frame) -> dict[str, Any]:
    """Which frame a line of results.jsonl is about."""
    return {
        "stream": frame.stream,
        "seq": frame.seq,
        "pts": frame.pts,
        "time_base": str(frame.time_base),
        "seconds": round(frame.seconds, 6),
    }


def dropped_frames(stats: GraphStats) -> int:
    return sum(sum(edge.dropped.values()) for edge in stats.edges)


def write_summary_json(
    path: Path,
    options: WatchOptions,
    report: RunReport,
    journal: Journal,
    held: int,
    took_s: float,
) -> None:
    """The run in one small file, for programs."""
    write_json(
        path,
        run_facts(options, report, journal, took_s)
        | {
            "routed": {state: journal.routed[state] for state in ("clear", "blurred", "discard")},
            "held": held,
            "memory_bytes": journal.held.nbytes if journal.held else 0,
            "mode": options.mode,
            "encoder": options.encoder,
        },
    )


def run_facts(
    options: StreamOptions, report: RunReport, journal: Footage, took_s: float
) -> dict[str, Any]:
    """What summary.json says of any run. ``sample``: what a shard says of the clip in it."""
    told = description(options.source)
    sample = {} if told is None else {"sample": told}
    return sample | {
        "source": redact(options.source),
        "complete": report.ok and (not report.stopped or journal.reached),
        "stopped": report.stopped,
        "errors": report.errors,
        "frames": journal.frames,
        "footage_s": round(journal.footage_s, 3),
        "took_s": round(took_s, 3),
        "times_real_time": round(journal.footage_s / took_s, 2),
        "dropped": {
            f"{edge.src} -> {edge.dst}": edge.dropped for edge in report.stats.edges if edge.dropped
        },
        "restarts": {node.name: node.restarts for node in report.stats.nodes if node.restarts},
        "fps": options.fps,
        "runner": options.runner,
        "command": redact(options.command),
        "versions": {"retain": retain.__version__, "python": platform.python_version()},
    }


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """``document`` for programs and, being indented, for people. NaN becomes null."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n")


def environment(options: StreamOptions, **own: Any) -> dict[str, Any]:
    """What somebody needs to know to repeat the run; ``own``: what matters for its kind."""
    import importlib.metadata

    packages = ("torch", "av", "numpy", "opencv-python-headless")
    return {
        "command": redact(options.command),
        "source": redact(options.source),
        **own,
        "retain": retain.__version__,
        "Python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
    } | {name: importlib.metadata.version(name) for name in packages}
