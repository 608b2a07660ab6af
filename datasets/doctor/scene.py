"""Scenes of every format that ``retain.datasets.scene`` reads, one or a collection of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from retain.datasets.doctor import kits
from retain.datasets.doctor.base import Finding, Kit, Part, State, against, counted
from retain.datasets.doctor.heads import look_into
from retain.datasets.doctor.tree import Folder
from retain.datasets.scene.base import Scene
from retain.datasets.scene.open import FORMATS
from retain.datasets.scene.pictures import rows_in
from retain.pipeline.errors import RetainError

OPENED = 64
"""Scenes of a collection whose lists and poses are read; the rest are found by name only."""
_DEEP = 3
_MOST_FOLDERS = 2_000
_COLOUR = re.compile(r"frame-.*\.color\.")
_LOSS = ("are not there", "have no picture")
"""Of notes by which readers tell that pictures are missing."""
_ROOMS = ("room0", "room1", "room2", "office0", "office1", "office2", "office3", "office4")
_REPLICA_FRAMES = 2000
_SPLITS = {
    "chess": ((1, 2, 4, 6), (3, 5)),
    "fire": ((1, 2), (3, 4)),
    "heads": ((2,), (1,)),
    "office": ((1, 3, 4, 5, 8, 10), (2, 6, 7, 9)),
    "pumpkin": ((2, 3, 6, 8), (1, 7)),
    "redkitchen": ((1, 2, 5, 7, 8, 11, 13), (3, 4, 6, 12, 14)),
    "stairs": ((2, 3, 5, 6), (1, 4)),
}
"""Sequences of 7-Scenes: training, test."""


def scenes(folder: Folder) -> list[Finding]:
    """One finding for each format of which there are scenes here or up to three folders down."""
    found: dict[str, list[Folder]] = {}
    _search(folder, _DEEP, found, [_MOST_FOLDERS])
    return [_finding(folder, kits.SCENES[name], members) for name, members in found.items()]


def format_of(folder: Folder) -> str:
    """The name of a scene's format, by what its reader asks for; ``""`` for none."""
    if not folder.files and not folder.below:
        return ""
    for name in FORMATS:
        try:
            if name == "7-scenes":  # its reader would list the folder once more
                there = any(_COLOUR.match(file) for file in folder.files)
            else:
                there = name != "realestate10k" and FORMATS.load(name).recognises(folder.path)
            if there:
                return name
        except (OSError, ValueError):
            continue
    return ""


def _search(folder: Folder, deep: int, found: dict[str, list[Folder]], left: list[int]) -> None:
    left[0] -= 1
    name = format_of(folder)
    if name:
        found.setdefault(name, []).append(folder)
    elif deep and left[0] > 0:
        for inner in sorted(folder.below):
            _search(folder.below[inner], deep - 1, found, left)


def _finding(root: Folder, kit: Kit, members: Sequence[Folder]) -> Finding:
    finding = Finding(kit, root.path, items=len(members))
    finding.members = [member.path for member in members]
    _published(finding, members)
    if len(members) > 1:
        finding.add(kit.unit, "ok", f"{counted(len(members), kit.unit)} below this folder")
    for member in members[:OPENED]:
        _one(finding, member, alone=len(members) == 1)
    if len(members) > OPENED:
        rest = len(members) - OPENED
        finding.add(kit.unit, "note", f"{rest:,} of them were not opened; --deep does")
    look_into(finding, [(f, n) for member in members for f in member.walk() for n in f.files])
    finding.suggest("reconstruct", members[0].path)
    if len(members) > 1:
        finding.suggest("batch", root.path, "--task reconstruct")
    return finding


