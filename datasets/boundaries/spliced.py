"""Streams whose boundaries are known exactly, spliced from shots of real clips.

In turns, a shot holds one thing that detectors mistake for a boundary, an insert, or nothing.
``KINDS``:

    cut       the next shot begins at once                           a boundary
    dissolve  0.3 to 1.2 s in which both shots are mixed             a boundary (gradual)
    insert    0.5 to 2 s of another shot, then the first goes on     two boundaries
    flash     one or two frames driven towards white                 none
    pan       a steady pan over a still picture for the whole shot   none
    frozen    one frame again and again for 0.4 to 2 s               none
    ramp      exposure up or down and back within 1 to 3 s           none

Without ``cut`` and ``dissolve`` the stream is one shot (with its inserts).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from retain.datasets.boundaries.base import Boundary, Clip, Mark
from retain.datasets.boundaries.footage import (
    Footage,
    Shot,
    drawn_shots,
    installed_shots,
    look,
    open_footage,
)
from retain.pipeline.errors import UsageError, nearest
from retain.pipeline.frame import Image

log = logging.getLogger(__name__)

KINDS = ("cut", "dissolve", "flash", "pan", "frozen", "ramp", "insert")
SHOT_S = (4.0, 8.0)
MARGIN_S = 0.6
"""Between a boundary and what happens within a shot: nothing answers for both."""
LEAST_CHANGE = 30.0
"""Mean difference in grey levels between the looks of shots that follow one another."""


def spliced(
    seed: int,
    seconds: float = 60.0,
    fps: float = 25.0,
    size: tuple[int, int] = (160, 90),
    kinds: Sequence[str] = KINDS,
    drawn: bool = False,
) -> Clip:
    """A stream of ``seconds`` at ``size`` (width, height), a function of its arguments and of
    which clips are installed.

    Shots come from installed clips, or, with ``drawn`` or where none is installed, from pictures
    that are drawn; the clip's name tells. ``marks`` holds every kind with its frames. Raises
    UsageError for values that make no stream.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise UsageError(f"No kind {kind!r} of event to splice.", hint=nearest(kind, KINDS))
    if not (fps >= 5 and seconds >= SHOT_S[0] and min(size) >= 16):
        raise UsageError(
            f"A spliced stream of {seconds} s at {fps} fps and {size} cannot hold its events.",
            hint=f"Give at least {SHOT_S[0]:g} s, 5 fps and 16 pixels a side.",
        )
    shots = [] if drawn else installed_shots()
    if not shots and not drawn:
        log.warning("no clip to splice from is installed; the pictures are drawn instead")
    stuff = "installed clips" if shots else "drawn pictures"
    plan = _plan(shots or drawn_shots(seed), seed, round(seconds * fps), fps, frozenset(kinds))
    return Clip(
        f"spliced {seed} from {stuff}",
        fps,
        plan.length,
        plan.boundaries,
        lambda: _draw(plan, seed, size),
        [m.start for m in plan.marks if m.kind == "flash"],
        plan.marks,
    )


@dataclass(frozen=True, slots=True)
class _Piece:
    """A run of frames of one shot, from ``start`` on; the first ``mixed`` are a dissolve."""

    start: int
    shot: int
    """Number of the shot in the stream; an insert ends with the number it interrupted."""
    source: Shot
    played: int
    """Frames of this shot shown before."""
    pan: bool
    mixed: int = 0


@dataclass(slots=True)
class _Plan:
    length: int
    pieces: list[_Piece] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    gains: dict[int, float] = field(default_factory=dict)
    """Extreme gain of the ramp that starts at this frame."""

    @property
    def boundaries(self) -> list[Boundary]:
        return [Boundary(p.start, p.start + p.mixed) for p in self.pieces[1:]]


def _plan(shots: list[Shot], seed: int, length: int, fps: float, kinds: frozenset[str]) -> _Plan:
    """What happens when; draws nothing."""
    rng = np.random.default_rng((seed, length))
    plan = _Plan(length)
    changes = sorted(kinds & {"cut", "dissolve"})
    within = ["plain", *sorted(kinds & {"flash", "frozen", "ramp", "insert"})]
    if changes:
        within += sorted(kinds & {"pan"})
    deck: list[str] = []
    start = shot = 0
    recent: list[Shot] = []
    while start < length:
        deck = deck or list(rng.permutation(within))
        event = str(deck.pop())
        stop = start + round(rng.uniform(*SHOT_S) * fps)
        if length - stop < SHOT_S[0] * fps:
            stop = length
        if changes or not plan.pieces:
            source = _other(shots, recent, rng)
            change = changes[int(rng.integers(len(changes)))] if changes and plan.pieces else ""
            mixed = round(rng.uniform(0.3, 1.2) * fps) if change == "dissolve" else 0
            pan = event == "pan" or (not changes and "pan" in kinds)
            plan.pieces.append(_Piece(start, shot, source, 0, pan, mixed))
            if change:
                plan.marks.append(Mark(change, start, start + max(mixed, 1)))
            shot += 1
        if plan.pieces[-1].pan and (changes or start == 0):
            begin = start + plan.pieces[-1].mixed
            plan.marks.append(Mark("pan", begin, stop if changes else length))
        room = (start + plan.pieces[-1].mixed + round(MARGIN_S * fps), stop - round(MARGIN_S * fps))
        if event == "insert":
            _insert(plan, _other(shots, recent, rng), shot, room, fps, rng)
            shot += 1
        elif event in ("flash", "frozen", "ramp"):
            _happen(plan, event, room, fps, rng)
        start = stop
    plan.marks.sort(key=lambda mark: mark.start)
    return plan


