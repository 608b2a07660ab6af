"""DAVIS, semi-supervised: the first frame is given; J and F of the frames after it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from retain.apps.evaluate_sets.base import Kept, SetOptions, Table, Tell, limited, partly
from retain.datasets.detect.base import Clip
from retain.datasets.detect.davis import Davis
from retain.datasets.detect.jf import Course, Judged, overall
from retain.models.object.evaluate import score
from retain.models.object.features import Features
from retain.models.object.given import objects_of
from retain.models.object.tracker import TrackerOptions
from retain.pipeline.errors import RetainError, UsageError

OPTIONS = TrackerOptions()
_HEAD = ("", "objects", "J&F", "J mean", "J recall", "J decay", "F mean", "F recall", "F decay",
         "frames per CPU s")  # fmt: skip


def davis(options: SetOptions, kept: Kept, tell: Tell) -> Iterable[Table]:
    """One table: a row per sequence, then all objects of all sequences."""
    root = Path(options.path)
    names, from_file = sequences(root, options.split)
    all_there = Davis(root)
    there = {all_there[k].name for k in range(len(all_there))}
    gone = [name for name in names if name not in there]
    if names and len(gone) == len(names):
        raise UsageError(f"None of the {len(names)} sequences of {from_file} is in {str(root)!r}.")
    clips = Davis(root, [name for name in names if name in there])
    extract = Features()
    why = [f"{len(gone)} of {len(names)} sequences are not there: {', '.join(gone)}."] * bool(gone)
    rows: list[tuple[str | float | int, ...]] = []
    everything: list[Judged] = []
    chosen = list(limited(options, range(len(clips))))
    for k in chosen:
        clip = clips[k]
        tell(clip.name, k, len(chosen))
        facts = kept.ask(clip.name, partial(_facts, clip, extract))
        if facts["error"]:
            why.append(f"{clip.name}: {facts['error']}")
            continue
        judged = [_judged(one) for one in facts["objects"]]
        everything += judged
        rows.append((clip.name, len(judged), *_numbers(overall(judged)), facts["per_second"]))
    if not everything:
        raise UsageError(f"No sequence of {options.path!r} could be judged.", hint=why[0])
    all_ = overall(everything)
    rows.append((f"all {len(rows)}", len(everything), *_numbers(all_), float("nan")))
    yield Table(
        f"DAVIS, {from_file or 'all sequences'}, semi-supervised, without any training",
        _HEAD,
        rows,
        (
            *why, *partly(options),
            "Published numbers are of 2017 val (30 sequences, 61 objects) or 2016 val (20, one "
            "object each) at 480p; the first and the last frame do not count.",
        ),
    )  # fmt: skip


def sequences(root: Path, split: str) -> tuple[tuple[str, ...], str]:
    """Names of the split, of 2017 where both are there, and the file that says so; without a
    ``split`` that of val, or all sequences where no file names them. Raises UsageError."""
    name = split or "val"
    for year in ("2017", "2016"):
        path = root / "ImageSets" / year / f"{name}.txt"
        if path.is_file():
            if found := tuple(path.read_text().split()):
                return found, f"{year} {name}"
            raise UsageError(f"{str(path)!r} names no sequence.")
    if split:
        raise UsageError(
            f"{str(root)!r} has no ImageSets/2017/{split}.txt, so no split {split!r}.",
            hint="Add the file, one sequence a line, or leave the split out.",
        )
    return (), ""


def _facts(clip: Clip, extract: Features) -> Mapping[str, Any]:
    try:
        first = clip[0].mask
        if first is None or not objects_of(first):
            return {"error": "its first frame shows no object", "objects": []}
        scored = score(clip, OPTIONS, extract)
    except RetainError as error:
        return {"error": error.what, "objects": []}
    objects = [
        {"js": list(one.js), "fs": list(one.fs), "j": _course(one.j), "f": _course(one.f)}
        for one in scored.objects
    ]
    return {"error": "", "objects": objects, "per_second": scored.per_second}


def _course(course: Course) -> list[float]:
    return [course.mean, course.recall, course.decay]


def _judged(one: Mapping[str, Any]) -> Judged:
    return Judged(Course(*one["j"]), Course(*one["f"]), tuple(one["js"]), tuple(one["fs"]))


def _numbers(judged: Judged) -> tuple[float, ...]:
    return (
        judged.mean, judged.j.mean, judged.j.recall, judged.j.decay,
        judged.f.mean, judged.f.recall, judged.f.decay,
    )  # fmt: skip
