"""EchoNet-Dynamic and CAMUS, as their papers and GDKVM's judge.

EchoNet-Dynamic: Dice of the cavity on the two traced frames of each video of the split TEST, and
the ejection fraction against FileList's. CAMUS: Dice, HD95 and mean surface distance per structure
and phase in millimetres at the pictures' own size, and biplane EF and volumes per patient.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retain.apps.evaluate_sets.base import Kept, SetOptions, Table, Tell, limited, partly
from retain.datasets.echo import metrics, volumes
from retain.datasets.echo.camus import SPLIT_FILES, Camus
from retain.datasets.echo.clip import CAVITY, LABELS, UNLABELLED, EchoClip
from retain.datasets.echo.echonet import EchoNet
from retain.datasets.echo.reading import Problems
from retain.models.gdkvm.place import masks_on_frame
from retain.models.gdkvm.stage import Segment
from retain.pipeline.errors import RetainError, UsageError
from retain.pipeline.frame import Frame
from retain.pipeline.packet import Packet
from retain.pipeline.results import Masks

Labels = NDArray[np.uint8]
NOT_FOR_DIAGNOSIS = "Not for diagnosis."
_PHASES = ("ED", "ES")


def echonet(options: SetOptions, kept: Kept, tell: Tell) -> Iterable[Table]:
    """The tables of EchoNet-Dynamic."""
    reader = EchoNet(options.path)
    clips = reader.clips(options.split or "test")  # type: ignore[arg-type]
    found = list(_judged(clips, options, kept, tell, "cavity"))
    _refuse_none(found, options, reader.problems)
    rows = []
    for phase in (*_PHASES, "both"):
        names = _PHASES if phase == "both" else (phase,)
        some = metrics.patient_mean(
            [one["patient"] for one in found for _ in names],
            [_of(one, "cavity", name, "dice") for one in found for name in names],
        )
        rows.append((f"Dice, {phase}", some.mean, some.low, some.high, some.patients, some.skipped))
    notes = (
        *_problems(reader.problems), *partly(options),
        "Whole videos are segmented in order of time; the two traced frames are judged. EF: "
        "area-length of one view from these two masks; the published reference is of a reader.",
        NOT_FOR_DIAGNOSIS,
    )  # fmt: skip
    yield Table(
        f"EchoNet-Dynamic, {options.split or 'test'}: left ventricle",
        ("", "mean", "95 % from", "to", "videos", "unscored"),
        rows,
        notes,
    )
    yield _ef_table("EchoNet-Dynamic", [("single plane", _pairs(found, "ef"))])


def camus(options: SetOptions, kept: Kept, tell: Tell) -> Iterable[Table]:
    """The tables of CAMUS. Without the official split files all patients are judged."""
    reader = Camus(options.path)
    split: str | None = options.split or ("test" if _has_splits(Path(options.path)) else None)
    found = list(_judged(reader.clips(split), options, kept, tell, "all"))  # type: ignore[arg-type]
    _refuse_none(found, options, reader.problems)
    rows: list[tuple[str | float | int, ...]] = []
    for name in LABELS:
        for phase in _PHASES:
            patients = [one["patient"] for one in found]
            numbers: list[float] = []
            for score in ("dice", "hd95", "asd"):
                each = metrics.patient_mean(patients, [_of(o, name, phase, score) for o in found])
                numbers += [each.mean, each.high - each.low]
            missing = sum(_of(one, name, phase, "dice") is None for one in found)
            rows.append((f"{name}, {phase}", *numbers, len(found) - missing, missing))
    yield Table(
        f"CAMUS, {split or 'all patients'}, 2CH and 4CH",
        ("", "Dice", "width", "HD95 mm", "width", "ASD mm", "width", "masks", "unscored"),
        rows,
        (
            *_problems(reader.problems), *partly(options),
            "Width: of the 95 % interval, patients resampled. Structures as outlined: the "
            "myocardium alone, not the epicardium with the cavity in it.",
            NOT_FOR_DIAGNOSIS,
        ),
    )  # fmt: skip
    both = list(_biplane(found))
    yield _ef_table("CAMUS", [
        ("EF, biplane disks", [(a["ef"], b["ef"]) for a, b in both]),
        ("EF, biplane disks, against the files' EF", [(a["ef"], b["stated"]) for a, b in both]),
        ("EDV in ml", [(a["edv"], b["edv"]) for a, b in both]),
        ("ESV in ml", [(a["esv"], b["esv"]) for a, b in both]),
    ])  # fmt: skip


def _refuse_none(found: Sequence[object], options: SetOptions, problems: Problems) -> None:
    """Raises UsageError where a table would be of nothing."""
    if not found:
        raise UsageError(
            f"No clip of {options.path!r} could be judged.",
            hint=_problems(problems)[0] if problems else "Its split holds none: try --split.",
        )


def _ef_table(name: str, lines: Sequence[tuple[str, Sequence[tuple[float, float]]]]) -> Table:
    rows: list[tuple[str | float | int, ...]] = []
    for what, pairs in lines:
        a = metrics.agreement([p for p, _ in pairs], [t for _, t in pairs])
        rows.append((what, a.n, a.mae, a.rmse, a.r, a.r2, a.bias, a.low, a.high))
    return Table(
        f"{name}: clinical measures, found against reference",
        ("", "n", "MAE", "RMSE", "r", "R2", "bias", "limits from", "to"),
        rows,
        (NOT_FOR_DIAGNOSIS,),
    )


def _judged(
    clips: Iterable[EchoClip], options: SetOptions, kept: Kept, tell: Tell, structures: str
) -> Iterator[dict[str, Any]]:
    Segment(options.weights, structures, options.device)  # type: ignore[arg-type]
    # ^ at once: weights that are none are no fault of the clips, which would all score 0
    for k, clip in enumerate(limited(options, clips)):
        tell(clip.name, k, options.limit)
        yield kept.ask(f"{clip.name} {clip.view}", partial(_facts, clip, options, structures))


def _facts(clip: EchoClip, options: SetOptions, structures: str) -> Mapping[str, Any]:
    """Scores of the two phases, what each view says of the volumes, and whose they are."""
    facts: dict[str, Any] = {"patient": clip.patient or clip.name, "view": clip.view, "why": ""}
    facts["ef"] = facts["stated"] = None
    if min(clip.ed, clip.es) < 0:
        return {**facts, "why": "no phase is labelled"}
    try:
        found = segmented(clip, options.weights, structures, options.device)
    except RetainError as error:  # no fan in it: nothing was found, which scores nothing
        facts["why"] = str(error)
        found = dict.fromkeys((clip.ed, clip.es), np.zeros(clip.masks.shape[1:], np.uint8))
    for phase, at in zip(_PHASES, (clip.ed, clip.es), strict=True):
        truth = clip.masks[at]
        for value, name in enumerate(LABELS, 1):
            if (truth == UNLABELLED).any() or (structures == "cavity" and value != CAVITY):
                continue
            facts[f"{name} {phase}"] = _scores(found[at] == value, truth == value, clip.spacing_mm)
        facts[f"disks {phase}"] = {
            "found": _pixels(found[at] == CAVITY), "truth": _pixels(truth == CAVITY),
        }  # fmt: skip
    facts["spacing"] = list(clip.spacing_mm)
    facts["shape"] = list(clip.masks.shape[1:])
    facts["ef"], facts["stated"] = _single_plane(found, clip), _number(clip.ef)
    return facts


def segmented(clip: EchoClip, weights: str, structures: str, device: str) -> dict[int, Labels]:
    """Frame number to labels at the clip's own size, of end-diastole and end-systole; the whole
    clip is seen in order of time, as `retain segment` would. Raises NoSector without a fan."""
    stage = Segment(weights, structures, device)  # type: ignore[arg-type]
    height, width = clip.frames.shape[1:]
    out: dict[int, Labels] = {}
    rate = Fraction(clip.fps).limit_denominator(1000) if clip.fps > 0 else Fraction(30)

    def take(packets: Iterable[Packet]) -> None:
        for packet in packets:
            masks = packet.results["masks"]
            if packet.frame.seq in (clip.ed, clip.es) and isinstance(masks, Masks):
                out[packet.frame.seq] = masks_on_frame(masks, height, width)

    for k, grey in enumerate(clip.frames):
        image = np.repeat(grey[..., None], 3, 2)
        take(stage.process(Packet(Frame(clip.name, k, k, 1 / rate, image), {})))
    take(stage.flush())
    return out


def _scores(
    found: NDArray[np.bool_], truth: NDArray[np.bool_], spacing: tuple[float, float]
) -> dict[str, float | None]:
    known = all(math.isfinite(s) and s > 0 for s in spacing)
    far = metrics.distances(found, truth, spacing) if known else None
    return {
        "dice": metrics.dice(found, truth),
        "hd95": far.hd95 if far else None,
        "asd": far.asd if far else None,
    }


def _single_plane(found: Mapping[int, Labels], clip: EchoClip) -> float | None:
    edv, esv = (
        volumes.area_length(volumes.largest_part(found[at] == CAVITY), clip.spacing_mm).volume
        for at in (clip.ed, clip.es)
    )
    return _number(volumes.ejection_fraction(edv, esv))


def _biplane(found: Sequence[Mapping[str, Any]]) -> Iterator[tuple[dict[str, float], ...]]:
    """Of each patient with both views: volumes and EF from our masks, and from the reference's."""
    views: dict[str, dict[str, Mapping[str, Any]]] = {}
    for one in found:
        if "spacing" in one:
            views.setdefault(one["patient"], {})[one["view"]] = one
    for both in views.values():
        if not {"2CH", "4CH"} <= set(both):
            continue
        sides = []
        for side in ("found", "truth"):
            edv, esv = (_volume(both, phase, side) for phase in _PHASES)
            sides.append({"edv": edv, "esv": esv, "ef": volumes.ejection_fraction(edv, esv)})
        stated = both["4CH"]["stated"]
        sides[1]["stated"] = math.nan if stated is None else stated
        yield tuple(sides)


