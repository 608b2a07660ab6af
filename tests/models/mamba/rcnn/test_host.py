"""Faster R-CNN cut in two is still torchvision's Faster R-CNN."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rcnn_parts import NAMES, clip, same, tiny_base

from retain.models.mamba.host import Host, Predicted
from retain.models.mamba.rcnn.host import RCNNHost, decisions
from retain.models.mamba.rcnn.network import as_tensor
from retain.pipeline.errors import UsageError


def host() -> RCNNHost:
    return RCNNHost(tiny_base(), NAMES)


def test_it_finds_what_torchvision_finds() -> None:
    base, own = tiny_base(), host()
    as_host: Host = own
    for k in (0, 4):
        image = clip()[k].image[:90]
        with torch.no_grad():
            wanted = base([as_tensor(image, torch.device("cpu"))])[0]
        cells = as_host.describe([image])[0]
        found, rows = as_host.found(as_host.predict(cells.rows, cells), cells, 0.05)
        assert len(found) > 5
        np.testing.assert_allclose(found.scores, wanted["scores"].numpy(), rtol=2e-5)
        np.testing.assert_allclose(found.boxes, wanted["boxes"].numpy(), rtol=1e-5, atol=1e-4)
        np.testing.assert_array_equal(found.labels, wanted["labels"].numpy() - 1)
        scores = own.predict(cells.rows, cells).scores
        torch.testing.assert_close(
            scores[rows, torch.from_numpy(found.labels)], torch.from_numpy(found.scores)
        )


@given(st.lists(st.floats(-60, 60, width=32), min_size=2, max_size=6))
def test_scores_are_the_softmax(values: list[float]) -> None:
    logits = torch.tensor([values], requires_grad=True)
    objectness, classes = decisions(logits)
    scores = Predicted(objectness, classes, torch.zeros(1, 4)).scores
    torch.testing.assert_close(scores, logits.softmax(-1)[:, 1:], rtol=2e-4, atol=2e-6)
    assert classes.isfinite().all()
    assert torch.equal(objectness, logits[:, 1:].amax(1) - logits[:, 0])
    (scores.sum() + classes.sum()).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("size", [(96, 128), (75, 128), (128, 41), (333, 500), (97, 97)])
def test_pixels_of_the_input_and_of_the_picture(size: tuple[int, int]) -> None:
    own = host()
    image = np.zeros((*size, 3), np.uint8)
    batch, _ = own._base.transform([as_tensor(image, torch.device("cpu"))])
    assert own._inner((size[1], size[0])) == tuple(batch.image_sizes[0])
    cells = own.describe([image])[0]
    assert cells.size == (size[1], size[0])
    assert cells.scale * size[1] == pytest.approx(batch.image_sizes[0][1])
    assert float(cells.anchors.max()) <= max(batch.image_sizes[0])


def test_pictures_do_not_disturb_each_other() -> None:
    own = host()
    images = [clip()[0].image, clip()[3].image[:60]]
    together = own.describe(images)
    for image, cells in zip(images, together, strict=True):
        alone = own.describe([image])[0]
        assert torch.equal(alone.rows, cells.rows)
        assert torch.equal(alone.anchors, cells.anchors)
        assert cells.rows.shape == (len(cells.anchors), own.channels)
        assert set(cells.levels.tolist()) <= {0, 1}


def test_some_rows_are_decided_as_all_are() -> None:
    own = host()
    cells = own.describe([clip()[0].image])[0]
    which = torch.tensor([3, 0, 17])
    some, whole = own.predict(cells.rows[which], cells, which), own.predict(cells.rows, cells)
    torch.testing.assert_close(some.each, whole.each[which])
    torch.testing.assert_close(some.classes, whole.classes[which])
    torch.testing.assert_close(some.boxes, whole.boxes[which])


def test_gradients_reach_the_rows_and_not_the_host() -> None:
    own = host()
    cells = own.describe([clip()[0].image])[0]
    assert not cells.rows.requires_grad
    rows = cells.rows.clone().requires_grad_()
    out = own.predict(rows, cells)
    (out.objectness.sum() + out.classes.sum() + out.boxes.sum()).backward()
    assert rows.grad is not None
    assert (rows.grad != 0).any(1).all()
    assert all(p.grad is None for p in own._base.parameters())


def test_decisions_of_others_get_the_best_box() -> None:
    own = host()
    cells = own.describe([clip()[0].image])[0]
    out = own.predict(cells.rows, cells)
    bare = Predicted(out.objectness, out.classes, out.boxes)
    (one, _), (two, _) = own.found(bare, cells, 0.3), own.found(out, cells, 0.3)
    assert len(one)
    assert one.scores[0] == two.scores[0]
    assert same([own.found(bare, cells, 2.0)[0]], [own.found(out, cells, 2.0)[0]])


def test_a_digest_is_of_the_weights() -> None:
    assert host().digest == host().digest
    assert host().digest != RCNNHost(tiny_base(seed=1), NAMES).digest
    with pytest.raises(UsageError, match="the list has 3"):
        RCNNHost(tiny_base(), NAMES[:3])
