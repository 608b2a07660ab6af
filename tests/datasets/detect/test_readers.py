"""Clips that were written come back; what each format is known to trip readers with is tried."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detect_parts import Renamed
from PIL import Image as Pil
from shared_data import shared_data

from retain.datasets.catalog import DATASETS
from retain.datasets.detect import mot, vid
from retain.datasets.detect.base import CROWD, GENERATED, IGNORE, OCCLUDED, Truth
from retain.datasets.detect.coco import CocoVid
from retain.datasets.detect.davis import Davis, boxes_of, objects_in
from retain.datasets.detect.evaluate import evaluate
from retain.datasets.detect.files import read_indices, read_picture
from retain.datasets.detect.mot import Mot
from retain.datasets.detect.motion import motion_iou
from retain.datasets.detect.objects import ObjectVideo
from retain.datasets.detect.open import FORMATS, open_clips
from retain.datasets.detect.vid import ImageNetVid
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


def tree(root: Path, frames: int = 3, labels: str = "") -> Path:
    """An ImageNet VID of one video, with the ``object`` elements of frame 1."""
    for k in range(frames):
        save(root / f"Data/VID/val/v/{k:06d}.JPEG", np.full((20, 30, 3), 40 * k, np.uint8))
        one = labels if k == 1 else ""
        text = f"<annotation><size><width>30</width><height>20</height></size>{one}</annotation>"
        path = root / f"Annotations/VID/val/v/{k:06d}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def thing(name: str, box: str = "1 2 11 12", **more: int) -> str:
    corners = zip(("xmin", "ymin", "xmax", "ymax"), box.split(), strict=True)
    inner = "".join(f"<{key}>{value}</{key}>" for key, value in corners)
    others = "".join(f"<{key}>{value}</{key}>" for key, value in more.items())
    return f"<object><name>{name}</name><bndbox>{inner}</bndbox>{others}</object>"


def test_vid_objects(tmp_path: Path) -> None:
    """WordNet ids; classes of DET; flags; a DET-like object without a track; a box of no width."""
    labels = (
        thing("n02084071", trackid=3, occluded=1, generated=1)
        + thing("n00007846", trackid=4)
        + thing("n02958343")
        + thing("n02958343", "5 5 5 9", trackid=7)
    )
    clip = ImageNetVid(tree(tmp_path, labels=labels))[0]
    truth = clip.truth(1)
    assert [clip.names[k] for k in truth.labels] == ["dog", "car", "car"]
    assert truth.boxes[0].tolist() == [1, 2, 11, 12]
    assert truth.tracks.tolist() == [3, -1, 7]
    assert truth.flags.tolist() == [OCCLUDED | GENERATED, 0, IGNORE]
    assert len(clip.truth(0)) == 0
    assert clip.truth(0).labelled


@pytest.mark.parametrize(
    ("line", "frames"),
    [
        ("v/000001 2", [1]),
        ("val/v/000002 3", [2]),
        ("v 1 0 3", [0, 1, 2]),
        ("val/v 1 1 3", [0]),
        ("v 1 3 3", [2]),
    ],
)
def test_vid_lists(line: str, frames: list[int], tmp_path: Path) -> None:
    """With and without the split; frames of training lists count from 1, files from 0."""
    listed = tmp_path / "list.txt"
    listed.write_text(line + "\n")
    found = ImageNetVid(tree(tmp_path), listed=listed)
    assert [path.stem for path in found[0].images] == [f"{k:06d}" for k in frames]
    assert len(found[0][0].truth) == 0


def test_vid_training_lists_gather_the_frames_of_a_video(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("v 1 1 3\nv 1 3 3\nabsent 1 1 9\n")
    found = ImageNetVid(tree(tmp_path), listed=tmp_path / "a.txt")
    assert [[path.stem for path in clip.images] for clip in found] == [["000000", "000002"]]
    assert found.notes == ("1 of 2 videos are not there.",)
    assert [(sample.seq, sample.seconds) for sample in found[0]] == [(0, 0), (2, 2 / 25)]


def test_vid_stills_of_det_are_clips_of_one(tmp_path: Path) -> None:
    root = tree(tmp_path)
    for name in ("n_1", "n_2"):
        save(root / f"Data/DET/train/n/{name}.JPEG", np.zeros((20, 30, 3), np.uint8))
    (root / "a.txt").write_text("train/n/n_1 1\ntrain/n/n_2 1\n")
    found = ImageNetVid(root, listed=root / "a.txt")
    assert [len(clip) for clip in found] == [1, 1]
    assert not found[0].truth(0).labelled


@pytest.mark.parametrize("line", ["v 1 4 3", "v 1 x 3", "v 1 2", "../v/000001 1", "/v/000001 1"])
def test_vid_lists_that_are_none(line: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(line)
    with pytest.raises(SourceError):
        ImageNetVid(tree(tmp_path), listed=tmp_path / "a.txt")


def test_vid_without_the_folder_above_and_without_labels(tmp_path: Path) -> None:
    tree(tmp_path / "a" / "ILSVRC2015")
    assert len(ImageNetVid(tmp_path / "a")[0]) == 3
    tree(tmp_path / "ILSVRC")
    assert len(ImageNetVid(tmp_path)[0]) == 3
    (tmp_path / "ILSVRC/Data/VID/test").mkdir()
    (tmp_path / "ILSVRC/Data/VID/val/v").rename(tmp_path / "ILSVRC/Data/VID/test/w")
    clip = ImageNetVid(tmp_path, "test")[0]
    assert not clip[0].truth.labelled
    assert clip.notes == ("It has no labels.",)


def coco(**changes: Any) -> dict[str, Any]:
    """Two videos, frames out of order, ids of any kind, instances counted over both."""
    size = {"width": 40, "height": 30}
    whole = {
        "categories": [{"id": 30, "name": "cat"}, {"id": 7, "name": "dog"}],
        "videos": [{"id": 9, "name": "b", "fps": 10}, {"id": 2, "name": "a"}],
        "images": [
            {"id": 5, "video_id": 9, "frame_id": 1, "file_name": "b/1.png", **size},
            {"id": 3, "video_id": 9, "frame_id": 0, "file_name": "b/0.png", **size},
            {"id": 8, "video_id": 2, "frame_id": 0, "file_name": "a/0.png", **size},
        ],
        "annotations": [
            ann(1, 5, instance_id=70),
            ann(2, 3, instance_id=70, occluded=1),
            ann(3, 8, instance_id=71, category_id=30, generated=True),
        ],
    }
    return {**whole, **changes}


def ann(number: int, image: int, **more: Any) -> dict[str, Any]:
    return {"id": number, "image_id": image, "category_id": 7, "bbox": [1, 2, 10, 20], **more}


def load(tmp_path: Path, given: Any) -> CocoVid:
    (tmp_path / "a.json").write_text(json.dumps(given))
    return CocoVid(tmp_path / "a.json")


def test_coco_ids_and_orders(tmp_path: Path) -> None:
    found = load(tmp_path, coco())
    assert found.names == ("dog", "cat")
    assert [(clip.name, len(clip), clip.rate) for clip in found] == [("b", 2, 10), ("a", 1, 25)]
    assert found[0].images[0] == tmp_path / "b/0.png"
    assert found[0].truth(0).flags.tolist() == [OCCLUDED]
    assert found[1].truth(0).flags.tolist() == [GENERATED]
    assert found[1].truth(0).boxes.tolist() == [[1, 2, 11, 22]]
    assert [found[k].truth(0).tracks.tolist() for k in (0, 1)] == [[0], [0]]
    assert motion_iou([found[0].truth(0), found[0].truth(1)])[0].tolist() == [1]


def test_coco_frames_keep_their_numbers(tmp_path: Path) -> None:
    given = coco()
    given["images"][0]["frame_id"] = 40
    clip = load(tmp_path, given)[0]
    assert list(clip.numbers) == [0, 40]
    truths = [clip.truth(0), clip.truth(1)]
    assert np.isnan(motion_iou(truths, numbers=clip.numbers)[0][0])
    given["images"][0]["frame_id"] = -1
    with pytest.raises(SourceError, match="frame_id is from 0"):
        load(tmp_path, given)


@pytest.mark.parametrize(
    ("change", "flags"),
    [
        ({"bbox": [1, 2, 0.5, 20]}, IGNORE),
        ({"bbox": [50, 2, 10, 20]}, IGNORE),
        ({"bbox": [-20, 2, 15, 20]}, IGNORE),
        ({"ignore": 1}, IGNORE),
        ({"iscrowd": 1}, CROWD),
        ({"bbox": [-5, -5, 90, 90]}, 0),
    ],
)
def test_coco_boxes_that_nobody_can_find(change: Any, flags: int, tmp_path: Path) -> None:
    found = load(tmp_path, coco(annotations=[ann(1, 3, **change)]))
    assert found[0].truth(0).flags.tolist() == [flags]


def test_coco_annotations_of_nothing_are_counted(tmp_path: Path) -> None:
    strange = [ann(1, 99), ann(2, 3, category_id=1), ann(3, 3)]
    found = load(tmp_path, coco(annotations=strange))
    assert found.notes == ("2 annotations are of unknown pictures or classes.",)
    assert found[0].truth(0).tracks.tolist() == [-1]


def test_coco_without_videos_makes_clips_of_folders(tmp_path: Path) -> None:
    names = ("x/10.png", "x/9.png", "y/1.png")
    images = [
        {"id": k, "file_name": name, "width": 40, "height": 30} for k, name in enumerate(names)
    ]
    given = coco(images=images, annotations=[ann(1, 0)])
    del given["videos"]
    found = load(tmp_path, given)
    assert [(clip.name, [p.name for p in clip.images]) for clip in found] == [
        ("x", ["9.png", "10.png"]),
        ("y", ["1.png"]),
    ]
    assert [len(found[0].truth(k)) for k in (0, 1)] == [0, 1]


def test_youtube_vis_lists_of_boxes(tmp_path: Path) -> None:
    given = {
        "categories": [{"id": 1, "name": "dog"}],
        "videos": [{"id": 1, "width": 40, "height": 30, "file_names": ["v/0.jpg", "v/1.jpg"]}],
        "annotations": [
            {"id": 5, "video_id": 1, "category_id": 1, "bboxes": [None, [1, 2, 10, 20]]},
            {"id": 6, "video_id": 1, "category_id": 1, "bboxes": [[3, 3, 9, 9], [3, 3, 9, 9]]},
        ],
    }
    clip = load(tmp_path, given)[0]
    assert [clip.truth(k).tracks.tolist() for k in (0, 1)] == [[1], [0, 1]]
    given["annotations"][0]["bboxes"] = [None]
    with pytest.raises(SourceError, match="track 5 has 1 boxes, not 2"):
        load(tmp_path, given)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"categories": [{"id": 7, "name": "a"}, {"id": 7, "name": "b"}]}, "same id"),
        ({"videos": [{"id": 9, "name": "b"}]}, "not listed"),
        ({"annotations": [ann(1, 3, bbox=[1, 2, float("nan"), 3])]}, "cannot reach"),
        ({"annotations": [ann(1, 3, bbox=[1, 2, 3])]}, "not enough values"),
        ({"images": [{"id": 1}]}, "video_id"),
    ],
)
def test_coco_files_that_are_none(change: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=words):
        load(tmp_path, coco(**change))


def test_coco_pictures_stay_in_their_folder(tmp_path: Path) -> None:
    given = coco()
    given["images"][0]["file_name"] = "../../etc/passwd"
    with pytest.raises(SourceError, match="leads out of the data set"):
        load(tmp_path, given)


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


@pytest.mark.parametrize(
    ("values", "objects"),
    [
        ([0, 255], [0, 1]),
        ([0, 1, 2], [0, 1, 2]),
        ([0, 2], [0, 2]),
        ([0, 1, 255], [0, 1, 0]),
        ([0], [0]),
    ],
)
def test_davis_values(values: list[int], objects: list[int]) -> None:
    """White is object 1; the second of two objects keeps its number when it is alone."""
    assert objects_in(np.array([values], np.uint8)).tolist() == [objects]


def test_davis_boxes_enclose_pixels_and_colour_masks_are_read(tmp_path: Path) -> None:
    mask = np.zeros((30, 40), np.uint8)
    mask[4:9, 10:31] = 255
    for k, pixels in enumerate((mask, np.repeat(mask[..., None], 3, 2))):
        save(tmp_path / f"JPEGImages/s/{k:05d}.jpg", np.zeros((30, 40, 3), np.uint8))
        place = tmp_path / f"Annotations/s/{k:05d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Pil.fromarray(pixels).save(place)
    save(tmp_path / "JPEGImages/s/00002.jpg", np.zeros((30, 40, 3), np.uint8))
    clip = Davis(tmp_path, ["s"], {"s": "dog"})[0]
    for k in (0, 1):
        assert clip.truth(k).boxes.tolist() == [[10, 4, 31, 9]]
    assert clip.names == ("dog",)
    assert clip.notes == ("1 of 3 frames have no mask.",)
    assert not clip[2].truth.labelled
    assert clip[2].mask is None
    with pytest.raises(UsageError, match="no sequence 't'"):
        Davis(tmp_path, ["t"])


def test_masks_saved_in_colour_have_the_palettes_indices(tmp_path: Path) -> None:
    """VOC's palette: 1 dark red, 2 dark green, 3 dark yellow, 4 dark blue, ..., 128 a green."""
    colours = {
        1: (128, 0, 0),
        2: (0, 128, 0),
        3: (128, 128, 0),
        4: (0, 0, 128),
        8: (64, 0, 0),
        15: (192, 128, 128),
        22: (0, 192, 128),
        128: (0, 32, 0),
    }
    pixels = np.array([[(0, 0, 0), *colours.values()]], np.uint8)
    Pil.fromarray(pixels).save(tmp_path / "a.png")
    assert read_indices(tmp_path / "a.png").tolist() == [[0, *colours]]
    Pil.fromarray(pixels + 3).save(tmp_path / "b.png")
    with pytest.raises(SourceError, match="colours are not those of a palette"):
        read_indices(tmp_path / "b.png")
    Pil.fromarray(np.full((2, 2), 300, np.uint16)).save(tmp_path / "c.png")
    with pytest.raises(SourceError, match="a mask of mode"):
        read_indices(tmp_path / "c.png")


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_pictures_of_any_mode_become_rgb(mode: str, tmp_path: Path) -> None:
    grey = np.repeat(np.arange(0, 256, 8, dtype=np.uint8)[None, :, None], 3, 2)
    name = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Pil.fromarray(grey).convert(mode).save(name)
    image = read_picture(name, (32, 1))
    assert image.shape == (1, 32, 3)
    assert image.dtype == np.uint8
    assert image[0, 0, 0] < 30
    assert image[0, -1, 0] > 220


