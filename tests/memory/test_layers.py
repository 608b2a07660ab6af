"""Memory layers: the identities that each of them promises, in float64 unless it says otherwise."""

from __future__ import annotations

import pytest
import torch
from layer_parts import (
    BATCH,
    EXACT,
    FRAMES,
    LAYERS,
    SIZE,
    TOKENS,
    clip_of,
    frame_of,
    replace_beta,
    run,
)
from torch import Tensor

from retain.memory.layers.base import Layer, LayerState
from retain.memory.layers.block_linear import BlockLinear
from retain.memory.layers.cached import Cached
from retain.memory.layers.frame_delta import FrameDelta
from retain.memory.layers.kalman import Kalman
from retain.memory.layers.mixture import Mixture
from retain.memory.layers.token_delta import TokenDelta
from retain.pipeline.errors import UsageError


@pytest.fixture(params=sorted(LAYERS))
def layer(request: pytest.FixtureRequest) -> Layer:
    return LAYERS[request.param]()


def same(one: LayerState, two: LayerState) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[n], two[n]) for n in one)


def test_a_frame_that_is_not_valid_leaves_its_row_bit_for_bit(layer: Layer) -> None:
    clip = clip_of()
    state = run(layer, clip)[-1]
    valid = torch.tensor([True, False, True])
    after = layer.write(state, frame_of(clip, 0), valid)
    assert all(torch.equal(after[name][1], state[name][1]) for name in state)
    assert not all(torch.equal(after[name][0], state[name][0]) for name in state)
    assert same(state, layer.write(state, frame_of(clip, 0), torch.zeros(BATCH, dtype=torch.bool)))


def test_a_clip_at_once_equals_frame_by_frame_with_frames_missing(layer: Layer) -> None:
    clip = clip_of()
    valid = torch.rand(BATCH, FRAMES, generator=torch.Generator().manual_seed(3)) < 0.7
    q = clip_of(seed=9).k
    start = run(layer, clip_of(seed=5))[-1]
    wanted, last = Layer.scan(layer, start, clip, q, valid)
    got, final = layer.scan(start, clip, q, valid)
    torch.testing.assert_close(got, wanted, **EXACT)
    for name, x in last.items():
        torch.testing.assert_close(final[name], x, **EXACT)


def test_a_missing_frame_is_as_if_it_had_never_been(layer: Layer) -> None:
    """Rows that miss different frames are out of step with each other, caches included."""
    clip = clip_of()
    valid = torch.rand(BATCH, FRAMES, generator=torch.Generator().manual_seed(3)) < 0.7
    together = run(layer, clip, valid)[-1]
    for row in range(BATCH):
        alone = run(layer, clip.map(lambda x, r=row: x[r : r + 1, valid[r]]))[-1]
        for name, x in alone.items():
            torch.testing.assert_close(together[name][row], x[0], **EXACT)


def test_how_a_clip_is_cut_changes_nothing(layer: Layer) -> None:
    clip, q = clip_of(), clip_of(seed=9).k
    whole, _ = layer.scan(layer.init(BATCH, torch.float64), clip, q)
    state, parts = layer.init(BATCH, torch.float64), []
    for span in (slice(0, 4), slice(4, 5), slice(5, None)):
        out, state = layer.scan(state, clip.map(lambda x, s=span: x[:, s]), q[:, span])
        parts.append(out)
    torch.testing.assert_close(torch.cat(parts, 1), whole, **EXACT)


def test_rows_of_a_batch_do_not_mix(layer: Layer) -> None:
    clip = clip_of()
    together = run(layer, clip)[-1]
    for row in range(BATCH):
        alone = run(layer, clip.map(lambda x, r=row: x[r : r + 1]))[-1]
        for name, x in alone.items():
            torch.testing.assert_close(together[name][row], x[0], **EXACT)


def test_bytes_and_shapes_are_constant_and_as_promised(layer: Layer) -> None:
    for state in run(layer, clip_of().map(Tensor.float)):
        assert {name: tuple(x.shape[1:]) for name, x in state.items()} == dict(layer.shapes)
        assert sum(x[0].nbytes for x in state.values()) == layer.nbytes
        assert all(x.dtype == torch.float32 for x in state.values())


