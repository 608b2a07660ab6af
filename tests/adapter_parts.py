"""Small random transformers of diffusers, and how they are called."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from retain.models.ditmem.adapters import ltx, sana, wan
from retain.models.ditmem.adapters.base import Handle

diffusers = pytest.importorskip("diffusers")

DIM, VIDEOS, ROWS, FRAMES, SIDE = 64, 2, 5, 3, 2
TOKENS = FRAMES * SIDE * SIDE
"""Of one video, in both families."""


class Family:
    """One kind of transformer, and how it is called."""

    def __init__(self, name: str) -> None:
        torch.manual_seed(0)
        self.name = name
        self.model: Any = MAKE[name]()
        self.model.eval().requires_grad_(False)
        self.blocks = self.model.blocks if name == "wan" else self.model.transformer_blocks
        self.install: Callable[..., Handle] = INSTALL[name]
        shape = (VIDEOS, TOKENS, 8) if name == "ltx" else (VIDEOS, 4, FRAMES, 2 * SIDE, 2 * SIDE)
        self.noisy, self.text = torch.randn(shape), torch.randn(VIDEOS, 6, 32)
        self.rows = torch.randn(VIDEOS, ROWS, DIM)

    def __call__(self, timestep: float | Tensor = 500.0, copies: int = 1) -> Tensor:
        if not isinstance(timestep, Tensor):
            timestep = torch.full((VIDEOS * copies,), timestep)
        given = {
            "hidden_states": self.noisy.repeat(copies, *[1] * (self.noisy.ndim - 1)),
            "timestep": timestep,
            "encoder_hidden_states": self.text.repeat(copies, 1, 1),
        }
        if self.name == "ltx":
            mask = torch.ones(VIDEOS * copies, 6)
            given |= {"encoder_attention_mask": mask, "num_frames": FRAMES}
            given |= {"height": SIDE, "width": SIDE}
        out: Tensor = self.model(**given, return_dict=False)[0]
        return out

    @contextmanager
    def published(self, rows: Tensor, noised: int = 0) -> Iterator[None]:
        """Each block is given the rows at the end of its sequence, without positions and, where
        tokens have times of their own, with the time of token ``noised``; what becomes of them is
        dropped. All the rest is the block's own doing."""

        def before(block: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            names = ("hidden_states", "encoder_hidden_states", "temb")
            given = dict(zip((*names, turn), args, strict=False)) | kwargs
            given["hidden_states"] = torch.cat([given["hidden_states"], rows], 1)
            cos, sin = given[turn]
            still = (cos.shape[0], rows.shape[1], *cos.shape[2:])
            cos = torch.cat([cos, torch.ones(still)], 1)
            given[turn] = (cos, torch.cat([sin, torch.zeros(still)], 1))
            temb = given["temb"]
            if temb.ndim == (4 if self.name == "wan" else 3) and temb.shape[1] > 1:
                own = temb[:, noised : noised + 1].repeat_interleave(rows.shape[1], 1)
                given["temb"] = torch.cat([temb, own], 1)
            return (), given

        def after(block: Any, args: Any, out: Tensor) -> Tensor:
            return out[:, :TOKENS]

        if self.name == "sana":
            with self.published_linear(rows, noised):
                yield
            return
        turn = "rotary_emb" if self.name == "wan" else "image_rotary_emb"
        hooks = [b.register_forward_pre_hook(before, with_kwargs=True) for b in self.blocks]
        hooks += [b.register_forward_hook(after) for b in self.blocks]
        yield
        for hook in hooks:
            hook.remove()

    @contextmanager
    def published_linear(self, rows: Tensor, noised: int) -> Iterator[None]:
        """The same around SANA-Video's attention: its block ends in convolutions over frames, which
        more tokens do not pass."""
        times: list[Tensor] = []

        def note(block: Any, args: tuple[Any, ...]) -> None:
            time = args[4]
            times.append(time[:, noised if time.shape[1] > 1 else 0])

        def before(block: Any) -> Callable[..., Any]:
            def join(attn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
                parts = block.scale_shift_table + times[-1].reshape(VIDEOS, 6, DIM)
                normal = block.norm1(rows) * (1 + parts[:, 1:2]) + parts[:, :1]
                cos, sin = kwargs["rotary_emb"]
                still = torch.ones(1, rows.shape[1], *cos.shape[2:])
                turn = (torch.cat([cos, still], 1), torch.cat([sin, 0 * still], 1))
                return (torch.cat([args[0], normal], 1),), {"rotary_emb": turn}

            return join

        hooks = [b.register_forward_pre_hook(note) for b in self.blocks]
        for b in self.blocks:
            hooks.append(b.attn1.register_forward_pre_hook(before(b), with_kwargs=True))
            hooks.append(b.attn1.register_forward_hook(lambda m, args, out: out[:, :TOKENS]))
        yield
        for hook in hooks:
            hook.remove()


def make_wan() -> Any:
    return diffusers.WanTransformer3DModel(
        num_attention_heads=4,
        attention_head_dim=16,
        in_channels=4,
        out_channels=4,
        text_dim=32,
        freq_dim=32,
        ffn_dim=128,
        num_layers=2,
        rope_max_seq_len=32,
    )


def make_ltx() -> Any:
    return diffusers.LTXVideoTransformer3DModel(
        in_channels=8,
        out_channels=8,
        num_attention_heads=4,
        attention_head_dim=16,
        cross_attention_dim=DIM,
        num_layers=2,
        caption_channels=32,
    )


def make_sana() -> Any:
    return diffusers.SanaVideoTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=4,
        attention_head_dim=16,
        num_layers=2,
        num_cross_attention_heads=4,
        cross_attention_head_dim=16,
        cross_attention_dim=DIM,
        caption_channels=32,
        rope_max_seq_len=32,
    )


MAKE = {"wan": make_wan, "ltx": make_ltx, "sana": make_sana}
INSTALL = {"wan": wan.install, "ltx": ltx.install, "sana": sana.install}


def close(found: Tensor, truth: Tensor, atol: float = 2e-5) -> None:
    torch.testing.assert_close(found, truth, atol=atol, rtol=0)


def gap(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())
