"""A detector that remembers: host, read-out, bank and carry of one stream.

A picture in, ``Seen`` out: what the host finds alone, and what it finds with its memory. All that
is remembered lies in ``hub``: ``scene``, the ``bank`` (one per layer for the paper's read-out) and,
if asked for, the ``carry``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from retain.datasets.detect.base import Found
from retain.memory.bank.memory import Bank, BankConfig
from retain.memory.bank.rows import Projection
from retain.memory.hub import Hub
from retain.models.mamba.carry import BoxCarry, Carried, CarryConfig, FoundAt
from retain.models.mamba.gated import Gated
from retain.models.mamba.host import Cells, Host, Predicted
from retain.models.mamba.reading import Enhanced, GatedBank, PaperBanks, Readout
from retain.models.mamba.scene import Glance, Scene, look_of
from retain.pipeline.errors import UsageError
from retain.pipeline.frame import Image
from retain.pipeline.results import Boxes, Support

Mode = Literal["gated", "paper", "none"]
Reset = Literal["", "source", "size", "cut"]


@dataclass(frozen=True, slots=True)
class MemoryOptions:
    """How a stream is remembered. Raises UsageError for values that cannot work."""

    mode: Mode = "gated"
    capacity: int = 600
    """Rows of the bank."""
    key_set: int = 600
    """Rows read at most."""
    budget_bytes: int = 64 << 20
    carry: bool = False
    decay: float = 0.8
    """Of the carry: share of the score left after 1/24 of a second."""
    supports: int = 3
    """Remembered rows named for each box, at most."""
    resets: bool = True
    """Begin anew after cuts and changes of size. Off to measure what a memory does without."""
    own_rows: bool = False
    """The control: read the frame's own rows in place of remembered ones."""
    threshold: float = 0.01
    """Score from which boxes are reported."""

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise UsageError(f"The mode of a memory is gated, paper or none, not {self.mode!r}.")
        for name in ("capacity", "key_set", "budget_bytes"):
            if getattr(self, name) < 1:
                raise UsageError(f"The memory's {name} must be at least 1.")
        if self.supports < 0 or not 0 < self.threshold < 1:
            raise UsageError("supports is from 0, threshold between 0 and 1.")


@dataclass(frozen=True, slots=True)
class Seen:
    """A frame's boxes."""

    boxes: Boxes
    """With what is remembered."""
    plain: Boxes
    """Of the host alone, to the bit."""
    reset: Reset
    """Why the memory began anew at this frame; empty: it did not."""


@dataclass(frozen=True, slots=True)
class Glimpse:
    """A frame after reading, before it is remembered."""

    enhanced: Enhanced
    glance: Glance
    reset: Reset
    doubt: bool
    """Whether it may be of another scene, so that nothing is written."""


