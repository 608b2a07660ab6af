"""What GDKVM is trained on: cross-entropy and soft Dice, dense or at uncertain points."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from retain.models.distributed import ALONE, Share
from retain.models.gdkvm.config import GdkvmConfig
from retain.models.gdkvm.network import Out

AUX_WEIGHT = 0.01
CHANGE = 4.0
"""What a wrong change of an area over a clip weighs, beside a wrong area."""
LEAST_AREA = 16
"""Structures of fewer pixels have no area to speak of."""
OVERSAMPLE, UNCERTAIN = 3.0, 0.75
"""PointRend: of so many times the points, this share are the least certain; the rest is random."""


def clip_loss(
    outs: list[Out],
    target: Tensor,
    supervised: list[int],
    config: GdkvmConfig,
    points: int = 0,
    area: float = 0.0,
    share: Share = ALONE,
) -> Tensor:
    """Mean loss of the frames in ``supervised``; ``area`` weighs ``area_loss``, which is ours.

    ``target`` int64 [B, T, H, W]: 0 background, k + 1 object k, 255 not labelled. ``points``: how
    many pixels are looked at per frame; 0 looks at all. ``share``: of the batch that these rows
    are; the parts' losses add up, here and below.
    """
    total = outs[0].logits.new_zeros(())
    for t in supervised:
        truth = target[:, t]
        total = total + segmentation_loss(outs[t].logits, truth, points, share)
        for coarse in outs[t].aux:
            rows, scale, by = slice(None), 1.0, share
            if config.aux_last_only:  # the batch's last row, which the last process has
                is_last = share.rank == share.world - 1
                rows, scale, by = slice(-1, None), is_last / (len(truth) * share.world), ALONE
            size = truth.shape[-2:]
            big = F.interpolate(coarse[rows], size, mode="bilinear", align_corners=False)
            total = total + AUX_WEIGHT * scale * segmentation_loss(big, truth[rows], points, by)
    total = total / len(supervised)
    if area:
        logits = torch.stack([outs[t].logits for t in supervised], dim=1)
        total = total + area * area_loss(logits, target[:, supervised], share)
    return total


def segmentation_loss(
    logits: Tensor, target: Tensor, points: int = 0, share: Share = ALONE
) -> Tensor:
    """Cross-entropy plus soft Dice 1 - (2 <p, y> + 1) / (|p| + |y| + 1), averaged over the objects.

    ``logits`` [B, N + 1, H, W], ``target`` [B, H, W].
    """
    flat, truth = logits.flatten(2), target.flatten(1)
    if points and points < truth.shape[1]:
        chosen = uncertain_points(flat, points, share)
        flat = flat.gather(2, chosen[:, None].expand(-1, flat.shape[1], -1))
        truth = truth.gather(1, chosen)
    known = truth != 255
    safe = truth.where(known, 0)
    entropy = F.cross_entropy(flat, safe, reduction="none")
    entropy = (entropy * known).sum() / share.total(known.sum()).clamp(min=1)
    one_hot = F.one_hot(safe, flat.shape[1]).movedim(-1, 1)[:, 1:] * known[:, None]
    p = flat.softmax(dim=1)[:, 1:] * known[:, None]
    both = (p * one_hot).sum(-1)
    dice = 1 - (2 * both + 1) / (p.sum(-1) + one_hot.sum(-1) + 1)
    return entropy + dice.mean() / share.world


def area_loss(logits: Tensor, target: Tensor, share: Share = ALONE) -> Tensor:
    """Mean |e| + ``CHANGE`` mean |e - clip's mean of e|, e = log(area / true area) of the objects
    that are fully labelled and seen.

    Overlap alone lets a network hedge where a border is vague, which flattens the area over the
    beat: Dice 0.95 with an ejection fraction ten points too low. The first term hedges too, by what
    is uncertain about a whole clip; the second is of the beat alone. ``logits`` [B, T, N + 1, H,
    W], ``target`` [B, T, H, W].
    """
    known = (target != 255).flatten(2).all(dim=2)
    number = logits.shape[2]
    one_hot = F.one_hot(target.where(target != 255, 0), number).movedim(-1, 2)[:, :, 1:]
    true = one_hot.flatten(3).sum(-1).float()
    area = logits.float().softmax(dim=2)[:, :, 1:].flatten(3).sum(-1)
    counted = ((true >= LEAST_AREA) & known[..., None]).float()
    error = torch.log((area + 1) / (true + 1)) * counted
    mean = error.sum(dim=1, keepdim=True) / counted.sum(dim=1, keepdim=True).clamp(min=1)
    change = (error - mean).abs() * counted
    return (error.abs() + CHANGE * change).sum() / share.total(counted.sum()).clamp(min=1)


def uncertain_points(flat: Tensor, points: int, share: Share = ALONE) -> Tensor:
    """Pixels to look at, [B, points]: the least certain of a random draw, and some at random."""
    pixels, batch = flat.shape[2], share.world * len(flat)  # drawn for all, as by one process
    with torch.no_grad():
        draw = min(pixels, int(points * OVERSAMPLE))
        candidates = share.own(torch.rand(batch, pixels, device=flat.device)).topk(draw).indices
        top = flat.topk(2, dim=1).values
        doubt = (top[:, 1] - top[:, 0]).gather(1, candidates)
        hard = int(points * UNCERTAIN)
        chosen = candidates.gather(1, doubt.topk(hard).indices)
        rest = torch.randint(pixels, (batch, points - hard), device=flat.device)
        return torch.cat([chosen, share.own(rest)], dim=1)
