"""What is at a place: asks each data set in turn, here, then further down, then further up."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from pathlib import Path

from retain.datasets.doctor import kits
from retain.datasets.doctor.around import around
from retain.datasets.doctor.base import Finding, Kit, Report, State, some
from retain.datasets.doctor.boundaries import boundaries
from retain.datasets.doctor.coco import coco
from retain.datasets.doctor.detect import davis, vid
from retain.datasets.doctor.echo import camus, echonet
from retain.datasets.doctor.files import one_file
from retain.datasets.doctor.kits import KITS
from retain.datasets.doctor.mot import mot
from retain.datasets.doctor.plain import archives, packed, plain_files, shards
from retain.datasets.doctor.realestate import camera_paths
from retain.datasets.doctor.scene import scenes
from retain.datasets.doctor.tree import Folder, Tell, Tree, scan

Ask = Callable[[Folder], Finding | None]

_ROOTED: tuple[Ask, ...] = (echonet, camus, vid, davis, boundaries, coco, camera_paths)
"""Data sets whose reader wants their own folder, and no other."""
_MOST_FOLDERS = 300
_DEEP = 2


def recognise(path: str | Path, tell: Tell | None = None) -> Report:
    """What ``path``, a folder or a file, holds; it is listed once, and nothing is written.

    ``tell`` is called with the number of entries listed so far. Never raises for what lies there;
    what cannot be read is part of the answer.
    """
    path = Path(path)
    if not path.is_dir():
        return one_file(path)
    tree = scan(path, tell)
    findings = _found(tree.root)
    for finding in findings:
        if finding.root == path:
            packed(finding, tree.root)
    if not findings:
        findings = archives(tree.root)
    if not findings:
        findings = [one] if (one := shards(tree.root)) is not None else plain_files(tree.root)
        if findings and (outer := around(path)):
            for finding in findings:
                finding.add("place", "partial", "it is a part of a data set", fix=outer)
    for finding in findings:
        _listing(finding, tree)
        if finding.kit.key in kits.EVALUATED and finding.items:
            finding.suggest("eval set", finding.root)
    if path in tree.denied:
        return Report(path, (), "You may not list it: change its permissions.")
    if not findings:
        return Report(path, (), around(path) or _nearest(tree.root))
    return Report(path, tuple(findings))


def _found(root: Folder) -> list[Finding]:
    """The known data set here, or those in folders further down."""
    one = _rooted(root)
    if one is not None:
        return [one]
    found = _collections(root)
    if any(finding.members == [root.path] for finding in found):
        return found
    inner = _further_down(root)
    for finding in inner:
        _misplaced(finding, alone=len(inner) + len(found) == 1)
    return found + inner


def _collections(root: Folder) -> list[Finding]:
    """Sequences and scenes, whose readers are given one each."""
    try:
        sequences = mot(root)
        return ([] if sequences is None else [sequences]) + scenes(root)
    except Exception as error:
        return [_unforeseen(root, "mot", error)]


def _further_down(root: Folder) -> list[Finding]:
    """Data sets in folders below, the nearest ones."""
    level, seen = [root], 0
    for _ in range(_DEEP):
        level = [inner for one in level for _, inner in sorted(one.below.items())]
        level = level[: _MOST_FOLDERS - seen]
        seen += len(level)
        found = [one for inner in level if (one := _rooted(inner)) is not None]
        if found:
            return found
    return []


def _rooted(folder: Folder) -> Finding | None:
    for ask in _ROOTED:
        try:
            if (found := ask(folder)) is not None:
                return found
        except Exception as error:
            return _unforeseen(folder, ask.__name__, error)
    return None


def _unforeseen(folder: Folder, name: str, error: Exception) -> Finding:
    """A check that goes wrong in a way nobody foresaw is itself a finding."""
    kit = Kit(name, f"what looks like {name}", use="", terms="", where="", page="", layout="")
    finding = Finding(kit, folder.path)
    what = f"it could not be examined ({type(error).__name__}: {error})"
    finding.add("check", "broken", what, fix="Please report this: it is a mistake of retain's.")
    return finding


def _misplaced(finding: Finding, alone: bool) -> None:
    """Tell that readers want the inner folder."""
    what = f"it looks like {finding.kit.title} inside a further folder: {finding.root}"
    state: State = "partial" if alone else "note"
    finding.add("place", state, what, fix=f"Give '{finding.root}', or move it up." * alone)


def _listing(finding: Finding, tree: Tree) -> None:
    """What could not be listed."""

    def names(paths: Sequence[Path]) -> list[str]:
        return [str(path.relative_to(tree.root.path)) for path in paths]

    if tree.denied:
        what = f"{len(tree.denied)} folders may not be listed"
        finding.add("folders", "partial", what, names(tree.denied), "Change their permissions.")
    if tree.dead:
        finding.add("links", "partial", f"{len(tree.dead)} links lead nowhere", names(tree.dead))
    if tree.loops:
        what = f"{len(tree.loops)} links lead back to a folder above; they are passed over"
        finding.add("links", "note", what, names(tree.loops))
    if tree.cut:
        finding.add("folders", "note", "there is more than was listed: too many entries, or deep")


def _nearest(root: Folder) -> str:
    """The data set with most of its names here, and what it lacks."""
    there = {name.lower() for name in (*root.files, *root.below)}
    if not there:
        return "The folder is empty."

    def fit(kit: Kit) -> tuple[list[str], list[str]]:
        near = [m for m in kit.marks if difflib.get_close_matches(m.lower(), there, 1, 0.85)]
        return near, [mark for mark in kit.marks if mark not in near]

    best = max(KITS, key=lambda kit: (len(fit(kit)[0]), -len(fit(kit)[1])))
    near, lacking = fit(best)
    if near:
        missing = f" but lacks {some(lacking)}" if lacking else ""
        return f"It is nearest to {best.title} ({some(near)}){missing}. Expected: {best.layout}."
    titles = ", ".join(kit.title for kit in KITS if kit.page)
    return f"It holds {some(sorted((*root.below, *root.files)))}. Known: {titles}."
