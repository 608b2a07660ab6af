"""What a frame's read of a memory bank costs on CPU: our cached rows against the published form.

The peer does what the public code does each frame: draw a key set from the bank, copy it, project
it to keys and values, materialise the scores of all heads, normalise, multiply. Ours reads rows
that were projected when they were written, through the list of places, softmax going along. Both
project the frame's queries and the output; ours also pays for writing one frame's 75 rows. One
thread.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from retain.apps.bench import Row, script
from retain.kernels.bank_read import geo, op, reference
from retain.kernels.bank_read.reference import Geo
from retain.memory.bank.memory import Bank, BankConfig
from retain.memory.bank.policies import reconstruct
from retain.memory.bank.rows import BankQuery, BankWrite, GeoProjection

AREA = "memory"
HEADS, ROWS, WRITTEN = 16, 4_000, 75
SIZES = (
    (150, 2000, 1024),
    (300, 2000, 1024),
    (150, 500, 1024),
    (300, 2000, 256),
    (2394, 2000, 256),
)
"""Queries, key set, channels; the first is the size the bar is for."""
LASSO = ((600, 128), (2_000, 1024), (20_000, 1024))
"""Rows and channels of the banks that ``lasso`` ranks."""
BAR = 2.0
"""At most half of the peer's time."""


def weights(channels: int) -> Geo:
    rng = torch.Generator().manual_seed(0)
    parts = (
        torch.randn(shape, generator=rng) / channels**0.5
        for shape in ((channels, channels), (channels,)) * 4
    )
    return Geo(*parts)


def filled(channels: int, own: Geo) -> tuple[Bank, BankWrite]:
    """A full bank with rows as written, and the next frame."""
    config = BankConfig(channels, ROWS, keep_rows=True)
    bank, rng = Bank(config, GeoProjection(own, HEADS)), torch.Generator().manual_seed(1)
    for start in range(0, ROWS, 500):
        bank.write("s", BankWrite(torch.randn(500, channels, generator=rng), start))
    return bank, BankWrite(torch.randn(WRITTEN, channels, generator=rng), ROWS)


def ours(bank: Bank, query: Tensor, own: Geo, keys: int) -> Tensor:
    read = bank.read("s", BankQuery(count=keys))
    return geo.enhance(query[None], read.keys, read.values, own, read.index[None])[0]


def published(rows: Tensor, query: Tensor, own: Geo, keys: int) -> Tensor:
    """``rows`` [R, C] of the bank."""
    return _enhanced(query, rows[torch.randperm(len(rows))[:keys]], own)


def _enhanced(query: Tensor, rows: Tensor, own: Geo) -> Tensor:
    q = F.linear(query, own.w_query, own.b_query).view(len(query), HEADS, -1).transpose(0, 1)
    k = F.linear(rows, own.w_key, own.b_key).view(len(rows), HEADS, -1).permute(1, 2, 0)
    v = F.linear(rows, own.w_value, own.b_value).view(len(rows), HEADS, -1).transpose(0, 1)
    share = (torch.bmm(q, k) / q.shape[-1] ** 0.5).softmax(-1)
    read = torch.bmm(share, v).transpose(0, 1).reshape(query.shape)
    assert own.w_out is not None
    return query + F.linear(read, own.w_out, own.b_out)


def check(bank: Bank, query: Tensor, own: Geo, keys: int) -> None:
    """Both must compute the float64 definition before either is timed."""
    read = bank.read("s", BankQuery(count=keys))
    assert read.rows is not None
    rows, wide = read.rows[read.index], Geo(*(None if x is None else x.double() for x in own))  # type: ignore[arg-type]
    truth = reference.enhance(query.double(), rows.double(), wide, HEADS)
    for got in (ours(bank, query, own, keys), _enhanced(query, rows, own)):
        torch.testing.assert_close(got.double(), truth, atol=1e-4, rtol=0)


