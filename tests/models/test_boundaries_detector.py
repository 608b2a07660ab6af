"""The causal boundary detector: what it calls what, and the promises it keeps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retain.memory.base import State
from retain.models.boundaries import measures
from retain.models.boundaries.detector import BoundaryConfig, BoundaryDetector
from retain.pipeline.errors import StateError, UsageError
from retain.pipeline.results import Verdict

FPS = 25.0
DIM = 16
Pictures = list[np.ndarray]


def scene(seed: int, size: tuple[int, int] = (36, 64)) -> np.ndarray:
    """uint8 [H, W, 3]: a picture of patches of 8 pixels."""
    import cv2

    rng = np.random.default_rng(seed)
    patches = rng.integers(20, 236, (size[0] // 8 + 1, size[1] // 8, 3), np.uint8)
    return np.asarray(cv2.resize(patches, size[::-1], interpolation=cv2.INTER_CUBIC))


def shot(seed: int, frames: int) -> Pictures:
    """A scene with a little noise."""
    rng = np.random.default_rng(seed + 1000)
    still = scene(seed).astype(int)
    return [
        np.clip(still + rng.integers(-3, 4, still.shape), 0, 255).astype(np.uint8)
        for _ in range(frames)
    ]


def feature(image: np.ndarray) -> np.ndarray:
    """float32 [16]: a stand-in encoder; like a real one, it sees light too."""
    small = measures.grid(image).reshape(-1) - 128
    mix = np.random.default_rng(5).normal(size=(DIM, small.size)).astype(np.float32)
    vector = mix @ small
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-9), np.float32)


def judge(
    pictures: Sequence[np.ndarray],
    config: BoundaryConfig | None = None,
    described: bool = True,
    fps: float = FPS,
) -> list[Verdict]:
    detector = BoundaryDetector(config)
    return [
        detector.step(image, feature(image) if described else None, t / fps)
        for t, image in enumerate(pictures)
    ]


def found(verdicts: Sequence[Verdict]) -> list[tuple[int, str]]:
    return [(t, verdict.kind) for t, verdict in enumerate(verdicts) if verdict.boundary]


def dissolve(old: Pictures, new: Pictures) -> Pictures:
    shares = (np.arange(len(old)) + 1) / (len(old) + 1)
    pairs = zip(old, new, shares, strict=True)
    return [np.rint(a * (1 - w) + b * w).astype(np.uint8) for a, b, w in pairs]


@pytest.mark.parametrize("described", [True, False])
def test_cuts_are_found_at_their_frame(described: bool) -> None:
    clip = shot(1, 20) + shot(2, 9) + shot(3, 20)
    assert found(judge(clip, described=described)) == [(20, "cut"), (29, "cut")]


@pytest.mark.parametrize("frames", [12, 16, 24])
def test_a_dissolve_is_found_once_within_two_frames_of_it(frames: int) -> None:
    clip = shot(1, 20) + dissolve(shot(1, frames), shot(2, frames)) + shot(2, 30)
    ((at, kind),) = found(judge(clip))
    assert kind == "gradual"
    assert 20 <= at <= 20 + frames + 2
    assert found(judge(clip, BoundaryConfig(lags=()))) == []


def test_what_the_encoder_takes_for_the_same_place_is_no_boundary() -> None:
    """A fast pan over fine patches: the blocks alone are deceived."""
    wide = scene(4, (36, 640))
    clip = [wide[:, 2 * t : 2 * t + 64].copy() for t in range(200)]
    place, detector = feature(wide), BoundaryDetector()
    assert not any(detector.step(one, place, t / FPS).boundary for t, one in enumerate(clip))
    assert found(judge(clip, described=False)) != []


@pytest.mark.parametrize("target", [255.0, 0.0])
def test_a_sudden_light_is_no_boundary(target: float) -> None:
    clip = shot(1, 40)
    for t in (20, 21):
        clip[t] = np.rint(0.25 * clip[t] + 0.75 * target).astype(np.uint8)
    verdicts = judge(clip)
    assert found(verdicts) == []
    assert verdicts[20].kind == "flash"
    naive = BoundaryConfig(structure=0.0, light=0.0, turn=3.0)
    assert found(judge(clip, naive)) == [(20, "cut")], "light alone would be a cut"


@pytest.mark.parametrize("frames", [1, 2, 3, 4])
def test_the_turn_tells_a_return_from_a_cut(frames: int) -> None:
    """A -> B -> A is left once; A -> B -> C is two boundaries unless they are refractory."""
    back = shot(1, 20) + shot(2, frames) + shot(1, 20)
    on = shot(1, 20) + shot(2, frames) + shot(3, 20)
    config = BoundaryConfig(refractory_s=0.0)
    verdicts = judge(back, config)
    assert found(verdicts) == [(20, "cut")]
    assert verdicts[20 + frames].kind == "flash"
    assert verdicts[20 + frames].turn > 1.9
    blind = BoundaryConfig(refractory_s=0.0, turn=3.0)
    assert [t for t, _ in found(judge(back, blind))] == [20, 20 + frames]
    assert [t for t, _ in found(judge(on, config))] == [20, 20 + frames]


def test_a_strobe_is_one_boundary_however_long() -> None:
    one, other = scene(1), scene(2)
    clip = shot(1, 20) + [other, one] * 20 + shot(1, 10)
    assert found(judge(clip, BoundaryConfig(refractory_s=0.0))) == [(20, "cut")]


def test_a_blank_counts_when_it_stays_or_leads_elsewhere() -> None:
    blank = [np.zeros((36, 64, 3), np.uint8)]
    assert found(judge(shot(1, 20) + blank * 2 + shot(1, 20))) == []
    assert found(judge(shot(1, 20) + blank * 2 + shot(2, 20))) == [(22, "cut")]
    stays = found(judge(shot(1, 20) + blank * 20 + shot(2, 20)))
    assert [t for t, _ in stays] == [23, 40], "0.1 s of black, and the picture after it"


def test_streams_in_which_nothing_happens() -> None:
    black = [np.zeros((36, 64, 3), np.uint8)] * 40
    for clip in (shot(1, 1), shot(1, 60), [scene(1)] * 60, black, black[:1]):
        for described in (True, False):
            assert found(judge(clip, described=described)) == []


def test_a_change_of_size_is_no_boundary_and_one_pixel_is_a_picture() -> None:
    clip = [scene(1)] * 10 + [np.repeat(np.repeat(scene(1), 2, 0), 2, 1)] * 10
    clip += [np.full((1, 1, 3), 9, np.uint8)] * 2
    assert found(judge(clip)) == []


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0])
def test_a_frame_without_a_usable_feature_is_judged_by_its_blocks(bad: float) -> None:
    clip = shot(1, 20) + shot(2, 20)
    detector = BoundaryDetector()
    verdicts = [
        detector.step(image, np.full(DIM, bad) if t % 3 == 2 else feature(image), t / FPS)
        for t, image in enumerate(clip)
    ]
    assert found(verdicts) == [(20, "cut")]
    assert np.isnan(verdicts[20].motion)


def test_time_running_backwards_starts_anew() -> None:
    detector = BoundaryDetector()
    for t in range(10):
        detector.step(scene(1), feature(scene(1)), t / FPS)
    assert not detector.step(scene(2), np.ones(3), 0.0).boundary
    detector.restore(detector.snapshot())
    assert detector.step(scene(3), np.array([1.0, -1.0, 0.0]), 0.2).boundary


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=2, max_size=60), st.data())
def test_no_verdict_depends_on_a_later_frame(numbers: list[int], data: st.DataObject) -> None:
    pictures = [scene(n) if n else np.zeros((36, 64, 3), np.uint8) for n in numbers]
    upto = data.draw(st.integers(1, len(pictures)))
    whole, prefix = judge(pictures), judge(pictures[:upto])
    assert repr(whole[:upto]) == repr(prefix)  # NaN is equal to NaN in print only


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=2, max_size=60), st.data())
def test_a_restored_detector_goes_on_bit_for_bit(numbers: list[int], data: st.DataObject) -> None:
    pictures = [scene(n) if n else np.zeros((36, 64, 3), np.uint8) for n in numbers]
    described = data.draw(st.lists(st.booleans(), min_size=len(numbers), max_size=len(numbers)))
    at = data.draw(st.integers(0, len(pictures)))

    def step(detector: BoundaryDetector, t: int) -> Verdict:
        image = pictures[t]
        return detector.step(image, feature(image) if described[t] else None, t / FPS)

    first, second = BoundaryDetector(), BoundaryDetector()
    for t in range(at):
        step(first, t)
    second.restore(first.snapshot())
    for t in range(at, len(pictures)):
        assert repr(step(first, t)) == repr(step(second, t))
    mine, other = first.snapshot().tensors, second.snapshot().tensors
    assert all(mine[name].tobytes() == other[name].tobytes() for name in mine)


def test_the_state_stays_within_its_bound() -> None:
    detector, lags = BoundaryDetector(), BoundaryConfig().lags
    picture = 4 * (int(np.prod(measures.SHAPE)) + DIM)
    sizes = []
    for t in range(400):
        image = scene(t // 37)
        detector.step(image, feature(image), t / FPS)
        sizes.append(detector.nbytes)
    assert max(sizes) <= (max(lags) + 3) * picture + 1000
    assert max(sizes[200:]) <= max(sizes[:200])


def test_states_that_do_not_fit_are_refused_and_change_nothing() -> None:
    detector = BoundaryDetector()
    for t, image in enumerate(shot(1, 30)):
        detector.step(image, feature(image), t / FPS)
    good = detector.snapshot()
    before = {name: array.tobytes() for name, array in good.tensors.items()}
    nan = good.tensors["run.grid"].copy()
    nan[0, 0, 0, 0] = np.nan
    for change in (
        {"numbers": good.tensors["numbers"][:-1]},
        {"run.grid": good.tensors["run.grid"][:, :4]},
        {"run.grid": nan},
        {"run.seconds": good.tensors["run.seconds"][:-1]},
        {"past": np.zeros((99, 2))},
        {"kept.grid": good.tensors["kept.grid"][:0], "kept.feature": np.zeros((0, DIM), "f4")},
    ):
        with pytest.raises(StateError, match="no state of a boundary detector"):
            detector.restore(State({**good.tensors, **change}))
    after = detector.snapshot().tensors
    assert {name: array.tobytes() for name, array in after.items()} == before


def test_bad_options_and_input_are_refused() -> None:
    for bad in ({"motion": 0.0}, {"weight": 1.5}, {"lags": (8, 4)}, {"blank": -1.0}):
        with pytest.raises(UsageError, match=f"Boundary option {next(iter(bad))}"):
            BoundaryConfig(**bad)  # type: ignore[arg-type]
    detector = BoundaryDetector()
    detector.step(scene(1), np.ones(8), 0.0)
    with pytest.raises(UsageError, match="one encoder"):
        detector.step(scene(1), np.ones(9), 0.04)
    with pytest.raises(UsageError, match="finite number of seconds"):
        detector.step(scene(1), None, float("nan"))
