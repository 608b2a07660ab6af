"""What a memory is worth to a backbone, row by row: each trained and judged alike, seed by seed.

Rows differ in what guides the backbone and in what of it may learn. All are judged on the same
unseen worlds with the same noise; see ``evaluate``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from retain.datasets.bootstrap import Interval, interval
from retain.datasets.worlds.config import PARAMS
from retain.models.ditmem import evaluate, train
from retain.models.ditmem.backbone import VideoDit
from retain.models.ditmem.config import EncoderConfig
from retain.models.ditmem.guided import GuideConfig, Guided
from retain.models.training import Progress, averaged
from retain.pipeline.errors import StateError, UsageError, nearest
from retain.pipeline.files import write_whole

WORLDS, WORLD_SEED = 192, 7
MEMORY_STEPS = 2000

_ENCODER = EncoderConfig()
ROWS: dict[str, dict[str, Any]] = {
    "frozen": {"training": "frozen"},
    "frozen+LoRA": {"training": "lora"},
    "joint": {"training": "joint"},
    "LoRA alone": {"training": "lora", "source": "none", "reader": "rows"},
    "oracle": {"training": "frozen", "source": "oracle"},
    "oracle+LoRA": {"training": "lora", "source": "oracle"},
    "frozen, shared keys": {"training": "frozen", "reader": "rows"},
    "frozen+LoRA, shared keys": {"training": "lora", "reader": "rows"},
    "oracle, shared keys": {"training": "frozen", "reader": "rows", "source": "oracle"},
    "cross-attention": {"training": "frozen", "reader": "cross"},
    "cross-attention+LoRA": {"training": "lora", "reader": "cross"},
    "high band": {"training": "frozen", "encoder": replace(_ENCODER, bands=("high",))},
    "low band": {"training": "frozen", "encoder": replace(_ENCODER, bands=("low",))},
    "published encoder": {"training": "frozen", "encoder": replace(_ENCODER, mode="paper")},
    "no order, no law": {"training": "lora"},
}
"""``no order, no law``: frozen+LoRA without the two losses that make the encoder use time."""
DEFAULT = ("frozen", "frozen+LoRA", "LoRA alone", "oracle")


@dataclass(frozen=True, slots=True)
class Result:
    """Of one row and seed, per world."""

    single: dict[str, list[float]]
    """By what the memory was shown: mean distance in pixels of a sample."""
    mean: dict[str, list[float]]
    """Of the mean of six samples."""
    usual: list[float] = field(default_factory=list)
    """Novelty of the true futures; nothing for rows without a memory."""
    odd: list[float] = field(default_factory=list)
    """Novelty of futures by another world's law."""
    filled: dict[str, list[float]] = field(default_factory=dict)
    """Squared error of dropped frames filled in: none, right, linear."""


def recipe(row: str, base: train.Recipe, steps: int = MEMORY_STEPS) -> train.MemoryRecipe:
    """Of ``row``, beside a backbone of ``base``. Raises UsageError for an unknown row."""
    if row not in ROWS:
        raise UsageError(f"There is no row {row!r}.", hint=nearest(row, ROWS))
    guide = GuideConfig(dit=base.dit, params=len(PARAMS[base.kind]), **ROWS[row])
    own = replace(base, steps=steps)
    if row == "no order, no law":
        return train.MemoryRecipe(guide, own, law=0.0, shuffled=0.0)
    return train.MemoryRecipe(guide, own)


Tell = Callable[[str, Progress], None]


def backbone(base: train.Recipe, out: Path, device: str, tell: Tell) -> VideoDit:
    """The trained backbone of ``base``, from ``out`` as far as it is there."""
    place = out / f"backbone-{base.seed}"
    run = train.BackboneRun(base, place, device)
    train.run(run, lambda progress: tell(f"backbone, seed {base.seed}", progress))
    run.dit.load_state_dict(averaged(place))
    return run.dit.eval()


def guided(
    row: str, base: train.Recipe, out: Path, device: str, tell: Tell, steps: int = MEMORY_STEPS
) -> Guided:
    """The trained network of ``row``, its backbone included, ready to use."""
    place = out / f"{row.replace(' ', '-').replace(',', '')}-{base.seed}"
    made = recipe(row, base, steps)
    run = train.MemoryRun(made, backbone(base, out, device, tell), place, device)
    train.run(run, lambda progress: tell(f"{row}, seed {base.seed}", progress))
    run.guided.load_state_dict(averaged(place))
    return run.guided.eval().requires_grad_(False)