def _one(finding: Finding, member: Folder, alone: bool) -> None:
    """What the reader says of one scene; of many, only those that lack something."""
    name = "scene" if alone else _called(finding, member)
    opened = attempt(finding.kit.key, member.path)
    if isinstance(opened, str):
        finding.add(name, "broken", opened)
        return
    short = _short(finding.kit, member, len(opened))
    if alone or short:
        state: State = "partial" if short else "ok"
        finding.add(name, state, opened.description + short, fix=finding.kit.where if short else "")
    if missing := _unlisted(finding.kit, member):
        what = "pictures that its lists name are not there"
        finding.add(name, "partial", f"{len(missing):,} {what}", missing, finding.kit.where)
    for note in opened.notes:
        lost = any(words in note for words in _LOSS)
        finding.add(name, "partial" if lost else "note", note)
    for trap in _traps(finding.kit, member):
        finding.add(name, "note", trap)


def attempt(key: str, path: Path) -> Scene | str:
    """The opened scene, or why it cannot be opened.

    A reader that fails in a way nobody foresaw is a finding too: its files are to blame.
    """
    try:
        scene: Scene = FORMATS.load(key)(path)
        return scene
    except RetainError as error:
        return str(error)
    except Exception as error:
        return f"it cannot be opened ({type(error).__name__}: {error})"


def _called(finding: Finding, member: Folder) -> str:
    name = str(member.path.relative_to(finding.root))
    return member.path.name if name == "." else name


def _short(kit: Kit, member: Folder, count: int) -> str:
    """How many pictures a published scene lacks, in words; ``""`` for none or unknown."""
    name, above = member.path.name, member.path.parent.name
    expected = 0
    if kit is kits.REPLICA and name in _ROOMS:
        expected = _REPLICA_FRAMES
    elif kit is kits.SEVEN_SCENES and above in _SPLITS and re.fullmatch(r"seq-\d\d", name):
        expected = 500 if above == "stairs" else 1000
    return f" of {expected:,} published" if count < expected else ""


def _unlisted(kit: Kit, member: Folder) -> list[str]:
    """Files that the lists of a TUM sequence name and that are not there."""
    missing: list[str] = []
    if kit is kits.TUM:
        for table in ("rgb.txt", "depth.txt"):
            if table in member.files:
                try:
                    names = [row[1] for row in rows_in(member.path / table) if len(row) > 1]
                except RetainError:
                    continue
                missing += [name for name in names if not member.has(name)]
    return missing


def _traps(kit: Kit, member: Folder) -> list[str]:
    """What is known to go wrong with a format."""
    if kit is kits.REPLICA:
        near = (member.path / "cam_params.json", member.path.parent / "cam_params.json")
        if not any(path.is_file() for path in near):
            return ["No cam_params.json: the published camera and 6553.5 steps a metre are meant."]
    if kit is kits.TUM and "groundtruth.txt" not in member.files:
        return ["No groundtruth.txt: the camera's path cannot be judged."]
    if kit is kits.LLFF and "images" not in member.below:
        return ["No folder images: smaller copies are used."]
    return []


def _published(finding: Finding, members: Sequence[Folder]) -> None:
    """What there is of the published sequences, where folders have their names."""
    kit = finding.kit
    if kit is kits.REPLICA:
        there = {member.path.name for member in members} & set(_ROOMS)
        if there:
            against(finding, "scenes", there, Part("scenes", len(_ROOMS)), _ROOMS)
    if kit is kits.SEVEN_SCENES:
        named = {member.path.parent.name for member in members} & _SPLITS.keys()
        if named and len(named) < len(_SPLITS):
            other = _SPLITS.keys() - named
            finding.add("scenes", "absent", f"{len(other)} of {len(_SPLITS)}", other)
        have = {f"{m.path.parent.name}/{m.path.name}" for m in members}
        for place, split in enumerate(("train", "test")):
            known = {
                f"{scene}/seq-{k:02d}"
                for scene, of in _SPLITS.items()
                if any(one.startswith(f"{scene}/") for one in have)
                for k in of[place]
            }
            if known:
                part = Part(split, len(known))
                against(finding, split, have & known, part, known)
