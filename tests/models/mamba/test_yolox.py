"""YOLOX as a host: its rows, its decisions, its boxes."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from shared_data import shared_data
from yolox_parts import NANO, TINY, Reference, official

from retain.models.mamba.host import Cells, Predicted
from retain.models.mamba.hosts.letterbox import GREY, STRIDE, boxed, letterbox
from retain.models.mamba.hosts.names import COCO
from retain.models.mamba.hosts.yolox import IOU, MOST, Yolox, grid
from retain.models.mamba.hosts.yolox_net import Plan
from retain.models.mamba.hosts.yolox_weights import from_state, load
from retain.pipeline.errors import UsageError
from retain.pipeline.frame import Image

ONNX = "yolox_nano_416x416.onnx"
PICTURE = "davis_dev/JPEGImages/car-shadow/00010.jpg"


@cache
def host(side: int = 128) -> Yolox:
    return Yolox(from_state(official(NANO)), COCO, "cpu", side)


def picture(width: int, height: int, seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(2, 40))
def test_a_letterbox_holds_the_whole_picture_at_one_scale(
    width: int, height: int, strides: int
) -> None:
    side = STRIDE * strides
    plan = letterbox((width, height), side)
    assert max(plan.inner) == side == max(plan.outer)
    for whole, inner, outer in zip((width, height), plan.inner, plan.outer, strict=True):
        assert outer % STRIDE == 0
        assert inner <= outer < inner + STRIDE
        assert inner == max(1, int(whole * side / max(width, height)))
        assert inner <= whole * plan.scale + 1


def test_a_letterbox_is_grey_beside_the_picture() -> None:
    image = picture(100, 50)
    plan = letterbox((100, 50), 64)
    out = boxed(image, plan)
    assert out.shape == (32, 64, 3)
    assert letterbox((90, 40), 64).inner == (64, 28)
    out = boxed(picture(90, 40), letterbox((90, 40), 64))
    assert (out[28:] == GREY).all()
    assert not (out[:28] == GREY).all()


def test_rows_are_one_for_each_cell_from_the_top_left() -> None:
    cells = host().describe([picture(200, 100)])[0]
    assert cells.size == (200, 100)
    assert cells.scale == 0.64
    assert cells.rows.shape == (16 * 8 + 8 * 4 + 4 * 2, host().channels)
    assert cells.rows.dtype == torch.float32
    assert not cells.rows.requires_grad
    assert cells.anchors[0].tolist() == [0, 0, 8, 8]
    assert cells.anchors[17].tolist() == [8, 8, 16, 16]
    assert cells.anchors[-1].tolist() == [96, 32, 128, 64]
    assert cells.levels.bincount().tolist() == [128, 32, 8]


@pytest.mark.parametrize("plan", [NANO, TINY, Plan(8, 2, False, 3)], ids=lambda p: p.kind)
def test_decisions_are_those_of_the_paper(plan: Plan) -> None:
    state = official(plan)
    own = Yolox(from_state(state), [f"{k}" for k in range(plan.classes)], "cpu", 64)
    image = picture(64, 64)
    cells = own.describe([image])[0]
    predicted = own.predict(cells.rows, cells)
    bgr = torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1)[None]
    raw = Reference(state)(bgr)
    logits = torch.cat((predicted.objectness[:, None], predicted.classes), 1).double()
    near = 2e-5 * float(raw.abs().max())
    torch.testing.assert_close(logits, raw[:, 4:], rtol=0, atol=near)
    stride = torch.tensor([8] * 64 + [16] * 16 + [32] * 4)[:, None]
    x = torch.cat([torch.arange(n).repeat(n) for n in (8, 4, 2)])
    y = torch.cat([torch.arange(n).repeat_interleave(n) for n in (8, 4, 2)])
    centre = (raw[:, :2] + torch.stack((x, y), 1)) * stride
    size = raw[:, 2:4].clamp(max=10).exp() * stride
    boxes = torch.cat((centre - size / 2, centre + size / 2), 1)
    torch.testing.assert_close(predicted.boxes.double(), boxes, rtol=1e-3, atol=0.05)


def test_a_picture_gives_the_same_bits_in_any_company() -> None:
    images = [picture(130, 70, 1), picture(64, 128, 2), picture(130, 70, 3)]
    together = host().describe(images)
    for image, cells in zip(images, together, strict=True):
        alone = host().describe([image])[0]
        assert torch.equal(alone.rows, cells.rows)
        assert torch.equal(alone.anchors, cells.anchors)
    assert not torch.equal(together[0].rows, together[2].rows)
    assert host().describe([]) == []


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 100])
def test_some_rows_are_decided_bit_for_bit_as_among_all(count: int) -> None:
    cells = host().describe([picture(128, 96)])[0]
    order = torch.randperm(len(cells.rows), generator=torch.Generator().manual_seed(count))
    which = order[:count]
    whole = host().predict(cells.rows, cells)
    part = host().predict(cells.rows[which], cells, which)
    for name in ("objectness", "classes", "boxes"):
        assert torch.equal(getattr(part, name), getattr(whole, name)[which])


def test_gradients_reach_the_rows_alone() -> None:
    cells = host().describe([picture(128, 96)])[0]
    which = torch.tensor([3, 200, 4])
    rows = cells.rows[which].clone().requires_grad_()
    predicted = host().predict(rows, cells, which)
    for value in (predicted.objectness, predicted.classes, predicted.boxes):
        grad = torch.autograd.grad(value.sum(), rows, retain_graph=True)[0]
        assert (grad.abs().sum(1) > 0).all()
        assert grad.isfinite().all()
    assert not any(p.requires_grad for p in host().network.parameters())
    assert torch.equal(cells.rows, host().describe([picture(128, 96)])[0].rows)


def test_rows_of_any_size_give_finite_boxes_and_gradients() -> None:
    cells = host().describe([picture(128, 96)])[0]
    rows = (cells.rows * 1e4).requires_grad_()
    predicted = host().predict(rows, cells)
    assert predicted.boxes.isfinite().all()
    assert torch.autograd.grad(predicted.boxes.sum(), rows)[0].isfinite().all()
    found, _ = host().found(predicted, cells)
    assert np.isfinite(found.boxes).all()


def crafted(boxes: list[list[int]], scores: list[float], labels: list[int]) -> Predicted:
    """Sure of one class each, with the given probability of an object."""
    classes = torch.full((len(boxes), 80), -40.0)
    classes[torch.arange(len(boxes)), torch.tensor(labels)] = 40.0
    return Predicted(torch.tensor(scores).logit(), classes, torch.tensor(boxes).float())


def cells_of(width: int, height: int, scale: float) -> Cells:
    own = grid((128, 128), torch.device("cpu"))
    rows = torch.zeros(len(own.anchors), 128)
    return Cells(rows, own.anchors, own.levels, (width, height), scale)


def test_found_suppresses_within_a_class_and_returns_to_the_picture() -> None:
    predicted = crafted(
        [
            [10, 10, 50, 50],  # kept
            [11, 10, 51, 50],  # the same again
            [11, 10, 51, 50],  # the same place, another class
            [-20, -20, 200, 20],  # reaches past the picture
            [10, 70, 50, 90],  # below the picture: in the grey
            [60, 10, 90, 40],  # not sure enough
        ],
        [0.9, 0.8, 0.7, 0.6, 0.9, 0.2],
        [0, 0, 1, 2, 3, 4],
    )
    found, rows = host().found(predicted, cells_of(256, 128, 0.5), threshold=0.3)
    assert rows.tolist() == [0, 2, 3]
    assert found.labels.tolist() == [0, 1, 2]
    assert found.scores == pytest.approx([0.9, 0.7, 0.6], abs=1e-5)
    assert found.boxes.tolist() == [[20, 20, 100, 100], [22, 20, 102, 100], [0, 0, 256, 40]]
    none, rows = host().found(predicted, cells_of(256, 128, 0.5), threshold=0.95)
    assert len(none) == len(rows) == 0


def test_an_absurd_box_changes_nothing_for_other_classes() -> None:
    pair = [[10, 10, 50, 50], [17, 10, 57, 50]]  # overlap by 0.702
    apart = [[10, 10, 50, 50], [19, 10, 59, 50]]  # by 0.633
    absurd = [-90000, -90000, 90000, 90000]
    for two, remain in ((pair, [0]), (apart, [0, 1])):
        predicted = crafted([*two, absurd], [0.9, 0.8, 0.5], [79, 79, 0])
        _, rows = host().found(predicted, cells_of(128, 128, 1.0), threshold=0.1)
        assert rows.tolist() == [*remain, 2]


def test_found_is_bounded_sorted_and_in_the_picture() -> None:
    cells = host().describe([picture(200, 120)])[0]
    predicted = host().predict(cells.rows, cells)
    found, rows = host().found(predicted, cells, threshold=0.0)
    assert 0 < len(found) <= MOST
    assert (np.diff(found.scores) <= 0).all()
    assert (found.boxes[:, :2] >= 0).all()
    assert (found.boxes[:, 2:] <= [200, 120]).all()
    assert (found.boxes[:, :2] < found.boxes[:, 2:]).all()
    best, label = predicted.scores[rows].max(1)
    assert best.tolist() == found.scores.tolist()
    assert label.tolist() == found.labels.tolist()


@pytest.mark.parametrize("side", [63, 100, 32, 8192, -32])
def test_other_sides_are_refused(side: int) -> None:
    with pytest.raises(UsageError, match="multiple of 32"):
        Yolox(from_state(official(NANO)), COCO, "cpu", side)


def test_sides_and_names_fit_the_size() -> None:
    assert Yolox(from_state(official(NANO)), COCO, "cpu").side == 416
    small = from_state(official(Plan(8, 1, False, 3)))
    assert Yolox(small, "abc", "cpu").side == 640
    with pytest.raises(UsageError, match="2 names for the 3 classes"):
        Yolox(small, "ab", "cpu")


def test_other_weights_have_another_digest() -> None:
    again = Yolox(from_state(official(NANO)), COCO, "cpu")
    other = Yolox(from_state(official(NANO, seed=1)), COCO, "cpu")
    assert again.digest == host().digest != other.digest


# Real weights, against OpenCV's own run of the same graph


@cache
def real() -> Yolox:
    return Yolox(load(shared_data(ONNX)), COCO, "cpu")


def test_an_exported_graph_computes_the_same_here() -> None:
    image = cv2.imread(str(shared_data(PICTURE)))[..., ::-1].copy()
    cells = real().describe([image])[0]
    predicted = real().predict(cells.rows, cells)
    pixels = boxed(image, letterbox((image.shape[1], image.shape[0]), 416))[..., ::-1]
    graph = cv2.dnn.readNetFromONNX(str(shared_data(ONNX)))
    graph.setInput(np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], np.float32))
    raw = graph.forward()[0]
    assert np.abs(predicted.objectness.sigmoid().numpy() - raw[:, 4]).max() < 1e-3
    assert np.abs(predicted.classes.sigmoid().numpy() - raw[:, 5:]).max() < 1e-3
    stride = (cells.anchors[:, 2] - cells.anchors[:, 0]).numpy()[:, None]
    centre = raw[:, :2] * stride + cells.anchors[:, :2].numpy()
    size = np.exp(raw[:, 2:4]) * stride
    boxes = np.concatenate((centre - size / 2, centre + size / 2), 1)
    assert np.abs(predicted.boxes.numpy() - boxes).max() < 1e-2

    scores = raw[:, 4:5] * raw[:, 5:]
    best, label = scores.max(1), scores.argmax(1)
    xywh = np.concatenate((centre - size / 2, size), 1)
    kept = cv2.dnn.NMSBoxesBatched(xywh.tolist(), best.tolist(), label.tolist(), 0.05, IOU)
    found, rows = real().found(predicted, cells, threshold=0.05)
    assert len(found) > 3
    assert sorted(rows.tolist()) == sorted(int(k) for k in kept)
    assert "car" in [real().names[k] for k in found.labels[:1]]


def test_a_real_car_is_found_where_it_is() -> None:
    image = cv2.imread(str(shared_data(PICTURE)))[..., ::-1].copy()
    mask = cv2.imread(str(shared_data(PICTURE.replace("JPEGImages", "Annotations")[:-3] + "png")))
    y, x = np.nonzero(mask.any(2))
    truth = np.array([x.min(), y.min(), x.max() + 1, y.max() + 1], np.float32)
    cells = real().describe([image])[0]
    found, _ = real().found(real().predict(cells.rows, cells), cells, threshold=0.3)
    cars = found.boxes[found.labels == COCO.index("car")]
    assert np.abs(cars - truth).max(1).min() < 12  # pixels of 854 x 480
