"""The tables: each a function of the options, made of streams, contenders and metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from retain.apps.evaluate_moments.policies import CONTENDERS, Budget, Contender
from retain.apps.evaluate_moments.results import Bar, Score, Table
from retain.apps.evaluate_moments.streams import SETTINGS, Stream, planted
from retain.datasets.held import AGES, Found, Kept, found, share

Tell = Callable[[str], None]
Values = dict[tuple[str, str, str], list[float]]
"""(row, column, stream) -> a value per seed."""

OLD = "older than the window"
ASK_EVERY_S = 60.0


@dataclass(frozen=True, slots=True)
class Options:
    """What a table is made with; a table is made again when these differ."""

    seeds: int = 8
    first_seed: int = 1000
    quick: bool = False
    """Few seeds, streams and ablations: a look, not a result."""
    budget: Budget = field(default_factory=Budget)

    @property
    def drawn(self) -> range:
        return range(self.first_seed, self.first_seed + (2 if self.quick else self.seeds))


def asks(stream: Stream) -> list[int]:
    """Frames after which questions come: once a minute, and at the end."""
    every = max(1, round(ASK_EVERY_S * stream.fps))
    count = len(stream.times_s)
    return sorted({*range(every - 1, count, every), count - 1})


def recall(options: Options, tell: Tell) -> Table:
    """Are planted events still held, by age?"""
    values: Values = {}
    for setting in SETTINGS:
        for fps in (1.0, 2.0, 5.0):
            tell(f"recall: {setting}, {fps:g} fps")
            streams = (planted(setting, seed, fps) for seed in options.drawn)
            _recall(streams, CONTENDERS, options, values)
    tell("recall: 30 minutes")
    _recall(
        (planted("still and pan", s, 1.0, 30.0) for s in options.drawn), CONTENDERS, options, values
    )
    scores = to_scores(values)
    return Table(
        "recall",
        "Planted events still held, by age",
        "Asked once a minute: of the events that had ended, the share with a frame held, and with a"
        f" Clear one (detail). '{OLD}': ended before the last {options.budget.entries} frames.",
        scores,
        _recall_bars(scores),
    )


def _recall(
    streams: Iterable[Stream], contenders: Sequence[Contender], options: Options, values: Values
) -> None:
    for seed, stream in enumerate(streams, options.first_seed):
        questions = asks(stream)
        for contender in contenders:
            if contender.can(stream):
                kept = contender.run(stream, options.budget, questions, seed)
                for column, value in recall_columns(stream, kept, options.budget).items():
                    values.setdefault((contender.name, column, stream.name), []).append(value)


def recall_columns(stream: Stream, kept: Sequence[Kept], budget: Budget) -> dict[str, float]:
    """The columns of one run; those without an event of that age are left out."""
    every = found(stream.events, stream.times_s, kept)
    groups: dict[str, list[Found]] = {
        name: [f for f in every if low <= f.age_s < high] for name, (low, high) in AGES.items()
    }
    groups[OLD] = [f for f in every if f.age_s >= budget.entries / stream.fps]
    out = {}
    for name, group in groups.items():
        for what, answers in (
            ("held", [f.held for f in group]),
            ("detail", [f.detail for f in group]),
        ):
            value = share(answers)
            if value is not None:
                out[f"{what}, {name}"] = value
    return out


def _recall_bars(scores: Sequence[Score]) -> list[Bar]:
    means = {s.stream: s.mean for s in scores if (s.row, s.column) == ("robust", f"held, {OLD}")}
    return [Bar(f"robust, held, {OLD}, {stream}", mean, 0.95) for stream, mean in means.items()]


def to_scores(values: Values, lower_is_better: Sequence[str] = ()) -> list[Score]:
    """A ``Score`` per cell."""
    return [
        Score(
            row, column, stream, [float(v) for v in np.asarray(cell)], column not in lower_is_better
        )
        for (row, column, stream), cell in values.items()
    ]


TABLES: dict[str, Callable[[Options, Tell], Table]] = {"recall": recall}
