"""Views of the first frame: pictures and masks stay together."""

from __future__ import annotations

import numpy as np
import object_parts as parts
import pytest

from retain.models.object.views import nearer, views


def test_a_mirrored_picture_has_a_mirrored_mask() -> None:
    image, label = parts.scene((20, 30))
    mirrored, masks = next(iter(views(image, (label == 1).astype(np.float32)[None])))
    assert np.array_equal(mirrored[:, ::-1], image)
    assert np.array_equal(masks[0, :, ::-1] > 0, label == 1)


@pytest.mark.parametrize("place", [(48, 32), (8, 8), (90, 60)])
def test_a_nearer_picture_shows_the_object_larger_and_in_the_same_place(
    place: tuple[int, int],
) -> None:
    image, label = parts.scene(place)
    mask = (label == 1).astype(np.float32)
    near, (larger,) = nearer(image, mask[None], 2.0)
    assert near.shape == image.shape
    red = (near[..., 0] > 170) & (near[..., 1] < 80)
    assert (red ^ (larger > 0.5)).mean() < 0.02  # picture and mask moved alike
    assert larger.sum() == pytest.approx(4 * mask.sum(), rel=0.1)


def test_only_small_objects_are_looked_at_from_near() -> None:
    image, label = parts.scene((48, 32))
    small = (label == 1).astype(np.float32)[None]
    assert len(list(views(image, small))) == 2
    assert len(list(views(image, np.ones_like(small)))) == 1
