"""What is drawn at a box."""

from __future__ import annotations

import detect_app_parts as parts
import numpy as np
import pytest

from retain.apps.detect.overlay import caption, draw, written


@pytest.mark.parametrize(
    ("name", "seen"),
    [("car", "car"), ("Fußgänger", "Fussganger"), ("żółw", "zolw"), ("车", ""), ("собака", "")],
)
def test_names_are_written_in_letters_that_can_be_drawn(name: str, seen: str) -> None:
    assert written(name) == seen


def test_a_name_that_cannot_be_drawn_is_its_number_and_stays_whole_elsewhere() -> None:
    names = ("Fußgänger", "车")
    found = parts.boxes_of([[10, 30, 60, 90]] * 2, [0.9, 0.8], [0, 1], names=names)
    assert caption(found, 0) == "Fußgänger 0.90"
    assert caption(found, 1) == "车 0.80"
    assert caption(found, 0, drawn=True) == "Fussganger 0.90"
    assert caption(found, 1, drawn=True) == "class 1 0.80"
    image = np.zeros((120, 160, 3), np.uint8)
    same = parts.boxes_of([[10, 30, 60, 90]], [0.9], [0], names=("Fussganger",))
    first, rows = parts.boxes_of([[10, 30, 60, 90]], [0.9], [0], names=names[:1]), np.array([0])
    assert (draw(image, first, rows) == draw(image, same, rows)).all()
