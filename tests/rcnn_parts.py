"""A Faster R-CNN of torchvision small enough to run in milliseconds, with random weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import (
    FastRCNNConvFCHead,
    FastRCNNPredictor,
    TwoMLPHead,
)

from retain.datasets.detect.base import Found
from retain.datasets.detect.objects import ObjectVideo
from retain.kernels.bank_read.reference import Form
from retain.models.mamba.rcnn.network import MambaRCNN

NAMES = ("car", "person", "bird", "fish", "dog", "boat", "windmill", "snail")


def tiny_base(head: str = "two", seed: int = 0) -> FasterRCNN:
    """Maps '0' and '1' of strides 8 and 16, 32 channels; rows of 64."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    body = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 16, 5, 4, 2), nn.ReLU(), nn.Conv2d(16, 24, 3, 2, 1)),
        nn.Sequential(nn.ReLU(), nn.Conv2d(24, 32, 3, 2, 1)),
    )
    backbone = BackboneWithFPN(body, {"0": "0", "1": "1"}, [24, 32], 32)
    pooled = 32 * 7 * 7
    box_head = (
        TwoMLPHead(pooled, 64)
        if head == "two"
        else FastRCNNConvFCHead((32, 7, 7), [16], [64], nn.BatchNorm2d)
    )
    base = FasterRCNN(
        backbone,
        min_size=96,
        max_size=128,
        rpn_anchor_generator=AnchorGenerator(((16, 32),) * 3, ((0.5, 1.0, 2.0),) * 3),
        box_head=box_head,
        box_predictor=FastRCNNPredictor(64, len(NAMES) + 1),
        rpn_score_thresh=0.0,
        rpn_post_nms_top_n_test=40,
        rpn_pre_nms_top_n_test=60,
        rpn_post_nms_top_n_train=40,
        box_score_thresh=0.05,
    )
    with torch.no_grad():
        # So that classes differ from proposal to proposal, as a trained head's do.
        base.roi_heads.box_predictor.cls_score.weight.mul_(20)
    return base.eval()


def tiny_model(
    head: str = "two", trained: bool = True, form: Form = "paper", seed: int = 0
) -> MambaRCNN:
    """``trained``: with layers that do something."""
    model = MambaRCNN(tiny_base(head, seed), NAMES, form=form, heads=8)
    if trained:
        with torch.no_grad():
            for place in model.geo:
                layer = model.layer(place)
                # Sharp enough that it matters which rows are read.
                layer.query.weight.mul_(12)
                layer.last.weight.normal_(0, 0.4)
    return model


def clip(frames: int = 8, seed: int = 3, **options: Any) -> ObjectVideo:
    return ObjectVideo(seed, frames, 128, 96, **options)


def same(one: Sequence[Found], two: Sequence[Found]) -> bool:
    """Bit for bit."""
    return len(one) == len(two) and all(
        np.array_equal(getattr(a, name), getattr(b, name))
        for a, b in zip(one, two, strict=True)
        for name in ("boxes", "scores", "labels")
    )
