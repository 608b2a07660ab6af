"""Procedural videos: the seed decides; truth agrees with what is seen; degradation is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retain.datasets.detect.base import CLEAN, IGNORE, OCCLUDED
from retain.datasets.detect.degrade import KINDS, PRESETS, Degraded, degrade, plan
from retain.datasets.detect.motion import motion_iou
from retain.datasets.detect.objects import ObjectVideo, ObjectVideos
from retain.pipeline.errors import UsageError


@pytest.fixture(scope="module")
def video() -> ObjectVideo:
    return ObjectVideo(3, frames=40, degraded="strong")


def test_the_seed_decides_and_nothing_else(video: ObjectVideo) -> None:
    other = ObjectVideo(3, frames=40, degraded="strong")
    backwards = {k: other[k] for k in (39, 17, 2)}
    for k, sample in backwards.items():
        assert np.array_equal(sample.image, video[k].image)
        assert np.array_equal(sample.truth.boxes, video.truth(k).boxes)
        assert sample.degradation == video.degradations[k]
    assert not np.array_equal(ObjectVideo(4)[0].image, ObjectVideo(5)[0].image)


def test_a_longer_video_begins_like_a_shorter_one() -> None:
    assert np.array_equal(ObjectVideo(3, frames=9)[8].image, ObjectVideo(3, frames=90)[8].image)


@given(seed=st.integers(0, 10_000), index=st.integers(0, 199))
@settings(max_examples=25, deadline=None)
def test_truth_agrees_with_the_silhouettes(seed: int, index: int) -> None:
    sample = ObjectVideo(seed, frames=200, width=160, height=120)[index]
    truth, mask = sample.truth, sample.mask
    assert mask is not None
    assert mask.shape == sample.image.shape[:2] == (120, 160)
    assert len(set(truth.tracks)) == len(truth)
    for row, box in enumerate(truth.boxes):
        x0, y0, x1, y1 = box
        assert 0 <= x0 < x1 <= 160
        assert 0 <= y0 < y1 <= 120
        y, x = np.nonzero(mask == truth.tracks[row] + 1)
        assert ((x >= x0) & (x < x1) & (y >= y0) & (y < y1)).all()
        if not truth.flags[row] & (OCCLUDED | IGNORE):
            # Seen whole: the pixels reach at least near each side of the box.
            assert x.max() - x.min() + 1 >= 0.75 * (x1 - x0)
            assert y.max() - y.min() + 1 >= 0.75 * (y1 - y0)
        if len(x) == 0:
            assert truth.flags[row] & IGNORE


def test_tracks_move_steadily_and_at_many_speeds() -> None:
    values = []
    for seed in range(8):
        clip = ObjectVideo(seed, frames=25, width=160, height=120)
        values += [v for frame in motion_iou([clip.truth(k) for k in range(25)]) for v in frame]
    shares = np.histogram(np.array(values)[~np.isnan(values)], [0, 0.7, 0.9, 1.01])[0] / len(values)
    assert (shares > 0.1).all()


def test_labels_of_a_track_never_change(video: ObjectVideo) -> None:
    pairs = {(t, n) for k in range(40) for t, n in zip(*_ids(video, k), strict=True)}
    assert len({track for track, _ in pairs}) == len(pairs)


def _ids(video: ObjectVideo, k: int) -> tuple[list[int], list[int]]:
    truth = video.truth(k)
    return truth.tracks.tolist(), truth.labels.tolist()


def test_what_is_degraded_is_known_and_the_rest_is_clean(video: ObjectVideo) -> None:
    kinds = {one.kind for one in video.degradations}
    assert len(kinds) > 1
    for k, how in enumerate(video.degradations):
        if k % 4 and not how:
            continue
        sample, clean = video[k], video.clean(k)
        assert clean.degradation is CLEAN
        assert np.array_equal(sample.image, clean.image) == (not how)
        assert np.array_equal(sample.truth.boxes, clean.truth.boxes)


def test_fast_things_are_smeared() -> None:
    """Between two frames' times: an exposure is a mean over moments, not one of them."""
    clip = next(
        ObjectVideo(seed, frames=30)
        for seed in range(50)
        if ObjectVideo(seed)._world.speed(0.0) > 150
    )
    slow = ObjectVideo(clip.seed, frames=30, rate=1000)
    edges = [np.abs(np.diff(c[0].image.astype(int), axis=1)).mean() for c in (clip, slow)]
    assert edges[0] < edges[1]


