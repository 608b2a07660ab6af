"""DAVIS and ImageNet VID."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from retain.datasets.detect.davis import COCO_2016
from retain.datasets.doctor import kits
from retain.datasets.doctor.base import Finding, Kit, State, against, counted
from retain.datasets.doctor.heads import look_into
from retain.datasets.doctor.tree import Folder
from retain.pipeline.sources.common import IMAGE_SUFFIXES

_PICTURES = tuple(sorted(IMAGE_SUFFIXES))
_NAMES = {
    "2016 train": """bear bmx-bumps boat breakdance-flare bus car-turn dance-jump dog-agility
        drift-turn elephant flamingo hike hockey horsejump-low kite-walk lucia mallard-fly
        mallard-water motocross-bumps motorbike paragliding rhino rollerblade scooter-gray
        soccerball stroller surf swing tennis train""",
    "2016 val": " ".join((*COCO_2016, "camel")),
    "2017 train": """boxing-fisheye cat-girl classic-car color-run crossing dancing disc-jockey
        dog-gooses dogs-scale drone kid-football koala lady-running lindy-hop longboard miami-surf
        night-race planes-water rallye schoolgirls scooter-board sheep skate-park snowboard stunt
        tractor-sand tuk-tuk upside-down varanus-cage walking""",
    "2017 val": """bike-packing dogs-jump gold-fish india judo lab-coat loading mbike-trick pigs
        shooting""",
}
"""What each split has; that of 2017 beside those of 2016."""
_OLD = {name: frozenset(words.split()) for name, words in _NAMES.items()}
SEQUENCES = {
    **_OLD,
    "2017 train": _OLD["2016 train"] | _OLD["2017 train"],
    "2017 val": _OLD["2016 val"] | _OLD["2017 val"],
}
"""Names of DAVIS's sequences; those of 2016 are among those of 2017."""


def davis(folder: Folder, kit: Kit = kits.DAVIS) -> Finding | None:
    """Folders of pictures and of masks tell it; one of them is enough with DAVIS's sub-folders."""
    pictures, masks = (_resolution(folder, part) for part in ("JPEGImages", "Annotations"))
    sure = any(folder.at(f"{part}/480p") for part in ("JPEGImages", "Annotations"))
    if not (pictures or masks) or not ((pictures and masks) or sure):
        return None
    finding = Finding(kit, folder.path)
    for part, there in (("JPEGImages", pictures), ("Annotations", masks)):
        if there is None:
            finding.add(part, "broken", f"there is no folder {part}", fix=kit.where)
    pictures, masks = pictures or Folder(folder.path), masks or Folder(folder.path)
    finding.items = len(pictures.below)
    _editions(finding, folder, set(pictures.below))
    _frames(finding, pictures, masks)
    both = (*pictures.walk(), *masks.walk())
    look_into(finding, [(one, name) for one in both for name in sorted(one.files)])
    if pictures.below:
        finding.suggest("detect", pictures.path / min(pictures.below))
    return finding


def _frames(finding: Finding, pictures: Folder, masks: Folder) -> None:
    """Pictures without a mask, masks without a picture."""
    frames, unmasked, bare = 0, list[str](), list[str]()
    for name, inner in pictures.below.items():
        shown = {Path(one).stem for one in inner.ending(*_PICTURES)}
        drawn = {Path(one).stem for one in masks.below.get(name, Folder(inner.path)).files}
        frames += len(shown)
        if lacking := shown - drawn:
            unmasked.append(f"{name} ({len(lacking)} of {len(shown)})")
        bare += [f"{name}/{stem}" for stem in drawn - shown]
    finding.add("frames", "ok" if frames else "broken", counted(frames, "pictures"))
    where = finding.kit.where
    if unmasked:
        what = "sequences have pictures without a mask; test sets have the first only"
        finding.add("masks", "note", f"{len(unmasked)} {what}", unmasked)
    if bare:
        finding.add("frames", "partial", f"{len(bare):,} masks without a picture", bare, where)
    if gone := set(masks.below) - set(pictures.below):
        finding.add("frames", "partial", "masks of sequences without pictures", gone, where)


def _resolution(folder: Folder, part: str) -> Folder | None:
    ways = (f"{part}/480p", f"{part}/Full-Resolution", part)
    return next((found for way in ways if (found := folder.at(way)) is not None), None)


