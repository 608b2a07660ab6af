"""Memories by name. Being listed here puts a memory under the laws of tests/memory/test_laws.py."""

from __future__ import annotations

from retain.pipeline.catalog import Catalog

MEMORIES = Catalog(
    "memory",
    {
        "bank": "retain.memory.bank.memory:Bank",
        "clips": "retain.memory.clips.bank:ClipBank",
        "examples": "retain.memory.examples:ExampleMemory",
        "frames": "retain.memory.curvestream:FrameMemory",
        "gated-delta": "retain.memory.gated_delta:GatedDelta",
        "delta-scan": "retain.memory.delta_scan:DeltaScan",
        "carry": "retain.memory.carry:Carry",
        "gaussians": "retain.memory.gaussian.memory:GaussianMemory",
        "layer-block-linear": "retain.memory.layers.memory:LayerMemory",
        "layer-cached": "retain.memory.layers.memory:LayerMemory",
        "layer-frame-delta": "retain.memory.layers.memory:LayerMemory",
        "layer-kalman": "retain.memory.layers.memory:LayerMemory",
        "layer-mixture": "retain.memory.layers.memory:LayerMemory",
        "keyframes": "retain.memory.keyframes:KeyframeMemory",
        "notes": "retain.memory.notes:Notes",
        "views": "retain.memory.views:ViewMemory",
        "windows": "retain.memory.clips.windows:Windows",
    },
)