def test_reading_changes_nothing_and_an_empty_memory_reads_zero(layer: Layer) -> None:
    clip = clip_of()
    q, empty = clip.k[:, 0], layer.init(BATCH, torch.float64)
    assert not layer.read(empty, q).any()
    state = run(layer, clip)[-1]
    before = {name: x.clone() for name, x in state.items()}
    out = layer.read(state, q)
    assert out.shape == (BATCH, TOKENS, SIZE.heads, SIZE.value_dim)
    assert out.abs().min() > 0
    assert same(before, state)


def test_reset_forgets_the_rows_it_is_told(layer: Layer) -> None:
    state = run(layer, clip_of())[-1]
    after = layer.reset(state, torch.tensor([False, True, False]))
    fresh = layer.init(1, torch.float64)
    for name, x in after.items():
        assert torch.equal(x[1], fresh[name][0])
        assert torch.equal(x[::2], state[name][::2])


def test_one_key_of_length_one_gives_back_its_value(layer: Layer) -> None:
    clip = clip_of(frames=1, count=1)
    one = replace_beta(clip, 1.0)
    state = run(layer, one)[-1]
    out, value = layer.read(state, one.k[:, 0]), one.v[:, 0]
    parts = [layer, getattr(layer, "inner", None)]
    if any(isinstance(part, Mixture) and part.shared for part in parts):
        value = 2 * value  # from the states of its kind, and from the shared one
    # The ridge takes two percent, the normaliser of FrameDelta a millionth.
    tolerance = 0.021 if any(isinstance(part, Kalman) for part in parts) else 2e-6
    torch.testing.assert_close(out, value, rtol=tolerance, atol=1e-9)


def test_gradients_reach_everything_that_is_written(layer: Layer) -> None:
    clip = clip_of(frames=3).map(lambda x: x.clone().requires_grad_())
    layer.read(run(layer, clip)[-1], clip.k[:, 0]).square().sum().backward()
    for name in ("k", "v", "g", "beta"):
        if name == "g" and isinstance(layer, BlockLinear):
            continue
        grad = getattr(clip, name).grad
        assert grad.isfinite().all(), name
        assert grad.any(), name


def test_what_is_written_with_strength_zero_is_not_written(layer: Layer) -> None:
    clip = clip_of()
    state = run(layer, clip)[-1]
    nothing = replace_beta(frame_of(clip, 1), 0.0)._replace(g=torch.zeros_like(clip.g[:, 0]))
    after = layer.write(state, nothing)
    q = clip.k[:, 2]
    if not isinstance(layer, Cached):  # it counts the frame, and may close a segment
        torch.testing.assert_close(layer.read(after, q), layer.read(state, q), **EXACT)


def test_sizes_of_zero_are_refused() -> None:
    for make in (BlockLinear, FrameDelta, Kalman, TokenDelta):
        with pytest.raises(UsageError, match="at least 1"):
            make(1, 0, 4)
    with pytest.raises(UsageError, match="at least 1"):
        Cached(TokenDelta(1, 4, 4), segment=0, cap=2)
    with pytest.raises(UsageError, match="ridge"):
        Kalman(1, 4, 4, ridge=0.0)
    with pytest.raises(UsageError, match="router"):
        Mixture(TokenDelta(2, 4, 4), torch.zeros(3, 1, 4))
    with pytest.raises(UsageError, match="top"):
        Mixture(TokenDelta(1, 4, 4), torch.zeros(3, 1, 4), top=4)


def test_names_and_options_tell_layers_apart() -> None:
    configs = [LAYERS[name]().config for name in LAYERS]
    assert all(configs.count(config) == 1 for config in configs)
    router = torch.randn(3, 2, 8)
    one, two = (Mixture(TokenDelta(2, 8, 6), r) for r in (router, router + 1))
    assert one.config != two.config
