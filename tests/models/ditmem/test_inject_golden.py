"""The released block (DiT-Mem, December 2025), run on its own numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from shared_data import shared_data
from torch import Tensor

from retain.models.ditmem.backbone import modulate
from retain.models.ditmem.inject import Attention, turns

CASES = ("a", "b")


class Case:
    def __init__(self, name: str) -> None:
        file = np.load(shared_data("golden/ditmem_injection.npz"), allow_pickle=False)
        self.values = {
            k.removeprefix(f"{name}_"): torch.from_numpy(np.asarray(file[k]))
            for k in file.files
            if k.startswith(f"{name}_")
        }
        x = self["x"]
        self.attention = Attention(x.shape[-1], int(self["heads"]))
        own = {k: self[f"sd/self_attn.{k}"] for k in self.attention.state_dict()}
        self.attention.load_state_dict(own)
        self.attention.eval().requires_grad_(False)
        self.parts = (self["sd/modulation"] + self["t_mod"]).unbind(1)
        grid = [int(n) for n in self["grid_f_h_w"]]
        self.turn = turns(grid[0], grid[1], grid[2], x.shape[-1] // int(self["heads"]))

    def __getitem__(self, name: str) -> Tensor:
        return self.values[name]

    def normal(self, rows: Tensor) -> Tensor:
        return modulate(rows, self.parts[0], self.parts[1])

    def after(self, seen: Tensor) -> Tensor:
        return self["x"] + self.parts[2][:, None] * seen


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


def close(found: Tensor, truth: Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(found, truth, atol=atol, rtol=0)


def test_positions_are_theirs(case: Case) -> None:
    theirs = torch.complex(case["freqs_real"], case["freqs_imag"]).squeeze(1)
    close(torch.view_as_real(case.turn), torch.view_as_real(theirs.to(torch.complex64)))


@pytest.mark.parametrize("run", ["mem", "zeromem", "dupmem"])
def test_rows_act_as_in_the_released_block(case: Case, run: str) -> None:
    memory = case["memory"]
    if run == "zeromem":
        memory = torch.zeros_like(memory)
    if run == "dupmem":
        memory = memory[:, :1].expand_as(memory)
    x, rows = case.normal(case["x"]), case.normal(memory)
    seen = case.attention(x, case.turn, case.attention.pair(rows))
    close(seen, case[f"{run}_attn_out_x"])
    close(case.after(seen), case[f"{run}_x_after_self_attn"], 2e-5)
    close(case.attention.full_sequence(x, rows, case.turn), seen)


def test_no_rows_are_as_in_the_released_block(case: Case) -> None:
    seen = case.attention(case.normal(case["x"]), case.turn)
    close(seen, case["nomem_attn_out_x"])
    close(case.after(seen), case["nomem_x_after_self_attn"], 2e-5)


def test_zero_tokens_are_not_neutral_as_released(case: Case) -> None:
    gap = (case["zeromem_x_after_self_attn"] - case["nomem_x_after_self_attn"]).abs().max()
    assert float(gap) > 0.05
