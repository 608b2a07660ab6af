"""Kinetics-GEBD, BBC Planet Earth and AutoShot: annotations, and the videos that belong to them."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from retain.datasets.boundaries.autoshot import read_autoshot
from retain.datasets.boundaries.base import Clip
from retain.datasets.boundaries.bbc import read_bbc
from retain.datasets.boundaries.gebd import read_gebd
from retain.datasets.boundaries.videos import SUFFIXES
from retain.datasets.doctor import kits
from retain.datasets.doctor.base import Finding, Kit, against, counted
from retain.datasets.doctor.heads import look_into
from retain.datasets.doctor.tree import Folder
from retain.pipeline.errors import RetainError

_PICKLES = (".pkl", ".pickle")
_MOST_FILES = 20
"""Annotation files that are tried."""
_MOST_BYTES = 64 << 20
"""Of one; a larger pickle is something else."""
_RAW = re.compile(r"raw_annotation", re.IGNORECASE)
_BBC = re.compile(r"(\d{1,2})[-_]\D.*\.txt")
_EPISODES = range(1, 12)


def boundaries(folder: Folder) -> Finding | None:
    """Pickles, GEBD's JSON or BBC's lists of shots tell it."""
    return _pickled(folder) or _bbc(folder)


def _pickled(folder: Folder) -> Finding | None:
    names = [n for n in folder.ending(*_PICKLES, ".json") if n not in folder.empty][:_MOST_FILES]
    finding, why = None, ""
    for name in names:
        path = folder.path / name
        if _size(path) > _MOST_BYTES:
            continue
        clips, kit, error = _read(path)
        if kit is None:
            raw = _RAW.search(name) or name.startswith("k400_mr345")
            why = why or (f"{name}: {error}" if raw else "")
            continue
        finding = finding or Finding(kit, folder.path)
        if kit is not finding.kit:
            continue
        finding.members.append(path)
        _clips(finding, name, clips, _videos(folder))
    if finding is None and why:
        finding = Finding(kits.GEBD, folder.path)
        finding.add("annotation", "broken", why, fix=kits.GEBD.where)
    if finding is not None:
        _finish(finding, folder)
    return finding


def _read(path: Path) -> tuple[list[Clip], Kit | None, str]:
    """Clips without their videos, and whose annotation it is; the last word says why none."""
    words = ""
    try:
        if path.suffix != ".json" or _looks_gebd(path):
            return [one.clip for one in read_gebd(path)], kits.GEBD, ""
    except RetainError as error:
        words = error.what
    if path.suffix in _PICKLES:
        try:
            return read_autoshot(path), kits.AUTOSHOT, ""
        except RetainError:
            pass
    return [], None, words


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _looks_gebd(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return b"substages_timestamps" in file.read(1 << 16)
    except OSError:
        return False


def _videos(folder: Folder) -> dict[str, tuple[Folder, str]]:
    """Every video below by its name without ending."""
    return {
        Path(name).stem: (inner, name)
        for inner in folder.walk()
        for name in sorted(inner.files)
        if name.lower().endswith(SUFFIXES)
    }


def _clips(finding: Finding, name: str, clips: list[Clip], videos: Collection[str]) -> None:
    """A line for one annotation: how many of its videos are there."""
    wanted = {clip.name: Path(clip.missing or clip.name).stem for clip in clips}
    missing = {clip for clip, stem in wanted.items() if stem not in videos and clip not in videos}
    there = len(wanted) - len(missing)
    finding.items += there
    unit = finding.kit.unit
    cuts = sum(len(clip.boundaries) for clip in clips)
    finding.add(name, "ok", f"{counted(len(wanted), unit)}, {cuts:,} boundaries")
    found = f"{there:,} of {counted(len(wanted), 'videos')}"
    finding.add("videos", "partial" if missing else "ok", found, missing, finding.kit.where)


def _bbc(folder: Folder) -> Finding | None:
    numbers = {int(m[1]): name for name in folder.files if (m := _BBC.fullmatch(name))}
    if not numbers:
        return None
    kit, clips, whys = kits.BBC, dict[int, Clip](), list[str]()
    for number, name in sorted(numbers.items()):
        try:
            clips[number] = read_bbc(folder.path / name)[0]
        except RetainError as error:
            whys.append(error.what)
    if not clips:
        return None
    finding = Finding(kit, folder.path, members=[folder.path])
    names = {f"{number:02d}" for number in clips}
    against(finding, "episodes", names, kit.part("episodes"), [f"{k:02d}" for k in _EPISODES])
    for why in whys:
        finding.add("episodes", "broken", why, fix="Get the annotation again.")
    held = {int(m[0]) for stem in _videos(folder) if (m := re.search(r"\d{1,9}", stem))}
    missing = [numbers[number] for number in clips if number not in held]
    finding.items = len(clips) - len(missing)
    found = f"{finding.items} of {counted(len(clips), 'videos')}"
    finding.add("videos", "partial" if missing else "ok", found, missing, kit.where)
    _finish(finding, folder)
    return finding


def _finish(finding: Finding, folder: Folder) -> None:
    videos = _videos(folder)
    look_into(finding, [videos[stem] for stem in sorted(videos)])
    if videos:
        inner, name = videos[min(videos)]
        finding.suggest("watch", inner.path / name)
