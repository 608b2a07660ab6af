"""The tables about what is held: recall by age, answers to questions, coverage."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from retain.apps.evaluate_moments import streams
from retain.apps.evaluate_moments.policies import CONTENDERS, Budget
from retain.apps.evaluate_moments.results import Bar, Score, Table
from retain.apps.evaluate_moments.streams import RATES, SETTINGS, Stream
from retain.datasets.held import (
    AGES,
    Found,
    Kept,
    coverage,
    found,
    query_ranks,
    recall_at,
    share,
)

Tell = Callable[[str], None]
Values = dict[tuple[str, str, str], list[float]]
"""(row, column, stream) -> a value per seed."""

OLD = "older than the window"
ASK_EVERY_S = 60.0
QUERY_NOISE = 0.1
"""Length of the noise on a question's unit feature."""
PICTURE_SEEDS = 2
"""Streams of planted pictures per rate: 20 ms of CPU per picture once, then from the cache."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a table is made with; a table is made again when these differ."""

    seeds: int = 5
    first_seed: int = 1000
    quick: bool = False
    """Few seeds and streams: a look, not a result."""
    budget: Budget = field(default_factory=Budget)

    @property
    def drawn(self) -> list[int]:
        count = 2 if self.quick else self.seeds
        return list(range(self.first_seed, self.first_seed + count))


def asks(stream: Stream) -> list[int]:
    """Frames after which questions come: once a minute, and at the end."""
    every = max(1, round(ASK_EVERY_S * stream.fps))
    count = len(stream.times_s)
    return sorted({*range(every - 1, count, every), count - 1})


def real(options: Options, *, film: bool = True) -> Iterator[tuple[int, Stream]]:
    """(seed, stream) of the real and the drawn footage that is installed here."""
    for fps in RATES:
        for seed in options.drawn:
            yield from _there(seed, streams.scene(seed, fps))
        for seed in options.drawn[: int(25 / fps)] if film else []:
            yield from _there(seed, streams.wheel(seed, fps))
        for seed in options.drawn[:PICTURE_SEEDS] if not options.quick or fps == 1.0 else []:
            yield from _there(seed, streams.pictures(seed, fps))


def _there(seed: int, stream: Stream | None) -> Iterator[tuple[int, Stream]]:
    if stream is not None:
        yield seed, stream


def planted(options: Options, settings: Iterable[str] = SETTINGS) -> Iterator[tuple[int, Stream]]:
    """(seed, stream) of the settings, at each of their rates."""
    for setting in settings:
        for fps in streams.rates(setting):
            for seed in options.drawn:
                yield seed, streams.planted(setting, seed, fps)


def judge(
    drawn: Iterable[tuple[int, Stream]],
    options: Options,
    columns: Callable[[int, Stream, Sequence[Kept]], dict[str, float]],
    tell: Tell,
    *,
    last: bool = False,
) -> Values:
    """Run every contender over every stream; ``last``: asked only at the end."""
    values: Values = {}
    told = ""
    for seed, stream in drawn:
        if stream.name != told:
            told = stream.name
            tell(told)
        questions = asks(stream)[-1:] if last else asks(stream)
        for contender in CONTENDERS:
            if contender.can(stream):
                kept = contender.run(stream, options.budget, questions, seed)
                for column, value in columns(seed, stream, kept).items():
                    values.setdefault((contender.name, column, stream.name), []).append(value)
    return values


def to_scores(values: Values, lower_is_better: Sequence[str] = ()) -> list[Score]:
    """A ``Score`` per cell."""
    return [
        Score(row, column, stream, [float(v) for v in cell], column not in lower_is_better)
        for (row, column, stream), cell in values.items()
    ]


def recall(options: Options, tell: Tell) -> Table:
    """Are planted events still held, by age?"""

    def drawn() -> Iterator[tuple[int, Stream]]:
        yield from planted(options)
        yield from real(options, film=False)
        for seed in options.drawn:
            yield seed, streams.planted("still and pan", seed, 1.0, 30.0)

    def columns(seed: int, stream: Stream, kept: Sequence[Kept]) -> dict[str, float]:
        return recall_columns(stream, kept, options.budget)

    scores = to_scores(judge(drawn(), options, columns, tell))
    return Table(
        "recall",
        "Planted events still held, by age",
        "Asked once a minute: of the events that had ended, the share with a frame held, and with a"
        f" Clear one (detail). '{OLD}': ended before the last {options.budget.entries} frames.",
        scores,
        [
            Bar(f"robust, held, {OLD}, {s.stream}", s.mean, 0.95)
            for s in scores
            if (s.row, s.column) == ("robust", f"held, {OLD}")
        ],
    )


