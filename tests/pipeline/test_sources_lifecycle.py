"""States, waits, times and frozen pictures of a source that comes back: pure, so by property."""

from __future__ import annotations

import random
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retain.pipeline.errors import SourceError, SourceFault, UsageError
from retain.pipeline.sources.lifecycle import CERTAIN, LASTED_S, Backoff, Lifecycle, State
from retain.pipeline.sources.liveness import Frozen, LiveTimes

REFUSED = SourceError(SourceFault.REFUSED, "refused")
ODD = SourceError(SourceFault.NOT_VIDEO, "no video")
TICK = Fraction(1, 90_000)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def life(clock: Clock | None = None, **options: object) -> Lifecycle:
    return Lifecycle(Backoff(random.Random(1)), clock or Clock(), **options)  # type: ignore[arg-type]


@given(st.integers(0, 2**32), st.lists(st.booleans(), max_size=40))
def test_waits_stay_below_doubled_bounds(seed: int, slow: list[bool]) -> None:
    backoff, quick = Backoff(random.Random(seed)), 0
    for wants_slow in slow:
        wait = backoff.next(wants_slow)
        if wants_slow:
            assert 15 <= wait <= 30
        else:
            assert 0 <= wait <= min(30, 0.5 * 2**quick)
            quick += 1
    backoff.reset()
    assert backoff.next() <= 0.5


def test_jitter_is_full_and_drawn_from_the_given_source() -> None:
    waits = [Backoff(random.Random(seed), 8, 8).next() for seed in range(200)]
    assert min(waits) < 1 < 7 < max(waits)
    again = [Backoff(random.Random(seed), 8, 8).next() for seed in range(200)]
    assert waits == again


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["connecting", "picture", "quiet", "lost", "stalled", "frozen"]),
        st.floats(0, 20),
    ),
    max_size=60,
)


@given(EVENTS)
def test_a_patient_source_never_gives_up_and_its_counts_add_up(
    events: list[tuple[str, float]],
) -> None:
    clock = Clock()
    cycle = life(clock)
    lost = frozen = stalls = 0
    down = cycle.down_s
    for what, passed in events:
        clock.now += passed
        assert cycle.down_s >= down - 1e-9
        down = cycle.down_s
        if what == "connecting":
            cycle.connecting()
            assert cycle.state is State.CONNECTING
        elif what == "picture":
            cycle.picture()
            assert cycle.state is State.RUNNING
            assert cycle.down_now_s == 0
        elif what == "quiet":
            before = cycle.state
            cycle.quiet()
            assert cycle.state is (State.STALLED if before is State.RUNNING else before)
        else:
            fault = SourceFault.REFUSED if what == "lost" else SourceFault.STALLED
            wait = cycle.lost(SourceError(fault, what), frozen=what == "frozen")
            assert wait is not None
            assert 0 <= wait <= 30
            assert cycle.state is State.BACKOFF
            assert cycle.last_cause == what
            lost, frozen = lost + 1, frozen + (what == "frozen")
            stalls += what == "stalled"
        assert cycle.state is not State.FAILED
    assert (cycle.failures, cycle.frozen, cycle.stalls) == (lost, frozen, stalls)
    assert 0 <= cycle.down_s <= clock.now + 1e-9


@given(st.integers(1, 20))
def test_attempts_bound_failures_in_a_row(attempts: int) -> None:
    cycle = life(attempts=attempts)
    for _ in range(attempts - 1):
        assert cycle.lost(REFUSED) is not None
    assert cycle.lost(REFUSED) is None
    assert cycle.state is State.FAILED


@given(st.floats(0, 2 * LASTED_S))
def test_a_long_run_ends_a_series(ran_s: float) -> None:
    clock = Clock()
    cycle = life(clock, attempts=2)
    cycle.lost(REFUSED)
    cycle.connecting()
    cycle.picture()
    clock.now += ran_s
    gave_up = cycle.lost(REFUSED) is None
    assert gave_up == (ran_s < LASTED_S)


def test_what_cannot_heal_fails_at_once() -> None:
    assert life().lost(UsageError("wrong")) is None
    assert life(patient=False).lost(REFUSED) is None
    absent = SourceError(SourceFault.NOT_FOUND, "no camera")
    assert life(fatal=frozenset((SourceFault.NOT_FOUND,))).lost(absent) is None
    assert life().lost(absent) is not None


def test_an_answer_that_is_no_video_is_believed_the_third_time() -> None:
    cycle = life()
    assert [cycle.lost(ODD) is None for _ in range(CERTAIN)] == [False, False, True]
    cycle = life()
    cycle.picture()  # it was a video once: a camera that starts up says odd things
    assert all(cycle.lost(ODD) is not None for _ in range(10))


