"""The example of docs/imagine-adapters.md, with a small transformer in the place of Wan's."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from adapter_parts import diffusers, make_wan
from safetensors.torch import save_file
from torch import Tensor

from retain.models.ditmem.adapters.base import Joined
from retain.models.ditmem.released import ReleasedEncoder

PAGE = Path(__file__).parents[3] / "docs" / "imagine-adapters.md"
LATENT = (16, 21, 60, 104)


class Pipeline:
    """Two steps with guidance, as diffusers' Wan pipeline calls its transformer."""

    def __init__(self) -> None:
        self.vae = SimpleNamespace(
            config=SimpleNamespace(latents_mean=[0.1] * 16, latents_std=[2.0] * 16),
            device=torch.device("cpu"),
            dtype=torch.bfloat16,
            encode=self.encode,
        )
        torch.manual_seed(0)
        self.transformer: Any = make_wan().eval()

    def encode(self, clips: Tensor) -> SimpleNamespace:
        assert clips.dtype == torch.bfloat16
        found = torch.randn(len(clips), *LATENT, generator=torch.Generator().manual_seed(1))
        return SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: found))

    def to(self, device: str) -> Pipeline:
        return self

    @torch.no_grad()
    def __call__(self, prompt: str, num_frames: int, guidance_scale: float) -> SimpleNamespace:
        source = torch.Generator().manual_seed(2)
        latents = torch.randn(1, 4, 3, 4, 4, generator=source)
        text = {name: torch.randn(1, 6, 32, generator=source) for name in ("cond", "uncond")}
        for step in (900.0, 400.0):
            out = {}
            for name, words in text.items():
                with self.transformer.cache_context(name):
                    out[name] = self.transformer(
                        hidden_states=latents,
                        timestep=torch.tensor([step]),
                        encoder_hidden_states=words,
                        return_dict=False,
                    )[0]
            guided = out["uncond"] + guidance_scale * (out["cond"] - out["uncond"])
            latents = latents - 0.4 * guided
        return SimpleNamespace(frames=[latents])


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = Pipeline()
    loader = SimpleNamespace(from_pretrained=lambda name, torch_dtype: pipe)
    monkeypatch.setattr(diffusers, "WanPipeline", loader, raising=False)
    monkeypatch.chdir(tmp_path)
    encoder = ReleasedEncoder(LATENT, (8, 8), 64, 100)
    weights = {f"pipe.dit_mem.{n}": p.detach().clone() for n, p in encoder.named_parameters()}
    save_file(weights, tmp_path / "step-1500.safetensors")
    save_file({"clips": torch.zeros(2, 3, 5, 8, 8)}, tmp_path / "references.safetensors")
    plain = pipe("", 81, 5.0).frames[0]

    code = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert code is not None
    names: dict[str, Any] = {}
    with pytest.warns(UserWarning, match="no filter tables"):
        exec(code[1], names)

    assert names["tokens"].shape == (1, 2 * 2 * 100, 64)
    assert float((names["video"] - plain).abs().max()) > 0.01
    assert torch.equal(pipe("", 81, 5.0).frames[0], plain)
    kinds = [type(processor) for processor in pipe.transformer.attn_processors.values()]
    assert not any(issubclass(kind, Joined) for kind in kinds)
