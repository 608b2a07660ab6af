"""Light that changes: the first frame as it was, later ones not, truth untouched."""

from __future__ import annotations

import numpy as np
import pytest

from retain.datasets.detect.objects import ObjectVideo
from retain.datasets.detect.relight import Relit
from retain.pipeline.errors import UsageError


def clip() -> ObjectVideo:
    return ObjectVideo(seed=3, frames=60, width=64, height=48)


def test_light_changes_and_truth_does_not() -> None:
    plain, lit = clip(), Relit(clip(), seed=1)
    assert np.array_equal(lit[0].image, plain[0].image)
    means = [lit[k].image.mean() / plain[k].image.mean() for k in range(0, 60, 10)]
    assert max(means) - min(means) > 0.1
    assert np.array_equal(lit[40].mask, plain[40].mask)
    assert lit.truth(40).boxes.tolist() == plain.truth(40).boxes.tolist()
    assert len(lit) == len(plain)


def test_a_frame_is_the_same_whenever_it_is_asked_for() -> None:
    lit = Relit(clip(), seed=1)
    late = lit[50].image
    assert np.array_equal(late, [s.image for s in Relit(clip(), seed=1)][50])
    assert not np.array_equal(late, Relit(clip(), seed=2)[50].image)


def test_no_strength_changes_nothing() -> None:
    assert np.array_equal(Relit(clip(), strength=0)[30].image, clip()[30].image)


@pytest.mark.parametrize("wrong", [{"strength": -1.0}, {"period_s": 0.0}, {"seed": -1}])
def test_wrong_options_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        Relit(clip(), **wrong)  # type: ignore[arg-type]
