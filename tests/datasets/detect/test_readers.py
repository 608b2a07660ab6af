"""Clips that were written come back; what each format is known to trip readers with is tried."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detect_parts import Renamed

from retain.datasets.catalog import DATASETS
from retain.datasets.detect import mot, vid
from retain.datasets.detect.base import IGNORE, OCCLUDED, Truth
from retain.datasets.detect.davis import boxes_of
from retain.datasets.detect.evaluate import evaluate
from retain.datasets.detect.objects import ObjectVideo
from retain.datasets.detect.open import FORMATS, open_clips
from retain.datasets.detect.write import coco_json, coco_results, save, write_clips
from retain.pipeline.errors import SourceError, UsageError

VID_NAMES = tuple(vid.CLASSES)[3:11]
MOT_NAMES = ("pedestrian", *mot.CLASSES[2:6], *mot.CLASSES[8:11])
OTHER = {"imagenet-vid": VID_NAMES, "mot": MOT_NAMES}
AT = {"coco-vid": "annotations.json"}


def clips(layout: str) -> list[Any]:
    made = [ObjectVideo(seed, frames=3, width=96, height=64) for seed in (1, 4)]
    return [Renamed(clip, OTHER[layout]) for clip in made] if layout in OTHER else made


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    roots = {name: tmp_path_factory.mktemp(name) for name in ("coco-vid", "davis", *OTHER)}
    for layout, root in roots.items():
        write_clips(clips(layout), root, layout)
    return roots


def read(layout: str, root: Path) -> Any:
    return DATASETS.load(layout)(root / AT.get(layout, ""))


@pytest.mark.parametrize("layout", ["coco-vid", "davis", "imagenet-vid", "mot"])
def test_what_was_written_is_read(layout: str, places: dict[str, Path]) -> None:
    back = read(layout, places[layout])
    given = clips(layout)
    assert len(back) == len(given)
    for old, new in zip(given, back, strict=True):
        assert (new.name, len(new), new.cuts) == (old.name, len(old), ())
        for k in range(len(old)):
            _same(layout, old[k].truth, new.truth(k), old.names, new.names, old[k].mask)
            error = np.abs(new[k].image.astype(int) - old[k].image).mean()
            assert error < (0.01 if layout in ("coco-vid", "mot") else 6)
        with pytest.raises(IndexError):
            new[len(old)]


def _same(layout: str, old: Truth, new: Truth, names: Any, back: Any, mask: np.ndarray) -> None:
    assert new.size == old.size == mask.shape[::-1]
    if layout == "davis":
        old, names = boxes_of(mask), ("object",)
    tolerance = {"imagenet-vid": 0.5, "mot": 1e-3}.get(layout, 1e-4)
    assert new.boxes == pytest.approx(old.boxes, abs=tolerance)
    assert [back[k] for k in new.labels] == [names[k] for k in old.labels]
    if layout == "coco-vid":  # numbered anew within the clip: the same objects in the same order
        order = {track: k for k, track in enumerate(sorted({*old.tracks.tolist()}))}
        assert len(order) == len(set(new.tracks))
    else:
        assert new.tracks.tolist() == old.tracks.tolist()
    known = {"imagenet-vid": OCCLUDED, "davis": 0}.get(layout, OCCLUDED | IGNORE)
    assert (new.flags & known).tolist() == (old.flags & known).tolist()


def test_a_layout_refuses_what_it_cannot_hold(tmp_path: Path) -> None:
    clip = ObjectVideo(0, frames=1, width=64, height=48)
    with pytest.raises(UsageError, match="ImageNet VID has no class 'person'"):
        write_clips([clip], tmp_path, "imagenet-vid")
    with pytest.raises(UsageError, match="MOT has no class 'bird'|MOT has no class 'person'"):
        write_clips([clip], tmp_path, "mot")
    with pytest.raises(UsageError, match="not written as 'coco'.*coco-vid"):
        write_clips([clip], tmp_path, "coco")
    with pytest.raises(UsageError, match="a name of its own"):
        write_clips([clip, clip], tmp_path, "davis")


@pytest.mark.parametrize("layout", ["coco-vid", "davis", "imagenet-vid", "mot"])
def test_nothing_there_is_told(layout: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError):
        read(layout, tmp_path)
    with pytest.raises(SourceError):
        read(layout, tmp_path / "absent")


@pytest.mark.parametrize("layout", ["coco-vid", "imagenet-vid", "mot"])
def test_resized_pictures_are_refused(layout: str, tmp_path: Path) -> None:
    """Their boxes would lie in wrong places, and no number would tell."""
    write_clips(clips(layout)[:1], tmp_path, layout)
    back = read(layout, tmp_path)[0]
    save(back.images[1], np.zeros((32, 48, 3), np.uint8))
    with pytest.raises(SourceError, match="is 48x32, its boxes are for 96x64"):
        back[1]
    assert len(back.truth(1)) == len(clips(layout)[0].truth(1))
    back.images[2].unlink()
    with pytest.raises(SourceError, match="no such file|not exist|no file"):
        back[2]


def test_results_fit_the_pictures_of_our_own_file(places: dict[str, Path]) -> None:
    from retain.datasets.detect.base import found_of

    found = [found_of([[1, 2, 11, 22]], [0.5], [1]), found_of()]
    assert coco_results(found) == [
        {"image_id": 1, "category_id": 2, "bbox": [1, 2, 10, 20], "score": 0.5}
    ]
    given = coco_json(clips("coco-vid"))
    assert [one["id"] for one in given["images"]] == [1, 2, 3, 4, 5, 6]
    tracks = [
        {a["instance_id"] for a in given["annotations"] if a["video_id"] == v} for v in (1, 2)
    ]
    assert not tracks[0] & tracks[1]


@pytest.mark.parametrize("layout", ["coco-vid", "imagenet-vid", "mot"])
def test_a_perfect_detector_is_perfect_in_every_layout(
    layout: str, places: dict[str, Path]
) -> None:
    from retain.datasets.detect.base import Found

    truths = [clip.truth(k) for clip in read(layout, places[layout]) for k in range(len(clip))]
    found = [
        Found(t.boxes, np.linspace(0.5, 1, len(t), dtype=np.float32), t.labels) for t in truths
    ]
    report = evaluate(truths, found, read(layout, places[layout]).names)
    assert report.whole.ap == 1


@pytest.mark.parametrize("layout", ["coco-vid", "davis", "imagenet-vid", "mot"])
def test_what_lies_there_decides_the_reader(layout: str, places: dict[str, Path]) -> None:
    found = open_clips(str(places[layout] / AT.get(layout, "")))
    assert type(found) is DATASETS.load(layout)
    assert FORMATS[layout] == DATASETS[layout]
    with pytest.raises(UsageError, match="has no option 'rat'.*rate"):
        open_clips(str(places[layout] / AT.get(layout, "")), rat=3)


def test_generated_clips_have_an_address(tmp_path: Path) -> None:
    found = open_clips("objects://?seed=5&clips=2&frames=3&rate=12.5&degraded=mild")
    assert [(clip.name, len(clip), clip.rate) for clip in found] == [
        ("objects-00005", 3, 12.5),
        ("objects-00006", 3, 12.5),
    ]
    with pytest.raises(UsageError, match="objects has no option 'sed'.*seed"):
        open_clips("objects://?sed=5")
    with pytest.raises(UsageError, match="seed is a number, not 'x'"):
        open_clips("objects://?seed=x")
    with pytest.raises(SourceError, match="no videos with boxes"):
        open_clips(str(tmp_path))
    with pytest.raises(SourceError, match="no such file or folder"):
        open_clips(str(tmp_path / "absent"))
