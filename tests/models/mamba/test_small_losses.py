"""Which cells of the small detector learn from which object, and what is lost by being wrong."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import box_iou, generalized_box_iou

from retain.models.mamba.small.assign import Assignment, assign, overlap
from retain.models.mamba.small.losses import Target, giou, loss
from retain.models.mamba.small.network import Decisions, decode, grid

SQUARES, LEVELS = grid(64, 96)
NOTHING = torch.zeros(0, 4)


def random_boxes(rng: np.random.Generator, n: int) -> Tensor:
    """Inside 96x64, sides from 6."""
    corner = rng.uniform(0, [90, 58], (n, 2))
    side = rng.uniform(6, 40, (n, 2))
    far = np.minimum(corner + side, [96, 64])
    return torch.from_numpy(np.concatenate([corner, far], 1).astype(np.float32))


def assigned(boxes: Tensor, truth: Tensor, labels: Tensor, ignored: Tensor = NOTHING) -> Assignment:
    n = len(SQUARES)
    return assign(boxes, torch.zeros(n, 3), torch.zeros(n), SQUARES, truth, labels, ignored)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), objects=st.integers(1, 6))
def test_every_cell_has_one_object_and_near_it(seed: int, objects: int) -> None:
    rng = np.random.default_rng(seed)
    truth = random_boxes(rng, objects)
    labels = torch.from_numpy(rng.integers(0, 3, objects))
    boxes = random_boxes(rng, len(SQUARES))
    found = assigned(boxes, truth, labels)
    assert len(found.cells) > 0
    assert (found.cells.diff() > 0).all()
    own = truth[found.objects]
    expected = box_iou(own, boxes[found.cells]).diagonal()
    torch.testing.assert_close(found.overlaps, expected, atol=1e-5, rtol=0)
    middle = (SQUARES[found.cells, :2] + SQUARES[found.cells, 2:]) / 2
    stride = (SQUARES[:, 2] - SQUARES[:, 0])[found.cells, None]
    near = ((middle - (own[:, :2] + own[:, 2:]) / 2).abs() < 2.5 * stride).all(1)
    inside = ((middle > own[:, :2]) & (middle < own[:, 2:])).all(1)
    assert (near | inside).all()
    assert not found.spared.any()


def test_cells_that_fit_best_are_taken() -> None:
    """An object takes as many cells as its overlaps add up to: here three perfect ones."""
    truth = torch.tensor([[16.0, 16, 48, 48]])
    boxes = torch.zeros(len(SQUARES), 4)
    middle = (SQUARES[:, :2] + SQUARES[:, 2:]) / 2
    inside = ((middle > 16) & (middle < 48)).all(1) & (LEVELS == 0)
    chosen = inside.nonzero()[[1, 4, 6], 0]
    boxes[chosen] = truth[0]
    found = assigned(boxes, truth, torch.tensor([1]))
    assert found.cells.tolist() == chosen.tolist()
    torch.testing.assert_close(found.overlaps, torch.ones(3))


def test_a_cell_two_objects_want_goes_to_the_one_of_its_class() -> None:
    truth = torch.tensor([[16.0, 16, 48, 48], [16.0, 16, 48, 48]])
    boxes = truth[:1].repeat(len(SQUARES), 1)
    classes = torch.full((len(SQUARES), 3), -5.0)
    left = SQUARES[:, 0] < 32
    classes[left, 0], classes[~left, 2] = 5.0, 5.0
    found = assign(
        boxes, classes, torch.zeros(len(SQUARES)), SQUARES, truth, torch.tensor([0, 2]), NOTHING
    )
    assert set(found.objects.tolist()) == {0, 1}
    assert torch.equal(found.objects == 0, left[found.cells])


def test_regions_that_do_not_count_are_spared() -> None:
    ignored = torch.tensor([[0.0, 0, 32, 64]])
    truth = torch.tensor([[20.0, 20, 44, 44]])
    middle = (SQUARES[:, 0] + SQUARES[:, 2]) / 2
    empty = assigned(torch.zeros(len(SQUARES), 4), NOTHING, torch.tensor([]).long(), ignored)
    assert len(empty.cells) == 0
    assert torch.equal(empty.spared, middle < 32)
    found = assigned(truth.repeat(len(SQUARES), 1), truth, torch.tensor([0]), ignored)
    taken = torch.zeros(len(SQUARES), dtype=torch.bool)
    taken[found.cells] = True
    assert (taken & (middle < 32)).any()
    assert torch.equal(found.spared, (middle < 32) & ~taken)


def test_overlaps_are_those_of_torchvision() -> None:
    rng = np.random.default_rng(0)
    a, b = random_boxes(rng, 40), random_boxes(rng, 40)
    torch.testing.assert_close(overlap(a, b), box_iou(a, b))
    torch.testing.assert_close(giou(a, b), generalized_box_iou(a, b).diagonal())
    flat = torch.tensor([[3.0, 3, 3, 9]])
    assert overlap(flat, flat).item() == 0


def decisions(target: Target, sure: float = 8.0) -> Decisions:
    """Every cell inside an object says just that, all others nothing."""
    n = len(SQUARES)
    classes, objectness = torch.full((1, n, 3), -sure), torch.full((1, n), -sure)
    places = torch.zeros(1, n, 4)
    stride = SQUARES[:, 2] - SQUARES[:, 0]
    middle = (SQUARES[:, :2] + SQUARES[:, 2:]) / 2
    for box, label in zip(target.boxes, target.labels, strict=True):
        inside = ((middle > box[:2]) & (middle < box[2:])).all(1) & (LEVELS == 1)
        objectness[0, inside], classes[0, inside, label] = sure, sure
        way = ((box[:2] + box[2:]) / 2 - middle) / stride[:, None]
        places[0, inside] = torch.cat(
            [way, ((box[2:] - box[:2]) / stride[:, None]).log()], 1
        )[inside]  # fmt: skip
    return Decisions(classes, objectness, places)


def test_the_right_answer_costs_next_to_nothing() -> None:
    target = Target(torch.tensor([[17.0, 18, 47, 46]]), torch.tensor([1]), NOTHING)
    right = decisions(target)
    boxes = decode(right.places, SQUARES)[0][right.objectness[0] > 0]
    torch.testing.assert_close(boxes, target.boxes.repeat(len(boxes), 1))
    good = loss(right, SQUARES, [target])
    assert good < 0.05
    moved = Target(target.boxes + 8, target.labels, NOTHING)
    other = Target(target.boxes, target.labels + 1, NOTHING)
    assert all(loss(right, SQUARES, [wrong]) > good + 1 for wrong in (moved, other))


def test_what_is_found_in_an_ignored_region_costs_nothing() -> None:
    there = torch.tensor([[17.0, 18, 47, 46]])
    says = decisions(Target(there, torch.tensor([1]), NOTHING))
    nobody = torch.tensor([]).long()
    punished = loss(says, SQUARES, [Target(NOTHING, nobody, NOTHING)])
    spared = loss(says, SQUARES, [Target(NOTHING, nobody, there)])
    assert punished > 10
    assert spared < 0.1
