"""What a memory is worth to a detector: the same frames, spoilt and whole, with and without it.

Each clip is described once, then seen by every row of the table (``ROWS``). A row's figures are
means over clips of AP50 on the spoilt frames of a stream and on its untouched ones, every box of
the class counting; ghosts are boxes after a cut of what was there before it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from retain.datasets.detect.base import Clip, Found, Truth
from retain.datasets.detect.degrade import Degraded
from retain.datasets.detect.evaluate import evaluate
from retain.datasets.detect.ghosts import FRAMES, ghosts_per_frame
from retain.datasets.detect.motion import box_iou
from retain.models.mamba.host import Cells, Host
from retain.models.mamba.memory import Memory, MemoryOptions
from retain.models.mamba.reading import Readout
from retain.pipeline.results import Boxes

NAN = float("nan")
_BEFORE = 15
"""Frames of the clip before a cut."""
_MOST_CUTS = 12
_VOTES = 12
"""Frames that are looked at to name an object."""


@dataclass(frozen=True, slots=True)
class Described:
    """A clip as the host sees it, spoilt in places."""

    name: str
    rate: float
    truths: list[Truth]
    """Labels are the host's classes."""
    clean: list[Cells]
    spoilt: list[Cells]
    """The same objects where nothing is spoilt."""
    hit: np.ndarray
    """bool [frames] which are."""


@dataclass(frozen=True, slots=True)
class Way:
    """A row of the table: how the frames are seen."""

    name: str
    options: MemoryOptions
    readout: Readout | None = None
    foreign: bool = False
    """The memory is of another clip, and cannot know it."""
    clean: bool = False
    """The frames as they were before they were spoilt."""


@dataclass(frozen=True, slots=True)
class Score:
    """Of one row."""

    name: str
    deg: float
    """AP50 on spoilt frames, mean over clips, 0 to 1."""
    cln: float
    """AP50 on untouched frames of the same streams."""
    ms: float
    """CPU time per frame beside the host's own features."""
    resets: int
    """Cuts that were none."""
    ghosts: float = NAN
    """Boxes per frame after a cut."""
    ghosts_kept: float = NAN
    """The same for a memory that does not begin anew."""
    cuts_heard: float = NAN
    """Share of real cuts at which the memory began anew within five frames."""
    by_clip: dict[str, tuple[float, float]] = field(default_factory=dict)
    """``deg`` and ``cln`` of each clip."""
    by_seed: dict[int, tuple[float, float]] = field(default_factory=dict)
    """The same for each way of spoiling the clips."""


def ways(gated: Readout | None, control: Readout | None, paper: Readout | None) -> list[Way]:
    """The rows, as far as there are weights for them."""
    none = MemoryOptions(mode="none", supports=0)
    rows = [Way("plain, frames not spoilt", none, clean=True), Way("plain", none)]
    if control is not None:
        rows.append(Way("no-memory control", _with(control, own_rows=True), control))
    if paper is not None:
        rows.append(Way("paper", _with(paper), paper))
    rows.append(Way("carry", replace(none, carry=True)))
    if gated is not None:
        rows.append(Way("bank", _with(gated), gated))
        rows.append(Way("bank + carry", _with(gated, carry=True), gated))
        rows.append(Way("bank of another clip", _with(gated, resets=False), gated, foreign=True))
    return rows


def _with(readout: Readout, **changes: bool) -> MemoryOptions:
    kind = readout.config.as_json()["kind"]
    mode = MemoryOptions(mode="paper" if kind == "paper" else "gated", supports=0)
    return replace(mode, **changes)  # type: ignore[arg-type]


def describe(
    host: Host,
    clip: Clip,
    degraded: str,
    seed: int = 0,
    tell: Callable[[int, int], None] = lambda done, of: None,
) -> Described:
    """Every frame of ``clip``, whole and, where the plan says so, spoilt."""
    both = Degraded(clip, degraded, seed)
    clean, spoilt, truths = [], [], []
    for k in range(len(both)):
        sample = both.clean(k)
        clean.append(host.describe([sample.image])[0])
        hit = both.degradations[k]
        spoilt.append(host.describe([both[k].image])[0] if hit else clean[-1])
        truths.append(sample.truth)
        tell(k + 1, len(both))
    named = _named(host, clip.names, truths, clean)
    hits = np.array([bool(one) for one in both.degradations])
    return Described(clip.name, clip.rate, named, clean, spoilt, hits)


def _named(
    host: Host, names: Sequence[str], truths: Sequence[Truth], clean: Sequence[Cells]
) -> list[Truth]:
    """Truth with the host's classes: by name, else what the host calls most of such objects in
    whole frames."""
    of = {k: host.names.index(name) for k, name in enumerate(names) if name in host.names}
    present = np.unique(np.concatenate([truth.labels for truth in truths]))
    for label in present.tolist():
        if label not in of:
            of[label] = _called(host, label, truths, clean)
    return [
        replace(t, labels=np.array([of[k] for k in t.labels.tolist()], np.int64)) for t in truths
    ]


