"""Duplicates among boxes: torchvision's answers, without torchvision."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torchvision.ops import box_iou, nms

from retain.models.mamba.hosts.suppress import suppressed
from retain.models.mamba.rows import _overlap


def boxes(n: int, rng: torch.Generator) -> torch.Tensor:
    """Some share sides, some have no area."""
    corner, side = torch.rand(2, n, 2, generator=rng) * 40
    return torch.cat([corner, corner + side], 1).round()


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("iou", [0.3, 0.6])
def test_class_by_class_it_is_torchvisions_nms(seed: int, iou: float) -> None:
    rng = torch.Generator().manual_seed(seed)
    n = 40 * seed
    b, labels = boxes(n, rng), torch.randint(0, 3, (n,), generator=rng)
    scores = (10 * torch.rand(n, generator=rng)).round() / 10  # many are equal
    kept: set[int] = set()
    for label in range(3):
        rows = (labels == label).nonzero()[:, 0]
        kept |= set(rows[nms(b[rows], scores[rows], iou)].tolist())
    found = suppressed(b, scores, labels, iou)
    assert set(found.tolist()) == kept
    assert found.tolist() == sorted(kept, key=lambda row: (-float(scores[row]), row))


def test_overlaps_are_torchvisions() -> None:
    rng = torch.Generator().manual_seed(0)
    a, b = boxes(20, rng) + torch.tensor([0, 0, 0.5, 0.5]), boxes(30, rng)
    assert torch.equal(_overlap(a, b), box_iou(a, b))


def test_a_detector_does_not_load_torchs_compiler() -> None:
    """In a process of its own (2 s of it are torch): it would take as long again."""
    code = "import sys, retain.models.mamba.stage as stage\nstage.Detect()\n"
    code += "assert not {'torchvision', 'torch._dynamo'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)