def _editions(finding: Finding, folder: Folder, there: set[str]) -> None:
    """Which splits are whole. The edition is the smaller one that has all that is there."""
    every = SEQUENCES["2017 train"] | SEQUENCES["2017 val"]
    if not there & every:
        finding.add("names", "note", "not those of DAVIS: data of your own in its form, or a test")
        return
    old = SEQUENCES["2016 train"] | SEQUENCES["2016 val"]
    newer = folder.at("ImageSets/2017") is not None or not there <= old
    year = "2017" if newer else "2016"
    for name, known in SEQUENCES.items():
        if name.startswith(year):
            against(finding, name, there & known, finding.kit.part(name), known)
    if other := there - every:
        finding.add("others", "note", f"{counted(len(other), 'sequences')} of other names", other)


_OFFICIAL = re.compile(r"ILSVRC2015_(?:VID_)?(?:train|val|test)_\d+")


def vid(folder: Folder, kit: Kit = kits.VID) -> Finding | None:
    """``Data/VID`` or ``Annotations/VID`` tells it, here or in ILSVRC."""
    homes = [folder, *(folder.below.get(name) for name in ("ILSVRC", "ILSVRC2015"))]
    root = next(
        (h for h in homes if h is not None and (h.at("Data/VID") or h.at("Annotations/VID"))), None
    )
    if root is None:
        return None
    finding, files = Finding(kit, folder.path), list[tuple[Folder, str]]()
    data, labels = (root.at(f"{part}/VID") or Folder(root.path) for part in ("Data", "Annotations"))
    if not data.below:
        what = "labels are there, their pictures are not: Annotations without Data"
        finding.add("pictures", "broken", what, fix=kit.where)
    for split in ("train", "val", "test"):
        videos = _videos(data.below.get(split), ".jpeg")
        drawn = _videos(labels.below.get(split), ".xml")
        finding.items += len(videos)
        _split(finding, root, split, videos, drawn)
        for one in (*videos.values(), *drawn.values()):
            files += [(one, name) for name in sorted(one.files)]
    look_into(finding, files)
    if pictures := [folder for folder, name in files if name.lower().endswith(".jpeg")]:
        finding.suggest("detect", pictures[0].path)
    return finding


def _videos(split: Folder | None, suffix: str) -> dict[str, Folder]:
    """Folders with files of that ending, by their name from the split on."""
    if split is None:
        return {}
    held = (f for f in split.walk() if any(n.lower().endswith(suffix) for n in f.files))
    return {str(f.path.relative_to(split.path)): f for f in held}


def _split(
    finding: Finding,
    root: Folder,
    split: str,
    videos: dict[str, Folder],
    drawn: dict[str, Folder],
) -> None:
    official = any(_OFFICIAL.search(name) for name in (*videos, *drawn)) or not videos
    part = finding.kit.part(split) if official else None
    against(finding, split, set(videos), part, _listed(root, split))
    if not videos and not drawn:
        return
    frames, unlabelled, alone, labelled = 0, list[str](), list[str](), 0
    for name, one in videos.items():
        shown = {Path(n).stem for n in one.files if n.lower().endswith(".jpeg")}
        own = {Path(n).stem for n in drawn[name].files} if name in drawn else set()
        frames += len(shown)
        labelled += name in drawn
        unlabelled += [f"{name}/{stem}" for stem in shown - own] if name in drawn else []
        alone += [f"{name}/{stem}" for stem in own - shown]
    published = f" of {part.frames:,} published" if part and part.frames else ""
    finding.add(split, "ok" if frames else "broken", f"{counted(frames, 'frames')}{published}")
    where = finding.kit.where
    if bare := set(videos) - set(drawn):
        state: State = "note" if not labelled and split == "test" else "partial"
        never = " (never published)" if split == "test" else ""
        finding.add(split, state, f"{counted(len(bare), 'videos')} without labels{never}", bare)
    if gone := set(drawn) - set(videos):
        finding.add(split, "partial", "labels of videos that are not there", gone, where)
    if alone:
        finding.add(split, "partial", f"{len(alone):,} labels without their picture", alone, where)
    if unlabelled:
        what = f"{len(unlabelled):,} pictures without labels in labelled videos"
        finding.add(split, "partial", what, unlabelled, where)


def _listed(root: Folder, split: str) -> set[str]:
    """The videos that the official list of a split names; none without it."""
    names: set[str] = set()
    for place in (f"ImageSets/VID/{split}.txt", f"ImageSets/VID_{split}_videos.txt"):
        if root.has(place):
            with suppress(OSError, UnicodeDecodeError):
                for line in (root.path / place).read_text().splitlines():
                    words = line.split()
                    if words:
                        video = words[0] if len(words) > 2 else words[0].rpartition("/")[0]
                        names.add(video.removeprefix(f"{split}/"))
    return names