def test_deep_pictures_keep_their_upper_half(tmp_path: Path) -> None:
    Pil.fromarray(np.array([[0, 256 * 77, 65535]], np.uint16)).save(tmp_path / "a.png")
    assert read_picture(tmp_path / "a.png")[0, :, 0].tolist() == [0, 77, 255]


def test_davis_sequences_that_people_have() -> None:
    root = shared_data("davis_dev/Annotations/libby/00000.png").parents[2]
    from retain.datasets.detect.davis import COCO_2016

    found = Davis(root, classes=COCO_2016)
    assert {clip.name for clip in found} == {"libby", "dog", "car-shadow", "drift-straight"}
    for clip in found:
        frames = [clip.truth(k) for k in range(len(clip))]
        assert all(truth.size == (854, 480) and len(truth) <= 1 for truth in frames)
        values = np.concatenate(motion_iou(frames))
        wanted = {"car-shadow": 0.81, "libby": 0.73, "dog": 0.64, "drift-straight": 0.43}
        assert np.nanmean(values) == pytest.approx(wanted[clip.name], abs=0.02)


def sequence(root: Path, lines: str, name: str = "gt", info: str = "") -> Path:
    (root / name).mkdir(parents=True)
    (root / name / f"{name}.txt").write_text(lines)
    if info:
        (root / "seqinfo.ini").write_text(info)
    return root


