"""A tiny OpenCLIP model of its own configuration, with random weights: it proves that words and
pictures reach the right places, not that they mean anything there."""

from __future__ import annotations

import json
from pathlib import Path

CONFIG = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {
        "context_length": 16,
        "vocab_size": 49408,
        "width": 16,
        "heads": 2,
        "layers": 1,
    },
}


def tiny_clip(folder: Path, seed: int = 0, dim: int = 24) -> str:
    """Save it in ``folder``; returns the name of the encoder."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    config = folder / f"tiny-clip-{dim}.json"
    config.write_text(json.dumps({**CONFIG, "embed_dim": dim}))
    if config.stem not in open_clip.list_models():
        open_clip.add_model_config(config)
    generator = torch.Generator().manual_seed(seed)
    network = open_clip.create_model(config.stem)
    weights = {
        name: torch.randn(value.shape, generator=generator) * (0.3 if value.ndim > 1 else 0.05)
        for name, value in network.state_dict().items()
    }
    file = folder / f"tiny-{seed}.safetensors"
    save_file(weights, file)
    return f"openclip:{config}@{file}"
