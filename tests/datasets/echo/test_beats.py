"""Beats of drawn curves whose end-diastoles, end-systoles and EF are known."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
from echo_beats import find_beats
from numpy.typing import NDArray
from scipy.signal import find_peaks

from retain.datasets.echo.beats import GAP_S, REACH_S, WARM_UP_S, BeatTracker
from retain.pipeline.errors import StateError
from retain.pipeline.results import Beat

Array = NDArray[np.float64]
SYSTOLE = 0.38


@dataclass
class Curve:
    """Beats of given length (s) and depth (part of the area that is lost), one after the other."""

    seconds: NDArray[np.float64]
    area: NDArray[np.float64]
    ed: list[float]
    es: list[float]

    @property
    def volume(self) -> NDArray[np.float64]:
        return self.area**1.5


def draw(
    beats: list[tuple[float, float]],
    fps: float,
    start: float = 0.0,
    noise: float = 0.0,
    seed: int = 0,
) -> Curve:
    """``start``: seconds of the first beat that are cut off."""
    begins = np.concatenate(([0.0], np.cumsum([length for length, _ in beats])))
    seconds = np.arange(start, begins[-1], 1 / fps)
    beat = np.searchsorted(begins, seconds, side="right") - 1
    length, depth = np.array(beats)[beat].T
    phase = (seconds - begins[beat]) / length
    fill = (1 - phase) / (1 - SYSTOLE)
    squeezed = 0.5 - 0.5 * np.cos(np.pi * np.where(phase < SYSTOLE, phase / SYSTOLE, fill))
    area = 2000 * (1 - depth * squeezed)
    area *= 1 + np.random.default_rng(seed).normal(0, noise, len(area))
    es = begins[:-1] + SYSTOLE * np.array([length for length, _ in beats])
    return Curve(seconds, area, begins[:-1].tolist(), es.tolist())


def stream(curve: Curve, tracker: BeatTracker) -> tuple[tuple[Beat, ...], list[float]]:
    """All beats, and how long after its end-systole each came out."""
    beats: tuple[Beat, ...] = ()
    late = []
    for seq, (seconds, area, volume) in enumerate(
        zip(curve.seconds, curve.area, curve.volume, strict=True)
    ):
        new = tracker.add(seq, seconds, area, volume)
        late += [seconds - beat.es_seconds for beat in new]
        beats += new
    return beats + tracker.finish(), late


def check(found: tuple[Beat, ...], curve: Curve, which: slice, within_s: float) -> None:
    """The same beats, at the right times."""
    assert len(found) == len(curve.ed[which])
    for beat, ed, es in zip(found, curve.ed[which], curve.es[which], strict=True):
        assert beat.es_seconds == pytest.approx(es, abs=within_s)
        assert beat.ed_seconds == pytest.approx(ed, abs=within_s)


STEADY = [(0.8, 0.35)] * 6


@pytest.mark.parametrize("fps", [15, 30, 50, 100])
def test_every_whole_beat_is_found_at_its_time(fps: float) -> None:
    curve = draw(STEADY, fps)
    found = find_beats(curve.seconds, curve.area, curve.volume)
    # The first end-diastole is the curve's first point: that beat may have begun before it.
    check(found, curve, slice(1, None), within_s=max(1 / fps, 0.02) + 1e-9)
    for beat in found:
        assert beat.ef == pytest.approx(100 * (1 - 0.65**1.5), abs=1.5)
        assert curve.seconds[beat.es_seq] == beat.es_seconds
        assert curve.area[beat.ed_seq] == beat.ed_area


@pytest.mark.parametrize("fps", [30, 50])
@pytest.mark.parametrize("seed", range(4))
def test_noise_neither_adds_nor_hides_beats(fps: float, seed: int) -> None:
    curve = draw(STEADY, fps, noise=0.02, seed=seed)
    found = find_beats(curve.seconds, curve.area, curve.volume)
    check(found, curve, slice(1, None), within_s=0.12)  # an end-diastole is flat for a tenth


@pytest.mark.parametrize("seed", range(3))
def test_dropped_frames_cost_no_beat(seed: int) -> None:
    curve = draw(STEADY, 30)
    kept = np.random.default_rng(seed).random(len(curve.area)) > 0.3
    found = find_beats(curve.seconds, curve.area, curve.volume, valid=kept)
    check(found, curve, slice(1, None), within_s=0.1)
    assert all(kept[[beat.ed_seq, beat.es_seq]].all() for beat in found)


def test_an_irregular_heart_is_followed_beat_by_beat() -> None:
    beats = [(0.8, 0.3), (0.6, 0.18), (1.3, 0.4), (0.7, 0.25), (1.0, 0.35), (0.5, 0.2), (1.1, 0.38)]
    curve = draw([*beats, (0.8, 0.3)], 50)
    found = find_beats(curve.seconds, curve.area, curve.volume)
    check(found, curve, slice(1, None), within_s=0.04)
    for beat, (_, depth) in zip(found, beats[1:], strict=False):
        assert beat.ef == pytest.approx(100 * (1 - (1 - depth) ** 1.5), abs=2)


@pytest.mark.parametrize("bpm", [45, 75, 120])
def test_agrees_with_a_peak_finder_that_sees_the_whole_curve(bpm: int) -> None:
    curve = draw([(60 / bpm, 0.3)] * 8, 50, start=0.1)
    lows, _ = find_peaks(-curve.area, prominence=100, distance=20)
    highs, _ = find_peaks(curve.area, prominence=100, distance=20)
    found = find_beats(curve.seconds, curve.area)
    assert [beat.ed_seq for beat in found] == pytest.approx(highs.tolist(), abs=1)
    assert [beat.es_seq for beat in found] == pytest.approx(lows[lows > highs[0]].tolist(), abs=1)


def test_beats_cut_off_by_the_ends_are_left_out() -> None:
    curve = draw(STEADY, 50, start=0.15)  # in the first systole
    check(find_beats(curve.seconds, curve.area), curve, slice(1, None), within_s=0.03)
    shorter = Curve(curve.seconds[:-28], curve.area[:-28], curve.ed, curve.es)
    # Ends 0.06 s before the last end-systole.
    check(find_beats(shorter.seconds, shorter.area), shorter, slice(1, -1), within_s=0.03)


def test_a_gap_ends_a_beat_and_short_losses_do_not() -> None:
    curve = draw(STEADY, 50)
    area = curve.area.copy()
    area[70 : 70 + int(50 * GAP_S) - 2] = np.nan  # around the end-systole at 1.10 s: too short
    area[96:99] = np.nan
    whole = find_beats(curve.seconds, area)
    assert len(whole) == 5
    area[100:125] = 0.0  # no mask from 2.0 to 2.5 s: the beat of 1.6 s and its next are cut
    found = find_beats(curve.seconds, area)
    assert [round(beat.ed_seconds, 1) for beat in found] == [0.8, 3.2, 4.0]


@pytest.mark.parametrize("noise", [0.0, 0.015])
@pytest.mark.parametrize("fps", [15, 30, 50])
def test_a_flat_curve_has_no_beat(noise: float, fps: float) -> None:
    curve = draw([(0.8, 0.0)] * 8, fps, noise=noise)
    assert find_beats(curve.seconds, curve.area) == ()
    assert find_beats(curve.seconds[:0], curve.area[:0]) == ()
    assert find_beats(curve.seconds, np.full_like(curve.area, np.nan)) == ()


@pytest.mark.parametrize("frames", [10, 20])
@pytest.mark.parametrize("reverse", [False, True])
def test_half_a_beat_gives_one_ejection_fraction(frames: int, reverse: bool) -> None:
    curve = draw([(0.8, 0.35)], fps=frames / (0.8 * SYSTOLE))
    area = curve.area[: frames + 1]
    area = area[::-1].copy() if reverse else area
    found = find_beats(curve.seconds[: frames + 1], area, area**1.5)
    assert len(found) == 1
    assert (found[0].ed_area, found[0].es_area) == (area.max(), area.min())
    assert found[0].ef == pytest.approx(100 * (1 - 0.65**1.5), abs=0.1)


def test_two_end_systoles_closer_than_a_beat_are_one() -> None:
    curve = draw(STEADY, 50)
    notch = 1 + 0.3 * np.exp(-0.5 * ((curve.seconds - 1.9) / 0.03) ** 2)
    found = find_beats(curve.seconds, curve.area * notch, tracker=BeatTracker(prominence=0.2))
    assert [round(beat.ed_seconds, 1) for beat in found] == [0.8, 1.6, 2.4, 3.2, 4.0]


CURVES = {
    "steady": draw(STEADY, 50),
    "slow frames": draw(STEADY, 15, start=0.3),
    "noisy": draw([(0.8, 0.35)] * 12, 30, noise=0.03, seed=5),
    "irregular": draw([(0.8, 0.3), (0.5, 0.2), (1.4, 0.4), (0.7, 0.3)] * 3, 50),
}


@pytest.mark.parametrize("curve", CURVES.values(), ids=CURVES)
def test_a_stream_gives_the_same_beats_soon_after(curve: Curve) -> None:
    found, late = stream(curve, BeatTracker())
    assert found == find_beats(curve.seconds, curve.area, curve.volume)
    assert len(late) >= len(found) - 2
    # Held for min_beat_s and the smoothing, or until the range is known; plus one frame.
    assert max(late) <= max(0.4 + 3 * REACH_S, WARM_UP_S)


@pytest.mark.parametrize("curve", CURVES.values(), ids=CURVES)
@pytest.mark.parametrize("cut", [0, 1, 40, 95])
def test_goes_on_from_an_exported_state(curve: Curve, cut: int) -> None:
    whole, _ = stream(curve, BeatTracker())
    first, second = BeatTracker(), BeatTracker()
    beats: tuple[Beat, ...] = ()
    tracker = first
    for seq, (seconds, area) in enumerate(zip(curve.seconds, curve.area, strict=True)):
        if seq == cut:
            second.restore(first.export())
            tracker = second
        beats += tracker.add(seq, seconds, area, area**1.5)
    assert beats + tracker.finish() == whole
    assert tracker.completed == len(whole)


def test_memory_is_bounded_at_any_frame_rate() -> None:
    tracker = BeatTracker()
    curve = draw([(0.8, 0.35)] * 40, 240)
    beats, _ = stream(curve, tracker)
    assert len(beats) == 39
    assert tracker.export().shape == (BeatTracker.STATE_SIZE,)
    assert tracker.export().nbytes < 11_000


def test_time_that_starts_anew_starts_a_new_curve() -> None:
    curve = draw(STEADY, 50)
    tracker = BeatTracker()
    once = stream(curve, tracker)[0]
    again = stream(curve, tracker)[0]
    assert again == once
    assert math.isclose(again[0].ed_seconds, 0.8, abs_tol=0.03)


def test_a_state_that_is_none_is_refused() -> None:
    tracker = BeatTracker()
    good = tracker.export()
    with pytest.raises(StateError, match="not the state of a beat tracker"):
        tracker.restore(good[:-1])
    damaged = good.copy()
    damaged[3] = 1e6
    with pytest.raises(StateError, match="damaged"):
        tracker.restore(damaged)
    with pytest.raises(StateError, match="prominence=0.4.*not 0.5"):
        BeatTracker(prominence=0.5).restore(good)
