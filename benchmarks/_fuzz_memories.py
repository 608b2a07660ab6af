"""Targets of ``fuzz.py``: memory files, read as a hub does and as one who asks for entries does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from _forgeries import File, forged
from _mutations import Feed, Mutator, feature, frame

from retain.kernels.gated_delta.reference import Gates
from retain.memory.carry import Carry
from retain.memory.curvestream import FrameMemory, FrameMemoryConfig, FrameQuery, load_entries
from retain.memory.delta_scan import DeltaScan, DeltaScanConfig, ScanWrite
from retain.memory.gated_delta import DeltaWrite, GatedDelta, GatedDeltaConfig
from retain.memory.hub import Hub
from retain.pipeline import wire


def memory_files(folder: Path) -> Feed:
    """Memory files into ``snapshot.load``, the hub's ``restore`` and ``load_entries``."""
    hubs = [frames_hub(), tensors_hub()]
    files: list[File] = []
    for number, hub in enumerate(hubs):
        path = folder / f"good-{number}"
        hub.snapshot(path, 41)
        files.append(File.read(path))
    raw = [file.sealed() for file in files]
    path = folder / "bad"

    def feed(mutator: Mutator) -> None:
        which = mutator.rng.randrange(len(files))
        path.write_bytes(forged(files[which], mutator, raw))
        fresh = frames_hub(0) if which == 0 else tensors_hub(0)
        fresh.restore(path)
        used(fresh)
        if which == 0:
            for entry in load_entries(str(path)):
                entry.image()

    return feed


def entries_of_files(folder: Path) -> Feed:
    """Memory files into ``load_entries``, which takes them whatever their configuration."""
    frames_hub().snapshot(folder / "good", 41)
    file = File.read(folder / "good")
    raw, path = [file.sealed()], folder / "entries"

    def feed(mutator: Mutator) -> None:
        path.write_bytes(forged(file, mutator, raw))
        for entry in load_entries(str(path)):
            entry.image()

    return feed


def frames_hub(frames: int = 24) -> Hub:
    config = FrameMemoryConfig(dim=8, max_entries=6, byte_budget=120_000)
    hub, memory = Hub(config.byte_budget, "cam"), FrameMemory(config)
    hub.add("frames", memory)
    for seq in range(frames):
        memory.observe("cam", frame(seq), feature(seq))
    return hub


def tensors_hub(writes: int = 2) -> Hub:
    rng = torch.Generator().manual_seed(0)
    gates = Gates(*(0.1 * torch.randn(shape, generator=rng) for shape in ((2, 4), (2, 4), 2, 2)))
    memories: dict[str, tuple[Any, Any]] = {
        "delta": (
            GatedDelta(GatedDeltaConfig(objects=1, key_dim=3, value_dim=4, heads=2), gates),
            DeltaWrite(torch.full((3, 2), 1 / 3), torch.ones(1, 4, 2)),
        ),
        "scan": (
            DeltaScan(DeltaScanConfig(heads=1, key_dim=2, value_dim=2)),
            ScanWrite(
                torch.ones(1, 1, 2), torch.ones(1, 1, 2), -torch.ones(1, 1), torch.ones(1, 1)
            ),
        ),
        "carry": (Carry({"map": (2, 2), "numbers": (3,)}), {"numbers": torch.ones(3)}),
    }
    hub = Hub(100_000, "cam")
    for name, (memory, item) in memories.items():
        hub.add(name, memory)
        for _ in range(writes):
            memory.write("cam", item)
    return hub


def used(hub: Hub) -> None:
    """Live on with what was restored, as a run would: a fault must not wait for the next frame."""
    for name in hub:
        memory = hub[name]
        if isinstance(memory, FrameMemory):
            for entry in memory.read("cam", FrameQuery(embedding=feature(0))):
                assert entry.time_base > 0
            for seq in (100, 101, 102):
                held = memory.observe("cam", frame(seq), feature(seq))[1]
                wire.pack(held)
            memory.shrink_to("cam", memory.min_bytes)
            assert held.tokens <= held.token_budget
            assert len(held.entries) <= 6
        memory.stats("cam")
        memory.snapshot("cam")
        assert memory.nbytes("cam") <= hub.budget_bytes