@given(st.integers(0, 2**32))
def test_a_refused_password_is_tried_again_slowly(seed: int) -> None:
    cycle = Lifecycle(Backoff(random.Random(seed)), Clock())
    wait = cycle.lost(SourceError(SourceFault.AUTH, "who?"))
    assert wait is not None
    assert wait >= 15


def test_down_time_counts_from_the_last_picture() -> None:
    clock = Clock()
    cycle = life(clock)
    clock.now = 2.0
    assert cycle.picture() == 2.0
    clock.now = 5.0
    assert cycle.picture() is None
    clock.now = 9.0
    cycle.lost(REFUSED)
    clock.now = 10.0
    assert cycle.down_s == 2.0 + 5.0
    assert cycle.picture() == 5.0


RUNS = st.lists(
    st.tuples(
        st.sampled_from([TICK, Fraction(1, 1000), Fraction(1, 25)]),
        st.integers(-(2**33), 2**33),
        st.lists(st.tuples(st.integers(1, 10**6), st.floats(0, 30)), min_size=1, max_size=12),
    ),
    min_size=1,
    max_size=5,
)


@given(RUNS)
def test_times_rise_whatever_connections_say(
    runs: list[tuple[Fraction, int, list[tuple[int, float]]]],
) -> None:
    times, now, out = LiveTimes(10.0), 0.0, []
    for base, start, steps in runs:
        times.reconnect()
        pts = start
        for step, passed in steps:
            pts, now = pts + step, now + passed
            out.append(times.next(pts, base, now))
    assert all(b > a for a, b in pairwise(out))
    base, start, steps = runs[0]
    assert times.time_base == base
    assert out[0] == start + steps[0][0]


def test_a_later_connection_goes_on_after_the_time_that_passed() -> None:
    times = LiveTimes(10.0)
    times.next(900, TICK, 100.0)
    times.reconnect()
    assert times.next(5, TICK, 102.0) == 900 + 2 * 90_000
    assert times.next(5 + 3600, TICK, 102.0) == 900 + 2 * 90_000 + 3600
    times.reconnect()  # another time base: what it says is converted
    assert times.next(1000, Fraction(1, 1000), 103.0) == 4500 + 3 * 90_000
    assert times.next(1040, Fraction(1, 1000), 103.0) == 4500 + 3 * 90_000 + 3600
    assert times.repaired == 2


@pytest.mark.parametrize("base", [TICK, Fraction(1, 1000)])
def test_standing_time_is_counted_on_by_arrival_until_it_moves(base: Fraction) -> None:
    times, second = LiveTimes(2.0), int(1 / base)
    pts, now, out = 0, 0.0, []

    def give(step: int, count: int) -> None:
        nonlocal pts, now
        for _ in range(count):
            pts, now = pts + step, now + 0.04
            out.append(times.next(pts, base, now))

    give(second // 25, 50)
    assert times.standing == times.repaired == 0
    give(1, 150)  # 6 s of pictures whose time repeats: each a tick later, as VideoSource gives it
    assert times.standing == 1
    assert times.repaired > 90
    give(second // 25, 50)
    assert times.standing == 1
    # 10 s passed; what stood before it was noticed (2 s and a picture) is lost.
    assert 7.8 <= (out[-1] - out[0]) / second <= 8.2
    assert all(b > a for a, b in pairwise(out))


def test_bursts_and_slow_pictures_are_no_standing_time() -> None:
    times, pts, now = LiveTimes(2.0), 0, 0.0
    for _ in range(5):  # HLS: six seconds of pictures at once, then nothing for six
        now += 6.0
        for _ in range(150):
            pts += 3600
            assert times.next(pts, TICK, now) == pts
    for _ in range(20):  # one picture in ten seconds
        pts, now = pts + 900_000, now + 10.0
        assert times.next(pts, TICK, now) == pts
    for k in range(100):  # a time base of frames: one tick each is a rate
        times = LiveTimes(2.0) if k == 0 else times
        assert times.next(k, Fraction(1, 25), k / 25) == k


def test_frozen_needs_the_same_bytes_for_the_whole_time() -> None:
    same = np.full((40, 40, 3), 7, np.uint8)
    other = same.copy()
    other[39, 39, 2] = 8  # not among the samples that are compared first
    frozen = Frozen(3.0)
    assert [frozen.sees(same.copy(), t) for t in (0.0, 1.0, 2.0)] == [False] * 3
    assert not frozen.sees(other, 3.0)
    assert [frozen.sees(same, t) for t in (4.0, 5.0, 6.9, 7.0)] == [False, False, False, True]
    assert not Frozen(0).sees(same, 1e9)


def test_two_far_pictures_are_not_enough_and_another_size_is_another_picture() -> None:
    frozen = Frozen(3.0)
    same = np.zeros((8, 8, 3), np.uint8)
    assert not frozen.sees(same, 0.0)
    assert not frozen.sees(same, 100.0)
    assert not frozen.sees(np.zeros((4, 8, 3), np.uint8), 100.0)
