"""What a single file is."""

from __future__ import annotations

from pathlib import Path

from retain.datasets.doctor import kits
from retain.datasets.doctor.around import around
from retain.datasets.doctor.base import Finding, Report, counted, plain
from retain.datasets.doctor.boundaries import boundaries
from retain.datasets.doctor.coco import coco
from retain.datasets.doctor.heads import look_into
from retain.datasets.doctor.plain import ARCHIVES, archive_of, first_members, plain_files
from retain.datasets.doctor.realestate import camera_path
from retain.datasets.doctor.tree import Folder, scan
from retain.pipeline.errors import SourceError, SourceFault
from retain.pipeline.sources.common import check_file


def one_file(path: Path) -> Report:
    """An annotation, a camera path, an archive, a shard, a video, a picture; or nothing known."""
    try:
        check_file(path)
    except SourceError as error:
        if error.fault is not SourceFault.EMPTY:  # an empty one is told as what it should be
            return Report(path, (), plain(str(error)))
    if not path.is_file():
        return Report(path, (), "It is neither a file nor a folder.")
    name = path.name.lower()
    if name.endswith(ARCHIVES):
        return _archive(path)
    alone = Folder(path.parent, files={path.name})
    try:
        if not path.stat().st_size:
            alone.empty.add(path.name)
        found = _known(path, alone)
    except OSError as error:
        return Report(path, (), f"It cannot be read: {error.strerror}.")
    findings = [found] if found is not None else plain_files(alone)
    guess = "" if findings else around(path) or "No data set begins with such a file."
    return Report(path, tuple(findings), guess)


def _known(path: Path, alone: Folder) -> Finding | None:
    if path.suffix == ".txt":
        return camera_path(path)
    if path.suffix.lower() in (".json", ".pkl", ".pickle"):
        # The pictures and videos that belong to it lie around it.
        inner = path.parent.name == "annotations"
        beside = scan(path.parent.parent if inner else path.parent).root
        beside.files = {name for name in beside.files if not _annotates(name)}
        beside.below.pop("annotations", None)
        if inner:
            beside.below["annotations"] = Folder(path.parent, files={path.name})
        else:
            beside.files.add(path.name)
        return coco(beside) or boundaries(beside)
    return None


def _annotates(name: str) -> bool:
    return name.lower().endswith((".json", ".pkl", ".pickle"))


def _archive(path: Path) -> Report:
    kit = archive_of(path.name)
    kinds, samples, _ = first_members(path) if path.suffix == ".tar" else (set(), 0, "")
    if kit is None and samples:
        finding = Finding(kits.SHARDS, path.parent, items=1, members=[path])
        what = f"{counted(samples, 'files')} at its beginning: {', '.join(sorted(kinds))}"
        finding.add("samples", "ok", what)
        finding.suggest("batch", path.parent, "--task watch")
        return Report(path, (finding,))
    if kit is None:
        return Report(path, (), "It is an archive. Unpack it, and give the folder.")
    finding = Finding(kit, path.parent, members=[path])
    folder = Folder(path.parent, files={path.name})
    what = "an archive that is not yet unpacked"
    finding.add("archive", "partial", what, fix="Unpack it, and give the folder.")
    look_into(finding, [(folder, path.name)] if not path.stat().st_size else [])
    return Report(path, (finding,))
