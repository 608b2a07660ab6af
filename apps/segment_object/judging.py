"""`retain eval object`: J and F of the ways to learn, on clips whose silhouettes are known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from retain.apps import console
from retain.apps.bench import Row
from retain.apps.cli_options import command_line
from retain.pipeline.errors import UsageError, nearest

if TYPE_CHECKING:
    from retain.datasets.detect.base import Clip
    from retain.datasets.detect.jf import Judged
    from retain.models.object.evaluate import Scored
    from retain.models.object.features import Features
    from retain.models.object.learn import Mode

LEAST = 0.004
"""Of a frame's pixels: smaller objects of generated clips are not followed."""
MOST = 2
"""Objects of a generated clip, the largest of its first frame."""


@dataclass(frozen=True, kw_only=True)
class ObjectEvalOptions:
    """What `retain eval object` was asked."""

    clips: Sequence[str] = ("objects://?seed=40&clips=3&frames=60",)
    """Places that ``open_clips`` knows, with silhouettes."""
    ways: Sequence[str] = ()
    """To learn; none: all."""
    relit: bool = False
    """The light changes as the clips go."""
    side: int = 480
    budget_mb: float = 80.0
    every: int = 5
    json: Path | None = None


def evaluate(options: ObjectEvalOptions) -> int:
    """Print the table, a line per clip and way, and keep the numbers. Exit code 0."""
    from retain.apps.numbers import records
    from retain.models.object.features import Features
    from retain.models.object.learn import MODES

    for word in options.ways:
        if word not in MODES:
            raise UsageError(
                f"There is no way to learn called {word!r}.", hint=nearest(word, MODES)
            )
    ways = [way for way in MODES if not options.ways or way in options.ways]
    clips = [clip for place in options.clips for clip in _clips(place, options.relit)]
    extract = Features()
    kept: dict[str, list[Scored]] = {}
    for way in ways:
        for clip, numbers in clips:
            scored = _score(clip, numbers, way, options, extract)
            kept.setdefault(way, []).append(scored)
            console.messages().print(_line(way, scored))
    _show(kept)
    if options.json:
        rows = [row for way, some in kept.items() for row in _rows(way, some)]
        records.keep(rows, command_line(), "models", options.json)
    return 0


def _clips(place: str, relit: bool) -> Iterator[tuple[Clip, tuple[int, ...]]]:
    """Clips with the objects to follow in each: all a person marked, the largest generated ones."""
    from retain.datasets.detect.open import OBJECTS, open_clips
    from retain.datasets.detect.relight import Relit
    from retain.models.object.evaluate import largest
    from retain.models.object.given import objects_of

    clips = open_clips(place)
    for number in range(len(clips)):
        clip: Clip = clips[number]
        mask = clip[0].mask
        if mask is None:
            raise UsageError(
                f"{clip.name!r} has no silhouettes, so there is nothing to give and to judge by.",
                hint="Name a DAVIS folder or objects://?seed=40.",
            )
        made = place.startswith(f"{OBJECTS}:")
        numbers = largest(mask, LEAST, MOST) if made else objects_of(mask)
        if numbers:
            yield (Relit(clip) if relit else clip), numbers


def _score(
    clip: Clip,
    numbers: tuple[int, ...],
    way: Mode,
    options: ObjectEvalOptions,
    extract: Features,
) -> Scored:
    from retain.models.object.evaluate import score
    from retain.models.object.learn import Recipe
    from retain.models.object.tracker import TrackerOptions

    asked = TrackerOptions(
        recipe=Recipe(mode=way, every=options.every),
        side=options.side,
        budget_bytes=int(options.budget_mb * 1e6),
    )
    return score(clip, asked, extract, numbers)


def _line(way: str, scored: Scored) -> str:
    return (
        f"{way:7} {scored.name}: J&F {scored.all.mean:.3f}, {scored.frames} frames, "
        f"{scored.per_second:.1f} frames per processor second"
    )


_HEAD = ("learns", "clip", "objects", "J&F", "J", "recall", "decay", "F", "recall", "decay",
         "frames/s", "MB")  # fmt: skip


def _show(kept: dict[str, list[Scored]]) -> None:
    from rich.table import Table

    from retain.datasets.detect.jf import overall

    table = Table(*_HEAD, title="J and F; frames per second of processor time, one thread")
    for way, some in kept.items():
        for one in some:
            table.add_row(way, one.name, str(len(one.objects)), *_cells(one.all), *_costs([one]))
        if len(some) > 1:
            everything = overall([judged for one in some for judged in one.objects])
            count = str(len([judged for one in some for judged in one.objects]))
            table.add_row(way, "all", count, *_cells(everything), *_costs(some), style="bold")
        table.add_section()
    console.output().print(table)


def _cells(judged: Judged) -> list[str]:
    numbers = [judged.mean]
    for course in (judged.j, judged.f):
        numbers += [course.mean, course.recall, course.decay]
    return [f"{number:.3f}" for number in numbers]


def _costs(some: Sequence[Scored]) -> list[str]:
    frames = sum(one.frames - 1 for one in some) / max(sum(one.cpu_s for one in some), 1e-9)
    return [f"{frames:.1f}", f"{max(one.nbytes for one in some) / 1e6:.1f}"]


def _rows(way: str, some: Sequence[Scored]) -> Iterator[Row]:
    for one in some:
        yield Row(name=f"{way}, {one.name}: J&F", value=one.all.mean, unit="J&F")
        yield Row(name=f"{way}, {one.name}: J", value=one.all.j.mean, unit="IoU")
        yield Row(name=f"{way}, {one.name}: F", value=one.all.f.mean, unit="F")
        yield Row(name=f"{way}, {one.name}: speed", value=one.per_second, unit="frames per CPU s")
        yield Row(name=f"{way}, {one.name}: memory", value=one.nbytes / 1e6, unit="MB")
