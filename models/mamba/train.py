"""Training a read-out as it will be used: streams of frames, a bank filled from their past.

Each round, ``batch`` episodes run side by side from empty memories, some of them behind the end of
another video that the memory is not told about. After each frame the read-out takes a step towards
what the host says of the whole frame; then the frame is remembered, as it would be in use.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from retain.models import distributed
from retain.models.mamba import distil, weights
from retain.models.mamba.distil import Episode, Episodes
from retain.models.mamba.gated import Gated, GatedConfig
from retain.models.mamba.host import Cells, Host, Predicted
from retain.models.mamba.memory import Memory, MemoryOptions
from retain.models.mamba.paper import Paper, PaperConfig
from retain.models.mamba.reading import Readout
from retain.models.training import Progress, Run, cosine, groups
from retain.pipeline.errors import UsageError

Kind = Literal["gated", "control", "paper"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""``control``: the gated read-out, trained and run on the frame's own rows: no memory."""
_PREFIX = 4
"""Frames of another video before an episode, where there are any."""
_APART_S = 0.04
_ASTRAY = 8
_BLOCK, _EVERY = 8, 8
"""Episodes held out: every eighth block of eight, so that few of their frames are learned from."""
_SAMPLE = 48
"""Frames from which mean and deviation of the rows are taken."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything a training run depends on beside its material and host. Raises UsageError for
    values that cannot work."""

    kind: Kind = "gated"
    rounds: int = 120
    """Of ``batch`` episodes each; a round takes a step for every frame but the first."""
    batch: int = 6
    spoilt: float = 0.6
    """Share of frames that are."""
    burst: float = 4.0
    """Their mean number in a row."""
    foreign: float = 0.6
    """Share of episodes behind the end of another video. Nothing of the new one is remembered for
    up to ``_ASTRAY`` frames, in which the memory can give nothing."""
    caution: float = 2.0
    """Weight of frames to which a memory has nothing to add: whole ones, and those of which it
    knows nothing."""
    lr: float = 3e-3
    weight_decay: float = 1e-2
    clip_norm: float = 3.0
    average: float = 0.995
    """Of the exponential moving average of the weights, which is what is kept."""
    judge_every: int = 10
    """Rounds between looks at the episodes held out; the best weights by them are kept."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"What is trained is {', '.join(KINDS)}, not {self.kind!r}.")
        for name in ("rounds", "batch", "judge_every"):
            if getattr(self, name) < 1:
                raise UsageError(f"The recipe's {name} must be at least 1.")
        if not 0 < self.spoilt < 1 or self.burst < 1 or not 0 <= self.foreign <= 1:
            raise UsageError("spoilt is between 0 and 1, burst from 1, foreign from 0 to 1.")

    def rate(self, round_: int) -> float:
        """Learning rate: up over the first twentieth, then down along a cosine."""
        return cosine(round_, self.rounds, self.lr, warm=0.05, lowest=0.02)


@dataclass(frozen=True, slots=True)
class Told:
    """What a run says after every round."""

    kind: Kind
    round: int
    rounds: int
    loss: float
    held_out: float
    """Loss on the episodes held out, when last looked at; NaN before."""
    seconds: float


def build(kind: Kind, host: Host) -> Readout:
    """An untrained read-out for ``host``: of no effect."""
    if kind == "paper":
        return Paper(PaperConfig(host.channels, host.side, math.gcd(16, host.channels)))
    return Gated(GatedConfig(host.channels, host.side))


class Trainer(Run):
    """A run of one kind in ``out``; ``load`` takes it up where a checkpoint there left it. A step
    is a round, with an update for every frame but the first."""

    save_every = 4
    """Rounds take seconds."""

    def __init__(self, recipe: Recipe, host: Host, episodes: Episodes, out: Path) -> None:
        self.recipe, self.host = recipe, host
        held_out = [k for k in range(len(episodes)) if k // _BLOCK % _EVERY == _EVERY // 2]
        held_out = held_out or [len(episodes) - 1]
        self._held_out = episodes.only(held_out)
        self._episodes = episodes.only([k for k in range(len(episodes)) if k not in held_out])
        torch.manual_seed(recipe.seed)
        self.readout = build(recipe.kind, host).train()
        _standardise(self.readout, self._episodes)
        if isinstance(self.readout, Gated):
            self.readout.scale.fill_(1.0)
        super().__init__(
            self.readout,
            groups(self.readout.parameters(), recipe.weight_decay, eps=1e-8),
            {**asdict(recipe), "host": host.digest},
            out,
            steps=recipe.rounds,
            seed=recipe.seed,
            rate=recipe.rate,
            average=recipe.average,
            clip_norm=recipe.clip_norm,
            batch=recipe.batch,
        )
        self.best = {k: v.clone() for k, v in self.average.items()}
        self.best_loss, self.last_loss = math.inf, math.nan

    @property
    def checkpoint(self) -> Path:
        return self.out / f"checkpoint-{self.recipe.kind}.safetensors"

    def work(self, step: int) -> float:
        """A round. Everything random in it follows from the seed and its number."""
        r = self.recipe
        rng = np.random.default_rng((r.seed, step))
        chosen = rng.choice(len(self._episodes), r.batch, replace=len(self._episodes) < r.batch)
        drawn = [self._draw(self._episodes, int(k), rng) for k in chosen]
        runs = [self._run(self.readout, one) for one in drawn[self.rows]]
        total = count = 0.0
        for t in range(len(runs[0].frames)):
            losses = [one for run in runs if (one := run.step(t)) is not None]
            loss = torch.stack(losses).sum() / r.batch if losses else torch.zeros(())
            if not self.share.count(len(losses)):
                continue
            if self.share.count(int(loss.requires_grad)):
                self.update(loss)
            total, count = total + float(loss.detach()), count + 1
        if (step + 1) % r.judge_every == 0 or step + 1 == r.rounds:
            self._judge()
        return total / max(count, 1)

    def _draw(self, episodes: Episodes, k: int, rng: np.random.Generator) -> _Drawn:
        r = self.recipe
        episode = episodes[k]
        hit = _bursts(len(episode.whole), rng, r.spoilt, r.burst)
        other, astray = None, 0
        if rng.random() < r.foreign and len(episodes) > 1:
            other = episodes[int((k + 1 + rng.integers(len(episodes) - 1)) % len(episodes))]
            astray = int(rng.integers(1, _ASTRAY + 1))
        return episode, hit, other, astray

    def _run(self, readout: Readout, drawn: _Drawn) -> _Run:
        r = self.recipe
        return _Run(self.host, readout, r.kind == "control", *drawn, r.caution)

    @torch.no_grad()
    def _judge(self) -> None:
        readout = build(self.recipe.kind, self.host).train()
        readout.load_state_dict(self.average)
        rng = np.random.default_rng(self.recipe.seed)
        losses = []
        for k in range(len(self._held_out)):
            run = self._run(readout, self._draw(self._held_out, k, rng))
            losses += [
                float(one) for t in range(len(run.frames)) if (one := run.step(t)) is not None
            ]
        self.last_loss = float(np.mean(losses))
        if self.last_loss < self.best_loss:
            self.best_loss = self.last_loss
            self.best = {k: v.clone() for k, v in self.average.items()}

    def result(self) -> Readout:
        """The read-out that is kept, ready to use."""
        readout = build(self.recipe.kind, self.host)
        readout.load_state_dict(self.best)
        return readout.eval()

    def own(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return self.best, {
            "best": None if math.isinf(self.best_loss) else self.best_loss,
            "last": None if math.isnan(self.last_loss) else self.last_loss,
        }

    def take(self, kept: dict[str, Tensor], head: Mapping[str, Any]) -> None:
        self.best = kept
        self.best_loss = math.inf if head["best"] is None else float(head["best"])
        self.last_loss = math.nan if head["last"] is None else float(head["last"])


_Drawn = tuple[Episode, np.ndarray, Episode | None, int]
"""An episode, which of its frames are spoilt, what comes before it and for how long it is felt."""


class _Run:
    """One episode on its way: a memory of its own, a frame a step."""

    def __init__(
        self,
        host: Host,
        readout: Readout,
        own: bool,
        episode: Episode,
        hit: np.ndarray,
        other: Episode | None,
        astray: int,
        caution: float,
    ) -> None:
        kind: Any = readout.config.as_json()["kind"]
        options = MemoryOptions(mode=kind, supports=0, resets=False, own_rows=own)
        self._host, self._episode, self._hit = host, episode, hit
        self._memory = Memory(host, readout, options, "train")
        self.frames = episode.whole
        self._astray, self._caution = astray, caution
        if other is not None:
            self._remember(other)

    @torch.no_grad()
    def _remember(self, other: Episode) -> None:
        begins = self._episode.seconds[0] - _APART_S - other.seconds[-1]
        for cells, seconds in list(zip(other.whole, other.seconds, strict=True))[-_PREFIX:]:
            self._memory.see(cells, 0, seconds + begins)

    def step(self, t: int) -> Tensor | None:
        """The loss of frame ``t``, None where nothing was read; then it is remembered."""
        whole = self._episode.whole[t]
        cells: Cells = self._episode.spoilt[t] if self._hit[t] else whole
        seconds = self._episode.seconds[t]
        with torch.no_grad():
            plain = self._host.predict(cells.rows, cells)
            # What the memory cannot know it should not change.
            alike = not self._hit[t] or t < self._astray
            wanted = plain if alike else self._host.predict(whole.rows, whole)
        seen = self._memory.read(cells, plain, seconds)
        which = seen.enhanced.which
        loss = None
        if len(which):
            got = seen.enhanced.predicted
            at = Predicted(got.objectness[which], got.classes[which], got.boxes[which])
            aim = (
                Predicted(plain.objectness[which], plain.classes[which], plain.boxes[which])
                if alike
                else distil.aims(wanted, cells, which)
            )
            loss = distil.loss(at, aim) * (self._caution if alike else 1.0)
        if t < self._astray:
            return loss
        with torch.no_grad():
            _, rows = self._host.found(seen.enhanced.predicted, cells)
            self._memory.write(cells, plain, seen, rows, t, seconds)
        return loss


def _bursts(count: int, rng: np.random.Generator, share: float, burst: float) -> np.ndarray:
    """bool [count]: which frames are spoilt, in bursts of geometric length."""
    hit = np.zeros(count, bool)
    state = bool(rng.random() < share / 3)
    for k in range(count):
        hit[k] = state
        leave = 1 / burst if state else share / (1 - share) / burst
        state ^= bool(rng.random() < leave)
    return hit


def _standardise(readout: Readout, episodes: Episodes) -> None:
    """Mean and deviation of the rows, of whole and spoilt frames."""
    picked = np.unique(np.linspace(0, len(episodes) - 1, _SAMPLE // 4).astype(int))
    rows = []
    for k in picked.tolist():
        episode = episodes[k]
        rows += [cells.rows for cells in (*episode.whole[::6], *episode.spoilt[3::6])]
    every = torch.cat(rows)
    readout.mean.copy_(every.mean(0))
    readout.std.copy_(every.std(0).clamp(min=1e-3))


def run(
    recipes: Mapping[Kind, Recipe],
    host: Host,
    material: distil.Material,
    out: Path,
    cache: Path,
    drawn: distil.Progress = lambda done, of: None,
    tell: Callable[[Told], None] = lambda told: None,
) -> Path:
    """Draw what is missing, train each kind to the end, write ``out``/weights.safetensors: one file
    for all of them."""
    out.mkdir(parents=True, exist_ok=True)
    episodes = distributed.here().one_first(lambda: distil.draw(host, material, cache, drawn))
    made: dict[str, Readout] = {}
    metrics: dict[str, float] = {}
    for kind, recipe in recipes.items():
        trainer = Trainer(recipe, host, episodes, out)
        trainer.load()

        def told(at: Progress, trainer: Trainer = trainer) -> None:
            kind = trainer.recipe.kind
            tell(Told(kind, at.step, at.steps, at.loss, trainer.last_loss, at.seconds))

        trainer.train(told)
        made[kind], metrics[kind] = trainer.result(), trainer.best_loss
    head = {
        "recipes": {kind: asdict(recipe) for kind, recipe in recipes.items()},
        "held_out_loss": metrics,
        "videos": [Path(video).name for video in material.videos] or ["procedural"],
        "episodes": len(episodes),
    }
    path = out / "weights.safetensors"
    if distributed.here().first:
        weights.save(path, made, host, json.loads(json.dumps(head)))
    return path
