"""The rows of a clip bank: who resembles whom most is kept up to date, so that the most redundant
one is known at any time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from retain.memory.clips.config import ClipBankConfig
from retain.memory.table import ARRIVAL, Table
from retain.pipeline.errors import StateError

_ALONE = -2.0
"""``nearest`` of a row that has no other."""


class ClipRows(Table):
    """Rows of ``config.columns``. ``twin`` is the place of the row with the nearest descriptor,
    ``nearest`` its cosine."""

    def __init__(self, config: ClipBankConfig, room: int) -> None:
        super().__init__(room, config.columns)
        self.config = config

    def append(self, values: Mapping[str, Any]) -> None:
        """Add a row; all columns but arrival, nearest and twin are given. O(rows x E)."""
        place = len(self)
        arrival = int(self[ARRIVAL].max(initial=-1)) + 1
        links = {ARRIVAL: arrival, "nearest": _ALONE, "twin": -1}
        self.put(np.array([place]), {**values, **links})
        cosine = self._link(place)
        closer = cosine > self["nearest"]
        self["nearest"][closer], self["twin"][closer] = cosine[closer], place

    def remove(self, place: int) -> None:
        """Take a row out; the last one takes its place."""
        last = len(self) - 1
        orphans = self["twin"] == place
        for column in self._columns.values():
            column[place] = column[last]
        orphans[place] = orphans[last]
        self["twin"][self["twin"] == last] = place
        self._count = last
        for row in np.flatnonzero(orphans[:last]).tolist():
            self._link(row)

    def _link(self, row: int) -> np.ndarray:
        """Find the twin of ``row``; its cosines to all."""
        cosine: np.ndarray = self["descriptor"] @ self["descriptor"][row]
        cosine[row] = _ALONE
        twin = int(np.argmax(cosine))
        self["nearest"][row] = cosine[twin]
        self["twin"][row] = twin if len(self) > 1 else -1
        return cosine

    def redundant(self) -> int:
        """Of the two rows most alike, the one of the lower key; of equal ones the older."""
        one = int(np.argmax(self["nearest"]))
        two = int(self["twin"][one])
        return one if two < 0 else min(one, two, key=self._worth)

    def _worth(self, row: int) -> tuple[float, int]:
        return float(self["key"][row]), int(self[ARRIVAL][row])

    def check(self) -> None:
        """Raises StateError for rows that no bank writes."""
        n = len(self)
        length = np.linalg.norm(self["descriptor"].astype(np.float64), axis=1)
        good = np.abs(length - 1) < 1e-3
        good &= (self["first"] >= 0) & (self["first"] <= self["last"])
        good &= self["start_s"] <= self["end_s"]
        for name in ("start_s", "end_s", "score", "key"):
            good &= np.isfinite(self[name])
        good &= (self["twin"] >= (0 if n > 1 else -1)) & (self["twin"] < max(n, 1))
        good &= (np.abs(self["nearest"]) < 1.01) | (n == 1)
        good &= (self[ARRIVAL] >= 0) & (self[ARRIVAL] < 2**62)
        if not good.all() or len(set(self[ARRIVAL].tolist())) < n:
            raise StateError("The snapshot holds clips that no clip bank could have written.")
        if self.config.coarse and not np.isfinite(self["coarse"]).all():
            raise StateError("The snapshot's coarse features are not finite.")
