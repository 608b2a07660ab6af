"""DAVIS: masks in any mode, and their boxes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pil
from shared_data import shared_data

from retain.datasets.detect.davis import Davis, objects_in
from retain.datasets.detect.files import read_indices, read_picture
from retain.datasets.detect.motion import motion_iou
from retain.datasets.detect.write import save
from retain.pipeline.errors import SourceError, UsageError


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
