"""Whether a detector with a memory gets slower or larger: 10,000 frames, the bank full most of it.

Frames are those of a few generated clips, over and over, described by the host once; so what is
timed is the memory: reading the full bank, deciding again, writing, the carry. Times are CPU times
of the thread, and the last minute (1,500 frames of 25 a second) is compared with the first after
the bank was full, by medians. 600 rows are what `retain detect` uses, 20,000 the paper, which
writes 75 a frame.
"""

from __future__ import annotations

import time

import numpy as np
import torch

from retain.apps.bench import Row, script
from retain.datasets.detect.objects import ObjectVideo
from retain.memory.bank.memory import Bank, BankConfig
from retain.memory.bank.rows import BankQuery, BankWrite
from retain.models.mamba.gated import Gated, GatedConfig
from retain.models.mamba.hosts.open import open_host
from retain.models.mamba.memory import Memory, MemoryOptions
from retain.models.mamba.weights import load_readout, shipped_for

AREA = "models"
RATE, MINUTE = 25, 1500
BAR = 1.05
"""The last minute may take so much of the first."""
WRITTEN = 75
"""Rows of a frame, as MAMBA writes them."""


def through_memory(frames: int, rows: int) -> list[Row]:
    """Through the whole ``Memory`` with the small host and the read-out that ships for it."""
    host = open_host("small", "cpu")
    name = shipped_for(host)
    readout = load_readout(name, host) if name else Gated(GatedConfig(host.channels, host.side))
    options = MemoryOptions(capacity=rows, key_set=600, carry=True, resets=False)
    memory = Memory(host, readout, options, "soak")
    clips = [ObjectVideo(seed, frames=30, degraded="strong") for seed in range(4)]
    described = [cells for clip in clips for cells in host.describe([s.image for s in clip])]
    times, sizes, full = [], [], -1
    for k in range(frames):
        began = time.thread_time()
        memory.see(described[k % len(described)], k, k / RATE)
        times.append(1000 * (time.thread_time() - began))
        sizes.append(memory.hub.nbytes)
        if full < 0 and memory.hub["bank"].stats("soak")["rows"] == rows:
            full = k
    return told(f"memory, {name or 'untrained'}, {rows:,} rows", times, sizes, full)


def through_bank(frames: int, rows: int, dim: int = 256) -> list[Row]:
    """The bank alone, at the sizes of MAMBA: ``WRITTEN`` rows a frame, a key set of 2,000."""
    bank = Bank(BankConfig(dim, rows, 2000, keep_rows=True))
    rng = torch.Generator().manual_seed(0)
    written = [torch.randn(WRITTEN, dim, generator=rng) for _ in range(40)]
    times, sizes, full = [], [], -1
    for k in range(frames):
        began = time.thread_time()
        keys = bank.read("soak", BankQuery(count=2000))
        assert keys is not None
        bank.write("soak", BankWrite(written[k % 40], k, k / RATE))
        times.append(1000 * (time.thread_time() - began))
        sizes.append(bank.nbytes("soak"))
        if full < 0 and bank.stats("soak")["rows"] == rows:
            full = k
    return told(f"bank alone, {rows:,} rows of {dim}", times, sizes, full)


def told(name: str, times: list[float], sizes: list[int], full: int) -> list[Row]:
    """The first minute begins when the bank is full."""
    start = max(full, 0)
    span = min(MINUTE, (len(times) - start) // 2)
    first = float(np.median(times[start : start + span]))
    last = float(np.median(times[-span:]))
    constant = len(set(sizes[start:])) == 1
    return [
        Row(
            name=f"{name}: last minute of {len(times):,} frames",
            value=last,
            unit="ms",
            peer=f"the first with a full bank (after {full} frames)",
            peer_value=first,
            ratio=first / last,
            bar=f"<= {BAR:g}x",
            met=last <= BAR * first,
        ),
        Row(
            name="… bytes of memory",
            value=sizes[-1] / 1e6,
            unit="MB",
            bar="constant from then on",
            met=constant,
        ),
    ]


def measure(quick: bool = False) -> list[Row]:
    frames = 1_000 if quick else 10_000
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return through_memory(frames, 600) + through_bank(frames, 20_000)
    finally:
        torch.set_num_threads(threads)


if __name__ == "__main__":
    script(measure, __doc__.splitlines()[0])
