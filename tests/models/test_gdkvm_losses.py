"""What GDKVM's losses reward, ignore, and look at."""

from __future__ import annotations

import pytest
import torch
from gdkvm_parts import clip, tiny, tiny_config
from torch import Tensor
from torch.nn.functional import interpolate

from retain.models.gdkvm.losses import (
    AUX_WEIGHT,
    CHANGE,
    area_loss,
    clip_loss,
    segmentation_loss,
    uncertain_points,
)
from retain.models.gdkvm.network import Out


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def labels(*shape: int) -> torch.Tensor:
    return torch.randint(0, 4, shape)


def certain(target: torch.Tensor) -> torch.Tensor:
    """Logits that say ``target``, loudly."""
    return 20.0 * torch.nn.functional.one_hot(target, 4).movedim(-1, 1).float()


@pytest.mark.parametrize("points", [0, 64])
def test_a_perfect_answer_costs_nothing_and_a_wrong_one_does(points: int) -> None:
    target = labels(2, 16, 16)
    assert segmentation_loss(certain(target), target, points) < 1e-3
    assert segmentation_loss(certain((target + 1) % 4), target, points) > 10


def test_loss_is_cross_entropy_plus_dice_in_numbers() -> None:
    # Two pixels, one object, p = .5 everywhere: ln 2, and 1 - (2 * .5 + 1) / (1 + 1 + 1).
    loss = segmentation_loss(torch.zeros(1, 2, 1, 2), torch.tensor([[[0, 1]]]))
    assert float(loss) == pytest.approx(0.693147 + 1 / 3, abs=1e-5)


@pytest.mark.parametrize("points", [0, 100])
def test_what_nobody_labelled_has_no_gradient(points: int) -> None:
    target = labels(2, 16, 16)
    target[:, :8] = 255
    logits = torch.randn(2, 4, 16, 16, requires_grad=True)
    segmentation_loss(logits, target, points).backward()
    assert logits.grad is not None
    assert not logits.grad[:, :, :8].any()
    assert logits.grad[:, :, 8:].any()


def test_a_frame_without_labels_costs_nothing() -> None:
    logits = torch.randn(1, 4, 8, 8, requires_grad=True)
    loss = segmentation_loss(logits, torch.full((1, 8, 8), 255))
    loss.backward()
    assert float(loss.detach()) == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_points_are_mostly_the_uncertain_ones() -> None:
    logits = torch.zeros(2, 4, 400)
    logits[:, 0] = 9.0
    logits[0, 1, 100:160] = 9.0  # of picture 0, pixels 100 to 159 are undecided
    logits[1, 2, 300:360] = 9.0
    chosen = uncertain_points(logits, 80)
    assert chosen.shape == (2, 80)
    hard = chosen[:, :60]
    # 240 of the 400 pixels are drawn, so about 36 of the 60 undecided ones: all of them are taken.
    for row, first in enumerate((100, 300)):
        picked = (hard[row] >= first) & (hard[row] < first + 60)
        assert 25 <= int(picked.sum()) <= 50
        assert len(hard[row].unique()) == 60
        assert picked[: int(picked.sum())].all()


def test_only_supervised_frames_count() -> None:
    outs = [Out(torch.randn(1, 4, 8, 8), ()) for _ in range(3)]
    target = labels(1, 3, 8, 8)
    ends = clip_loss(outs, target, [0, 2], tiny_config())
    each = [segmentation_loss(outs[t].logits, target[:, t]) for t in (0, 2)]
    torch.testing.assert_close(ends, torch.stack(each).mean())


@pytest.mark.parametrize("last_only", [False, True])
def test_auxiliary_losses_are_the_batchs_or_as_in_the_public_code(last_only: bool) -> None:
    out = Out(torch.randn(3, 4, 16, 16), (torch.randn(3, 4, 4, 4), torch.randn(3, 4, 4, 4)))
    target = labels(3, 1, 16, 16)
    loss = clip_loss([out], target, [0], tiny_config(aux_last_only=last_only))
    expected = segmentation_loss(out.logits, target[:, 0])
    for coarse in out.aux:
        big = interpolate(coarse, (16, 16), mode="bilinear", align_corners=False)
        if last_only:
            expected = expected + AUX_WEIGHT / 3 * segmentation_loss(big[2:], target[2:, 0])
        else:
            expected = expected + AUX_WEIGHT * segmentation_loss(big, target[:, 0])
    torch.testing.assert_close(loss, expected)


def test_gradients_reach_every_parameter() -> None:
    model = tiny().train()
    outs = model(clip(1, 3))
    clip_loss(outs, labels(1, 3, 32, 32), [0, 2], model.config).backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_area_loss_sees_what_overlap_forgives() -> None:
    truth = torch.zeros(1, 32, 32, dtype=torch.long)
    truth[:, 8:24, 8:24] = 1

    def logits(side: int) -> Tensor:
        cavity = torch.full((1, 2, 32, 32), -12.0)
        cavity[:, 1, 8 : 8 + side, 8:24] = 12.0
        cavity[:, 0] = -cavity[:, 1]
        return cavity

    def loss(*sides: int, target: Tensor = truth) -> Tensor:
        frames = torch.stack([logits(side) for side in sides], dim=1)
        return area_loss(frames, target[:, None].expand(-1, len(sides), -1, -1))

    small = torch.tensor(12 / 16).log().abs()
    assert loss(16) < 1e-3
    torch.testing.assert_close(loss(12), small, atol=2e-3, rtol=0)
    torch.testing.assert_close(loss(12, 12), small, atol=2e-3, rtol=0)  # wrong, but no beat in it
    torch.testing.assert_close(loss(12, 16), (0.5 + CHANGE / 2) * small, atol=4e-3, rtol=0)
    assert loss(12, 12, target=truth.where(truth == 1, 255)) == 0  # area unknown
    assert loss(12, 12, target=torch.zeros_like(truth)) == 0  # nothing to measure
    out = Out(logits(12).requires_grad_(), ())
    with_area = clip_loss([out], truth[:, None], [0], tiny_config(), area=2.0)
    without = clip_loss([out], truth[:, None], [0], tiny_config())
    torch.testing.assert_close(with_area - without, 2 * loss(12))
