"""Folders that are no data set: videos, DICOM, pictures, shards, archives not yet unpacked."""

from __future__ import annotations

import re
import tarfile
from pathlib import Path

from retain.datasets.boundaries.videos import SUFFIXES
from retain.datasets.doctor import kits
from retain.datasets.doctor.base import Finding, Kit, counted
from retain.datasets.doctor.heads import look_into
from retain.datasets.doctor.tree import Folder
from retain.pipeline.sources.common import DICOM_SUFFIXES, IMAGE_SUFFIXES, sniff

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".7z", ".rar")
SENS = ".sens"
"""ScanNet's recordings, which no reader here opens."""
_NAMES = {
    kits.ECHONET: r"echonet",
    kits.CAMUS: r"camus|database_nifti",
    kits.DAVIS: r"davis",
    kits.VID: r"ilsvrc.*vid|imagenet.?vid",
    kits.MOT: r"mot[-_]?(15|16|17|20)|2dmot2015",
    kits.COCO: r"(train|val|test)20(14|17)|annotations_trainval",
    kits.TUM: r"rgbd_dataset_freiburg",
    kits.REPLICA: r"replica",
    kits.SEVEN_SCENES: r"(chess|fire|heads|office|pumpkin|redkitchen|stairs)\.zip|seq-\d|7.?scenes",
    kits.SCANNET: r"scannet|scene\d{4}_\d\d",
    kits.REALESTATE: r"realestate10k|re10k",
    kits.LLFF: r"nerf_llff|llff",
    kits.NERFSTUDIO: r"nerf_synthetic|nerfstudio",
    kits.GEBD: r"gebd|k400|kinetics",
    kits.AUTOSHOT: r"autoshot",
    kits.BBC: r"planet.?earth|bbc",
}
"""How archives of each data set are mostly called."""
_SHARD = re.compile(r"(?:.*[-_.])?\d{3,}\.tar")
_VIDEO = (*SUFFIXES, ".mpg", ".mpeg", ".wmv", ".flv", ".mxf", ".ts", ".3gp", ".ogv", ".gif")


def archives(folder: Folder) -> list[Finding]:
    """A finding for each data set of which archives lie here or one folder down, by their names."""
    found: dict[str, Finding] = {}
    for inner in (folder, *(one for _, one in sorted(folder.below.items()))):
        for name in inner.ending(*ARCHIVES, SENS):
            kit = kits.SCANNET if name.endswith(SENS) else archive_of(name)
            if kit is not None:
                finding = found.setdefault(kit.key, Finding(kit, folder.path))
                finding.members.append(inner.path / name)
    for finding in found.values():
        names = [str(path.relative_to(folder.path)) for path in finding.members]
        closed = [name for name in names if not name.endswith(SENS)]
        if closed:
            what = f"{counted(len(closed), 'archives')} not yet unpacked"
            finding.add("archives", "partial", what, closed, "Unpack them, then ask again.")
        if raw := set(names) - set(closed):
            what = f"{counted(len(raw), 'scans')} not yet exported"
            finding.add("scans", "partial", what, raw, "Export them with ScanNet's SensReader.")
        finding.suggest("data doctor", folder.path)
    return list(found.values())


def packed(finding: Finding, folder: Folder) -> None:
    """A line for archives beside what was found: parts that may not have been unpacked yet."""
    names = [n for n in folder.ending(*ARCHIVES) if not _SHARD.fullmatch(n)]
    inner = [f"{b}/{n}" for b, one in sorted(folder.below.items()) for n in one.ending(*ARCHIVES)]
    left = names + inner
    if left:
        whole = finding.state == "whole"
        what = f"{counted(len(left), 'archives')} {'beside it' if whole else 'not yet unpacked?'}"
        fix = "" if whole else "Unpack them where they lie; what is missing may be in them."
        finding.add("archives", "note" if whole else "partial", what, left, fix)


