"""Phantom clips: truth that agrees with the masks, determinism, presets, the shape of things."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from retain.datasets.echo.clip import ATRIUM, CAVITY, MYOCARDIUM, EchoClip
from retain.datasets.echo.grid import APEX, RADIUS
from retain.datasets.echo.phantom import PhantomConfig, make_clip, make_stream
from retain.datasets.echo.phantom_heart import Pose, draw_heart
from retain.datasets.echo.phantom_marks import draw_marks
from retain.datasets.echo.phantom_motion import disks, fill
from retain.pipeline.errors import UsageError

SEEDS = range(900, 910)


@pytest.fixture(scope="module")
def clips() -> list[EchoClip]:
    return [make_clip(seed, PhantomConfig(frames=6)) for seed in SEEDS]


def _area(mask: NDArray[np.uint8]) -> int:
    return int((mask == CAVITY).sum())


def _corners(mask: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Outline of a cavity mask as left and right ends of each row."""
    rows = np.flatnonzero((mask == CAVITY).any(1))
    ends = [np.flatnonzero(mask[y] == CAVITY)[[0, -1]] for y in rows]
    left = np.array([[e[0] - 0.5, y] for e, y in zip(ends, rows, strict=True)], float)
    right = np.array([[e[1] + 0.5, y] for e, y in zip(ends, rows, strict=True)], float)
    return left, right


def test_same_seed_same_clip_other_seed_other_clip() -> None:
    one, two, other = (make_clip(s, PhantomConfig(frames=3)) for s in (7, 7, 8))
    assert np.array_equal(one.frames, two.frames)
    assert np.array_equal(one.masks, two.masks)
    assert (one.ef, one.edv_ml, one.spacing_mm) == (two.ef, two.edv_ml, two.spacing_mm)
    assert not np.array_equal(one.frames, other.frames)


def test_clip_runs_from_largest_to_smallest_cavity(clips: list[EchoClip]) -> None:
    for clip in clips:
        areas = [_area(m) for m in clip.masks]
        assert (clip.ed, clip.es) == (0, 5)
        # Rocking and drift move an outline by a fraction of a pixel: half a per cent of its area.
        assert areas[0] >= 0.995 * max(areas)
        assert areas[-1] <= 1.005 * min(areas)


def test_every_frame_is_labelled(clips: list[EchoClip]) -> None:
    for clip in clips:
        assert clip.labelled.all()
        for mask in clip.masks:
            assert {CAVITY, MYOCARDIUM} <= set(np.unique(mask)) <= {0, CAVITY, MYOCARDIUM, ATRIUM}


def test_left_ventricles_are_as_large_as_in_real_clips() -> None:
    part = [make_clip(s, PhantomConfig(frames=2)).masks[0] for s in range(30)]
    areas = np.array([_area(m) / m.size for m in part])
    assert 0.05 < areas.min() < 0.09
    assert 0.15 < areas.max() < 0.30
    assert 0.08 < np.median(areas) < 0.15


def test_fan_lies_on_the_grid() -> None:
    """Zero outside; with the easy preset exactly where grid.py says."""
    for seed in SEEDS:
        clip = make_clip(seed, PhantomConfig(frames=2, preset="easy"))
        y, x = np.mgrid[0:112, 0:112] + 0.5
        r = np.hypot(x - APEX[0] * 112, y - APEX[1] * 112)
        angle = np.abs(np.arctan2(x - APEX[0] * 112, y - APEX[1] * 112))
        seen = clip.frames.max(0) > 0
        outside = (r > RADIUS * 112 + 1) | (angle > math.radians(51))
        assert not seen[outside].any()
        assert 0.3 < 1 - seen.mean() < 0.8


def test_ejection_fraction_is_that_of_the_volumes(clips: list[EchoClip]) -> None:
    for clip in clips:
        assert clip.ef == pytest.approx(100 * (1 - clip.esv_ml / clip.edv_ml))
        assert 10 < clip.ef < 80
        assert 20 < clip.edv_ml < 500