def recall_columns(stream: Stream, kept: Sequence[Kept], budget: Budget) -> dict[str, float]:
    """The columns of one run; those without an event of that age are left out."""
    every = found(stream.events, stream.times_s, kept)
    groups: dict[str, list[Found]] = {
        name: [f for f in every if low <= f.age_s < high] for name, (low, high) in AGES.items()
    }
    groups[OLD] = [f for f in every if f.age_s >= budget.entries / stream.fps]
    out = {}
    for name, group in groups.items():
        held, detail = share([f.held for f in group]), share([f.detail for f in group])
        if held is not None and detail is not None:
            out[f"held, {name}"], out[f"detail, {name}"] = held, detail
    return out


def query(options: Options, tell: Tell) -> Table:
    """Is the right moment among the first answers to a question?"""

    def drawn() -> Iterator[tuple[int, Stream]]:
        yield from planted(options, ("still and pan", "rectified", "busy", "busy cuts"))
        yield from real(options)

    values = judge(drawn(), options, query_columns, tell, last=True)
    return Table(
        "query",
        "The right moment among the first k answers",
        "Asked at the end, once per event (film: per shot), with another of its frames and noise of"
        f" length {QUERY_NOISE}; right is any held frame of it. All other held frames distract; an"
        " event of which nothing is held counts as missed.",
        to_scores(values),
    )


def query_columns(seed: int, stream: Stream, kept: Sequence[Kept]) -> dict[str, float]:
    """recall@k of one run, every event or shot asked for once."""
    rng = np.random.default_rng(seed)
    if stream.shots is not None and not stream.events:
        of = stream.shots
    else:
        of = np.full(len(stream.times_s), -1)
        for i, (start, end) in enumerate(stream.events):
            of[(stream.times_s >= start) & (stream.times_s < end)] = i
    names = np.unique(of[of >= 0])
    asked = np.array([rng.choice(np.flatnonzero(of == name)) for name in names])
    questions = stream.features[asked]
    noise = rng.standard_normal(questions.shape, np.float32)
    questions = questions + QUERY_NOISE / questions.shape[1] ** 0.5 * noise
    frames = kept[-1].frames
    ranks = query_ranks(questions, stream.features[frames], of[frames][None] == names[:, None])
    found = {f"recall@{k}": recall_at(ranks, k) for k in (1, 5, 10)}
    return {column: value for column, value in found.items() if value is not None}


COVERAGE = ("mean distance", "95th percentile", "largest gap, s")


def cover(options: Options, tell: Tell) -> Table:
    """How far is the stream from what is held?"""

    def drawn() -> Iterator[tuple[int, Stream]]:
        yield from real(options)
        yield from planted(options, ("still and pan", "weak, fast pan", "busy", "busy cuts"))

    def columns(seed: int, stream: Stream, kept: Sequence[Kept]) -> dict[str, float]:
        c = coverage(stream.features, stream.times_s, kept[-1], stream.shots)
        values = dict(zip(COVERAGE, (c.mean, c.p95, c.gap_s), strict=True))
        return values if c.shots is None else values | {"shots shown": c.shots}

    scores = to_scores(judge(drawn(), options, columns, tell, last=True), COVERAGE)
    mean = {(s.row, s.stream): s.mean for s in scores if s.column == COVERAGE[0]}
    return Table(
        "coverage",
        "How far the stream is from what is held",
        "Asked at the end. 1 - cosine from every frame to the nearest held one; the longest time"
        " without a held frame; of shots, the share with a held frame.",
        scores,
        [
            Bar(
                f"robust / reservoir, {COVERAGE[0]}, {stream}",
                mean[row, stream] / other,
                1.0,
                False,
            )
            for (row, stream) in mean
            if row == "robust" and (other := mean["reservoir", stream]) > 0
        ],
    )
