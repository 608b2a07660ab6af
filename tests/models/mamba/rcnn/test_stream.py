"""A stream's memory of a Faster R-CNN: bounded, saved and restored, apart from its neighbours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rcnn_parts import clip, same, tiny_model
from torch import Tensor

from retain.datasets.detect.base import Found
from retain.kernels.bank_read import reference
from retain.kernels.bank_read.reference import Form
from retain.memory.bank.cells import CellRule
from retain.memory.bank.rows import BankQuery
from retain.models.mamba.rcnn.levels import remembered
from retain.models.mamba.rcnn.network import PIXEL, MambaRCNN
from retain.models.mamba.rcnn.stream import RcnnMemory, RcnnMemoryConfig
from retain.pipeline.errors import StateError, UsageError

SMALL = RcnnMemoryConfig(capacity=60, key_set=30, proposals=10, warm=2, cells=CellRule(0.3, 20, 60))


def memory(model: MambaRCNN, stream: str = "s", config: RcnnMemoryConfig = SMALL) -> RcnnMemory:
    return RcnnMemory(model, stream, config)


def looked(own: RcnnMemory, frames: range, seed: int = 3) -> list[Found]:
    video = clip(12, seed)
    return [own.look(video[i].image, i, i / 25) for i in frames]


def columns(own: RcnnMemory, place: str) -> dict[str, np.ndarray]:
    return own.hub[place].read(own.stream, BankQuery(count=10_000)).columns


def test_first_frames_are_plain_and_later_ones_read() -> None:
    model = tiny_model()
    found, alone = looked(memory(model), range(4)), [model.detect(s.image).found for s in clip(4)]
    assert same(found[:2], alone[:2])
    assert not same(found[2:3], alone[2:3])
    assert not same(found[3:], alone[3:])


class Oracle:
    """A Read of raw rows of earlier frames, by the definition; keeps those of this frame."""

    def __init__(self, model: MambaRCNN, held: dict[tuple[str, int], list[Tensor]]) -> None:
        self.model, self.held, self.rows = model, held, dict[str, Tensor]()

    def __call__(self, place: str, query: Tensor, level: int = 0) -> Tensor:
        layer, rows = self.model.layer(place), self.held.get((place, level), [])
        out = query
        if rows:
            out = reference.enhance(query, torch.cat(rows), layer.weights, layer.heads, layer.form)
        self.rows[place] = out
        return out


@pytest.mark.parametrize(
    ("head", "form"), [("two", "paper"), ("two", "released_2022"), ("conv", "paper")]
)
def test_a_stream_reads_as_the_definition_does(head: str, form: Form) -> None:
    model = tiny_model(head, form=form)
    config = RcnnMemoryConfig(capacity=2000, key_set=2000, proposals=10, warm=1)
    own, held = RcnnMemory(model, "s", config), dict[tuple[str, int], list[Tensor]]()
    for k, sample in enumerate(clip(4)):
        oracle = Oracle(model, held)
        seen = model.detect(sample.image, oracle)
        got = own.look(sample.image, k)
        np.testing.assert_allclose(got.boxes, seen.found.boxes, rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(got.scores, seen.found.scores, rtol=1e-4, atol=1e-5)
        for place in model.instance_places:
            held.setdefault((place, 0), []).append(oracle.rows[place][:10])
        cells = remembered(seen, model.levels, config.cells, config.seed, k)
        for level in (0, 1):
            rows = cells.rows[torch.from_numpy(cells.levels == level)]
            held.setdefault((PIXEL, level), []).append(rows)
        assert all(len(torch.cat(rows)) for rows in held.values())


def test_an_empty_bank_changes_nothing() -> None:
    model, own = tiny_model(), memory(tiny_model())
    video = clip()
    assert same([own.look(video[0].image, 0, read=True)], [model.detect(video[0].image).found])
    assert not any(columns(own, place)["enhanced"].any() for place in model.geo)


@pytest.mark.parametrize("cut", [1, 3, 7])
def test_a_restored_stream_goes_on_bit_for_bit(tmp_path: Path, cut: int) -> None:
    model = tiny_model()
    whole = looked(memory(model), range(10))
    first = memory(model)
    looked(first, range(cut))
    first.save(tmp_path / "state")
    later = memory(model)
    assert later.load(tmp_path / "state") == cut - 1
    assert same(looked(later, range(cut, 10)), whole[cut:])


def test_other_weights_do_not_take_a_state(tmp_path: Path) -> None:
    one = memory(tiny_model(seed=1))
    looked(one, range(3))
    one.save(tmp_path / "state")
    with pytest.raises(StateError):
        memory(tiny_model(seed=2)).load(tmp_path / "state")


def test_bytes_never_change_and_stay_in_the_budget() -> None:
    own = memory(tiny_model())
    before = own.nbytes
    sizes = [(looked(own, range(i, i + 1)), own.nbytes)[1] for i in range(10)]
    assert set(sizes) == {before}
    assert before <= own.hub.budget_bytes
    assert all(len(columns(own, place)["frame"]) <= 60 for place in own.model.geo)
    full = sum(own.hub[place].row_bytes * 60 for place in own.model.geo)
    assert before == full + 12


def test_a_smaller_budget_holds_after_a_reset_too() -> None:
    config = RcnnMemoryConfig(capacity=300, key_set=30, proposals=10, warm=1)
    whole = RcnnMemory(tiny_model(), "s", config).nbytes
    own = RcnnMemory(tiny_model(), "s", config, budget_bytes=whole // 2)
    held = own.nbytes
    assert held <= whole // 2
    looked(own, range(3))
    own.reset()
    looked(own, range(3))
    assert own.nbytes == held
    with pytest.raises(UsageError, match="need at least"):
        RcnnMemory(tiny_model(), "s", config, budget_bytes=1000)


def test_streams_do_not_mix_whatever_the_order() -> None:
    model = tiny_model()
    apart = [looked(memory(model, name), range(5), seed) for seed, name in ((3, "a"), (4, "b"))]
    a, b = memory(model, "a"), memory(model, "b")
    together = [(looked(b, range(i, i + 1), 4), looked(a, range(i, i + 1), 3)) for i in range(5)]
    assert same([pair[1][0] for pair in together], apart[0])
    assert same([pair[0][0] for pair in together], apart[1])


@pytest.mark.parametrize("how", ["discontinuity", "size"])
def test_a_memory_begins_anew(how: str) -> None:
    model = tiny_model()
    own, fresh = memory(model), memory(model)
    looked(own, range(4))
    video = clip(12, 7)
    images = [video[i].image for i in range(4)]
    if how == "size":
        images = [np.ascontiguousarray(image[:, :100]) for image in images]
    for i, image in enumerate(images):
        cut = how == "discontinuity" and i == 0
        one, two = own.look(image, 20 + i, discontinuity=cut), fresh.look(image, 20 + i)
        assert same([one], [two])
    assert columns(own, "fc6")["frame"].min() == 20


def doubled() -> np.ndarray:
    """A picture of twice the input's size: its pixels are not those of the input."""
    return np.ascontiguousarray(clip()[2].image.repeat(2, 0).repeat(2, 1))


