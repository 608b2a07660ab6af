"""Token arithmetic against the families' own image processor."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from retain.memory.tokens import FAMILIES, Family, fit, tokens
from retain.pipeline.errors import UsageError

# (width, height): tokens by Qwen2VLImageProcessorPil of transformers 5.24.0, the product of its
# image_grid_thw over 4, with the bounds of Qwen2-VL (and Qwen2.5-VL) and with those of Qwen3-VL.
PROCESSOR = {
    (3, 5): (6, 77),
    (20, 20): (4, 64),
    (42, 42): (4, 64),
    (70, 70): (4, 64),
    (98, 42): (8, 78),
    (96, 64): (6, 70),
    (160, 90): (18, 66),
    (224, 224): (64, 64),
    (256, 256): (81, 64),
    (298, 168): (66, 77),
    (320, 180): (66, 66),
    (300, 200): (77, 70),
    (341, 192): (84, 66),
    (337, 192): (84, 66),
    (336, 192): (84, 77),
    (640, 360): (299, 220),
    (640, 480): (391, 300),
    (1280, 720): (1196, 880),
    (1080, 1920): (2691, 2040),
    (1919, 1081): (2691, 2040),
    (1920, 1080): (2691, 2040),
    (3840, 2160): (10549, 8160),
    (5000, 4000): (16302, 16302),
    (2000, 11): (27, 108),
    (28, 5600): (200, 175),
}
families = st.sampled_from(list(FAMILIES))


@pytest.mark.parametrize("size", PROCESSOR)
def test_counts_are_the_processors(size: tuple[int, int]) -> None:
    older, newer = PROCESSOR[size]
    assert tokens(*size, "qwen2-vl") == older
    assert tokens(*size, "qwen2.5-vl") == older
    assert tokens(*size, "qwen3-vl") == newer


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", ["qwen2-vl", "qwen3-vl"])
def test_counts_are_those_of_the_processor_that_is_installed(family: Family) -> None:
    found = pytest.importorskip("transformers", minversion="5.0")
    rule = FAMILIES[family]
    processor = found.Qwen2VLImageProcessorPil(
        patch_size=rule.cell // 2, merge_size=2, min_pixels=rule.least, max_pixels=rule.most
    )
    for size in PROCESSOR:
        (grid,) = processor(Pillow.new("RGB", size), return_tensors="np")["image_grid_thw"]
        assert tokens(*size, family) * 4 == grid.prod()


@given(st.integers(1, 9000), st.integers(1, 9000), families)
def test_counts_stay_within_the_bounds(width: int, height: int, family: Family) -> None:
    rule = FAMILIES[family]
    if max(width, height) <= 200 * min(width, height):  # what the processor takes
        assert rule.least <= tokens(width, height, family) * rule.cell**2 <= rule.most


@given(st.integers(1, 9000), st.integers(1, 9000), st.integers(1, 3000), families)
def test_fitting_keeps_the_shape_and_the_limit(
    width: int, height: int, limit: int, family: Family
) -> None:
    w, h = fit(width, height, limit, family)
    cost = tokens(w, h, family)
    assert cost <= tokens(width, height, family)
    if limit > FAMILIES[family].least / FAMILIES[family].cell ** 2 * 2 and max(w, h) < 8 * min(
        w, h
    ):
        assert cost <= limit
    assert w <= width
    assert h <= height
    if min(w, h) > 40:
        assert w / h == pytest.approx(width / height, rel=0.05)


@pytest.mark.parametrize(
    ("size", "cheapest"), [((1280, 720), 66), ((640, 480), 70), ((500, 500), 64), ((1200, 500), 65)]
)
def test_where_the_lower_bound_is_above_the_limit_the_cheapest_size_is_taken(
    size: tuple[int, int], cheapest: int
) -> None:
    small = fit(*size, 49, "qwen3-vl")
    assert tokens(*small, "qwen3-vl") == cheapest
    assert small != size


def test_an_unknown_family_is_named() -> None:
    with pytest.raises(UsageError, match="Did you mean 'qwen3-vl'"):
        tokens(1, 1, "qwen3vl")  # type: ignore[arg-type]