def measure(quick: bool = False) -> list[Row]:
    """Milliseconds per enhancement of a frame, and per write of 75 rows."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            rows = [_read(*size, 3 if quick else 12) for size in (SIZES[:1] if quick else SIZES)]
            rows += [_attention(10 if quick else 30), _written(20 if quick else 100)]
            return rows + [_explained(*size) for size in (LASSO[:1] if quick else LASSO)]
    finally:
        torch.set_num_threads(threads)


def _read(queries: int, keys: int, channels: int, repeats: int) -> Row:
    own = weights(channels)
    bank, following = filled(channels, own)
    query = torch.randn(queries, channels, generator=torch.Generator().manual_seed(2))
    check(bank, query, own, keys)
    rows = bank.read("s", BankQuery(count=ROWS)).rows
    assert rows is not None
    rows = rows.clone()

    def frame() -> None:
        ours(bank, query, own, keys)
        bank.write("s", following)

    mine, peer = _interleaved(frame, lambda: published(rows, query, own, keys), repeats)
    name = f"read and write, N={queries} M={keys} C={channels}"
    bar = BAR if (queries, keys, channels) == SIZES[0] else None
    return _row(name, mine, peer, "projected each frame, scores materialised", bar)


def _attention(repeats: int) -> Row:
    """The attention alone, at the size of the bar, against torch's own on a copy of the rows."""
    queries, keys, channels = SIZES[0]
    bank, _ = filled(channels, weights(channels))
    read = bank.read("s", BankQuery(count=keys))
    rng = torch.Generator().manual_seed(2)
    query = torch.randn(1, queries, HEADS, channels // HEADS, generator=rng)

    def copied() -> Tensor:
        k, v = (x[read.index].transpose(0, 1)[None] for x in (read.keys, read.values))
        return F.scaled_dot_product_attention(query.transpose(1, 2), k, v).transpose(1, 2)

    def listed() -> Tensor:
        return op.read(query, read.keys, read.values, read.index[None])

    torch.testing.assert_close(listed(), copied(), atol=1e-5, rtol=0)
    mine, peer = _interleaved(listed, copied, repeats)
    return _row("attention alone, same size", mine, peer, "torch SDPA on a gathered copy", None)


def _written(repeats: int) -> Row:
    """The write alone, C=1024, 20,000 rows: against concatenation and a random permutation."""
    bank = Bank(BankConfig(1024))
    rng = torch.Generator().manual_seed(3)
    rows, new = torch.randn(20_000, 1024, generator=rng), torch.randn(WRITTEN, 1024, generator=rng)
    bank.write("s", BankWrite(rows, 0))
    held = [rows]

    def peer() -> None:
        kept = torch.randperm(len(held[0]))[: len(held[0]) - len(new)]
        held[0] = torch.cat([held[0][kept], new])

    item = BankWrite(new, 1, scores=np.zeros(WRITTEN))
    mine, theirs = _interleaved(lambda: bank.write("s", item), peer, repeats)
    return _row("write of 75 into 20,000 rows", mine, theirs, "concatenate and permute", BAR)


def _explained(held: int, channels: int) -> Row:
    """What the policy ``lasso`` costs a frame: which rows explain it."""
    rng = torch.Generator().manual_seed(4)
    rows, frame = (torch.randn(n, channels, generator=rng) for n in (held, WRITTEN))
    once, _ = _interleaved(lambda: reconstruct(rows, frame.mean(0)), lambda: None, 5)
    return Row(name=f"lasso ranks {held:,} rows of {channels}", value=1e3 * once, unit="ms")


def _row(name: str, mine: float, peer: float, who: str, bar: float | None) -> Row:
    return Row(
        name=name,
        value=mine * 1e3,
        unit="ms",
        peer=who,
        peer_value=peer * 1e3,
        ratio=peer / mine,
        bar="" if bar is None else f">= {bar:g}x",
        met=None if bar is None else peer / mine >= bar,
    )


def _interleaved(
    one: Callable[[], object], two: Callable[[], object], repeats: int
) -> tuple[float, float]:
    """Best CPU seconds of each, run in turn, so that both see the same machine."""
    best = [math.inf, math.inf]
    for _ in range(repeats):
        for k, run in enumerate((one, two)):
            start = time.thread_time()
            run()
            best[k] = min(best[k], time.thread_time() - start)
    return best[0], best[1]


if __name__ == "__main__":
    script(measure, "bank_read")