INFO = "[Sequence]\nname=s%1\nframeRate=14\nseqLength=3\nimWidth=40\nimHeight=30\nimExt=.jpg\n"


def test_mot_columns_and_counts(tmp_path: Path) -> None:
    """From 1, in no order; nine columns carry a class, ten do not; 0 means "do not count"."""
    lines = (
        "3,1,1,1,10,20,1,3,0.2\n1,2,5.5,6,10,20,1,1,1\n1,4,5,6,10,20,0,1,1\n1,5,5,6,10,20,1,8,1\n"
    )
    clip = Mot(sequence(tmp_path / "s", lines, info=INFO))[0]
    assert (clip.name, len(clip), clip.rate) == ("s%1", 3, 14)
    first, last = clip.truth(0), clip.truth(2)
    assert first.boxes[0].tolist() == [4.5, 5, 14.5, 25]
    assert first.flags.tolist() == [0, IGNORE, IGNORE]
    assert last.boxes.tolist() == [[0, 0, 10, 20]]
    assert clip.names[last.labels[0]] == "car"
    assert last.flags.tolist() == [OCCLUDED]
    with pytest.raises(SourceError, match="only its boxes are there"):
        clip[0]


def test_mot15_has_no_classes(tmp_path: Path) -> None:
    lines = "1,1,399,182,121,229,1,-1,-1,-1\n2,1,402,181,124,233,1,-1,-1,-1\n"
    clip = Mot(sequence(tmp_path / "s", lines))[0]
    assert (len(clip), clip.rate, clip.truth(0).size) == (2, 30, (0, 0))
    assert clip.truth(1).labels.tolist() == [0]
    assert clip.truth(1).flags.tolist() == [0]


