"""EchoNet-Dynamic and CAMUS."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from contextlib import suppress

from retain.datasets.doctor import kits
from retain.datasets.doctor.base import Finding, Kit, Part, State, against, counted
from retain.datasets.doctor.heads import look_into
from retain.datasets.doctor.tree import Folder
from retain.datasets.echo.camus import SPLIT_FILES, VIEWS
from retain.datasets.echo.echonet import FILE_COLUMNS, TRACING_COLUMNS

_OFFICIAL = re.compile(r"0X[0-9A-F]+")
_UNTRACED = 6
"""Videos without a tracing in EchoNet-Dynamic as published."""
_ORPHANS = frozenset(("0X4F8859C8AB4DA9CB",))
"""Tracings without a video in it."""
_STEM = re.compile(r"(patient\d+)_(2CH|4CH)_(half_sequence|sequence|ED|ES)(_gt)?")
_VOLUMES = (".nii.gz", ".nii", ".mhd")


class _NoTable(Exception):
    """Why a table cannot be used."""


def echonet(folder: Folder, kit: Kit = kits.ECHONET) -> Finding | None:
    """Two of its three names tell it."""
    there = [name for name in kit.marks if name in folder.files or name in folder.below]
    if len(there) < 2:
        return None
    finding = Finding(kit, folder.path)
    videos = folder.below.get("Videos", Folder(folder.path / "Videos"))
    avis = {name[:-4] for name in videos.files if name.endswith(".avi")}
    finding.items = len(avis)
    for name in set(kit.marks) - set(there):
        what = "the folder" if name == "Videos" else "the table"
        finding.add(name, "broken", f"{what} is not there", fix=f"{kit.where} It holds all three.")
    try:
        rows = list(_rows(folder, "FileList.csv", FILE_COLUMNS))
        tracings = {_stem(row["FileName"]) for row in _rows(folder, *_TRACINGS)}
    except _NoTable as error:
        if not set(kit.marks) - set(there):
            finding.add("tables", "broken", str(error), fix="Get the table again.")
        rows, tracings = [], set()
    if rows:
        _videos(finding, rows, avis)
        _tracings(finding, {_stem(row["FileName"]) for row in rows}, tracings)
    look_into(finding, [(videos, f"{name}.avi") for name in sorted(avis)])
    if avis:
        finding.suggest("segment", videos.path / f"{min(avis)}.avi")
        finding.suggest("batch", videos.path, "--task segment")
    return finding


_TRACINGS = ("VolumeTracings.csv", TRACING_COLUMNS)


def _videos(finding: Finding, rows: list[dict[str, str]], avis: set[str]) -> None:
    """A line for each split: listed, there, published."""
    kit, known = finding.kit, {_stem(row["FileName"]): row["Split"] for row in rows}
    official = any(_OFFICIAL.fullmatch(name) for name in known)
    if not official:
        finding.add("names", "note", "not those of the published set: data of your own in its form")
    splits = {(split or "").strip().lower() for split in known.values()}
    for split in sorted(splits | {part.name for part in kit.parts if official}):
        listed = {n for n, of in known.items() if (of or "").strip().lower() == split}
        part = kit.part(split) if official else None
        missing = listed - avis
        found = f"{len(listed - missing):,} of {len(listed):,} listed videos"
        short = part is not None and len(listed) < part.items
        if part is not None:
            found += f"; {part.items:,} published"
        state, fix = _state(listed, missing, short), kit.where if missing else ""
        finding.add(split or "no split", state, found, missing, fix)
    if extra := avis - set(known):
        finding.add("unlisted", "note", f"{len(extra):,} videos FileList.csv does not name", extra)


def _state(listed: set[str], missing: set[str], short: bool) -> State:
    """Of a split: ``short`` says that its list names fewer than were published."""
    if not listed:
        return "absent"
    return "partial" if missing or short else "ok"


def _tracings(finding: Finding, listed: set[str], traced: set[str]) -> None:
    without, orphans = listed - traced, traced - listed
    found = f"{len(listed & traced):,} of {len(listed):,} listed videos are traced"
    if len(without) <= _UNTRACED:
        known = f"; {_UNTRACED} without a tracing are known" if without else ""
        finding.add("tracings", "note" if without else "ok", found + known, without)
    else:
        finding.add("tracings", "partial", found, without, "Get VolumeTracings.csv again.")
    if orphans:
        known = " (a known one)" if orphans <= _ORPHANS else ""
        finding.add("tracings", "note", f"{len(orphans):,} without a listed video{known}", orphans)


def _rows(folder: Folder, name: str, columns: tuple[str, ...]) -> Iterator[dict[str, str]]:
    if name not in folder.files:
        raise _NoTable(f"{name} is not there")
    try:
        with (folder.path / name).open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [column for column in columns if column not in (reader.fieldnames or ())]
            if missing:
                raise _NoTable(f"{name} has no column {missing[0]}")
            yield from reader
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = getattr(error, "strerror", None) or "it is no table"
        raise _NoTable(f"{name} cannot be read: {why}") from None


def _stem(name: str | None) -> str:
    return (name or "").strip().removesuffix(".avi")


def camus(folder: Folder, kit: Kit = kits.CAMUS) -> Finding | None:
    """Files named after patient and view tell it."""
    places = dict(_files(folder))
    found: dict[str, set[str]] = {}
    for name in places:
        if (match := _STEM.match(name)) and name.endswith((*_VOLUMES, ".raw", ".zraw")):
            found.setdefault(match[1], set()).add(match[2])
    if not found:
        return None
    finding = Finding(kit, folder.path, items=len(found))
    _patients(finding, folder, set(found))
    stems = {name[: -len(end)] for name in places for end in _VOLUMES if name.endswith(end)}
    _missing(finding, stems, set(found), testing="testing" in folder.below)
    _phases(finding, places, found)
    volumes = [(place, name) for name, place in sorted(places.items())]
    look_into(finding, volumes)
    return finding


def _files(folder: Folder) -> Iterator[tuple[str, Folder]]:
    """Where the reader looks for them: its patterns, asked of what was listed."""
    homes = [folder.below.get(name) for name in ("database_nifti", "training", "testing")]
    for home in (folder, *(home for home in homes if home is not None)):
        for name, inner in home.below.items():
            if name.startswith("patient") or name in ("frames", "masks"):
                yield from ((file, inner) for file in inner.files if file.startswith("patient"))


def _patients(finding: Finding, folder: Folder, there: set[str]) -> None:
    kit, total = finding.kit, sum(part.items for part in finding.kit.parts)
    width = len(min(there))
    names = [f"patient{k:0{max(4, width - 7)}d}" for k in range(1, total + 1)]
    against(finding, "patients", there, Part("patients", total), names)
    of: dict[str, str] = {}
    for split, file in SPLIT_FILES.items():
        homes = (folder.path, folder.path.parent)
        path = next((p for h in homes if (p := h / "database_split" / file).is_file()), None)
        try:
            listed = path.read_text().split() if path is not None else None
        except (OSError, UnicodeDecodeError):
            listed = None
        if listed is None:
            finding.add(split, "note", f"no database_split/{file}, so this split is not known")
            continue
        twice = [name for name in listed if of.setdefault(name, split) != split]
        if twice:
            finding.add(split, "broken", "patients in another split too", twice)
        part, gone = kit.part(split), set(listed) - there
        found = f"{len(set(listed)) - len(gone)} of {len(set(listed))} listed patients"
        short = part is not None and len(set(listed)) < part.items
        state = _state(set(listed), gone, short)
        finding.add(split, state, f"{found}; {part.items if part else 0} published", gone)


def _missing(finding: Finding, stems: set[str], patients: set[str], testing: bool) -> None:
    """Files without which the reader cannot give an item, and truth that is kept back."""
    views, gone, untrue = 0, list[str](), list[str]()
    for patient in sorted(patients):
        for view in VIEWS:
            name = f"{patient}_{view}"
            there = {stem.removeprefix(f"{name}_") for stem in stems if stem.startswith(name)}
            if not there:
                gone.append(name)
                continue
            views += 1
            sequence = next((s for s in ("half_sequence", "sequence") if s in there), "")
            truth = {f"{sequence}_gt"} if f"{sequence}_gt" in there else {"ED_gt", "ES_gt"}
            if not sequence:
                gone += [f"{name}_{need}" for need in sorted({"ED", "ES"} - there)]
            lacking = [f"{name}_{need}" for need in sorted(truth - there)]
            (untrue if testing and len(lacking) == len(truth) else gone).extend(lacking)
    if gone:
        finding.add("views", "partial", f"{views:,} there; files are missing", gone)
    else:
        finding.add("views", "ok", f"{counted(views, 'views')} with pictures and masks")
    if untrue:
        found = f"{counted(len(untrue), 'masks')} of test patients are not there: not published"
        finding.add("truth", "note", found + " with the first release", untrue)


def _phases(finding: Finding, places: dict[str, Folder], found: dict[str, set[str]]) -> None:
    """How many sequences are stored from end-systole to end-diastole: a known trap."""
    homes = {place.path: place for place in places.values()}
    first, infos = [], 0
    for place in homes.values():
        for view in VIEWS:
            if f"Info_{view}.cfg" not in place.files:
                continue
            infos += 1
            with suppress(OSError, ValueError, KeyError):
                lines = (place.path / f"Info_{view}.cfg").read_text(errors="replace").splitlines()
                info = {k.strip(): v for k, _, v in (line.partition(":") for line in lines)}
                if float(info["ED"]) > float(info["ES"]):
                    first.append(f"{place.path.name}_{view}")
    wanted = sum(len(views) for views in found.values())
    if infos < wanted:
        finding.add("info", "note", f"{infos} of {wanted} views have an Info file (ED, ES, EF)")
    if first:
        what = f"{len(first)} sequences begin with end-systole; the reader turns them round"
        finding.add("phases", "note", what, first)
