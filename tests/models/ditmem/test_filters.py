"""Band filters: what they let through, by a matrix as by a transform."""

from __future__ import annotations

import pytest
import torch

from retain.models.ditmem.filters import BandFilter, filtered, gain, radius
from retain.models.ditmem.released import table

SIZES = [(8, 6, 6), (3, 3, 4), (1, 5, 2), (16, 9, 8)]


@pytest.mark.parametrize("size", SIZES)
def test_a_matrix_and_a_transform_are_one_filter(size: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, *size)
    shared = BandFilter(lambda c, t, h, w: gain("high", radius(t, h, w)))
    torch.testing.assert_close(
        shared(x), filtered(x, gain("high", radius(*size))), atol=1e-5, rtol=0
    )
    own = BandFilter(lambda c, t, h, w: table("low", c, t, h, w))
    truth = torch.fft.irfftn(
        torch.fft.rfftn(x.double(), dim=(2, 3, 4)) * table("low", 3, *size), s=size, dim=(2, 3, 4)
    )
    torch.testing.assert_close(own(x), truth.float(), atol=1e-5, rtol=0)


def test_a_constant_passes_low_and_quick_change_passes_high() -> None:
    still, quick = torch.ones(1, 1, 8, 4, 4), torch.ones(1, 1, 8, 4, 4)
    quick[:, :, ::2] = -1
    for band, kept in (("low", still), ("high", quick)):
        assert band in ("low", "high")
        made = BandFilter(lambda c, t, h, w, b=band: gain(b, radius(t, h, w)))
        other = quick if band == "low" else still
        assert float(made(kept).norm() / kept.norm()) > 0.8
        assert float(made(other).norm() / other.norm()) < 0.45


def test_frequencies_go_by_their_size_and_as_published_by_their_place() -> None:
    ours, theirs = radius(6, 1, 1)[:, 0, 0], radius(6, 1, 1, signed=False)[:, 0, 0]
    torch.testing.assert_close(ours, ours.roll(-1).flip(0))
    assert bool((theirs.diff() > 0).all())