def _volume(both: Mapping[str, Mapping[str, Any]], phase: str, side: str) -> float:
    parts: list[Any] = []
    for view in ("2CH", "4CH"):
        one = both[view]
        parts += [_mask(one[f"disks {phase}"][side], one["shape"]), tuple(one["spacing"])]
    return volumes.biplane(*parts).volume if parts[0].any() and parts[2].any() else math.nan


def _pixels(mask: NDArray[np.bool_]) -> list[int]:
    """A mask as runs: lengths of absent and present in turn, absent first."""
    flat = np.concatenate(([False], mask.ravel(), [False]))
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff(np.concatenate(([0], edges, [mask.size]))).tolist()  # type: ignore[no-any-return]


def _mask(runs: Sequence[int], shape: Sequence[int]) -> NDArray[np.bool_]:
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(shape)


def _of(facts: Mapping[str, Any], name: str, phase: str, score: str) -> float | None:
    found = facts.get(f"{name} {phase}")
    return found[score] if found else None


def _pairs(found: Sequence[Mapping[str, Any]], key: str) -> list[tuple[float, float]]:
    return [
        (one[key], one["stated"]) for one in found if None not in (one[key], one["stated"])
    ]  # fmt: skip


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _problems(problems: Problems) -> tuple[str, ...]:
    if not problems:
        return ()
    first = problems[0]
    return (f"{len(problems)} problems while reading, such as {first.item}: {first.what}",)


def _has_splits(root: Path) -> bool:
    files = (folder / "database_split" / SPLIT_FILES["test"] for folder in (root, root.parent))
    return any(path.is_file() for path in files)
