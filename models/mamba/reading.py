"""What a read-out and its banks do with one frame: read, decide, and later write."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from retain.memory.bank.memory import Bank, BankConfig
from retain.memory.bank.rows import BankWrite
from retain.models.mamba.gated import Gated, Reading
from retain.models.mamba.host import Cells, Host, Predicted
from retain.models.mamba.paper import Keys, Paper
from retain.models.mamba.rows import Seen, at_cells, motion, pack, unpack, width_of
from retain.models.mamba.scene import Likeness
from retain.pipeline.results import Support

Readout = Gated | Paper

QUERIES = 200
"""Cells of the frame that ask, those of the best scores."""
_REMINDED = 48
"""Remembered things that ask from where they should be now, at most."""
_FRESH_S = 0.5
"""How fast the claim of a remembered thing to such a query fades."""
PER_FRAME = 64
"""Rows written for a frame, at most."""
WRITE_SCORE = 0.1
"""What the frame alone must give a row for it to be written: nothing is remembered from memory."""


@dataclass(frozen=True, slots=True)
class Enhanced:
    """A frame with what memory adds to it."""

    predicted: Predicted
    """Of all cells."""
    gate: Tensor
    """[N] of all cells, in [0, 1]: how much of each comes from memory."""
    which: Tensor
    """int64 [Q] cells that asked."""


class GatedBank:
    """The bank of a ``Gated`` read-out, for one stream. ``own``: the control without a memory,
    whose keys are the frame's own boxes."""

    def __init__(self, host: Host, readout: Gated, bank: Bank, stream: str, own: bool) -> None:
        self._host, self._readout, self.bank = host, readout, bank
        self._stream, self._own = stream, own
        self._last: tuple[Reading, Tensor, dict[str, np.ndarray]] | None = None
        self._held: Seen | None = None

    @staticmethod
    def config(host: Host, capacity: int, key_set: int) -> BankConfig:
        """The newest rows are kept, and read."""
        width = width_of(host.channels, len(host.names))
        return BankConfig(width, capacity, key_set, evict="fifo", select="fifo")

    @property
    def empty(self) -> bool:
        return self.bank.empty(self._stream)

    def held(self, seconds: float, like: Tensor) -> tuple[Seen, dict[str, np.ndarray]]:
        """What is remembered, as it was written."""
        keys = self.bank.read(self._stream)
        assert keys.rows is not None
        c = keys.columns
        ages = torch.from_numpy(np.maximum(seconds - c["seconds"], 0.0)).to(like)
        levels = torch.from_numpy(c["level"].astype(np.int64)).to(like.device)
        rows = keys.rows[keys.index].to(like)
        return unpack(rows, levels, ages, self._host.channels, len(self._host.names)), c

    def read(self, cells: Cells, plain: Predicted, like: Likeness, seconds: float) -> Enhanced:
        self._last = None
        held, columns = self._keys(cells, plain, seconds)
        self._held = held
        if not len(held):
            nobody = plain.objectness.new_zeros(0, dtype=torch.int64)
            return Enhanced(plain, torch.zeros_like(plain.objectness), nobody)
        score = plain.best
        which = _queries(cells, score, held)
        queries = at_cells(cells.rows[which], plain, cells, which)
        reading = self._readout(queries, held, like, score.amax())
        self._last = reading, which, columns
        y, at = reading.predicted, (which,)
        predicted = Predicted(
            plain.objectness.index_put(at, y.objectness),
            plain.classes.index_put(at, y.classes),
            plain.boxes.index_put(at, y.boxes),
        )
        gate = torch.zeros_like(plain.objectness).index_put(at, reading.gate.detach())
        return Enhanced(predicted, gate, which)

    def _keys(
        self, cells: Cells, plain: Predicted, seconds: float
    ) -> tuple[Seen, dict[str, np.ndarray]]:
        if not self._own:
            return self.held(seconds, cells.rows)
        _, rows = self._host.found(plain, cells, WRITE_SCORE)
        return at_cells(cells.rows[rows], plain, cells, rows), {}

    def write(
        self,
        cells: Cells,
        plain: Predicted,
        seen: Enhanced,
        rows: Tensor,
        seq: int,
        seconds: float,
        gate: float = 1.0,
    ) -> int:
        """Remember the cells ``rows`` of the frame read last, those it alone is sure enough of; how
        many."""
        if self._own or self._held is None:
            return 0
        rows = rows[plain.best[rows] >= WRITE_SCORE][:PER_FRAME]
        if not len(rows):
            return 0
        new = at_cells(cells.rows[rows], seen.predicted, cells, rows)
        new = motion(new, self._held)
        return self.bank.write(
            self._stream,
            BankWrite(
                pack(new).detach(),
                seq,
                seconds,
                scores=new.scores.detach().cpu().numpy(),
                boxes=new.boxes.detach().cpu().numpy() / cells.scale,
                levels=new.levels.cpu().numpy(),
            ),
            gate,
        )

    def supports(self, rows: Tensor, top: int) -> list[tuple[Support, ...]]:
        """For each of the cells ``rows``: what its box was read from, the heaviest first."""
        if self._last is None or self._own or not top:
            return [()] * len(rows)
        reading, which, columns = self._last
        places = {cell: k for k, cell in enumerate(which.tolist())}
        asked = [places.get(cell, -1) for cell in rows.tolist()]
        known = torch.tensor([k for k in asked if k >= 0 and float(reading.gate[k]) > 0])
        out: list[tuple[Support, ...]] = [()] * len(rows)
        if not len(known):
            return out
        shares = dict(zip(known.tolist(), reading.shares(known), strict=True))
        for n, k in enumerate(asked):
            if k in shares:
                best = shares[k].topk(min(top, len(shares[k])))
                out[n] = tuple(
                    _support(columns, j, share)
                    for j, share in zip(best.indices.tolist(), best.values.tolist(), strict=True)
                )
        return out


