"""Token arithmetic against the published table."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retain.memory.tokens import fit, tokens
from retain.pipeline.errors import UsageError


@pytest.mark.parametrize(
    ("width", "height", "older", "newer"),
    [
        (224, 224, 64, 49),
        (640, 360, 299, 220),
        (1280, 720, 1196, 880),
        (1920, 1080, 2691, 2040),
        (3, 5, 1, 1),
    ],
)
def test_tokens_of_common_sizes(width: int, height: int, older: int, newer: int) -> None:
    assert tokens(width, height, "qwen2.5-vl") == older
    assert tokens(width, height, "qwen3-vl") == newer


@given(st.integers(1, 9000), st.integers(1, 9000), st.integers(1, 3000))
def test_fitting_keeps_the_shape_and_the_limit(width: int, height: int, limit: int) -> None:
    w, h = fit(width, height, limit)
    assert tokens(w, h) <= limit or (w, h) == (1, 1)
    assert w <= width
    assert h <= height
    if min(w, h) > 40:
        assert w / h == pytest.approx(width / height, rel=0.05)


def test_an_unknown_family_is_named() -> None:
    with pytest.raises(UsageError, match="Did you mean 'qwen3-vl'"):
        tokens(1, 1, "qwen3vl")  # type: ignore[arg-type]
