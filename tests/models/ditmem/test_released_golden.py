"""The released encoder's own numbers (DiT-Mem, commit of December 2025)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from shared_data import shared_data
from torch import Tensor

from retain.models.ditmem.released import Filter, ReleasedEncoder, noisy, table

BANDS = ("high", "low")
MODES = ("paper", "release")
SIZES = {
    "a": {"latent": (8, 21, 16, 24), "wide": (8, 12), "dim": 64, "tokens": 5},
    "b": {"latent": (3, 41, 17, 33), "wide": (6, 10), "dim": 32, "tokens": 5},
}


def file(name: str) -> dict[str, Tensor]:
    loaded: Any = np.load(shared_data(f"golden/{name}"), allow_pickle=False)
    return {k: torch.from_numpy(np.asarray(loaded[k])) for k in loaded.files}


def close(found: Tensor, truth: Tensor, atol: float) -> None:
    torch.testing.assert_close(found.detach(), truth, atol=atol, rtol=0)


def test_tables_and_filters_are_theirs() -> None:
    golden, applied = file("ditmem_filters.npz"), 0
    for t, h, w, c in golden["grids_T_H_W_C"].tolist():
        grid = f"T{t}_H{h}_W{w}_C{c}"
        for band in BANDS:
            gains = table(band, c, t, h, w)
            close(gains, golden[f"paper_gain_{band}_{grid}"], 1e-6)
            noise = golden.get(f"release_noise_{band}_{grid}")
            if noise is not None:
                close(noisy(gains, noise), golden[f"release_weight_{band}_{grid}"], 1e-6)
            for mode in MODES:
                if f"apply_{mode}_sum_{band}_{grid}" in golden:
                    made = Filter(band, c, mode)
                    made.draw(t, h, w, noise)
                    found = made.summed(golden[f"apply_x_{grid}"])
                    close(found, golden[f"apply_{mode}_sum_{band}_{grid}"], 5e-6)
                    applied += 1
    assert applied >= 8


def test_a_first_clip_of_one_point_is_not_filtered() -> None:
    golden = file("ditmem_filters.npz")
    found = Filter("high", 2, "release").summed(golden["lazy_1x1x1_x"])
    close(found, golden["lazy_1x1x1_sum"], 1e-6)


def encoder(golden: dict[str, Tensor], case: str) -> ReleasedEncoder:
    """Weights, statistics and tables of ``case``; c has the weights of a."""
    own = {k.partition("_sd/")[2]: v for k, v in golden.items() if k.startswith(f"{case}_sd/")}
    if case == "c":
        first = {k.partition("_sd/")[2]: v for k, v in golden.items() if k.startswith("a_sd/")}
        own = first | own
    made = ReleasedEncoder(**SIZES["a" if case == "c" else case])  # type: ignore[arg-type]
    for name, module in made.named_modules():
        if isinstance(module, Filter):
            module.complex_weight = own[f"{name}.complex_weight"].clone()
    for name, value in own.items():
        if name.endswith("num_batches_tracked"):
            own[name] = value.reshape(())
    made.load_state_dict(own)
    return made.eval()


@pytest.mark.parametrize("case", ["a", "b", "c"])
def test_the_encoder_is_theirs_stage_by_stage(case: str) -> None:
    golden = file("ditmem_encoder.npz")
    made = encoder(golden, case)
    clips = golden[f"{case}_input"]
    for band in BANDS:
        branch = getattr(made, f"{band}_pass_module")
        x = clips.flatten(0, 1)
        for number in (1, 2):
            stage = getattr(branch, f"conv_block{number}")
            close(stage.conv(x), golden[f"{case}_{band}_conv{number}"], 5e-5)
            summed = stage.fft_filter.summed(stage.conv(x))
            close(summed, golden[f"{case}_{band}_filt{number}_sum"], 5e-5)
            x = stage(x)
            close(x, golden[f"{case}_{band}_stage{number}"], 5e-5)
        projected = branch(clips.flatten(0, 1)).reshape(golden[f"{case}_{band}_projected"].shape)
        close(projected, golden[f"{case}_{band}_projected"], 5e-5)
        attended = made.self_attention(projected.flatten(1, 2))
        close(attended, golden[f"{case}_{band}_attended"], 2e-5)
    close(made(clips), golden[f"{case}_tokens"], 2e-5)


def test_time_collapses_and_its_one_step_is_copied() -> None:
    made = ReleasedEncoder(**SIZES["a"]).eval()  # type: ignore[arg-type]
    own = made.high_pass_module(torch.randn(2, 8, 21, 16, 24))
    close(own, own[:, :1].expand_as(own).detach(), 1e-6)


def test_it_has_as_many_parameters_as_theirs() -> None:
    with torch.device("meta"):
        made = ReleasedEncoder()
    assert sum(p.numel() for p in made.parameters()) == 78_782_976