def _other(shots: list[Shot], recent: list[Shot], rng: np.random.Generator) -> Shot:
    """A shot that was not shown lately and looks unlike the two before: another take from the same
    place would be a cut that nobody sees."""
    free = [s for s in shots if s not in recent] or [s for s in shots if s != recent[-1]]
    if not free:
        raise UsageError("There is only one shot to splice a stream from.")
    order = [free[k] for k in rng.permutation(len(free)).tolist()]
    shot: Shot = next((s for s in order if _unlike(s, recent[-2:])), order[0])
    recent.append(shot)
    del recent[:-4]
    return shot


def _unlike(shot: Shot, others: Sequence[Shot]) -> bool:
    return all(np.abs(look(shot) - look(other)).mean() >= LEAST_CHANGE for other in others)


def _insert(
    plan: _Plan,
    source: Shot,
    number: int,
    room: tuple[int, int],
    fps: float,
    rng: np.random.Generator,
) -> None:
    before = plan.pieces[-1]
    count = max(2, min(round(rng.uniform(0.5, 2.0) * fps), room[1] - room[0] - 1))
    begin = int(rng.integers(room[0], max(room[1] - count, room[0] + 1)))
    back = before.played + begin - before.start - _stood(plan, before, begin)
    plan.pieces.append(_Piece(begin, number, source, 0, False))
    plan.pieces.append(_Piece(begin + count, before.shot, before.source, back, before.pan))
    plan.marks.append(Mark("insert", begin, begin + count))


def _happen(
    plan: _Plan, event: str, room: tuple[int, int], fps: float, rng: np.random.Generator
) -> None:
    shortest, longest = {"flash": (0.0, 0.08), "frozen": (0.4, 2.0), "ramp": (1.0, 3.0)}[event]
    count = round(rng.uniform(shortest, longest) * fps)
    count = max(1, min(count, room[1] - room[0] - 1))
    begin = int(rng.integers(room[0], max(room[1] - count, room[0] + 1)))
    if event == "ramp":
        plan.gains[begin] = float(rng.choice([rng.uniform(0.3, 0.6), rng.uniform(1.5, 2.2)]))
    plan.marks.append(Mark(event, begin, begin + count))


def _draw(plan: _Plan, seed: int, size: tuple[int, int]) -> Iterator[Image]:
    """One frame at a time; three shots are held at most."""
    held: dict[int, Footage] = {}
    ends = [piece.start for piece in plan.pieces[1:]] + [plan.length]
    before: tuple[Footage, int] | None = None
    for piece, end in zip(plan.pieces, ends, strict=True):
        shown = held.pop(piece.shot, None)
        if shown is None:
            rng = np.random.default_rng((seed, piece.shot, 1))
            shown = open_footage(piece.source, size, piece.pan, rng)
        held = {**dict(list(held.items())[-1:]), piece.shot: shown}
        for t in range(piece.start, end):
            k = piece.played + t - piece.start
            image = shown.at(k - _stood(plan, piece, t))
            if before is not None and t < piece.start + piece.mixed:
                weight = (t - piece.start + 1) / (piece.mixed + 1)
                image = _mix(before[0].at(before[1] + t - piece.start), image, weight)
            yield _light(plan, t, image)
        before = (shown, piece.played + end - piece.start - _stood(plan, piece, end))


def _stood(plan: _Plan, piece: _Piece, t: int) -> int:
    """Frames for which the piece's shot has stood still until ``t``."""
    spans = [m for m in plan.marks if m.kind == "frozen" and piece.start <= m.start < t]
    return sum(min(t, m.end - 1) - m.start for m in spans)


def _mix(old: Image, new: Image, weight: float) -> Image:
    return np.asarray(np.rint(old * (1 - weight) + new * weight), np.uint8)


def _light(plan: _Plan, t: int, image: Image) -> Image:
    """Exposure and flashes of frame ``t``. The picture is a copy that the caller may keep."""
    for mark in plan.marks:
        if not mark.start <= t < mark.end:
            continue
        if mark.kind == "flash":
            image = np.asarray(255 - 0.15 * (255.0 - image), np.uint8)
        elif mark.kind == "ramp":
            phase = (t - mark.start + 1) / (mark.end - mark.start + 1)
            gain = plan.gains[mark.start] ** np.sin(np.pi * phase)
            image = np.asarray(np.clip(image * gain, 0, 255), np.uint8)
    return image.copy()