@torch.no_grad()
def _called(host: Host, label: int, truths: Sequence[Truth], clean: Sequence[Cells]) -> int:
    votes = np.zeros(len(host.names))
    for k in np.unique(np.linspace(0, len(truths) - 1, _VOTES).astype(int)).tolist():
        truth = truths[k].boxes[truths[k].labels == label]
        found, _ = host.found(host.predict(clean[k].rows, clean[k]), clean[k])
        if len(truth) and len(found):
            overlap = np.stack([box_iou(box[None], found.boxes) for box in truth]).max(0)
            for row in np.flatnonzero(overlap > 0.5):
                votes[found.labels[row]] += found.scores[row]
    return int(votes.argmax())


def run(host: Host, way: Way, clips: Sequence[Described], cuts: bool = True) -> Score:
    """One row of the table."""
    deg, cln, by_clip, resets, spent, frames = [], [], {}, 0, 0.0, 0
    heard: list[int]
    for n, clip in enumerate(clips):
        memory = Memory(host, way.readout, way.options, "eval")
        own = clip.clean if way.clean else clip.spoilt
        began = time.thread_time()
        if way.foreign:
            found, heard = _astray(memory, clips[(n + 1) % len(clips)], own), []
        else:
            found, heard = _watch(memory, own, clip.rate)
        spent, frames = spent + time.thread_time() - began, frames + len(found)
        resets += len(heard)
        deg.append(_ap50(host, clip, found, clip.hit))
        cln.append(_ap50(host, clip, found, ~clip.hit))
        by_clip[clip.name] = deg[-1], cln[-1]
    score = Score(
        way.name,
        float(np.nanmean(deg)),
        float(np.nanmean(cln)),
        1000 * spent / max(frames, 1),
        resets,
        by_clip=by_clip,
    )
    if not cuts or way.foreign or way.clean or len(clips) < 2:
        return score
    ghosts, heard_share = _after_cuts(host, way, clips)
    kept, _ = _after_cuts(host, replace(way, options=replace(way.options, resets=False)), clips)
    return replace(score, ghosts=ghosts, ghosts_kept=kept, cuts_heard=heard_share)


def mean(runs: dict[int, list[Score]]) -> list[Score]:
    """The table over several seeds, of the tables of each. What happens after cuts is told by the
    first: no frame is spoilt there."""
    out = []
    for scores in zip(*runs.values(), strict=True):
        clips = {
            name: (
                float(np.nanmean([s.by_clip[name][0] for s in scores])),
                float(np.nanmean([s.by_clip[name][1] for s in scores])),
            )
            for name in scores[0].by_clip
        }
        whole = replace(
            scores[0],
            deg=float(np.mean([s.deg for s in scores])),
            cln=float(np.mean([s.cln for s in scores])),
            ms=float(np.mean([s.ms for s in scores])),
            resets=sum(s.resets for s in scores),
            by_clip=clips,
            by_seed={seed: (s.deg, s.cln) for seed, s in zip(runs, scores, strict=True)},
        )
        out.append(whole)
    return out


def _watch(memory: Memory, frames: Sequence[Cells], rate: float) -> tuple[list[Found], list[int]]:
    """What is seen, and the frames at which the memory took a cut for one."""
    found, resets = [], []
    for k, cells in enumerate(frames):
        seen = memory.see(cells, k, k / rate)
        found.append(_found(seen.boxes))
        if seen.reset == "cut":
            resets.append(k)
    return found, resets


def _astray(memory: Memory, other: Described, frames: Sequence[Cells]) -> list[Found]:
    """Every frame seen as if it came right after the clip ``other``."""
    before = other.clean[-_BEFORE:]
    _watch(memory, before, other.rate)
    states = {name: memory.hub[name].snapshot(memory.stream) for name in memory.hub}
    found = []
    for cells in frames:
        for name, state in states.items():
            memory.hub[name].restore(memory.stream, state)
        seen = memory.see(cells, len(before), len(before) / other.rate)
        found.append(_found(seen.boxes))
    return found


def _ap50(host: Host, clip: Described, found: Sequence[Found], frames: np.ndarray) -> float:
    kept = np.flatnonzero(frames).tolist()
    if not kept:
        return NAN
    truths, mine = [clip.truths[k] for k in kept], [found[k] for k in kept]
    return evaluate(truths, mine, host.names).whole.ap50


def _after_cuts(host: Host, way: Way, clips: Sequence[Described]) -> tuple[float, float]:
    """Ghosts per frame in the five frames after cuts from clip to clip, and the share heard."""
    pairs = [(a, b) for a in clips for b in clips if a is not b]
    ghosts, heard = [], []
    for before, after in pairs[:: max(1, len(pairs) // _MOST_CUTS)]:
        first = before.clean[-_BEFORE:]
        frames = [*first, *after.clean[:FRAMES]]
        truths = [*before.truths[-_BEFORE:], *after.truths[:FRAMES]]
        memory = Memory(host, way.readout, way.options, "eval")
        found, resets = _watch(memory, frames, before.rate)
        ghosts.append(ghosts_per_frame(truths, found, [len(first)]))
        heard.append(any(k >= len(first) for k in resets))
    return float(np.mean(ghosts)), float(np.mean(heard))


def _found(boxes: Boxes) -> Found:
    return Found(boxes.boxes, boxes.scores, boxes.labels.astype(np.int64))
