"""Numbers and times of a stream rise over everything that gives it in turn."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime_parts import frame

from retain.pipeline.course import Course, Last, onward
from retain.pipeline.packet import Packet
from retain.pipeline.past import Past, continued

S = 10**9
BASES = st.sampled_from([Fraction(1, 30), Fraction(1, 90_000), Fraction(1001, 30_000), Fraction(1)])
PARTS = st.lists(
    st.tuples(
        BASES,
        st.integers(0, 10**6),  # its first number
        st.integers(-(10**6), 10**9),  # and time
        st.integers(1, 5),  # frames
        st.integers(0, 3600 * S),  # the pause before it
    ),
    min_size=1,
    max_size=5,
)


@given(PARTS)
def test_numbers_and_times_rise_whatever_comes(
    parts: list[tuple[Fraction, int, int, int, int]],
) -> None:
    course, now, seen = Course(), 0, []
    for base, seq, pts, frames, pause_ns in parts:
        assert course.turn() == bool(seen)
        now += pause_ns
        for at in range(frames):
            number, ticks = course.moved(seq + at, pts + at, base, now)
            seen.append((number, ticks * base))
            now += S // 30
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(seen))


def test_one_source_is_left_as_it_is() -> None:
    course = Course()
    course.turn()
    for seq in (0, 3, 4):
        given = frame(seq)
        assert course.follow(given) == given


def test_who_begins_anew_goes_on_after_the_pause() -> None:
    course, base = Course(), Fraction(1, 30)
    course.moved(9, 300, base, 5 * S)
    course.turn()
    assert course.moved(0, 0, base, 7 * S) == (10, 360), "two seconds, 60 ticks"
    assert course.moved(1, 1, base, 8 * S) == (11, 361), "within a source its own times count"


def test_who_goes_on_by_itself_is_left_alone() -> None:
    """A sender whose line broke: its numbers and times already say what was missed."""
    course, base = Course(), Fraction(1, 30)
    course.moved(9, 300, base, 5 * S)
    course.turn()
    assert course.moved(40, 331, base, 6 * S) == (40, 331)


@pytest.mark.parametrize("passed", [0.0, 1e-9])
def test_a_gap_is_never_nothing(passed: float) -> None:
    assert onward(Fraction(10), passed, Fraction(1, 30)) == 301


def test_a_process_that_takes_over_counts_on_in_every_stream() -> None:
    """And once in each says that there is a gap."""
    last = Last(seq=5, pts=60, ticks=1, per=30, at_ns=1 * S)
    frames = [replace(frame(n // 2, stream="ab"[n % 2]), t_arrival_ns=2 * S) for n in range(4)]
    out = [packet.frame for packet in continued(map(Packet, frames), Past(last=last))]
    assert [(f.stream, f.seq, f.pts, f.discontinuity) for f in out] == [
        ("a", 6, 90, True),
        ("b", 6, 90, True),
        ("a", 7, 91, False),
        ("b", 7, 91, False),
    ]