def test_mot_detections_have_scores_and_no_tracks(tmp_path: Path) -> None:
    lines = "1,-1,5,6,10,20,0.7\n1,-1,5,6,10,20,-0.4,-1,-1,-1\n"
    truth = Mot(sequence(tmp_path, lines, "det"), boxes="det")[0].truth(0)
    assert truth.tracks.tolist() == [-1, -1]
    assert truth.scores is not None
    assert truth.scores.tolist() == pytest.approx([0.7, -0.4])


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("1,1,5,6,10,20,1,1,1\n1,1,7,6,10,20,1,1,1", "id 1 is in frame 1 twice"),
        ("1,1,5,6,10,20", "has 6 numbers"),
        ("0,1,5,6,10,20,1,1,1", "frame 0"),
        ("1,1,5,6,10,20,1,14,1", "no class 14"),
        ("1.5,1,5,6,10,20,1,1,1", "no whole number"),
        ("1,1,nan,6,10,20,1,1,1", "cannot reach"),
        ("1,1e300,5,6,10,20,1,1,1", "no whole number"),
        ("4,1,5,6,10,20,1,1,1", "has boxes in frame 4"),
    ],
)
def test_mot_files_that_are_none(lines: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=words):
        Mot(sequence(tmp_path, lines, info=INFO))


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
