"""MOTChallenge."""

from __future__ import annotations

import configparser
from pathlib import Path

from retain.datasets.detect.mot import read_rows
from retain.datasets.doctor import kits
from retain.datasets.doctor.base import Finding, Kit, against, counted, some
from retain.datasets.doctor.heads import look_into
from retain.datasets.doctor.tree import Folder
from retain.pipeline.errors import RetainError
from retain.pipeline.sources.common import IMAGE_SUFFIXES

_PICTURES = tuple(sorted(IMAGE_SUFFIXES))
_MOT_17 = {2: 600, 4: 1050, 5: 837, 9: 525, 10: 654, 11: 900, 13: 750}
_MOT_17_TEST = {1: 450, 3: 1500, 6: 1194, 7: 500, 8: 625, 12: 900, 14: 750}
_PUBLIC = ("DPM", "FRCNN", "SDP")
"""Detectors whose boxes MOT17 gives; the pictures are there three times."""
LENGTHS: dict[str, dict[str, int]] = {
    "MOT15 train": {
        "ADL-Rundle-6": 525, "ADL-Rundle-8": 654, "ETH-Bahnhof": 1000, "ETH-Pedcross2": 837,
        "ETH-Sunnyday": 354, "KITTI-13": 340, "KITTI-17": 145, "PETS09-S2L1": 795,
        "TUD-Campus": 71, "TUD-Stadtmitte": 179, "Venice-2": 600,
    },
    "MOT16 train": {f"MOT16-{k:02d}": n for k, n in _MOT_17.items()},
    "MOT16 test": {f"MOT16-{k:02d}": n for k, n in _MOT_17_TEST.items()},
    "MOT17 train": {f"MOT17-{k:02d}-{d}": n for k, n in _MOT_17.items() for d in _PUBLIC},
    "MOT17 test": {f"MOT17-{k:02d}-{d}": n for k, n in _MOT_17_TEST.items() for d in _PUBLIC},
    "MOT20 train": {"MOT20-01": 429, "MOT20-02": 2782, "MOT20-03": 2405, "MOT20-05": 3315},
    "MOT20 test": {"MOT20-04": 2080, "MOT20-06": 1008, "MOT20-07": 585, "MOT20-08": 806},
}  # fmt: skip
"""Sequences of the benchmark and their frames."""


def mot(folder: Folder, kit: Kit = kits.MOT) -> Finding | None:
    """Sequences tell it: here, in train and test, or one further down."""
    found = _sequences(folder, 3)
    if not found:
        return None
    finding, files = Finding(kit, folder.path, items=len(found)), list[tuple[Folder, str]]()
    there = {one.path.name for one in found}
    official = False
    for name, known in LENGTHS.items():
        if there & known.keys():
            official = True
            against(finding, name, there & known.keys(), kit.part(name), known)
    if not official:
        what = f"{counted(len(found), 'sequences')}: {some(sorted(there))}"
        finding.add("names", "note", f"{what}; not those of the benchmark, data of your own?")
    counts: dict[str, list[str]] = {"gt": [], "det": [], "hidden": []}
    short: list[str] = []
    for one in found:
        files += _sequence(finding, one, counts, short)
    finding.add("truth", "ok" if counts["gt"] else "note", f"gt.txt in {len(counts['gt'])}")
    if counts["det"]:
        finding.add("detections", "ok", f"det.txt in {len(counts['det'])}")
    if counts["hidden"]:
        what = "sequences without gt: test sequences have none, results are judged by a server"
        finding.add("truth", "note", f"{len(counts['hidden'])} {what}", counts["hidden"])
    if short:
        finding.add("frames", "partial", "pictures are missing", short, kit.where)
    look_into(finding, files)
    finding.members = [one.path for one in found]
    if files:
        finding.suggest("detect", files[0][0].path)
    return finding


def _sequences(folder: Folder, depth: int) -> list[Folder]:
    if folder.has("gt/gt.txt") or folder.has("det/det.txt") or "seqinfo.ini" in folder.files:
        return [folder]
    if not depth:
        return []
    return [one for name in sorted(folder.below)
            for one in _sequences(folder.below[name], depth - 1)]  # fmt: skip


def _sequence(
    finding: Finding, one: Folder, counts: dict[str, list[str]], short: list[str]
) -> list[tuple[Folder, str]]:
    """Note what a sequence has; returns its files."""
    name = one.path.name
    pictures, length, why = _info(one)
    if why:
        finding.add(name, "broken", f"seqinfo.ini: {why}", fix="Get seqinfo.ini again.")
    shown = pictures.ending(*_PICTURES)
    published = next((known[name] for known in LENGTHS.values() if name in known), 0)
    expected = max(length, published)
    if not shown:
        short.append(f"{name} (none of {expected})" if expected else f"{name} (none)")
    elif len(shown) < expected:
        have = {Path(picture).stem for picture in shown}
        first = next((f"{k:06d}" for k in range(1, expected + 1) if f"{k:06d}" not in have), "")
        short.append(f"{name} ({expected - len(shown)} of {expected}, first {first})")
    if one.has("det/det.txt"):
        counts["det"].append(name)
    if not one.has("gt/gt.txt"):
        counts["hidden"].append(name)
    else:
        counts["gt"].append(name)
        try:
            rows = read_rows(one.path / "gt" / "gt.txt")
            if length and rows and rows[-1][0] > length:
                raise ValueError(f"it has boxes in frame {rows[-1][0]} of {length}")
        except (RetainError, ValueError, OSError) as error:
            finding.add(name, "broken", f"gt.txt: {error}", fix="Get the labels again.")
    return [(pictures, picture) for picture in shown]


def _info(one: Folder) -> tuple[Folder, int, str]:
    """The folder of pictures, how many there should be (0: not told), and what is wrong."""
    place, length, why = "img1", 0, ""
    if "seqinfo.ini" in one.files:
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read_string((one.path / "seqinfo.ini").read_text())
            place = parser["Sequence"].get("imDir", place)
            length = min(max(int(parser["Sequence"]["seqLength"]), 0), 1_000_000)
        except (OSError, ValueError, KeyError, configparser.Error) as error:
            why = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return one.at(place.strip("/")) or Folder(one.path / "img1"), length, why
