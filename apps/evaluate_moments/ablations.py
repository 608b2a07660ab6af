"""What each part of the method is worth: one change at a time, on the same streams."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from retain.apps.evaluate_moments import streams
from retain.apps.evaluate_moments.policies import memory, paper_config, robust_config
from retain.apps.evaluate_moments.results import Table
from retain.apps.evaluate_moments.streams import Stream
from retain.apps.evaluate_moments.tables import (
    OLD,
    Options,
    Tell,
    Values,
    asks,
    recall_columns,
    to_scores,
)
from retain.datasets.held import Kept, coverage
from retain.memory.curvestream import BLURRED_SIDE, FrameMemoryConfig
from retain.memory.router import RouterConfig
from retain.memory.tokens import tokens

Make = Callable[[Stream, Options], FrameMemoryConfig]
FLASHES = "flashes held"


def _router(**changes: float) -> Make:
    return lambda stream, options: robust_config(
        stream,
        options.budget,
        router=RouterConfig(**changes),  # type: ignore[arg-type]
    )


def _policy(name: str) -> Make:
    """These do not demote, and would hold ten Clear frames: each frame costs as a Blurred one."""
    return lambda stream, options: robust_config(
        stream,
        options.budget,
        policy=name,
        max_clear_tokens=tokens(BLURRED_SIDE, BLURRED_SIDE),
    )


def _paper(gamma: float) -> Make:
    def make(stream: Stream, options: Options) -> FrameMemoryConfig:
        router = RouterConfig(mode="paper", gamma=gamma)
        return paper_config(stream, options.budget, router=router)

    return make


CHANGES: dict[str, Make] = {
    "robust": _router(),
    "lambda 0 (default 0.2)": _router(lambda_=0.0),
    "lambda 0.5": _router(lambda_=0.5),
    "lambda 1": _router(lambda_=1.0),
    "no flash rule (turn never looked at)": _router(flash_curvature=2.5),
    "lambda 0 and no flash rule": _router(lambda_=0.0, flash_curvature=2.5),
    "turn not gated by motion": _router(turn_scale=1e-9),
    "k1 -1 (default 0)": _router(k1=-1.0),
    "k1 0.5": _router(k1=0.5),
    "k2 0.5 (default 1)": _router(k2=0.5),
    "k2 2": _router(k2=2.0),
    "half-life 3 s (default 10)": _router(half_life_s=3.0),
    "half-life 30 s": _router(half_life_s=30.0),
    "eviction: fifo": _policy("fifo"),
    "eviction: score": _policy("score"),
    "eviction: score-decay": _policy("score-decay"),
    "eviction: adjacent-merge": _policy("adjacent-merge"),
    "paper, gamma 0.8": _paper(0.8),
    "paper, gamma 0.9": _paper(0.9),
    "paper, gamma 0.95": _paper(0.95),
}


def ablate(options: Options, tell: Tell) -> Table:
    """One change at a time."""
    values: Values = {}
    for stream in _streams(options):
        tell(stream.name)
        for name, make in CHANGES.items():
            kept = memory(make(stream, options), stream, asks(stream))
            for column, value in _columns(stream, kept, options).items():
                values.setdefault((name, column, stream.name), []).append(value)
    return Table(
        "ablations",
        "One change at a time",
        f"held and detail: of events {OLD}; distance: mean 1 - cosine to the nearest held frame;"
        f" {FLASHES}: share of the single-frame flashes that are held at the end. Where only the"
        " eviction is another, all pictures are of the Blurred size (so detail says nothing).",
        to_scores(values, ("distance", FLASHES)),
    )


def _streams(options: Options) -> Iterator[Stream]:
    for seed in options.drawn[:4]:
        for setting in ("busy", "busy cuts", "many flashes"):
            yield streams.planted(setting, seed, 5.0)
        for real in (streams.scene(seed, 5.0), streams.wheel(seed, 5.0)):
            if real is not None:
                yield real


def _columns(stream: Stream, kept: list[Kept], options: Options) -> dict[str, float]:
    every = recall_columns(stream, kept, options.budget)
    out = {
        what: every[f"{what}, {OLD}"] for what in ("held", "detail") if f"{what}, {OLD}" in every
    }
    out["distance"] = coverage(stream.features, stream.times_s, kept[-1]).mean
    if stream.flashes:
        out[FLASHES] = float(np.isin(stream.flashes, kept[-1].frames).mean())
    return out
