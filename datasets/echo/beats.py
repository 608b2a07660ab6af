"""Heart beats from a curve of the cavity's area: end-diastole, end-systole and EF, beat by beat.

EchoNet-Dynamic's rule (minima whose prominence is a part of the curve's robust range, a least time
apart) made to run on a stream and in seconds: the curve is smoothed over time, and a turning point
counts once the curve has come back from it by ``prominence`` times the range of the last seconds.

A beat is an end-diastole inside the curve and the end-systole after it. One cut off by the curve's
start or end, or by a gap, is left out. Areas and volumes of a beat are those of its two frames, not
of the smoothed curve, whose extremes are flatter.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from retain.datasets.echo.volumes import ejection_fraction
from retain.pipeline.errors import StateError
from retain.pipeline.results import Beat

SIGMA_S = 0.04
"""Smoothing over time: standard deviation of a Gaussian that is cut off at REACH_S."""
REACH_S = 0.1
GAP_S = 0.3
"""Without a mask for longer than this, what lies before and after is not one beat."""
WINDOW_S = 4.0
"""The range is that of so many last seconds: two beats at 30 per minute."""
WARM_UP_S = 2.0
"""Before so much of the curve is known its range is not, and no turning point is decided."""
LEAST_CHANGE = 0.05
"""Turning points smaller than this part of the area are noise, whatever the range."""
RATE = 64
"""The curve is thinned to so many points a second, so that the window has a fixed size."""

Row = NDArray[np.float64]
"""One frame of the curve: [seq, seconds, area, volume, smoothed area]; seq is NaN for no frame."""

_ROWS = int(WINDOW_S * RATE)
_SEQ, _TIME, _AREA, _VOLUME, _SMOOTH = range(5)
_HIGH, _LOW, _ED, _HELD_ED, _HELD_ES = range(5)
_START, _FALL, _RISE = range(3)
_HEAD = 9


class BeatTracker:
    """Beats of one stream, in bounded memory.

    prominence  part of the robust range (5th to 95th percentile) that the curve must come back by.
                EchoNet takes 0.5 of a whole clip; less lets an arrhythmia's small beats through
    min_beat_s  least time between two end-systoles; of two that are closer the lower one stands

    ``add`` in order of time. A beat comes out when its end-systole is certain: the curve has risen
    again and ``min_beat_s`` has passed; nothing comes out of the first WARM_UP_S before their end.
    """

    STATE_SIZE = _HEAD + 5 * 5 + _ROWS * 5
    """Length of the exported state: 10.5 kB."""

    def __init__(self, prominence: float = 0.4, min_beat_s: float = 0.4) -> None:
        self.prominence, self.min_beat_s = float(prominence), float(min_beat_s)
        self.completed = 0
        """Beats that came out so far."""
        self._curve = np.full((_ROWS, 5), math.nan)
        self._count = self._smoothed = self._decided = 0
        """Rows of the curve that are filled, smoothed, and searched for turning points."""
        self._points = np.full((5, 5), math.nan)
        """The running extremes, the last end-diastole, and the beat held until it is certain."""
        self._phase, self._since = _START, math.nan

    def add(
        self, seq: int, seconds: float, area: float, volume: float = math.nan
    ) -> tuple[Beat, ...]:
        """One frame in, the beats it makes certain out. An area that is not above 0 is no mask.

        Time that runs backwards, as when a file starts anew, ends the curve and begins another.
        """
        if not (math.isfinite(seconds) and math.isfinite(area) and area > 0):
            return ()
        beats: tuple[Beat, ...] = ()
        if self._count:
            passed = seconds - self._curve[self._count - 1, _TIME]
            if 0 <= passed < 1 / RATE:
                return ()
            if passed < 0 or passed > GAP_S:
                beats = self.finish()
            if passed < 0:
                self._drop(self._count)
        old = np.searchsorted(self._curve[: self._count, _TIME], seconds - WINDOW_S)
        self._drop(max(int(old), self._count + 1 - _ROWS))
        self._curve[self._count] = (seq, seconds, area, volume, math.nan)
        self._count += 1
        self._smooth(seconds - REACH_S)
        if seconds - self._curve[0, _TIME] >= WARM_UP_S:
            beats += self._decide()
        return beats

    def finish(self) -> tuple[Beat, ...]:
        """Ends the curve here, as a gap would: the beats that were certain but for time."""
        self._smooth(math.inf)
        beats = self._decide()
        if not math.isnan(self._points[_HELD_ES, _SEQ]):
            beats += self._release()
        self._points[:] = math.nan
        self._phase, self._since = _START, math.nan
        return beats

    def widest(self) -> Beat | None:
        """Largest and smallest area of the last WINDOW_S, for a clip too short to hold a beat.

        Call it after ``finish``. Either may come first; None when the area hardly changes.
        """
        curve = self._curve[: self._smoothed]
        if not len(curve):
            return None
        ed, es = curve[np.argmax(curve[:, _SMOOTH])], curve[np.argmin(curve[:, _SMOOTH])]
        if ed[_SMOOTH] - es[_SMOOTH] < LEAST_CHANGE * ed[_SMOOTH]:
            return None
        return _beat(ed, es)

    def export(self) -> NDArray[np.float64]:
        """float64 [STATE_SIZE]: options and state."""
        rows = (self._count, self._smoothed, self._decided)
        head = (
            1,
            self.prominence,
            self.min_beat_s,
            *rows,
            self.completed,
            self._phase,
            self._since,
        )
        return np.concatenate((head, self._points.ravel(), self._curve.ravel()))

    def restore(self, state: NDArray[np.float64]) -> None:
        """Goes on from an exported state. StateError: it is none, or one of other options."""
        if state.shape != (self.STATE_SIZE,) or state.dtype != np.float64 or state[0] != 1:
            raise StateError("This is not the state of a beat tracker.", hint="Start anew.")
        rows = state[3:6]
        if not (0 <= rows[2] <= rows[1] <= rows[0] <= _ROWS and state[7] in (0, 1, 2)):
            raise StateError("The state of the beat tracker is damaged.", hint="Start anew.")
        if (self.prominence, self.min_beat_s) != (state[1], state[2]):
            raise StateError(
                f"The beats were tracked with prominence={state[1]}, min_beat_s={state[2]}, "
                f"not {self.prominence}, {self.min_beat_s}.",
                hint="Use the same options, or start anew.",
            )
        self._count, self._smoothed, self._decided = (int(count) for count in rows)
        self.completed, self._phase, self._since = int(state[6]), int(state[7]), float(state[8])
        self._points = state[_HEAD : _HEAD + 25].reshape(5, 5).copy()
        self._curve = state[_HEAD + 25 :].reshape(_ROWS, 5).copy()

    def _drop(self, count: int) -> None:
        """Forgets the oldest rows."""
        if count > 0:
            self._curve[:-count] = self._curve[count:]
            self._count -= count
            self._smoothed = max(self._smoothed - count, 0)
            self._decided = max(self._decided - count, 0)

    def _smooth(self, until: float) -> None:
        """Smooths the rows up to a time, each over its neighbours within REACH_S."""
        times = self._curve[: self._count, _TIME]
        while self._smoothed < self._count and times[self._smoothed] <= until:
            away = times - times[self._smoothed]
            first, last = np.searchsorted(away, (-REACH_S, REACH_S))
            weight = np.exp(-0.5 * (away[first:last] / SIGMA_S) ** 2)
            area = self._curve[first:last, _AREA]
            self._curve[self._smoothed, _SMOOTH] = float(weight @ area) / float(weight.sum())
            self._smoothed += 1

    def _decide(self) -> tuple[Beat, ...]:
        """Looks at the smoothed rows that were not looked at yet."""
        beats: tuple[Beat, ...] = ()
        if self._decided == self._smoothed:
            return beats
        low, high = np.percentile(self._curve[: self._smoothed, _SMOOTH], (5, 95))
        least = max(self.prominence * (high - low), LEAST_CHANGE * high)
        for row in self._curve[self._decided : self._smoothed].copy():
            self._turn(row, float(least))
            if self._certain(row):
                beats += self._release()
        self._decided = self._smoothed
        return beats

    def _turn(self, row: Row, least: float) -> None:
        """One step of the search: a turning point stands once the curve came back by ``least``."""
        points, value = self._points, row[_SMOOTH]
        if math.isnan(self._since):
            self._since = float(row[_TIME])
            points[_HIGH] = points[_LOW] = row
        if self._phase != _FALL and value > points[_HIGH, _SMOOTH]:
            points[_HIGH] = row
        if self._phase != _RISE and value < points[_LOW, _SMOOTH]:
            points[_LOW] = row
        if self._phase != _FALL and value <= points[_HIGH, _SMOOTH] - least:
            self._peak(row)
        elif self._phase != _RISE and value >= points[_LOW, _SMOOTH] + least:
            self._trough(row)

    def _peak(self, row: Row) -> None:
        """The running high was an end-diastole, unless the curve merely began there."""
        inside = self._points[_HIGH, _TIME] - self._since >= REACH_S
        self._points[_ED] = self._points[_HIGH] if inside else math.nan
        self._points[_LOW] = row
        self._phase = _FALL

    def _trough(self, row: Row) -> None:
        """The running low was an end-systole, a new one or a second look at the one held."""
        points = self._points
        points[_HIGH] = row
        if points[_LOW, _TIME] - points[_HELD_ES, _TIME] < self.min_beat_s:
            if points[_LOW, _SMOOTH] < points[_HELD_ES, _SMOOTH]:
                points[_HELD_ES] = points[_LOW]
            if points[_ED, _SMOOTH] > row[_SMOOTH]:
                points[_HIGH] = points[_ED]
        elif self._phase == _FALL:
            points[_HELD_ED], points[_HELD_ES] = points[_ED], points[_LOW]
        self._phase = _RISE

    def _certain(self, row: Row) -> bool:
        """Whether no end-systole can come any more that is too close to the one held."""
        held = self._points[_HELD_ES, _TIME]
        next_low = row[_TIME] if self._phase == _RISE else self._points[_LOW, _TIME]
        return bool(next_low - held >= self.min_beat_s)  # False when none is held: NaN

    def _release(self) -> tuple[Beat, ...]:
        """The beat held; nothing when its end-diastole lies before the curve's start."""
        ed, es = self._points[[_HELD_ED, _HELD_ES]]
        self._points[[_HELD_ED, _HELD_ES]] = math.nan
        if math.isnan(ed[_SEQ]):
            return ()
        self.completed += 1
        return (_beat(ed, es),)


def _beat(ed: Row, es: Row) -> Beat:
    edv, esv = float(ed[_VOLUME]), float(es[_VOLUME])
    return Beat(
        ed_seq=int(ed[_SEQ]),
        es_seq=int(es[_SEQ]),
        ed_seconds=float(ed[_TIME]),
        es_seconds=float(es[_TIME]),
        ed_area=float(ed[_AREA]),
        es_area=float(es[_AREA]),
        edv=edv,
        esv=esv,
        ef=ejection_fraction(edv, esv),
    )