def _support(columns: dict[str, np.ndarray], j: int, share: float) -> Support:
    left, up, right, down = columns["box"][j].tolist()
    seconds = float(columns["seconds"][j])
    return Support(int(columns["frame"][j]), seconds, (left, up, right, down), share)


def _queries(cells: Cells, score: Tensor, held: Seen) -> Tensor:
    """int64 [Q], each cell once: those of the best scores, and those where things should be now."""
    best = score.topk(min(QUERIES, len(score))).indices
    worth = held.scores * (-held.ages / _FRESH_S).exp()
    there = held.only(worth.topk(min(_REMINDED, len(held))).indices).now()
    centres = (cells.anchors[:, :2] + cells.anchors[:, 2:]) / 2
    far = torch.cdist(there.points, centres)
    far = far + 1e6 * (there.levels[:, None] != cells.levels).to(far.dtype)
    asked: Tensor = torch.unique(torch.cat((best, far.argmin(1))))  # type: ignore[no-untyped-call]
    return asked


class PaperBanks:
    """The banks of a ``Paper`` read-out, one per layer, for one stream. Once the weights are fixed,
    rows are kept projected."""

    def __init__(
        self, host: Host, readout: Paper, banks: list[Bank], stream: str, own: bool
    ) -> None:
        self._host, self._readout, self.banks = host, readout, banks
        self._stream, self._own = stream, own
        self._came: tuple[list[Tensor], Tensor] | None = None

    @staticmethod
    def config(host: Host, capacity: int, key_set: int) -> BankConfig:
        return BankConfig(host.channels, capacity, key_set)

    @property
    def empty(self) -> bool:
        return self.banks[0].empty(self._stream)

    def read(self, cells: Cells, plain: Predicted, like: Likeness, seconds: float) -> Enhanced:
        score = plain.best
        which = score.topk(min(2 * QUERIES, len(score))).indices
        x = cells.rows[which]
        y, came = self._readout(x, [self._keys(k, x) for k in range(len(self.banks))])
        self._came = came, which
        again = self._host.predict(y, cells, which)
        # The same bits where nothing changed, whatever a product of other rows rounds to.
        changed = (y != x).any(1)
        at = (which,)
        predicted = Predicted(
            plain.objectness.index_put(
                at, torch.where(changed, again.objectness, plain.objectness[which])
            ),
            plain.classes.index_put(
                at, torch.where(changed[:, None], again.classes, plain.classes[which])
            ),
            plain.boxes.index_put(
                at, torch.where(changed[:, None], again.boxes, plain.boxes[which])
            ),
        )
        share = (y - x).norm(dim=1) / (y.norm(dim=1) + x.norm(dim=1)).clamp(min=1e-6)
        gate = torch.zeros_like(score).index_put(at, share.detach())
        return Enhanced(predicted, gate, which)

    def _keys(self, layer: int, x: Tensor) -> Keys:
        if self._own:
            return self._readout.project(layer, self._readout.standard(x[:PER_FRAME]))
        read = self.banks[layer].read(self._stream)
        if self._readout.training:
            assert read.rows is not None
            return self._readout.project(layer, read.rows[read.index].to(x))
        return read.keys, read.values, read.index

    def write(
        self,
        cells: Cells,
        plain: Predicted,
        seen: Enhanced,
        rows: Tensor,
        seq: int,
        seconds: float,
        gate: float = 1.0,
    ) -> int:
        """Remember the ``PER_FRAME`` best of the cells that asked, as they came to each layer."""
        if self._own or self._came is None:
            return 0
        came, which = self._came
        p = seen.predicted
        score = p.best[which].detach()
        best = score.topk(min(PER_FRAME, len(score))).indices
        boxes = p.boxes[which[best]].detach().cpu().numpy() / cells.scale
        levels = cells.levels[which[best]].cpu().numpy()
        scores = score[best].cpu().numpy()
        count = 0
        for bank, x in zip(self.banks, came, strict=True):
            item = BankWrite(x[best].detach(), seq, seconds, scores, boxes, levels)
            count = bank.write(self._stream, item, gate)
        return count

    def supports(self, rows: Tensor, top: int) -> list[tuple[Support, ...]]:
        """For each of the cells ``rows``: the remembered rows that the first layer read most."""
        if self._came is None or self._own or not top or self._readout.training:
            return [()] * len(rows)
        keys = self.banks[0].read(self._stream)
        came, which = self._came
        places = {cell: k for k, cell in enumerate(which.tolist())}
        asked = torch.tensor([places.get(cell, -1) for cell in rows.tolist()], dtype=torch.int64)
        known = asked[asked >= 0]
        out: list[tuple[Support, ...]] = [()] * len(rows)
        if not len(known) or not len(keys):
            return out
        w = self._readout.weights(0)
        query = torch.nn.functional.linear(came[0][known], w.w_query, w.b_query)
        shares = keys.shares(query.view(len(known), self._readout.config.heads, -1)).detach()
        there = (asked >= 0).nonzero()[:, 0].tolist()
        for n, told in zip(there, keys.decided(shares, top), strict=True):
            out[n] = tuple(Support(r.frame, r.seconds, r.box, r.share) for r in told)
        return out