def test_disks_on_the_masks_give_the_true_ejection_fraction() -> None:
    """Upright, whole ventricles: rows are then the disks. Two points, and 4 % of the volume."""
    checked = 0
    for seed in range(20):
        case = make_clip(seed, PhantomConfig(size=224, frames=2, preset="easy"))
        ml = []
        for mask in (case.masks[0], case.masks[-1]):
            left, right = _corners(mask)
            outline = np.concatenate([left[::-1], right])
            base = 0.5 * (left[-1] + right[-1])
            # The mitral plane is the last rows; its middle is where the outline is cut straight.
            flat = np.flatnonzero(right[:, 0] - left[:, 0] > 4)[-1]
            base = 0.5 * (left[flat] + right[flat])
            apex = outline[np.hypot(*(outline - base).T).argmax()]
            ml.append(disks(outline, apex, base) * (case.spacing_mm[0] / 10) ** 3)
        if abs(ml[0] / case.edv_ml - 1) > 0.04:
            continue  # tilted: rows are not chords
        checked += 1
        assert 100 * (1 - ml[1] / ml[0]) == pytest.approx(case.ef, abs=2.0)
    assert checked >= 6


def test_filled_area_is_the_area_of_the_outline() -> None:
    rng = np.random.default_rng(3)
    for _ in range(10):
        heart = draw_heart(rng, False)
        pose = Pose(0.0, 0.0, rng.uniform(-0.4, 0.4), 1.0, 0.1)
        outline = pose.place(heart.cavity(heart.at(0.0))) * 5.0 + (60.3, 20.7)
        mask = np.zeros((112, 112), np.uint8)
        fill(outline, mask, 1)
        x, y = outline.T
        exact = 0.5 * abs(x @ np.roll(y, -1) - y @ np.roll(x, -1))
        assert mask.sum() == pytest.approx(exact, rel=0.01)


def test_disks_of_a_half_ellipsoid() -> None:
    a = np.linspace(0, math.pi, 2001)
    outline = np.stack([2.5 * np.cos(a), -8.0 * np.sin(a)], 1)
    volume = disks(outline, np.array([0.0, -8.0]), np.zeros(2))
    assert volume == pytest.approx(2 / 3 * math.pi * 2.5**2 * 8.0, rel=1e-3)


def test_streams_run_for_several_beats() -> None:
    clip = make_stream(5, seconds=3.0, fps=25, config=PhantomConfig(preset="easy"))
    areas = np.array([_area(m) for m in clip.masks], float)
    assert len(clip.frames) == 75
    assert clip.fps == 25
    assert 0 <= clip.ed < clip.es < 75
    high = areas > areas.mean()
    assert (
        2 <= (high[1:] != high[:-1]).sum() <= 14
    )  # crossings of the mean: 1 to 5 beats and ripples


def test_any_span_starts_anywhere() -> None:
    config = PhantomConfig(frames=8, span="any")
    clips = [make_clip(s, config) for s in range(8)]
    assert any(c.ed > c.es for c in clips)
    assert any(c.ed < c.es for c in clips)


def test_presets_get_harder() -> None:
    """Contrast between the ring round the cavity and the cavity, grey levels."""

    def contrast(preset: str) -> float:
        gaps = []
        for seed in range(8):
            clip = make_clip(seed, PhantomConfig(frames=2, preset=preset))  # type: ignore[arg-type]
            frame, mask = clip.frames[0].astype(float), clip.masks[0]
            gaps.append(frame[mask == MYOCARDIUM].mean() - frame[mask == CAVITY].mean())
        return float(np.median(gaps) / 255)

    easy, default, poor = contrast("easy"), contrast("default"), contrast("poor")
    assert easy > default > poor > 0


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"preset": "hopeless"}, "none of easy, default, poor"),
        ({"size": 8}, "32 to 512"),
        ({"frames": 1}, "at least 2"),
    ],
)
def test_bad_configurations_are_refused(wrong: dict[str, object], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        PhantomConfig(**wrong)  # type: ignore[arg-type]


def test_empty_stream_is_refused() -> None:
    with pytest.raises(UsageError, match="not a clip"):
        make_stream(0, seconds=0.0)


def test_marks_cover_little_and_never_most_of_the_fan() -> None:
    for seed in range(30):
        keep, over = draw_marks(np.random.default_rng(seed), 112, 0.75)
        assert set(np.unique(keep)) <= {0.0, 1.0}
        assert 0.8 < keep.mean() < 1.0
        assert over.min() >= 0
        assert over.max() <= 1.0
