"""Whether a detector with a memory gets slower or larger: 10,000 frames, the bank full most of it.

Frames are those of a few generated clips, over and over, described by the host once; so what is
timed is the memory: reading the full bank, deciding again, writing, the carry. Times are CPU times
of the thread, and the last minute (1,500 frames of 25 a second) is compared with the first after
the bank was full, by medians. ``--rows`` sets the capacity: 600, what `retain detect` uses, is full
after some frames; 20,000 at ``--written`` rows a frame after 267.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from retain.datasets.detect.objects import ObjectVideo
from retain.memory.bank.memory import Bank, BankConfig
from retain.memory.bank.rows import BankQuery, BankWrite
from retain.models.mamba.gated import Gated, GatedConfig
from retain.models.mamba.hosts.open import open_host
from retain.models.mamba.memory import Memory, MemoryOptions
from retain.models.mamba.weights import load_readout, shipped_for

RATE, MINUTE = 25, 1500
BAR = 1.05
"""The last minute may take so much of the first."""
WRITTEN = 75
"""Rows of a frame, as MAMBA writes them."""


def through_memory(frames: int, rows: int) -> dict[str, object]:
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


def through_bank(frames: int, rows: int, dim: int = 256) -> dict[str, object]:
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


def told(name: str, times: list[float], sizes: list[int], full: int) -> dict[str, object]:
    """The first minute begins when the bank is full."""
    start = max(full, 0)
    span = min(MINUTE, (len(times) - start) // 2)
    first = float(np.median(times[start : start + span]))
    last = float(np.median(times[-span:]))
    return {
        "name": name,
        "frames": len(times),
        "full_after": full,
        "first_ms": round(first, 3),
        "last_ms": round(last, 3),
        "ratio": round(last / first, 4),
        "bytes": sizes[-1],
        "bytes_constant": len(set(sizes[start:])) == 1,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--only", choices=("memory", "bank"), default=None)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    if asked.only != "bank":
        rows.append(through_memory(asked.frames, asked.rows))
    if asked.only != "memory":
        rows.append(through_bank(asked.frames, 20_000))
    for row in rows:
        print(json.dumps(row))
        good = row["bytes_constant"] and float(str(row["ratio"])) <= BAR
        print(f"  {'as promised' if good else 'NOT as promised'}: at most {BAR} times, bytes equal")
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