class Memory:
    """See the module's text. ``readout`` None: the host alone, with the carry if asked for.

    Raises UsageError for a read-out that is of another kind than ``options.mode``.
    """

    def __init__(
        self,
        host: Host,
        readout: Readout | None,
        options: MemoryOptions | None = None,
        stream: str = "stream",
    ) -> None:
        self.host, self.options, self.stream = host, options or MemoryOptions(), stream
        kind = "none" if readout is None else readout.config.as_json()["kind"]
        if self.options.mode != "none" and kind != self.options.mode:
            raise UsageError(
                f"The memory's mode is {self.options.mode!r}, but the read-out given is {kind!r}.",
                hint="Load weights of that kind, or choose the mode that fits them.",
            )
        self.hub = Hub(self.options.budget_bytes, stream)
        self.scene = Scene(host.channels, host.digest)
        self.hub.add("scene", self.scene, weight=0)
        self.read_out: GatedBank | PaperBanks | None = None
        if readout is not None and self.options.mode != "none":
            self.read_out = self._banks(readout)
        self.carry: BoxCarry | None = None
        if self.options.carry:
            self.carry = BoxCarry(CarryConfig(self.options.decay))
            self.hub.add("carry", self.carry, weight=0)

    def _banks(self, readout: Readout) -> GatedBank | PaperBanks:
        o, host, own = self.options, self.host, self.options.own_rows
        if isinstance(readout, Gated):
            config = GatedBank.config(host, o.capacity, o.key_set)
            return GatedBank(host, readout, self._bank("bank", config, None), self.stream, own)
        config = PaperBanks.config(host, o.capacity, o.key_set)
        projections: Sequence[Projection | None] = readout.projections()
        if readout.training:
            projections = [None] * len(projections)
        names = ["bank", *(f"bank-{k}" for k in range(1, len(projections)))]
        banks = [self._bank(n, config, p) for n, p in zip(names, projections, strict=True)]
        return PaperBanks(host, readout, banks, self.stream, own)

    def _bank(self, name: str, config: BankConfig, project: Projection | None) -> Bank:
        bank = Bank(config, project)
        self.hub.add(name, bank)
        return bank

    @torch.no_grad()
    def look(
        self,
        image: Image,
        seq: int,
        seconds: float,
        fresh: bool = False,
        cut: bool | None = None,
        gate: float = 1.0,
    ) -> Seen:
        """The next picture of the stream: uint8 RGB [H, W, 3].

        fresh  nothing before it belongs to it (the source began anew)
        cut    whether a router took it for the first of another scene; None: nobody looked
        gate   in [0, 1], of its write to the bank; at 0 its rows are not even made. An empty bank
               takes what comes. Scene and carry follow every frame: what they hold is of the last
               ones only, and they need it to tell cuts and to say what is shown
        """
        return self.see(self.host.describe([image])[0], seq, seconds, fresh, cut, gate)

    @torch.no_grad()
    def see(
        self,
        cells: Cells,
        seq: int,
        seconds: float,
        fresh: bool = False,
        cut: bool | None = None,
        gate: float = 1.0,
    ) -> Seen:
        """``look`` for a picture that is described already."""
        plain = self.host.predict(cells.rows, cells)
        seen = self.read(cells, plain, seconds, fresh, cut)
        found, rows = self.host.found(seen.enhanced.predicted, cells, self.options.threshold)
        alone = seen.glance.found
        share = seen.enhanced.gate[rows].cpu().numpy()
        boxes = _boxes(found, self.host.names, share, self._supports(rows, share))
        self.write(cells, plain, seen, rows, seq, seconds, gate)
        if self.carry is not None:
            merged = self.carry.write(self.stream, FoundAt(found, seq, seconds, share))
            boxes = carried(boxes, merged)
        nobody = np.zeros(len(alone), np.float32)
        return Seen(boxes, _boxes(alone, self.host.names, nobody, ()), seen.reset)

    def read(
        self,
        cells: Cells,
        plain: Predicted,
        seconds: float,
        fresh: bool = False,
        cut: bool | None = None,
    ) -> Glimpse:
        """What the memory adds to a frame of which ``plain`` is the host's own decision. Begins
        anew before, where it must."""
        alone = self.host.found(plain, cells, self.options.threshold)[0]
        glance = Glance(look_of(cells), cells.size, alone)
        like = self.scene.read(self.stream, glance.look)
        verdict = self.scene.judge(self.stream, like, glance, seconds, cut)
        reset: Reset = ""
        if self.options.resets and (fresh or verdict in ("size", "cut")):
            reset = "source" if fresh else "size" if verdict == "size" else "cut"
            self.hub.reset()
            self.scene.judge(self.stream, like, glance, seconds, None)
            like = self.scene.read(self.stream, glance.look)
        doubt = self.options.resets and not reset and verdict in ("doubt", "other")
        elsewhere = not reset and verdict in ("other", "cut") and not self.options.own_rows
        nothing = torch.zeros_like(plain.objectness)
        if self.read_out is None:
            seen = Enhanced(plain, nothing, torch.zeros(0, dtype=torch.int64))
        else:
            seen = self.read_out.read(cells, plain, like, seconds)
            if elsewhere:
                seen = Enhanced(plain, nothing, seen.which)
        return Glimpse(seen, glance, reset, doubt)

    def write(
        self,
        cells: Cells,
        plain: Predicted,
        seen: Glimpse,
        rows: Tensor,
        seq: int,
        seconds: float,
        gate: float = 1.0,
    ) -> None:
        """Remember a frame: the cells ``rows`` that became boxes, and what the scene looks like."""
        if seen.doubt:
            return
        if self.read_out is not None:
            gate = 1.0 if self.read_out.empty else gate
            if gate > 0:
                self.read_out.write(cells, plain, seen.enhanced, rows, seq, seconds, gate)
        self.scene.write(self.stream, seen.glance)

    @staticmethod
    def look_many(
        memories: Sequence[Memory],
        images: Sequence[Image],
        seqs: Sequence[int],
        seconds: Sequence[float],
        fresh: Sequence[bool] | None = None,
        cuts: Sequence[bool | None] | None = None,
    ) -> list[Seen]:
        """A picture of each of several streams, described together: the same bits as one by one.
        All ``memories`` have the same host."""
        count = len(memories)
        with torch.no_grad():
            cells = memories[0].host.describe(images) if count else []
        flags = zip(fresh or [False] * count, cuts or [None] * count, strict=True)
        rest = zip(memories, cells, seqs, seconds, flags, strict=True)
        return [memory.see(c, seq, at, *flag) for memory, c, seq, at, flag in rest]

    def _supports(self, rows: Tensor, shares: np.ndarray) -> list[tuple[Support, ...]]:
        if self.read_out is None:
            return [()] * len(rows)
        told = self.read_out.supports(rows, self.options.supports)
        return [one if share > 0 else () for one, share in zip(told, shares, strict=True)]

    def stats(self) -> dict[str, Mapping[str, int | float | str]]:
        return self.hub.stats()


def _boxes(
    found: Found,
    names: tuple[str, ...],
    memory: np.ndarray,
    supports: Sequence[tuple[Support, ...]],
) -> Boxes:
    return Boxes(
        found.boxes,
        found.scores,
        found.labels.astype(np.int32),
        names,
        np.full(len(found), -1, np.int32),
        memory.astype(np.float32),
        tuple(supports) if any(supports) else (),
    )


def carried(boxes: Boxes, merged: Carried) -> Boxes:
    """What the carry shows: a box that lives on comes from memory, from where it was; wholly, where
    the frame shows nothing of it."""
    memory, supports = [], []
    for k, source in enumerate(merged.source.tolist()):
        if source >= 0:
            memory.append(float(boxes.memory[source]))
            supports.append(boxes.supports[source] if boxes.supports else ())
        else:
            left, up, right, down = merged.places[k].tolist()
            # What gave way, to a third box perhaps, may be surer than what lives on.
            memory.append(max(0.0, 1 - float(merged.seen[k] / merged.found.scores[k])))
            one = Support(
                int(merged.frames[k]), float(merged.seconds[k]), (left, up, right, down), 1.0
            )
            supports.append((one,))
    return _boxes(merged.found, boxes.names, np.array(memory, np.float32), supports)