def test_the_first_proposals_are_written_in_the_order_of_the_rpn() -> None:
    model, own = tiny_model(), memory(tiny_model())
    seen = model.detect(doubled())
    own.look(doubled(), 4, 0.5)
    for place in ("fc6", "fc7"):
        held = columns(own, place)
        np.testing.assert_array_equal(held["box"], 2 * seen.proposals[:10].numpy())
        np.testing.assert_allclose(held["score"], seen.likely[:10].numpy())
        assert len(held["box"]) == 10
        assert set(held["frame"]) == {4}
        assert set(held["seconds"]) == {0.5}
        assert not held["enhanced"].any()


def test_cells_know_the_box_they_are_from() -> None:
    config = replace(SMALL, cells=CellRule(0.06, 20, 60))
    own = memory(tiny_model(), config=config)
    found = own.look(doubled(), 0)
    held = columns(own, PIXEL)
    known = {tuple(box): score for box, score in zip(found.boxes, found.scores, strict=True)}
    for box, score in zip(held["box"], held["score"], strict=True):
        assert known[tuple(box)] == pytest.approx(score)


def test_rows_say_whether_they_were_enhanced() -> None:
    own = memory(tiny_model())
    looked(own, range(4))
    for place in own.model.geo:
        held = columns(own, place)
        np.testing.assert_array_equal(held["enhanced"], held["frame"] >= 2)


def test_cells_lie_in_boxes_of_the_input_not_of_the_picture() -> None:
    model = tiny_model()
    seen = model.detect(doubled())
    assert seen.inner[0] * 2 == seen.original[0]
    cells = remembered(seen, model.levels, CellRule(0.06, 20, 60), 0, 0)
    assert (cells.of >= 0).all()
    assert set(cells.levels.tolist()) == {0, 1}
    for level, stride in ((0, 8), (1, 16)):
        here = cells.levels == level
        flat = seen.maps[model.levels[level]][0].flatten(1).T
        width = seen.maps[model.levels[level]].shape[-1]
        assert here.sum() <= 30
        for row, of in zip(cells.rows[torch.from_numpy(here)], cells.of[here], strict=True):
            at = int((flat == row).all(1).nonzero()[0])
            x, y = (at % width + 0.5) * stride, (at // width + 0.5) * stride
            x1, y1, x2, y2 = seen.boxes[of].tolist()
            # A box between the centres gives the one cell it lies in.
            assert x1 - stride / 2 <= x <= x2 + stride / 2
            assert y1 - stride / 2 <= y <= y2 + stride / 2


def test_frames_without_a_box_leave_the_bank_valid() -> None:
    model = tiny_model()
    model.roi_heads.score_thresh = 2.0
    own = memory(model)
    assert [len(found) for found in looked(own, range(4))] == [0] * 4
    held = columns(own, PIXEL)
    assert (held["score"] == 0).all()
    assert len(held["frame"]) == 60  # 50 of the largest norm a frame
    model.rpn.score_thresh = 2.0
    before = columns(own, "fc6")["frame"].copy()
    assert [len(found) for found in looked(own, range(4, 6))] == [0] * 2
    np.testing.assert_array_equal(columns(own, "fc6")["frame"], before)
    assert columns(own, PIXEL)["frame"].max() == 5
