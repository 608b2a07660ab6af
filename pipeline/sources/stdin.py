"""A list of paths on standard input, one per line, as one stream."""

from __future__ import annotations

import logging
import os
import select
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from fractions import Fraction

from retain.pipeline.errors import SourceError, SourceFault, UsageError
from retain.pipeline.frame import Frame
from retain.pipeline.redact import redact
from retain.pipeline.sources.any import AnySource, describe
from retain.pipeline.sources.common import Sampler, number, text
from retain.pipeline.stage import SourceInfo, StatValue

log = logging.getLogger(__name__)

_LOOK_UP_S = 0.1
"""How often a wait for the next line sees whether the source was closed."""

_NANO = Fraction(1, 1_000_000_000)


class StdinSource:
    """``-``: images and finite videos named on standard input, in that order.

    rate     images per second of presentation time
    timeout  seconds, for addresses in the list
    fps, limit, stream   as in VideoSource

    Items follow each other in time: pts is in nanoseconds (rounded, since items have different
    time bases), ``meta["item"]`` is the line, and the first frame of a video is marked as a
    discontinuity. Items that fail are logged, passed over and reported at the end as
    SourceError(BROKEN).
    """

    def __init__(
        self,
        source: str = "-",
        stream: str = "main",
        fps: float = 0.0,
        limit: int = 0,
        rate: float = 25.0,
        timeout: float = 10.0,
    ) -> None:
        if source != "-":
            raise UsageError(f"The list source reads standard input; write -, not {source!r}.")
        self.stream = text("stream", stream)
        self._rate = number("rate", rate, 0.001, 100_000)
        self._timeout = number("timeout", timeout, 0.1, 3600)
        self._sampler = Sampler(fps, limit)
        self._item: AnySource | None = None
        self._stop = False
        self._failed: list[str] = []
        self._items = 0
        self._end = Fraction(0)
        """Seconds: where the next item begins."""

    def open(self) -> SourceInfo:
        return SourceInfo(kind="finite", description="paths on standard input", repeats=False)

    def frames(self) -> Iterator[Frame]:
        """Raises SourceError(BROKEN) at the end when items failed, EMPTY when there were none."""
        for name in self._names():
            self._items += 1
            try:
                yield from self._one(name)
            except (SourceError, UsageError) as error:
                log.warning("%s", error)
                self._failed.append(redact(name))
            if self._stop or self._sampler.full:
                break
        if self._failed:
            raise SourceError(
                SourceFault.BROKEN,
                f"{len(self._failed)} of {self._items} items on standard input failed:"
                f" {', '.join(self._failed[:3])}{', ...' if len(self._failed) > 3 else ''}.",
                hint="The others were delivered; the log says what is wrong with each.",
                decoded=self._sampler.kept,
            )
        if not self._items:
            raise SourceError(SourceFault.EMPTY, "Standard input named no files.")

    def _names(self) -> Iterator[str]:
        """Non-empty lines as they come. Reads the descriptor: a reader that waits inside
        ``sys.stdin`` cannot be told to stop. Raises SourceError(NOT_VIDEO) for bytes that are no
        text."""
        rest = b""
        while not self._stop and sys.stdin is not None:
            fd = sys.stdin.fileno()
            if not select.select([fd], [], [], _LOOK_UP_S)[0]:
                continue
            data = os.read(fd, 1 << 16)
            if b"\0" in data or len(rest) > 1 << 16:
                raise SourceError(
                    SourceFault.NOT_VIDEO,
                    "Standard input carries data, not a list of files.",
                    hint="Give the file itself as SOURCE, or paths, one a line.",
                    decoded=self._sampler.kept,
                )
            *lines, rest = (rest + data).split(b"\n")
            if not data:
                lines, rest = [rest], b""
            yield from filter(None, (os.fsdecode(line).strip() for line in lines))
            if not data:
                return

    def _one(self, name: str) -> Iterator[Frame]:
        kind = describe(name)
        if kind in ("camera", "stdin"):
            raise UsageError(f"{name!r} never ends, so it cannot stand in a list.")
        self._item = item = AnySource(name, timeout=self._timeout, rate=self._rate)
        if item.open().kind == "live":
            item.close()
            raise UsageError(f"{redact(name)!r} is live, so it cannot stand in a list.")
        begins, first, step = self._end, None, 1 / Fraction(self._rate).limit_denominator(100_000)
        try:
            for frame in item.frames():
                if self._stop:
                    return
                at = frame.pts * frame.time_base
                first = at if first is None else first
                now = begins + at - first
                step = now - self._end if now > self._end > begins else step
                new, self._end = at == first, now
                pts = round(now / _NANO)
                if not self._sampler.keep(pts, _NANO):
                    continue
                yield replace(
                    frame,
                    stream=self.stream,
                    seq=self._sampler.kept - 1,
                    pts=pts,
                    time_base=_NANO,
                    discontinuity=frame.discontinuity or (new and kind != "images" and begins > 0),
                    meta={**frame.meta, "item": redact(name)},
                )
                if self._sampler.full:
                    return
        finally:
            item.close()
            if first is not None:
                self._end += step

    def close(self) -> None:
        self._stop = True
        if self._item is not None:
            self._item.close()

    def stats(self) -> Mapping[str, StatValue]:
        return {
            "items": self._items,
            "failed_items": len(self._failed),
            "delivered": self._sampler.kept,
        }
