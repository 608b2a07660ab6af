"""The small detector as a host: laws that hold for any weights, and what the shipped ones find."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retain.datasets.detect.objects import ObjectVideo
from retain.datasets.detect.objects_kinds import NAMES
from retain.models.mamba.host import Cells, Host, Predicted
from retain.models.mamba.hosts.small import IOU, SmallDetector
from retain.models.mamba.small import weights
from retain.models.mamba.small.assign import overlap
from retain.models.mamba.small.data import HELD_OUT
from retain.models.mamba.small.evaluate import score
from retain.models.mamba.small.network import Network
from retain.pipeline.frame import Image


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@cache
def of_chance() -> SmallDetector:
    """Of random weights."""
    torch.manual_seed(3)
    return SmallDetector(weights.folded(Network(len(NAMES))), NAMES)


@pytest.fixture
def host() -> SmallDetector:
    return of_chance()


@pytest.fixture(scope="module")
def shipped() -> SmallDetector:
    return SmallDetector.load("small", "cpu")


def picture(height: int, width: int, seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def same(a: Predicted, b: Predicted) -> bool:
    pairs = ((a.objectness, b.objectness), (a.classes, b.classes), (a.boxes, b.boxes))
    return all(torch.equal(x, y) for x, y in pairs)


def test_it_is_a_host(host: SmallDetector) -> None:
    known: Host = host
    assert known.names == NAMES
    assert (known.channels, known.side) == (128, 320)


@settings(max_examples=6, deadline=None)
@given(height=st.integers(1, 400), width=st.integers(1, 400))
def test_cells_cover_a_picture_of_any_size(height: int, width: int) -> None:
    host = of_chance()
    (cells,) = host.describe([picture(height, width)])
    assert cells.size == (width, height)
    assert cells.scale == 320 / max(height, width)
    assert cells.rows.shape == (len(cells.anchors), host.channels) == (len(cells.levels), 128)
    assert cells.rows.dtype == torch.float32
    sides = cells.anchors[:, 2:] - cells.anchors[:, :2]
    assert torch.equal(sides, (8 * 2**cells.levels)[:, None].expand(-1, 2).float())
    inner = torch.tensor([round(width * cells.scale), round(height * cells.scale)]).clamp(min=1)
    for level in range(3):
        own = cells.anchors[cells.levels == level]
        covered = own[:, 2:].max(0).values
        assert (covered >= inner).all()
        assert (covered - inner < 8 * 2**level).all()


def test_a_box_beyond_the_edge_suppresses_none_of_another_class(host: SmallDetector) -> None:
    cells = host.describe([picture(240, 320)])[0]
    # Classes that are set apart by the largest coordinate would bring the second onto the first.
    boxes = torch.tensor([[0.0, 0, 0, 0]] * len(cells.rows))
    boxes[:2] = torch.tensor([[51.0, 51, 100, 100], [-50, -50, 9, 9]])
    classes = torch.full((len(boxes), len(NAMES)), -20.0)
    classes[0, 0], classes[1, 1] = 2.0, 3.0
    predicted = Predicted(torch.full((len(boxes),), 5.0), classes, boxes)
    found, rows = host.found(predicted, cells)
    assert rows.tolist() == [1, 0]
    assert found.labels.tolist() == [1, 0]


def test_a_picture_s_numbers_do_not_depend_on_its_company(host: SmallDetector) -> None:
    one, two = picture(240, 320), picture(100, 180, 1)
    (alone,) = host.describe([one])
    for cells in (host.describe([two, one])[1], host.describe([one, one, two])[0]):
        assert torch.equal(alone.rows, cells.rows)
        assert same(host.predict(alone.rows, alone), host.predict(cells.rows, cells))


def test_rows_handed_back_change_no_bit(host: SmallDetector) -> None:
    (cells,) = host.describe([picture(240, 320)])
    whole = host.predict(cells.rows, cells)
    for which in (torch.tensor([5]), torch.arange(1579, 0, -7), torch.tensor([], dtype=torch.long)):
        part = host.predict(cells.rows[which], cells, which)
        there = Predicted(whole.objectness[which], whole.classes[which], whole.boxes[which])
        assert same(part, there)


def test_other_rows_change_their_own_boxes_alone(host: SmallDetector) -> None:
    (cells,) = host.describe([picture(240, 320)])
    which = torch.tensor([7, 1300])
    part = host.predict(cells.rows[which] + 1, cells, which)
    assert not torch.equal(part.classes, host.predict(cells.rows, cells).classes[which])
    rows = cells.rows.clone()
    rows[which] += 1
    assert same(part, host.predict(rows[which], cells, which))


def test_gradients_reach_rows_and_not_the_host(host: SmallDetector) -> None:
    (cells,) = host.describe([picture(240, 320)])
    assert not cells.rows.requires_grad
    which = torch.tensor([3, 4, 1500])
    rows = cells.rows[which].clone().requires_grad_()
    out = host.predict(rows, cells, which)
    (out.scores.sum() + out.boxes.sum()).backward()  # type: ignore[no-untyped-call]
    assert rows.grad is not None
    assert (rows.grad.abs().sum(1) > 0).all()
    assert all(p.grad is None for p in host.network.parameters())


def test_wild_rows_give_finite_boxes(host: SmallDetector) -> None:
    (cells,) = host.describe([picture(240, 320)])
    out = host.predict(cells.rows * 1e6, cells)
    assert torch.isfinite(out.boxes).all()
    host.found(out, cells)


def decided(boxes: list[list[float]], scores: list[float], labels: list[int]) -> Predicted:
    classes = torch.full((len(boxes), 3), -20.0)
    classes[range(len(boxes)), labels] = 20.0
    return Predicted(torch.logit(torch.tensor(scores)), classes, torch.tensor(boxes).reshape(-1, 4))


def cells_of(n: int, scale: float) -> Cells:
    levels = torch.zeros(n, dtype=torch.int64)
    return Cells(torch.zeros(n, 128), torch.zeros(n, 4), levels, (100, 60), scale)


def test_duplicates_go_and_boxes_are_in_the_picture_s_pixels(host: SmallDetector) -> None:
    boxes = [
        [0.0, 0.0, 20.0, 20.0],
        [1.0, 0.0, 21.0, 20.0],  # the same thing again
        [1.0, 0.0, 21.0, 20.0],  # something else at that place
        [180.0, -8.0, 220.0, 40.0],  # leaves the picture
        [300.0, 0.0, 320.0, 20.0],  # beside it
        [40.0, 40.0, 60.0, 60.0],  # nobody believes it
    ]
    predicted = decided(boxes, [0.5, 0.9, 0.6, 0.7, 0.8, 0.005], [0, 0, 1, 2, 0, 0])
    found, rows = host.found(predicted, cells_of(6, 2.0))
    assert rows.tolist() == [1, 3, 2]
    assert found.labels.tolist() == [0, 2, 1]
    assert found.scores.tolist() == pytest.approx([0.9, 0.7, 0.6], abs=1e-6)
    assert found.boxes.tolist() == [[0.5, 0, 10.5, 10], [90, 0, 100, 20], [0.5, 0, 10.5, 10]]
    less, _ = host.found(predicted, cells_of(6, 2.0), threshold=0.65)
    assert len(less) == 2
    none, no_rows = host.found(decided([], [], []), cells_of(0, 2.0))
    assert len(none) == len(no_rows) == 0


def test_no_two_boxes_of_a_class_are_the_same(shipped: SmallDetector) -> None:
    sample = ObjectVideo(HELD_OUT + 3)[10]
    (cells,) = shipped.describe([sample.image])
    predicted = shipped.predict(cells.rows, cells)
    found, rows = shipped.found(predicted, cells, 0.001)
    assert len(found) > 5
    assert (np.diff(found.scores) <= 0).all()
    boxes = torch.from_numpy(found.boxes)
    alike = torch.from_numpy(found.labels[:, None] == found.labels[None])
    iou = overlap(predicted.boxes[rows], predicted.boxes[rows]).fill_diagonal_(0)
    assert (iou[alike] <= IOU).all()
    inside = torch.minimum(predicted.boxes[rows].clamp(min=0), torch.tensor([320.0, 240, 320, 240]))
    assert torch.equal(boxes, inside)


def test_shipped_weights_find_objects_they_have_not_seen(shipped: SmallDetector) -> None:
    report = score(shipped, "clean", 3)
    assert report.whole.boxes > 50
    assert report.whole.ap50 > 0.7


def test_a_picture_twice_as_large_has_boxes_twice_as_large(shipped: SmallDetector) -> None:
    image = ObjectVideo(HELD_OUT + 3)[10].image
    large = np.repeat(np.repeat(image, 2, 0), 2, 1)
    small_cells, large_cells = shipped.describe([image, large])
    (one, _), (two, _) = (
        shipped.found(shipped.predict(cells.rows, cells), cells, 0.3)
        for cells in (small_cells, large_cells)
    )
    assert len(one) > 0
    np.testing.assert_allclose(two.boxes, 2 * one.boxes, atol=0.01)


def test_shipped_weights_are_small_and_named_by_their_numbers(shipped: SmallDetector) -> None:
    assert weights.SHIPPED["small"].stat().st_size < 8_000_000
    again = SmallDetector.load(weights.SHIPPED["small"], "cpu")
    assert shipped.names == again.names == NAMES
    assert shipped.digest == again.digest
    network, _, _ = weights.load("small")
    with torch.no_grad():
        network.to_kind.bias[0] += 1
    assert SmallDetector(network, NAMES).digest != shipped.digest