@pytest.mark.parametrize("wrong", [{"frames": 0}, {"rate": 0.0}, {"width": 8}, {"seed": -1}])
def test_wrong_options_are_told(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        ObjectVideo(**wrong)
    with pytest.raises(UsageError, match="no preset 'stong'.*strong"):
        ObjectVideos(degraded="stong")


def test_a_set_is_its_clips() -> None:
    clips = ObjectVideos(3, seed=7, frames=2)
    assert [clip.seed for clip in clips] == [7, 8, 9]
    assert clips[-1].name == "objects-00009"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(48, 64), (120, 33), (1, 1)])
def test_degrade_keeps_size_and_does_not_touch_its_input(kind: str, size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)
    image.flags.writeable = False
    for strength in (0.0, 0.5, 1.0):
        out = degrade(image, kind, strength, np.random.default_rng(1))
        again = degrade(image, kind, strength, np.random.default_rng(1))
        assert out.shape == image.shape
        assert out.dtype == np.uint8
        assert np.array_equal(out, again)


@pytest.mark.parametrize("kind", KINDS)
def test_stronger_is_farther_from_clean(kind: str) -> None:
    image = ObjectVideo(1)[0].image
    rngs = (np.random.default_rng(2) for _ in range(3))
    errors = [
        np.abs(degrade(image, kind, strength, rng).astype(int) - image).mean()
        for strength, rng in zip((0.05, 0.4, 1.0), rngs, strict=True)
    ]
    assert errors[0] < errors[1] < errors[2]


@pytest.mark.parametrize("kind", ["motion", "defocus"])
def test_blur_moves_nothing_and_loses_no_light(kind: str) -> None:
    """A bright square's centre and sum stay, so that its box remains true."""
    image = np.zeros((161, 161, 3), np.uint8)
    image[70:91, 70:91] = 255
    for seed in range(6):
        out = degrade(image, kind, 1.0, np.random.default_rng(seed))[..., 0].astype(float)
        y, x = np.mgrid[:161, :161]
        assert (x * out).sum() / out.sum() == pytest.approx(80, abs=0.3)
        assert (y * out).sum() / out.sum() == pytest.approx(80, abs=0.3)
        assert out.sum() == pytest.approx(float(image[..., 0].sum()), rel=0.02)


def test_bars_cover_what_they_say_and_spare_the_rest() -> None:
    image = np.full((300, 400, 3), 255, np.uint8)
    shares = [
        (degrade(image, "bars", 0.8, np.random.default_rng(seed)) != image).any(2).mean()
        for seed in range(8)
    ]
    assert np.mean(shares) == pytest.approx(0.65 * 0.8, abs=0.05)


def test_any_clip_can_be_degraded() -> None:
    clip = ObjectVideo(6, frames=30, width=64, height=48)
    spoilt = Degraded(clip, "mild", seed=2)
    assert [k for k in range(30) if spoilt.degradations[k]]
    for k, sample in enumerate(spoilt):
        same = np.array_equal(sample.image, clip[k].image)
        assert same == (not spoilt.degradations[k])
        assert sample.degradation == spoilt.degradations[k]
        assert np.array_equal(spoilt.clean(k).image, clip[k].image)
        assert np.array_equal(sample.truth.boxes, spoilt.truth(k).boxes)
    again = Degraded(clip, "mild", seed=2)
    assert all(np.array_equal(again[k].image, spoilt[k].image) for k in (-1, 12, 5))
    assert Degraded(clip, "mild", seed=3).degradations != spoilt.degradations


def test_degrade_refuses_what_it_does_not_know() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match="kind is one of"):
        degrade(image, "rain", 0.5, np.random.default_rng(0))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="from 0 to 1"):
        degrade(image, "dark", 1.5, np.random.default_rng(0))


def test_bursts_have_the_share_length_and_range_of_their_preset() -> None:
    for name in ("mild", "strong"):
        how = PRESETS[name]
        made = plan(40_000, np.random.default_rng(0), how)
        assert not any(made[:5])
        spoilt = [one for one in made if one]
        assert len(spoilt) / len(made) == pytest.approx(how.share, abs=0.02)
        bursts = sum(one.place == 0 for one in spoilt)
        assert len(spoilt) / bursts == pytest.approx(how.burst, abs=0.2)
        assert all(how.low <= one.strength <= how.high for one in spoilt)
        assert {one.kind for one in spoilt} == set(KINDS)
    assert not any(plan(100, np.random.default_rng(0), PRESETS["clean"]))


@pytest.mark.parametrize(("clips", "frames"), [(1, 10**11), (10**11, 1), (10**4, 101)])
def test_sets_without_end_are_refused_at_once(clips: int, frames: int) -> None:
    with pytest.raises(UsageError, match="at most 1,000,000 frames"):
        ObjectVideos(clips=clips, frames=frames)
