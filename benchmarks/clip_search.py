"""What a question to a clip bank costs on CPU: exact search, one thread, descriptors of 256.

Peers in the same run: a loop of inner products over the rows, as one writes it first; and torch's
product with topk, which is as fast as exact search gets without an index but knows no exclusion.
All three must name the same rows as a full sort in float64 before any is timed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from retain.apps.bench import Row, script
from retain.memory.clips import search
from retain.memory.clips.bank import ClipBank
from retain.memory.clips.clip import Clip, ClipQuery, Span
from retain.memory.clips.config import ClipBankConfig, ClipShape

AREA = "memory"
DIM, K, POOL = 256, 5, 32
SIZES = (10_000, 100_000, 1_000_000)
BARS = {"loop": 5.0, "topk": 0.5}
"""Against the loop; and with exclusion and variety at most twice the bare product."""
KINDS, HELD, OFFERED, SEEDS = 40, 48, 5_000, 5


def measure(quick: bool = False) -> list[Row]:
    """Milliseconds per question and per clip written."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        sizes = SIZES[:2] if quick else SIZES
        rows = [row for size in sizes for row in _searched(size, 3 if quick else 7)]
        rows += _bank(256, quick) + ([] if quick else _bank(10_000, quick))
        return [*rows, _kept(*((1_000, 2) if quick else (OFFERED, SEEDS)))]
    finally:
        torch.set_num_threads(threads)


def _searched(size: int, repeats: int) -> list[Row]:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((size, DIM), np.float32)
    features /= np.sqrt(np.einsum("nd,nd->n", features, features))[:, None]
    query = features[size // 2].copy()
    seq = np.arange(size)

    def ours() -> NDArray[np.int64]:
        allowed = np.abs(seq - size // 2) > 16
        places, cosine = search.best(features, query, POOL, allowed)
        return places[search.diverse(features[places], cosine, K, 0.3)]

    def bare() -> NDArray[np.int64]:
        return search.best(features, query, POOL)[0]

    def loop() -> NDArray[np.int64]:
        scores = [float(row @ query) for row in features]
        return np.argsort(scores)[::-1][:POOL]

    wide, asked = torch.from_numpy(features), torch.from_numpy(query)

    def topk() -> NDArray[np.int64]:
        return (wide @ asked).topk(POOL).indices.numpy()

    truth = np.argsort(-np.einsum("nd,d->n", features, query, dtype=np.float64))[:POOL]
    for found in (bare(), loop(), topk()):
        assert set(found.tolist()) == set(truth.tolist())
    assert not set(ours().tolist()) & set(range(size // 2 - 16, size // 2 + 17))
    mine, looped, product = _interleaved((ours, loop, topk), repeats)
    name, held = f"question, {size:,} clips", f"{features.nbytes / 1e6:.0f} MB of descriptors"
    return [
        _row(f"{name}, {held}", mine, "a loop of inner products", looped, BARS["loop"]),
        _row(name, mine, "torch product and topk, no exclusion, no MMR", product, BARS["topk"]),
    ]


def _bank(capacity: int, quick: bool) -> list[Row]:
    """A full bank of small clips: a question, and a write that evicts."""
    shape = ClipShape(8, 12, 12)
    config = ClipBankConfig("none", "none", DIM, shape, capacity=capacity, far=0.0)
    bank, rng = ClipBank(config), np.random.default_rng(1)
    pixels = np.zeros(shape.array, np.uint8)
    offered = iter(rng.standard_normal((capacity + 1000, DIM), np.float32))
    count = iter(range(10**9))

    def write() -> bool:
        first = next(count)
        return bank.write("s", Clip(pixels, next(offered), Span("s", first, first + 7)))

    for _ in range(capacity):
        assert write()
    query = ClipQuery(rng.standard_normal(DIM), k=K, own=Span("s", 100, 107))
    asked, wrote = _interleaved((lambda: bank.read("s", query), write), 20 if quick else 100)
    size = f"{capacity:,} clips in {bank.nbytes('s') / 1e6:.1f} MB"
    return [
        Row(name=f"ClipBank.read, {size}", value=asked * 1e3, unit="ms"),
        Row(name=f"ClipBank.write that evicts, {size}", value=wrote * 1e3, unit="ms"),
    ]


def _kept(offered: int, seeds: int) -> Row:
    """How many of the kinds a stream has shown a full bank still holds, where kind n comes 1/n as
    often as the first: admission by surprise against a uniform sample. No scores are given."""
    held = {"surprise": 0.0, "reservoir": 0.0}
    shown = 0.0
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        share = 1 / np.arange(1, KINDS + 1)
        kinds = rng.choice(KINDS, offered, p=share / share.sum())
        centres = rng.standard_normal((KINDS, DIM)) + 2 * rng.standard_normal(DIM)
        shown += len(set(kinds.tolist())) / seeds
        for admit in ("surprise", "reservoir"):
            config = ClipBankConfig(
                "none", "none", DIM, ClipShape(1, 1, 1), capacity=HELD, admit=admit, seed=seed
            )
            bank, noise = ClipBank(config), np.random.default_rng(seed)
            for i, kind in enumerate(kinds.tolist()):
                seen = centres[kind] + 0.3 * noise.standard_normal(DIM)
                bank.write("s", Clip(np.zeros((1, 1, 1, 1), np.uint8), seen, Span("s", i, i)))
            kept = {int(kinds[match.clip.span.first]) for match in bank.read("s")}
            held[admit] += len(kept) / seeds
    ratio = held["surprise"] / held["reservoir"]
    return Row(
        name=f"kinds still held of {shown:g} shown, {HELD} of {offered:,} clips kept",
        value=held["surprise"],
        unit="kinds",
        peer="a uniform sample",
        peer_value=held["reservoir"],
        ratio=ratio,
        bar=">= 1.5x",
        met=ratio >= 1.5,
    )


def _row(name: str, mine: float, who: str, peer: float, bar: float) -> Row:
    return Row(
        name=name,
        value=mine * 1e3,
        unit="ms",
        peer=who,
        peer_value=peer * 1e3,
        ratio=peer / mine,
        bar=f">= {bar:g}x",
        met=peer / mine >= bar,
    )


def _interleaved(calls: tuple[Callable[[], object], ...], repeats: int) -> list[float]:
    """Best CPU seconds of each, over all threads, run in turn, so that all see the same machine."""
    best = [math.inf] * len(calls)
    for _ in range(repeats):
        for k, run in enumerate(calls):
            start = time.process_time()
            run()
            best[k] = min(best[k], time.process_time() - start)
    return best


if __name__ == "__main__":
    script(measure, "clip_search")
