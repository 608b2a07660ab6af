"""Which cells of a map a pixel-level bank takes."""

from __future__ import annotations

import numpy as np
import pytest

from retain.memory.bank.cells import CellRule, cells_in_boxes

NORMS = np.arange(12 * 20, dtype=np.float32).reshape(12, 20)
BOX = np.array([[32.0, 16.0, 96.0, 64.0]])
"""Cells 2 ... 5 by 1 ... 3 at stride 16."""


def places(cells: np.ndarray) -> set[tuple[int, int]]:
    return {(int(cell) % 20, int(cell) // 20) for cell in cells}


def test_cells_whose_centre_is_inside() -> None:
    cells, of = cells_in_boxes(BOX, np.array([0.9]), NORMS, 16)
    assert places(cells) == {(x, y) for x in range(2, 6) for y in range(1, 4)}
    assert set(of.tolist()) == {0}


def test_cells_touched_with_both_ends_included() -> None:
    rule = CellRule(min_score=0.8, inside="touched")
    cells, _ = cells_in_boxes(BOX, np.array([0.9]), NORMS, 16, rule=rule)
    assert places(cells) == {(x, y) for x in range(2, 7) for y in range(1, 5)}


@pytest.mark.parametrize("inside", ["centre", "touched"])
def test_a_box_smaller_than_a_cell_gives_the_one_of_its_centre(inside: str) -> None:
    box = np.array([[50.0, 50.0, 53.0, 54.0], [316.0, 188.0, 330.0, 200.0]])
    rule = CellRule(inside=inside)  # type: ignore[arg-type]
    cells, of = cells_in_boxes(box, np.array([0.5, 0.6]), NORMS, 16, rule=rule)
    assert places(cells) == {(3, 3), (19, 11)}
    assert of.tolist() == [1, 0]


def test_results_in_pixels_of_the_frame_need_the_scale() -> None:
    """Boxes of a 640x384 frame that the network saw at 320x192."""
    there, _ = cells_in_boxes(2 * BOX, np.array([0.9]), NORMS, 16, scale=(0.5, 0.5))
    assert places(there) == places(cells_in_boxes(BOX, np.array([0.9]), NORMS, 16)[0])
    with pytest.raises(ValueError, match="network's input"):
        cells_in_boxes(np.array([[400.0, 100.0, 500.0, 150.0]]), np.array([0.9]), NORMS, 16)
    with pytest.raises(ValueError, match="finite"):
        cells_in_boxes(BOX * np.nan, np.array([0.9]), NORMS, 16)


def test_limits_per_box_and_per_frame_go_to_the_best_boxes() -> None:
    boxes = np.array([[0.0, 0.0, 160.0, 192.0], [160.0, 0.0, 320.0, 192.0], [0.0, 0.0, 16.0, 16.0]])
    rule = CellRule(per_box=30, per_frame=40)
    cells, of = cells_in_boxes(boxes, np.array([0.4, 0.9, 0.2]), NORMS, 16, rule=rule)
    assert of.tolist() == [1] * 30 + [0] * 10
    assert len(set(cells.tolist())) == 40
    again, _ = cells_in_boxes(boxes, np.array([0.4, 0.9, 0.2]), NORMS, 16, rule=rule)
    later, _ = cells_in_boxes(boxes, np.array([0.4, 0.9, 0.2]), NORMS, 16, rule=rule, turn=1)
    assert cells.tolist() == again.tolist() != later.tolist()


def test_overlapping_boxes_write_a_cell_once() -> None:
    cells, _ = cells_in_boxes(np.repeat(BOX, 3, axis=0), np.array([0.9, 0.8, 0.7]), NORMS, 16)
    assert len(cells) == len(set(cells.tolist())) == 12


def test_without_a_confident_box_the_largest_norms_are_taken() -> None:
    for boxes, scores in ((BOX, [0.3]), (np.zeros((0, 4)), [])):
        cells, of = cells_in_boxes(boxes, np.array(scores), NORMS, 16)
        assert cells.tolist() == list(range(239, 189, -1))
        assert set(of.tolist()) == {-1}
