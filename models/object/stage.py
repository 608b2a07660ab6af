"""The stage that follows what a mask marks in the first frame, through all frames after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from retain.memory.base import refuse_made
from retain.models.object.given import read_given
from retain.models.object.learn import Mode, Recipe
from retain.models.object.track import Planes
from retain.models.object.tracker import Tracker, TrackerOptions
from retain.pipeline.errors import StateError, UsageError
from retain.pipeline.frame import Frame
from retain.pipeline.packet import Packet
from retain.pipeline.results import Masks, Route
from retain.pipeline.shares import Use
from retain.pipeline.stage import StatValue

if TYPE_CHECKING:
    from retain.models.object.features import Features

FLAGS = {"not-seen": "None of the objects is seen."}
"""Doubts this stage has, and what they mean."""


class SegmentObject:
    """Adds ``masks`` to each packet: a plane per object of the mask, ``object N`` by its index.

    mask       PNG of the objects in the first frame of the stream
    mode       how it learns: none, fifo, grcl, rmscl or hybrid
    every      frames between two updates
    side       pixels of the shorter side of the working picture
    budget_mb  bytes of all memories together, in 10^6
    threads    of torch; results are the same bits for the same number only
    resume     a state saved by ``save``; frames it has seen are passed over

    One stage follows the objects of one stream. After a cut, of the source or by the router where
    one stands before, they are looked for everywhere.
    Raises SourceError or UsageError for a mask that cannot be used.
    """

    def __init__(
        self,
        mask: str,
        mode: Mode = "hybrid",
        every: int = 5,
        side: int = 480,
        budget_mb: float = 80.0,
        seed: int = 0,
        threads: int = 1,
        resume: str = "",
    ) -> None:
        self._given = read_given(mask)
        self._options = TrackerOptions(
            recipe=Recipe(mode=mode, every=every),
            side=side,
            budget_bytes=int(budget_mb * 1e6),
            seed=seed,
            threads=threads,
        )
        self._resume = resume
        self._extract: Features | None = None
        self._tracker: Tracker | None = None
        self._seq = self._seen_to = -1
        if resume:
            from retain.memory.snapshot import load as check

            check(resume)  # a damaged file is refused at once

    def process(self, packet: Packet) -> Packet | None:
        from retain.models.curvestream import torch_threads

        frame = packet.frame
        refuse_made(frame)
        with torch_threads(self._options.threads):
            if self._tracker is None:
                planes = self._begin(frame)
            elif frame.stream != self._tracker.stream:
                raise UsageError(
                    f"One stage got frames of {self._tracker.stream!r} and of {frame.stream!r}.",
                    hint="Give each stream a stage of its own.",
                )
            else:
                planes = None
            if frame.seq <= self._seen_to:
                return None
            assert self._tracker is not None
            if planes is None:
                route = packet.results.get("route")
                cut = frame.discontinuity or (isinstance(route, Route) and route.cut)
                planes = self._tracker.look(frame.image, frame.seq, frame.seconds, cut=cut)
        self._seq = frame.seq
        return packet.plus(masks=self._masks(planes, frame))

    def _begin(self, frame: Frame) -> Planes | None:
        """A tracker: of the first frame, whose masks are then given back, or a restored one."""
        from retain.models.object.features import Features

        self._extract = self._extract or Features()
        size = self._given.label.shape
        if not self._resume:
            self._given.check(frame.height, frame.width)
        tracker = Tracker(
            frame.stream,
            len(self._given.numbers),
            (size[0], size[1]),
            self._options,
            self._extract,
        )
        planes = None
        if self._resume:
            path, self._resume = self._resume, ""
            self._seen_to = self._seq = tracker.restore(path)
        else:
            planes = tracker.begin(frame.image, self._given.label, frame.seq, frame.seconds)
        self._tracker = tracker
        return planes

    def _masks(self, planes: Planes, frame: Frame) -> Masks:
        quantised = np.rint(255 * planes).astype(np.uint8)
        height, width = planes.shape[1:]
        place = np.array([[frame.width / width, 0, 0], [0, frame.height / height, 0]], np.float32)
        flags = () if (quantised > 127).any() else ("not-seen",)
        return Masks(quantised, self._given.labels, place, flags)

    def save(self, path: str) -> None:
        """Write the memory to ``path``, atomically. Raises StateError while there is none."""
        if self._tracker is None:
            raise StateError("There is no memory to save: no frame was seen yet.")
        self._tracker.hub.snapshot(path, self._seq)

    def shrink_to(self, nbytes: int) -> None:
        """Remember within ``nbytes`` from now on."""
        if self._tracker is not None:
            self._tracker.hub.shrink_to(nbytes)
        self._options = replace(self._options, budget_bytes=nbytes)

    def use(self) -> Use:
        """What it may hold and what it needs."""
        return self._tracker.hub.use() if self._tracker else Use(self._options.budget_bytes, 0)

    def load(self, path: str) -> None:
        """Continue from ``path``, passing over frames it has seen. One that does not fit is refused
        with a StateError when the first frame comes."""
        self._resume, self._tracker = path, None

    def stats(self) -> Mapping[str, StatValue]:
        about: dict[str, StatValue] = {
            "mode": self._options.recipe.mode,
            "objects": len(self._given.numbers),
            "budget_bytes": self._options.budget_bytes,
        }
        if self._tracker is None:
            return {**about, "memory_bytes": 0}
        held = self._tracker.examples.stats(self._tracker.stream)
        return {
            **about,
            "memory_bytes": self._tracker.hub.nbytes,
            "examples": held["examples"],
            "room": held["room"],
        }

    def close(self) -> None:
        pass
