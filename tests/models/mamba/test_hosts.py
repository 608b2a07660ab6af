"""What every host owes those who read a memory between its halves (models/mamba/host.py)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
from rcnn_parts import NAMES as RCNN_NAMES
from rcnn_parts import tiny_base
from yolox_parts import NANO, official

from retain.datasets.detect.objects import NAMES, ObjectVideo
from retain.models.mamba.host import Cells, Host
from retain.models.mamba.hosts.names import COCO
from retain.models.mamba.hosts.small import SmallDetector
from retain.models.mamba.hosts.yolox import Yolox
from retain.models.mamba.hosts.yolox_weights import from_state
from retain.models.mamba.rcnn.host import RCNNHost
from retain.models.mamba.small.network import Network
from retain.models.mamba.small.weights import folded
from retain.pipeline.frame import Image


def small() -> Host:
    torch.manual_seed(3)
    return SmallDetector(folded(Network(len(NAMES))), NAMES)


HOSTS: dict[str, Callable[[], Host]] = {
    "yolox": lambda: Yolox(from_state(official(NANO)), COCO, "cpu", 192),
    "small": small,
    "rcnn": lambda: RCNNHost(tiny_base(), RCNN_NAMES),
}


@cache
def made(name: str) -> Host:
    return HOSTS[name]()


@cache
def pictures() -> list[Image]:
    video = ObjectVideo(0)
    return [video[0].image[:90], video[5].image, video[0].image]


@pytest.fixture(params=list(HOSTS))
def host(request: pytest.FixtureRequest) -> Host:
    torch.set_num_threads(1)
    return made(request.param)


def described(host: Host) -> Cells:
    return host.describe(pictures()[:1])[0]


def same(one: Cells, two: Cells) -> bool:
    pairs = ((one.rows, two.rows), (one.anchors, two.anchors), (one.levels, two.levels))
    return all(torch.equal(a, b) for a, b in pairs) and one.size == two.size


def test_cells_are_of_the_declared_shapes(host: Host) -> None:
    for image, cells in zip(pictures(), host.describe(pictures()), strict=True):
        n = len(cells.rows)
        assert cells.rows.shape == (n, host.channels)
        assert (cells.rows.dtype, cells.anchors.dtype) == (torch.float32, torch.float32)
        assert cells.anchors.shape == (n, 4)
        assert (cells.anchors[:, :2] <= cells.anchors[:, 2:]).all()
        assert cells.levels.shape == (n,)
        assert cells.levels.dtype == torch.int64
        assert cells.size == (image.shape[1], image.shape[0])
        assert not cells.rows.requires_grad
        assert not cells.rows.is_inference()  # those cannot be trained on
        predicted = host.predict(cells.rows, cells)
        assert predicted.scores.shape == (n, len(host.names))
        assert predicted.boxes.shape == (n, 4)


def test_a_picture_is_the_same_bits_alone_in_company_and_again(host: Host) -> None:
    together = host.describe(pictures())
    for image, cells in zip(pictures(), together, strict=True):
        assert same(host.describe([image])[0], cells)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 10])
def test_a_decision_is_the_same_bits_whichever_others_are_asked(host: Host, count: int) -> None:
    cells = described(host)
    order = torch.randperm(len(cells.rows), generator=torch.Generator().manual_seed(count))
    which = order[:count]
    whole = host.predict(cells.rows, cells)
    part = host.predict(cells.rows[which], cells, which)
    for name in ("objectness", "classes", "boxes"):
        assert torch.equal(getattr(part, name), getattr(whole, name)[which]), name


def test_other_rows_decide_for_themselves_alone(host: Host) -> None:
    cells = described(host)
    rows = cells.rows.clone()
    rows[4] = rows[9]
    before, after = host.predict(cells.rows, cells), host.predict(rows, cells)
    others = torch.arange(len(rows)) != 4
    assert torch.equal(before.classes[others], after.classes[others])
    assert not torch.equal(before.classes[4], after.classes[4])


def test_gradients_reach_the_rows_and_leave_the_cells_alone(host: Host) -> None:
    cells = described(host)
    kept = cells.rows.clone()
    which = torch.tensor([3, 7, 4])
    rows = cells.rows[which].clone().requires_grad_()
    predicted = host.predict(rows, cells, which)
    for value in (predicted.objectness, predicted.classes.sigmoid()):
        grad = torch.autograd.grad(value.sum(), rows, retain_graph=True)[0]
        assert grad.isfinite().all()
        assert grad.any()
    assert torch.equal(cells.rows, kept)


def test_what_is_found_is_best_first_in_the_picture_and_knows_its_row(host: Host) -> None:
    cells = described(host)
    predicted = host.predict(cells.rows, cells)
    scores = predicted.scores
    level = float(scores.max()) / 2
    found, rows = host.found(predicted, cells, level)
    assert 0 < len(found) <= 100
    assert rows.shape == (len(found),)
    assert rows.dtype == torch.int64
    assert (np.diff(found.scores) <= 0).all()
    assert (found.scores >= level).all()
    width, height = cells.size
    assert (found.boxes >= 0).all()
    assert (found.boxes[:, 2:] <= np.array([width, height]) + 1e-3).all()
    own = scores[rows, torch.from_numpy(found.labels)]
    np.testing.assert_array_equal(own.numpy(), found.scores)
    again, same_rows = host.found(predicted, cells, level)
    np.testing.assert_array_equal(again.boxes, found.boxes)
    assert torch.equal(rows, same_rows)


def test_nothing_is_found_above_all_scores(host: Host) -> None:
    cells = described(host)
    found, rows = host.found(host.predict(cells.rows, cells), cells, 1.5)
    assert len(found) == len(rows) == 0


@pytest.mark.parametrize("name", list(HOSTS))
def test_the_digest_is_that_of_the_weights(name: str) -> None:
    assert HOSTS[name]().digest == made(name).digest
    assert len({made(other).digest for other in HOSTS}) == len(HOSTS)
