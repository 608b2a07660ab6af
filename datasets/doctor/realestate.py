"""RealEstate10K: camera paths, and whether their pictures were got."""

from __future__ import annotations

from pathlib import Path

from retain.datasets.boundaries.videos import SUFFIXES
from retain.datasets.doctor import kits
from retain.datasets.doctor.base import Finding, State, counted
from retain.datasets.doctor.heads import look_into
from retain.datasets.doctor.scene import attempt
from retain.datasets.doctor.tree import Folder
from retain.datasets.scene.realestate import RealEstate

_TRIED = 3
"""Text files that are looked into; a folder of paths holds nothing else."""


def camera_paths(folder: Folder) -> Finding | None:
    """Text files that begin as camera paths do tell it."""
    names = folder.ending(".txt")
    if not any(_is_path(folder, name) for name in names[:_TRIED]):
        return None
    finding = Finding(kits.REALESTATE, folder.path)
    missing, files = list[str](), list[tuple[Folder, str]]()
    for name in names:
        stem = name[: -len(".txt")]
        inner = folder.below.get(stem)
        video = next((stem + end for end in SUFFIXES if stem + end in folder.files), "")
        if inner is not None and inner.files:
            files += [(inner, picture) for picture in sorted(inner.files)]
        elif video:
            files.append((folder, video))
        else:
            missing.append(stem)
            continue
        finding.members.append(folder.path / name)
    finding.items = len(finding.members)
    found = f"{counted(len(names), 'paths')}, {finding.items:,} with pictures or a video"
    state: State = "partial" if missing else "ok"
    finding.add("paths", state, found, missing, kits.REALESTATE.where if missing else "")
    if empty := set(names) & folder.empty:
        finding.add("paths", "broken", f"{len(empty)} are empty", empty, "Get them again.")
    look_into(finding, files)
    if finding.members:
        finding.suggest("reconstruct", finding.members[0])
    return finding


def camera_path(path: Path) -> Finding | None:
    """One of them, opened."""
    if not _is_path(Folder(path.parent), path.name):
        return None
    finding = Finding(kits.REALESTATE, path.parent, items=1, members=[path])
    opened = attempt("realestate10k", path)
    if isinstance(opened, str):
        finding.add("path", "partial", opened, fix=kits.REALESTATE.where)
        return finding
    finding.add("path", "ok", opened.description)
    for note in opened.notes:
        finding.add("path", "partial" if "have no picture" in note else "note", note)
    finding.suggest("reconstruct", path)
    return finding


def _is_path(folder: Folder, name: str) -> bool:
    try:
        return RealEstate.recognises(folder.path / name)
    except OSError:
        return False
