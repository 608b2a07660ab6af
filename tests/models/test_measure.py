"""From masks to millilitres: place in the frame, sizes, beats, doubts, and the saved state."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import segment_parts as parts
from numpy.typing import NDArray

from retain.models.gdkvm.measure import BEATS, Measure, spacing_mm
from retain.models.gdkvm.place import masks_on_frame, outlines
from retain.pipeline.errors import StateError, UsageError
from retain.pipeline.frame import Frame
from retain.pipeline.packet import Packet
from retain.pipeline.results import Masks, Vitals

FPS = 30
CM = {"physical_delta_x": 0.05, "physical_delta_y": 0.05, "physical_unit": "cm"}


def frame(seq: int = 0, size: tuple[int, int] = (224, 300), **more: Any) -> Frame:
    image = np.zeros((*size, 3), np.uint8)
    return Frame(more.pop("stream", "echo"), seq, seq, Fraction(1, FPS), image, **more)


def beating(count: int, first: int = 0, **more: Any) -> list[Packet]:
    """Packets of the beating ellipse."""
    made = []
    for seq in range(first, first + count):
        shown = frame(seq, **more)
        made.append(Packet(shown).plus(masks=parts.masks(parts.shrink(shown.seconds), shown)))
    return made


def measured(stage: Measure, packets: list[Packet]) -> list[Vitals]:
    out = [stage.process(packet) for packet in packets]
    return [packet.get("vitals", Vitals) for packet in out if packet is not None]


def grid(plane: NDArray[np.uint8], to_frame: Any = ((1, 0, 0), (0, 1, 0))) -> Masks:
    planes = plane if plane.ndim == 3 else plane[None]
    labels = ("cavity", "myocardium", "atrium")[: len(planes)]
    return Masks(planes, labels, np.array(to_frame, np.float32))


# --- place


def test_the_grid_as_it_is() -> None:
    planes = np.zeros((2, 8, 8), np.uint8)
    planes[0, 2:5, 2:5] = 200
    planes[1, 5:7, 2:5] = 130
    label = masks_on_frame(grid(planes), 8, 8)
    assert (label == 1).sum() == 9
    assert (label == 2).sum() == 6
    assert (label[2:5, 2:5] == 1).all()


@pytest.mark.parametrize("scale", [2, 3, 4.5])
def test_a_pixel_of_the_grid_lies_where_the_affine_says(scale: float) -> None:
    plane = np.zeros((20, 20), np.uint8)
    plane[6:9, 11:14] = 255
    masks = grid(plane, ((scale, 0, 7), (0, scale, 3)))
    rows, cols = np.nonzero(masks_on_frame(masks, 110, 110))
    # Pixel i has its centre at i + 0.5, in the grid and in the frame.
    assert cols.mean() + 0.5 == pytest.approx(12.5 * scale + 7, abs=0.5)
    assert rows.mean() + 0.5 == pytest.approx(7.5 * scale + 3, abs=0.5)


def test_a_turned_grid_is_turned() -> None:
    plane = np.zeros((20, 20), np.uint8)
    plane[2:5, 2:5] = 255
    label = masks_on_frame(grid(plane, ((0, -1, 20), (1, 0, 0))), 20, 20)
    assert (label[2:5, 15:18] == 1).all()
    assert label.sum() == 9


def test_ties_and_the_outside_are_background() -> None:
    planes = np.full((2, 4, 4), 85, np.uint8)
    assert not masks_on_frame(grid(planes), 4, 4).any()
    full = grid(np.full((4, 4), 255, np.uint8), ((1, 0, 3), (0, 1, 3)))
    label = masks_on_frame(full, 10, 10)
    assert (label[3:7, 3:7] == 1).all()
    assert label.sum() == 16


def test_a_preview_shows_the_same_shape() -> None:
    shown = frame(size=(480, 640))
    masks = parts.masks(1.0, shown)
    whole = masks_on_frame(masks, 480, 640)
    small = masks_on_frame(masks, 120, 160, frame=(480, 640))
    assert small.sum() == pytest.approx(whole.sum() / 16, rel=0.02)
    (line,) = outlines(small, 1)
    assert line[:, 0].max() < 160


# --- sizes


def test_an_ellipse_has_its_area_length_and_volume() -> None:
    (vitals,) = measured(Measure(), beating(1, meta=CM))
    step = 2 * 0.5  # the grid's pixels are two of the frame's, of half a millimetre
    a, b = parts.LONG * step, parts.WIDE * step
    # One per cent: the drawn edge is soft over a pixel of the grid.
    assert vitals.unit == "mm"
    assert vitals.area == pytest.approx(math.pi * a * b, rel=0.01)
    assert vitals.length == pytest.approx(2 * a, rel=0.01)
    assert vitals.volume == pytest.approx(4 / 3 * math.pi * a * b * b / 1000, rel=0.02)
    assert "area-length" in vitals.method


@pytest.mark.parametrize("method", ["area-length", "disks"])
def test_ef_of_a_beating_ellipse(method: Any) -> None:
    last = measured(Measure(method), beating(110))[-1]
    assert len(last.beats) == 3
    assert last.ef == pytest.approx(parts.EF, abs=1.5)
    for beat in last.beats:
        assert beat.ed_seconds % parts.BEAT_S == pytest.approx(0, abs=1 / FPS) or (
            beat.ed_seconds % parts.BEAT_S == pytest.approx(parts.BEAT_S, abs=1 / FPS)
        )
        assert beat.es_seconds - beat.ed_seconds == pytest.approx(parts.BEAT_S / 2, abs=2 / FPS)


@pytest.mark.parametrize(
    "meta",
    [
        {},
        {**CM, "physical_unit": "s"},
        {**CM, "physical_delta_y": 0.0},
        {**CM, "region_x0": 84, "region_y0": 31, "region_x1": 596, "region_y1": 415},
    ],
    ids=["nothing", "a time axis", "one axis", "of a larger picture"],
)
def test_without_a_size_of_pixels_all_is_in_pixels(meta: dict[str, Any]) -> None:
    assert spacing_mm(frame(meta=meta)) is None
    vitals = measured(Measure(), beating(110, meta=meta))[-1]
    assert vitals.unit == "px"
    assert vitals.ef == pytest.approx(parts.EF, abs=1.5), "a ratio needs no unit"


# --- doubts


def test_a_frame_without_a_cavity_says_so() -> None:
    stage = Measure()
    shown = frame()
    empty = Masks(np.zeros((1, 112, 112), np.uint8), ("cavity",), np.eye(2, 3, dtype=np.float32))
    (vitals,) = measured(stage, [Packet(shown).plus(masks=empty)])
    assert vitals.flags == ("no-cavity",)
    assert math.isnan(vitals.area)
    assert math.isnan(vitals.ef)


def test_doubts_of_the_masks_come_first() -> None:
    shown = frame()
    masks = parts.masks(1.0, shown, ("uncertain-sector",))
    assert measured(Measure(), [Packet(shown).plus(masks=masks)])[0].flags == ("uncertain-sector",)


def test_a_jump_is_flagged_and_makes_no_beat() -> None:
    packets = beating(110)
    at = packets[59].frame
    packets[59] = Packet(at).plus(masks=parts.masks(1.6, at))
    vitals = measured(Measure(), packets)
    assert "area-jump" in vitals[59].flags
    assert "area-jump" in vitals[60].flags, "the way back is a jump as well"
    assert sum(bool(v.flags) for v in vitals) == 2
    assert vitals[-1].ef == pytest.approx(parts.EF, abs=2)


def test_no_jump_over_a_cut() -> None:
    first, second = beating(1)[0], frame(1, discontinuity=True)
    cut = Packet(second).plus(masks=parts.masks(0.5, second))
    assert measured(Measure(), [first, cut])[1].flags == ()


def test_pieces_and_edges_are_flagged() -> None:
    plane = np.zeros((112, 112), np.uint8)
    plane[20:50, 20:50] = plane[70:100, 70:100] = 255
    cut = np.zeros((112, 112), np.uint8)
    cut[60:, 40:70] = 255
    for picture, flag in ((plane, "split-mask"), (cut, "cut-off")):
        packet = Packet(frame(size=(112, 112))).plus(masks=grid(picture))
        assert measured(Measure(), [packet])[0].flags == (flag,)


# --- state


def test_a_saved_state_goes_on_bit_for_bit(tmp_path: Path) -> None:
    packets = beating(160)
    whole = measured(Measure(), packets)
    first, second = Measure(), Measure()
    before = measured(first, packets[:90])
    first.save(str(tmp_path / "state"))
    second.load(str(tmp_path / "state"))
    after = measured(second, packets)  # those it has seen are passed over
    assert before + after == whole


@pytest.mark.parametrize("damage", ["short", "other method", "not one"])
def test_a_state_that_does_not_fit_is_refused(tmp_path: Path, damage: str) -> None:
    stage, path = (
        Measure("disks" if damage == "other method" else "area-length"),
        tmp_path / "state",
    )
    measured(stage, beating(40))
    stage.save(str(path))
    if damage == "short":
        path.write_bytes(path.read_bytes()[:-9])
    elif damage == "not one":
        path.write_bytes(b"no state")
    with pytest.raises(StateError):
        Measure().load(str(path))


def test_nothing_to_save_before_the_first_frame(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="not one frame"):
        Measure().save(str(tmp_path / "state"))


def test_state_is_bounded() -> None:
    stage = Measure()
    sizes, most = set(), 0
    for packet in beating(1800, size=(56, 56)):
        vitals = measured(stage, [packet])[0]
        most = max(most, len(vitals.beats))
        sizes.add(stage.stats()["memory_bytes"])
    assert stage.stats()["beats"] > BEATS  # type: ignore[operator]
    assert most == BEATS
    assert max(sizes) < 16_000  # type: ignore[operator]


def test_wrong_requests_are_sentences() -> None:
    with pytest.raises(UsageError, match="disks"):
        Measure("disk")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no 'ventricle'.*cavity"):
        measured(Measure(structure="ventricle"), beating(1))
    stage = Measure()
    measured(stage, beating(1))
    with pytest.raises(UsageError, match="stage of its own"):
        measured(stage, beating(1, stream="other"))
