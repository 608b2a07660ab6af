"""`retain eval detect`: what a memory is worth to a detector, on any videos with boxes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retain.apps import console
from retain.apps.bench import Row
from retain.apps.cli_options import command_line
from retain.pipeline.errors import UsageError

if TYPE_CHECKING:
    from retain.datasets.detect.base import Clip
    from retain.models.mamba.evaluate import Described, Score
    from retain.models.mamba.host import Host

LEAST_GAIN, LEAST_OVER_CONTROL = 15.0, 10.0
WORST_CLEAN = -0.5
MOST_FOREIGN = 2.0
MOST_GHOSTS = 0.15


@dataclass(frozen=True, kw_only=True)
class EvalOptions:
    """What `retain eval detect` was asked."""

    clips: tuple[str, ...]
    host: str = "small"
    bank: str = "auto"
    """Weights of the read-out by name or file; auto: those shipped for the host."""
    degraded: str = "strong"
    seed: int = 0
    seeds: int = 1
    """How many, from ``seed`` on; each spoils other frames in other ways."""
    limit: int = 0
    """Clips of each place, at most; 0: all."""
    device: str = "auto"
    json: Path | None = None


def evaluate(options: EvalOptions) -> int:
    """Print the table; exit code 1 when a bar is missed."""
    from retain.apps import bench
    from retain.apps.training import shown
    from retain.models.mamba.hosts.open import open_host

    host = open_host(options.host, options.device)
    clips = opened(options.clips, options.limit)
    seeds = range(options.seed, options.seed + options.seeds)
    with shown() as bar:
        scores = over_seeds(host, options.bank, clips, options.degraded, seeds, bar.show)
    show(scores)
    rows = bars(scores, options.degraded)
    if rows:
        bench.show("bars", rows)
    if options.json:
        from retain.apps.numbers import records

        every = [*(row for score in scores for row in scored(score, scores)), *rows]
        records.keep(every, command_line(), "models", options.json)
    return 1 if any(row.met is False for row in rows) else 0


def opened(places: Iterable[str], limit: int = 0) -> list[Clip]:
    """The clips at all ``places``. Raises UsageError for none."""
    from retain.datasets.detect.open import open_clips

    out: list[Clip] = []
    for place in places:
        clips = open_clips(place)
        out += [clips[k] for k in range(min(len(clips), limit or len(clips)))]
    if not out:
        raise UsageError("There are no clips to judge by.")
    return out


def described(
    host: Host,
    clips: Sequence[Clip],
    degraded: str,
    seed: int,
    tell: Callable[[str, int, int], None] = lambda text, done, of: None,
) -> list[Described]:
    """Every clip as the host sees it."""
    from retain.models.mamba import evaluate as judge

    out = []
    for n, clip in enumerate(clips):
        text = f"describing {clip.name} ({n + 1} of {len(clips)})"

        def told(done: int, of: int, text: str = text) -> None:
            tell(text, done, of)

        out.append(judge.describe(host, clip, degraded, seed, told))
    return out


def over_seeds(
    host: Host,
    bank: str,
    clips: Sequence[Clip],
    degraded: str,
    seeds: Sequence[int],
    tell: Callable[[str, int, int], None] = lambda text, done, of: None,
) -> list[Score]:
    """``table`` for clips spoilt in as many ways as there are seeds, at least one; its means."""
    from retain.models.mamba import evaluate as judge

    runs = {}
    for seed in seeds:
        seen = described(host, clips, degraded, seed, tell)
        runs[seed] = table(host, bank, seen, cuts=seed == seeds[0])
    return judge.mean(runs)


def table(host: Host, bank: str, clips: Sequence[Described], cuts: bool = True) -> list[Score]:
    """Every row there are weights for. ``bank``: as in EvalOptions, or ``none``. ``cuts``: look at
    what happens after them, too."""
    from retain.models.mamba import evaluate as judge
    from retain.models.mamba import weights

    name = weights.shipped_for(host) if bank == "auto" else bank
    if name is None:
        raise UsageError(
            "No read-out for this detector comes with retain.",
            hint="Train one with `retain train mamba`, or give --bank none.",
        )
    held = [] if name == "none" else weights.kinds(name)
    made = {kind: weights.load_readout(name, host, kind) for kind in held}
    rows = judge.ways(made.get("gated"), made.get("control"), made.get("paper"))
    return [judge.run(host, row, clips, cuts) for row in rows]


def show(scores: Sequence[Score]) -> None:
    """The table, and per clip and seed below."""
    from rich.table import Table

    out = Table(title="AP50 in per cent: spoilt frames, untouched frames", title_justify="left")
    for column in ("", "spoilt", "untouched", "ms", "false cuts", "ghosts", "… kept", "cuts heard"):
        out.add_column(column, justify="left" if not column else "right")
    for s in scores:
        out.add_row(
            s.name, _cent(s.deg), _cent(s.cln), f"{s.ms:.1f}", str(s.resets),
            _plain(s.ghosts), _plain(s.ghosts_kept), _plain(s.cuts_heard),
        )  # fmt: skip
    console.output().print(out)
    _parts("per clip", {s.name: s.by_clip for s in scores})
    if len(scores[0].by_seed) > 1:
        _parts("per seed", {s.name: s.by_seed for s in scores})


def _parts(title: str, rows: Mapping[str, Mapping[Any, tuple[float, float]]]) -> None:
    from rich.table import Table

    out = Table(title=f"{title}: spoilt / untouched", title_justify="left")
    for column in ("", *next(iter(rows.values()))):
        out.add_column(str(column))
    for name, parts in rows.items():
        out.add_row(name, *(f"{_cent(a)} / {_cent(b)}" for a, b in parts.values()))
    console.output().print(out)


def _cent(share: float) -> str:
    return "" if math.isnan(share) else f"{100 * share:.1f}"


def _plain(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2f}"


def scored(score: Score, scores: Sequence[Score]) -> list[Row]:
    """One row of the table, beside the detector alone."""
    alone = next(s for s in scores if s.name == "plain")
    pairs = (("spoilt", score.deg, alone.deg), ("untouched", score.cln, alone.cln))
    rows = [
        Row(
            name=f"{score.name}, {which} frames",
            value=100 * ours,
            unit="AP50",
            peer="the detector alone",
            peer_value=100 * theirs,
            ratio=ours / theirs if theirs else None,
        )
        for which, ours, theirs in pairs
    ]
    return [*rows, Row(name=f"{score.name}, time of a frame", value=score.ms, unit="ms")]


def bars(scores: Sequence[Score], degraded: str) -> list[Row]:
    """What is promised of these rows; nothing where there is no bank."""
    by = {score.name: score for score in scores}
    bank = by.get("bank")
    if bank is None:
        return []
    plain, carry, both = by["plain"], by["carry"], by["bank + carry"]
    found: list[tuple[str, float, float, str, float]] = [
        ("untouched frames: bank - plain", bank.cln, plain.cln, ">=", WORST_CLEAN),
        ("spoilt frames: bank + carry - carry", both.deg, carry.deg, ">=", 0.0),
        ("spoilt frames: bank of another clip - plain",
         by["bank of another clip"].deg, plain.deg, "<=", MOST_FOREIGN),
    ]  # fmt: skip
    if degraded == "strong":
        found.insert(0, ("spoilt frames: bank - plain", bank.deg, plain.deg, ">=", LEAST_GAIN))
        if "no-memory control" in by:
            other = by["no-memory control"].deg
            found.insert(
                1, ("spoilt frames: bank - control", bank.deg, other, ">=", LEAST_OVER_CONTROL)
            )
    rows = [
        Row(
            name=name,
            value=100 * (ours - theirs),
            unit="points",
            bar=f"{sign} {limit:g}",
            met=100 * (ours - theirs) >= limit if sign == ">=" else 100 * (ours - theirs) <= limit,
        )
        for name, ours, theirs, sign, limit in found
    ]
    if not math.isnan(bank.ghosts_kept):
        rows.append(
            Row(
                name="ghosts per frame after a cut, memory kept: bank",
                value=bank.ghosts_kept,
                unit="boxes",
                peer="the detector alone",
                peer_value=plain.ghosts_kept,
                bar=f"<= {MOST_GHOSTS}",
                met=bank.ghosts_kept <= MOST_GHOSTS,
            )
        )
    return rows
