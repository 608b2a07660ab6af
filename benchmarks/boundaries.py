"""Shot boundaries: F1, false alarms and CPU time of the causal detector, its parts and its peers.

Clips: the wheel's (truth: TransNetV2 above 0.5; and that completed by eye), spliced streams of
seeds that no threshold was set on, and the wheel's clip with other pictures put into it for one to
five frames, which is no boundary. A found frame hits within 2 frames. Features are computed once
per clip. ``--markdown`` prints the tables of docs/boundaries.md, ``--picture FILE`` draws its
picture.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from _boundaries_eye import MISSED
from numpy.typing import NDArray

from retain.apps.bench import Row, script
from retain.datasets.boundaries import peers
from retain.datasets.boundaries.base import Boundary, Clip, Counts, match, total
from retain.datasets.boundaries.spliced import spliced
from retain.datasets.boundaries.wheel import wheel_clip
from retain.models.boundaries.detector import BoundaryConfig, BoundaryDetector
from retain.pipeline.frame import Image
from retain.pipeline.results import Verdict

AREA = "models"
TOLERANCE = 2
SEEDS = (100, 101, 102)
PARTS = {
    "all of it": BoundaryConfig(),
    "P alone (no encoder)": BoundaryConfig(weight=0.0, gradual_motion=0.0),
    "M alone": BoundaryConfig(weight=1.0),
    "not against the past": BoundaryConfig(past=0.0),
    "no structure (light)": BoundaryConfig(structure=0.0, light=0.0),
    "no turn (curvature)": BoundaryConfig(turn=3.0),
    "no gradual": BoundaryConfig(lags=()),
}
FLASHES = {
    "neither": BoundaryConfig(turn=3.0, refractory_s=0.0),
    "refractory time": BoundaryConfig(turn=3.0),
    "turn": BoundaryConfig(refractory_s=0.0),
    "both": BoundaryConfig(),
}


@dataclass(frozen=True, slots=True)
class Seen:
    """A clip with what the encoder says of it."""

    clip: Clip
    images: list[Image]
    features: NDArray[np.float32]
    encode_s: float
    """Thread CPU time of all features."""

    def verdicts(self, config: BoundaryConfig, order: Sequence[int] = ()) -> list[Verdict]:
        detector = BoundaryDetector(config)
        return [
            detector.step(self.images[i], self.features[i], t / self.clip.fps)
            for t, i in enumerate(order or range(len(self.images)))
        ]


class Line(NamedTuple):
    """One detector over some clips."""

    name: str
    found: list[list[int]]
    cpu_ms: float
    """Per frame, reading not counted; nan where not measured."""
    ahead: str


def measure(quick: bool = False) -> list[Row]:
    wheel = see(wheel_clip())
    lines = on([wheel], slow=False)
    ours, content = lines[0], next(line for line in lines if "Content" in line.name)
    truth = wheel.clip.boundaries
    rows = []
    for name, true in (("wheel clip, F1", truth), ("… completed by eye, F1", by_eye(truth))):
        value, peer = (match(true, line.found[0], TOLERANCE).f1 for line in (ours, content))
        bar = ">= 0.88" if true is truth else ""
        rows.append(_row(name, value, "F1 at 2 frames", content.name, peer, bar, value >= 0.88))
    rows.append(
        Row(
            name="… CPU of a frame, detector",
            value=ours.cpu_ms,
            unit="ms",
            peer=content.name,
            peer_value=content.cpu_ms,
            ratio=content.cpu_ms / ours.cpu_ms,
        )
    )
    encode = 1000 * wheel.encode_s / len(wheel.images)
    rows.append(Row(name="… CPU of a frame, encoder", value=encode, unit="ms"))
    for row in flashes(wheel, (4,) if quick else (1, 2, 3, 4, 5)):
        rows.append(
            Row(
                name=f"returns after {row['frames']} frames taken for cuts",
                value=row["return: both"],
                unit="share",
                peer="without the turn",
                peer_value=row["return: refractory time"],
            )
        )
    rows += [_cost(1280, 720), _cost(1920, 1080)]
    del wheel
    streams = [see(spliced(seed)) for seed in SEEDS[: 1 if quick else None]]
    lines = on(streams, slow=False)
    ours, content = lines[0], next(line for line in lines if "Content" in line.name)
    f1 = [pooled(streams, line).f1 for line in (ours, content)]
    rows.append(_row("spliced, F1", f1[0], "F1 at 2 frames", content.name, f1[1], "", None))
    return rows


def _row(
    name: str, value: float, unit: str, peer: str, other: float, bar: str, met: bool | None
) -> Row:
    return Row(
        name=name,
        value=value,
        unit=unit,
        peer=peer,
        peer_value=other,
        ratio=value / other,
        bar=bar,
        met=met if bar else None,
    )


def _cost(width: int, height: int) -> Row:
    """Of a large frame; nearly all of it is taken by the scaling to the grid."""
    import cv2

    cv2.setNumThreads(1)
    rng, spent = np.random.default_rng(0), float("inf")
    images = [rng.integers(0, 256, (height, width, 3), np.uint8) for _ in range(3)]
    features, detector = rng.normal(size=(3, 1280)), BoundaryDetector()
    for again in range(5):
        started = time.thread_time()
        for k in range(30):
            detector.step(images[k // 10], features[k // 10], again * 2 + k / 25)
        spent = min(spent, (time.thread_time() - started) / 30)
    return Row(name=f"CPU of a frame, detector, {width} x {height}", value=1000 * spent, unit="ms")


def see(clip: Clip) -> Seen:
    import torch

    from retain.models.encoders.base import create

    torch.set_num_threads(1)
    encoder = create("mobilenetv2", device="cpu")
    images = list(clip.frames())
    started = time.thread_time()
    features = np.concatenate([encoder.encode([image]) for image in images])
    return Seen(clip, images, features, time.thread_time() - started)


def by_eye(truth: Sequence[Boundary]) -> list[Boundary]:
    return sorted([*truth, *(Boundary(i, i) for i in MISSED)])


def starts(verdicts: Sequence[Verdict]) -> list[int]:
    return [i for i, verdict in enumerate(verdicts) if verdict.boundary]


def pooled(streams: Sequence[Seen], line: Line) -> Counts:
    pairs = zip(streams, line.found, strict=True)
    return total(match(one.clip.boundaries, found, TOLERANCE) for one, found in pairs)


def on(streams: Sequence[Seen], slow: bool) -> list[Line]:
    """The detector, then every peer, over ``streams``; TransNetV2 only with ``slow``."""
    started = time.thread_time()
    found = [starts(one.verdicts(BoundaryConfig())) for one in streams]
    frames = sum(len(one.images) for one in streams)
    spent = 1000 * (time.thread_time() - started) / frames
    lines = [Line("retain", found, spent, "0")]
    for key, peer in peers.PEERS.items():
        if key == "transnetv2" and not slow:
            continue
        runs = [peers.run(key, one.clip) for one in streams]
        spent = 1000 * sum(run.cpu_s for run in runs) / frames
        lines.append(Line(peer.name, [run.frames for run in runs], spent, ahead(peer)))
    return lines


def ahead(peer: peers.Peer) -> str:
    return " to ".join(str(n) for n in sorted(set(peer.look_ahead)))


def parts(streams: Sequence[Seen]) -> list[Line]:
    """The detector without one of its parts."""
    return [
        Line(name, [starts(one.verdicts(config)) for one in streams], float("nan"), "0")
        for name, config in PARTS.items()
    ]


def flashes(wheel: Seen, lengths: Sequence[int]) -> list[dict[str, float]]:
    """A -> B -> A: shares of onsets and of returns that are taken for boundaries, by what is
    there against it, and of returns that are called flashes."""
    rows = []
    for length in lengths:
        order, onsets = _disturbed(wheel, length)
        row: dict[str, float] = {"frames": length, "times": len(onsets)}
        for name, config in FLASHES.items():
            verdicts = wheel.verdicts(config, order)
            row["onset"] = sum(verdicts[i].boundary for i in onsets) / len(onsets)
            row[f"return: {name}"] = sum(verdicts[i + length].boundary for i in onsets) / len(
                onsets
            )
        called = [verdicts[i + length].kind == "flash" for i in onsets]
        rows.append({**row, "return called flash": sum(called) / len(onsets)})
    return rows


def _disturbed(wheel: Seen, length: int) -> tuple[list[int], list[int]]:
    """The order of frames with ``length`` others put into every long shot, and where."""
    rng = np.random.default_rng(length)
    order, onsets = list(range(len(wheel.images))), []
    cuts = [boundary.start for boundary in by_eye(wheel.clip.boundaries)]
    for first, after in pairwise(cuts):
        if after - first >= 50:
            at = int(rng.integers(first + 20, after - 20 - length))
            other = int(rng.integers(0, len(order) - 100))
            order[at : at + length] = range(other, other + length)
            onsets.append(at)
    return order, onsets


def slower(wheel: Seen, every: int) -> Counts:
    """Every so many frames only, judged against the truth by eye."""
    kept = range(0, len(wheel.images), every)
    detector = BoundaryDetector()
    verdicts = [detector.step(wheel.images[i], wheel.features[i], i / wheel.clip.fps) for i in kept]
    cuts = sorted({-(-b.start // every) for b in by_eye(wheel.clip.boundaries)})
    return match([Boundary(i, i) for i in cuts], starts(verdicts), 0)


def within(counts: Callable[[int, int], Counts], length: int) -> str:
    """F1 of the first and of the second half."""
    half = length // 2
    return f"{counts(0, half).f1:.3f} / {counts(half, length).f1:.3f}"


def between(truth: Sequence[Boundary], found: Sequence[int], first: int, after: int) -> Counts:
    true = [b for b in truth if first <= b.start < after]
    return match(true, [i for i in found if first <= i < after], TOLERANCE)


def alarms(streams: Sequence[Seen], line: Line) -> dict[str, str]:
    """Boundaries of each kind that were found, false alarms while each other kind went on."""
    hits: dict[str, list[int]] = {}
    for one, found in zip(streams, line.found, strict=True):
        wrong = [f for f in found if not match(one.clip.boundaries, [f], TOLERANCE).tp]
        for mark in one.clip.marks:
            pair = hits.setdefault(mark.kind, [0, 0])
            if mark.kind in ("cut", "dissolve"):
                true = [b for b in one.clip.boundaries if b.start == mark.start]
                pair[0] += match(true, found, TOLERANCE).tp
            elif mark.kind == "insert":
                pair[0] += match(
                    [Boundary(i, i) for i in (mark.start, mark.end)], found, TOLERANCE
                ).tp
                pair[1] += 1
            else:
                pair[0] += sum(mark.start - 1 <= f <= mark.end + TOLERANCE for f in wrong)
            pair[1] += 1
    return {kind: f"{a}/{b}" for kind, (a, b) in hits.items()}


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|---" * len(head) + "|"
    for row in rows:
        cells = (f"{c:.3f}" if isinstance(c, float) else str(c) for c in row)
        yield "| " + " | ".join(cells) + " |"
    yield ""


def markdown() -> Iterator[str]:
    """The tables of docs/boundaries.md."""
    wheel = see(wheel_clip())
    truth, size = wheel.clip.boundaries, len(wheel.images)
    eye = by_eye(truth)
    rows = []
    judge = peers.PEERS["transnetv2"]
    itself = Line(judge.name, [[b.start for b in truth]], float("nan"), ahead(judge))
    for line in [*on([wheel], slow=False), itself]:
        found = line.found[0]
        counts = [match(t, found, TOLERANCE) for t in (truth, eye)]
        halves = [
            within(lambda a, b, t=t, f=found: between(t, f, a, b), size)  # type: ignore[misc]
            for t in (truth, eye)
        ]
        ms = "" if line is itself else f"{line.cpu_ms:.2f}"
        rows.append((line.name, counts[0].f1, halves[0], counts[1].f1, halves[1], ms, line.ahead))
    cuts = [b.start for b in eye]
    rows.append(("all cuts seen by eye", match(truth, cuts, TOLERANCE).f1, "", 1.0, "", "", ""))
    yield from table(
        ("detector", "F1", "halves", "F1 by eye", "halves", "CPU ms per frame", "look-ahead"), rows
    )
    yield f"Encoder: {1000 * wheel.encode_s / size:.1f} CPU ms per frame."
    five = slower(wheel, 5)
    yield f"Every fifth frame (5 fps), by eye, to the frame: F1 {five.f1:.3f}."
    yield ""
    returns = flashes(wheel, (1, 2, 3, 4, 5))
    yield from table(list(returns[0]), [list(row.values()) for row in returns])
    whole = parts([wheel])
    scores = [
        (match(truth, p.found[0], TOLERANCE), match(eye, p.found[0], TOLERANCE)) for p in whole
    ]
    del wheel
    streams = [see(spliced(seed)) for seed in SEEDS]
    kinds = ("cut", "insert", "dissolve", "flash", "pan", "frozen", "ramp")
    lines = [*on(streams, slow=True), *(renamed(p) for p in parts(streams)[1:])]
    rows = []
    for line in lines:
        pool, by_kind = pooled(streams, line), alarms(streams, line)
        kind = [by_kind.get(k, "") for k in kinds]
        ms = "" if line.cpu_ms != line.cpu_ms else f"{line.cpu_ms:.2f}"
        rows.append((line.name, pool.f1, pool.precision, pool.recall, *kind, ms))
    yield from table(("spliced", "F1", "P", "R", *kinds, "CPU ms"), rows)
    yield from table(
        ("wheel clip", "F1", "F1 by eye"),
        [(p.name, a.f1, b.f1) for p, (a, b) in zip(whole, scores, strict=True)],
    )


def renamed(line: Line) -> Line:
    return line._replace(name=f"retain, {line.name}")


if __name__ == "__main__":
    if "--markdown" in sys.argv:
        for text in markdown():
            print(text, flush=True)
    elif "--picture" in sys.argv:
        from _boundaries_picture import draw

        draw(sys.argv[sys.argv.index("--picture") + 1])
    else:
        script(measure, "shot boundaries")