def archive_of(name: str) -> Kit | None:
    """The data set that an archive of this name mostly holds."""
    ways = _NAMES.items()
    return next((kit for kit, way in ways if re.search(way, name, re.IGNORECASE)), None)


def shards(folder: Folder) -> Finding | None:
    """Numbered .tar files tell it, if the first opens and holds samples."""
    names = [name for name in folder.ending(".tar") if _SHARD.fullmatch(name)]
    if not names or archive_of(names[0]) is not None:
        return None
    finding = Finding(kits.SHARDS, folder.path, items=len(names))
    kinds, samples, why = first_members(folder.path / names[0])
    if why:
        finding.add(names[0], "broken", f"it is no tar file ({why})", fix="Get it again.")
    else:
        what = f"samples of {', '.join(sorted(kinds)) or 'nothing'}"
        finding.add("samples", "ok" if samples else "broken", f"{what} in {names[0]}")
    numbers = sorted(int(re.findall(r"\d+", name)[-1]) for name in names)
    gaps = sorted(set(range(numbers[0], min(numbers[-1], numbers[0] + 100_000))) - set(numbers))
    found = f"{counted(len(names), 'shards')}, {names[0]} to {names[-1]}"
    finding.add("shards", "partial" if gaps else "ok", found, [f"number {k}" for k in gaps])
    if empty := folder.empty & set(names):
        finding.add("shards", "broken", f"{len(empty)} are empty", empty, "Get them again.")
    finding.suggest("batch", folder.path, "--task watch")
    return finding


def first_members(path: Path, most: int = 64) -> tuple[set[str], int, str]:
    """Endings of the first members of a tar file, how many were seen, and why none."""
    kinds: set[str] = set()
    seen = 0
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                if member.isfile():
                    seen += 1
                    kinds.add(member.name.rpartition("/")[2].partition(".")[2].lower())
                if seen >= most:
                    break
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        return set(), 0, str(error) or type(error).__name__
    return kinds, seen, ""


def plain_files(folder: Folder) -> list[Finding]:
    """Videos, DICOM files and pictures anywhere below, when they are not a known data set's."""
    of: dict[Kit, list[tuple[Folder, str]]] = {kits.VIDEOS: [], kits.DICOM: [], kits.PICTURES: []}
    for inner in folder.walk():
        for name in sorted(inner.files):
            if (kit := _kind(inner, name)) is not None:
                of[kit].append((inner, name))
    return [_plain(folder, kit, files) for kit, files in of.items() if files]


def _kind(folder: Folder, name: str) -> Kit | None:
    suffix = Path(name).suffix.lower()
    if suffix in _VIDEO:
        return kits.VIDEOS
    if suffix in IMAGE_SUFFIXES:
        return kits.PICTURES
    if suffix in DICOM_SUFFIXES:
        return kits.DICOM
    # DICOM files often have no ending, or numbers for one.
    bare = (not suffix or suffix[1:].isdigit()) and name not in folder.empty
    return kits.DICOM if bare and _starts(folder.path / name) else None


def _starts(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return sniff(file.read(192)) == "dicom"
    except OSError:
        return False


def _plain(folder: Folder, kit: Kit, files: list[tuple[Folder, str]]) -> Finding:
    finding = Finding(kit, folder.path, items=len(files))
    homes = dict.fromkeys(inner.path for inner, _ in files)
    finding.add(
        kit.unit, "ok", f"{counted(len(files), kit.unit)} in {counted(len(homes), 'folders')}"
    )
    finding.add("truth", "note", "nothing beside them that retain knows as labels")
    look_into(finding, files)
    finding.members = [inner.path / name for inner, name in files]
    if kit is kits.PICTURES and len(homes) == 1:
        finding.suggest("watch", next(iter(homes)))
    else:
        task = "segment" if kit is kits.DICOM else "watch"
        finding.suggest("batch", folder.path, f"--task {task}")
    return finding