def judged(net: Guided, base: train.Recipe, test: evaluate.Test) -> Result:
    """``net`` on ``test``, in all conditions that mean something to it."""
    scale = train.spread(base)
    result = Result({}, {})
    for shown in evaluate.SHOWN:
        rows = evaluate.memory(net, test, shown, scale)
        if shown != "none" and (rows is None or (shown == "shuffled" and not _reads(net))):
            continue
        found = evaluate.judge(net, test, rows, evaluate.SAMPLES)
        result.single[shown], result.mean[shown] = found.single.tolist(), found.mean.tolist()
    rows = evaluate.memory(net, test, "right", scale)
    if rows is not None:
        usual, odd = evaluate.novelty(net, test, rows)
        result.usual.extend(usual.tolist())
        result.odd.extend(odd.tolist())
        filled = evaluate.filled(net, test, rows)
        result.filled.update({name: values.tolist() for name, values in filled.items()})
    return result


def _reads(net: Guided) -> bool:
    return net.config.source == "references"


def run(
    rows: Sequence[str],
    seeds: Sequence[int],
    out: Path,
    tell: Tell,
    *,
    base: train.Recipe | None = None,
    steps: int = MEMORY_STEPS,
    device: str = "cpu",
) -> dict[str, list[Result]]:
    """Train and judge ``rows`` x ``seeds``, seed by seed; what is in ``out`` is not done again."""
    plan = base or train.Recipe()
    test: evaluate.Test | None = None
    found: dict[str, list[Result]] = {row: [] for row in rows}
    for seed in seeds:
        own = replace(plan, seed=seed)
        for row in rows:
            made = recipe(row, own, steps)
            record = out / f"{row.replace(' ', '-').replace(',', '')}-{seed}.json"
            key = json.loads(json.dumps(asdict(made)))
            known = _recorded(record)
            if known.get("recipe") != key:
                if test is None:
                    config = replace(own.world(), split="test")
                    test = evaluate.unseen(
                        config, WORLDS, made.guide.encoder.references, WORLD_SEED
                    )
                net = guided(row, own, out, device, tell, steps).to("cpu")
                known = {"recipe": key, "result": asdict(judged(net, own, test))}
                write_whole(record, json.dumps(known).encode())
            found[row].append(Result(**known["result"]))
    return found


def _recorded(record: Path) -> dict[str, Any]:
    """What a row and seed were judged as; nothing where they were not."""
    if not record.exists():
        return {}
    try:
        known = json.loads(record.read_bytes())
    except ValueError as error:
        raise StateError(
            f"{str(record)!r} is no result of this study.", hint="Without it, it is judged again."
        ) from error
    return dict(known) if isinstance(known, dict) else {}


def over_worlds(results: Sequence[Mapping[str, Sequence[float]]], shown: str) -> evaluate.Scores:
    """Per world the mean over seeds, [W]."""
    return np.asarray(np.mean([result[shown] for result in results], 0))


def lowered(none: evaluate.Scores, by: evaluate.Scores) -> Interval:
    """By which share ``by`` is lower than ``none``, of their means; the interval resamples worlds,
    in pairs."""
    return interval(lambda a, b: float(1 - b.mean() / a.mean()), none, by)


def difference(more: evaluate.Scores, less: evaluate.Scores) -> Interval:
    """Mean of ``more`` - ``less``, in pixels; the interval resamples worlds, in pairs."""
    return interval(lambda a, b: float(a.mean() - b.mean()), more, less)


@dataclass(frozen=True, slots=True)
class Means:
    """Errors of one row per world, the mean over seeds."""

    results: Sequence[Result]

    def single(self, *shown: str) -> tuple[evaluate.Scores, ...]:
        """Of one sample, for each of ``shown``."""
        return tuple(over_worlds([r.single for r in self.results], name) for name in shown)

    def mean(self, *shown: str) -> tuple[evaluate.Scores, ...]:
        """Of the mean of all samples."""
        return tuple(over_worlds([r.mean for r in self.results], name) for name in shown)


def part_of_oracle(results: Mapping[str, Sequence[Result]]) -> Interval:
    """How much of what true parameters gain through the same rows references gain too."""
    none, right = Means(results["frozen"]).single("none", "right")
    (told,) = Means(results["oracle"]).single("right")
    return interval(
        lambda a, b, c: float((a.mean() - b.mean()) / (a.mean() - c.mean())), none, right, told
    )


def novelty(results: Sequence[Result]) -> Interval | None:
    """Chance that a future by another world's law scores above a true one: the mean over seeds,
    its interval from resampling worlds. None for rows without a memory."""
    if not results[0].usual:
        return None
    usual, odd = (np.array([getattr(r, k) for r in results]).T for k in ("usual", "odd"))

    def statistic(a: evaluate.Scores, b: evaluate.Scores) -> float:
        return float(np.mean([evaluate.auc(a[:, k], b[:, k]) for k in range(a.shape[1])]))

    return interval(statistic, usual, odd, resamples=200)
