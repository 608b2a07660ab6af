"""Memory layers: the rule of each against its definition, and what sets it apart."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from layer_parts import (
    BATCH,
    EXACT,
    FRAMES,
    MANY,
    SIZE,
    TOKENS,
    clip_of,
    frame_of,
    replace_beta,
    run,
)
from torch import Tensor
from torch.nn.functional import normalize

from retain.kernels.gated_delta.chunked import recurrent
from retain.memory.layers.base import Frame, Layer, phi
from retain.memory.layers.block_linear import BlockLinear
from retain.memory.layers.cached import Cached, Reading
from retain.memory.layers.frame_delta import FrameDelta
from retain.memory.layers.kalman import Kalman, chebyshev
from retain.memory.layers.mixture import Mixture
from retain.memory.layers.token_delta import TokenDelta

# --- block linear -------------------------------------------------------------------------------


def test_block_linear_is_attention_without_softmax() -> None:
    clip = clip_of()
    layer = BlockLinear(SIZE.heads, SIZE.key_dim, SIZE.value_dim)
    positive = clip._replace(k=phi(clip.k))
    k, v = positive.k.flatten(1, 2), clip.v.flatten(1, 2)
    q = phi(clip_of(seed=4).k[:, 0])
    weights = torch.einsum("bqhd,bthd->bqth", q, k) * clip.beta.flatten(1, 2)[:, None]
    wanted = torch.einsum("bqth,bthd->bqhd", weights / weights.sum(2, keepdim=True), v)
    torch.testing.assert_close(layer.read(run(layer, positive)[-1], q), wanted, **EXACT)


def test_the_normaliser_takes_keys_as_they_were_before_their_rotation() -> None:
    clip = frame_of(clip_of(), 0)
    plain, turned = phi(clip.k), phi(clip.k).flip(-1)
    for kind in (BlockLinear, FrameDelta):
        layer = kind(SIZE.heads, SIZE.key_dim, SIZE.value_dim)
        frame = clip._replace(k=turned, plain=plain)
        state = layer.write(layer.init(BATCH, torch.float64), frame)
        # One more frame of values that are all 1 under the plain keys is what z is.
        ones = layer.write(
            layer.init(BATCH, torch.float64),
            frame._replace(k=plain, v=torch.ones_like(frame.v)),
        )
        torch.testing.assert_close(state["z"], ones["s"][..., 0], **EXACT)
        read = layer.read(state, turned, plain)
        mass = torch.einsum("bqhd,bhd->bqh", plain, state["z"])
        top = torch.einsum("bqhd,bhde->bqhe", turned, state["s"])
        torch.testing.assert_close(read, top / mass[..., None], rtol=1e-4, atol=0)


# --- gated delta --------------------------------------------------------------------------------


def test_token_delta_is_the_kernels_rule() -> None:
    clip = clip_of()
    layer = TokenDelta(SIZE.heads, SIZE.key_dim, SIZE.value_dim)
    g = torch.zeros_like(clip.beta)
    g[:, :, 0] = clip.g
    k, v, g, beta = (x.flatten(1, 2) for x in (clip.k, clip.v, g, clip.beta))
    _, wanted = recurrent(k, k, v, g, beta)
    torch.testing.assert_close(run(layer, clip)[-1]["s"], wanted, **EXACT)


def test_frame_delta_of_one_token_a_frame_is_the_gated_delta_rule() -> None:
    clip = clip_of(count=1)
    one = FrameDelta(SIZE.heads, SIZE.key_dim, SIZE.value_dim, normalise=False)
    two = TokenDelta(SIZE.heads, SIZE.key_dim, SIZE.value_dim)
    torch.testing.assert_close(run(one, clip)[-1]["s"], run(two, clip)[-1]["s"], **EXACT)


def test_the_order_of_a_frames_tokens_does_not_matter_to_frame_delta() -> None:
    clip = clip_of()
    layer = FrameDelta(SIZE.heads, SIZE.key_dim, SIZE.value_dim)
    turned = Frame(clip.k.flip(2), clip.v.flip(2), clip.beta.flip(2), clip.g)
    torch.testing.assert_close(run(layer, clip)[-1]["s"], run(layer, turned)[-1]["s"], **EXACT)
    serial = TokenDelta(SIZE.heads, SIZE.key_dim, SIZE.value_dim)
    assert not torch.allclose(run(serial, clip)[-1]["s"], run(serial, turned)[-1]["s"])


def test_orthogonal_keys_of_one_frame_give_back_their_values() -> None:
    """The scale weakens numerator and normaliser alike."""
    eye = torch.eye(SIZE.key_dim, dtype=torch.float64)[None, :4, None].expand(1, 4, SIZE.heads, -1)
    v = torch.randn(1, 4, SIZE.heads, SIZE.value_dim, dtype=torch.float64)
    frame = Frame(eye, v, torch.full((1, 4, SIZE.heads), 0.9).double(), torch.zeros(1, SIZE.heads))
    layer = FrameDelta(SIZE.heads, SIZE.key_dim, SIZE.value_dim)
    state = layer.write(layer.init(1, torch.float64), frame)
    torch.testing.assert_close(layer.read(state, eye), v, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("count", [1, 16, 64, 256])
def test_with_the_key_scale_a_frame_never_enlarges_what_is_held(count: int) -> None:
    """The worst case: all tokens strong, all keys alike or anything else."""
    rng = torch.Generator().manual_seed(count)
    layer = FrameDelta(1, 16, 8, normalise=False)
    centre = torch.randn(1, 1, 1, 16, generator=rng)
    for width in (0.0, 0.1, 1.0, 10.0):
        k = normalize(centre + width * torch.randn(1, count, 1, 16, generator=rng), dim=-1)
        state = {"s": torch.randn(1, 1, 16, 8, generator=rng)}
        frame = Frame(k, torch.zeros(1, count, 1, 8), torch.ones(1, count, 1), torch.zeros(1, 1))
        for _ in range(3):
            after = layer.write(state, frame)
            assert torch.linalg.matrix_norm(after["s"], 2) <= 1.00001 * torch.linalg.matrix_norm(
                state["s"], 2
            )
            state = after


@pytest.mark.parametrize("count", [16, 64, 256])
def test_without_the_key_scale_the_same_stream_diverges(count: int) -> None:
    rng = torch.Generator().manual_seed(1)
    norms = {}
    for scale in ("tokens", "none"):
        layer = FrameDelta(1, 16, 8, key_scale=scale)  # type: ignore[arg-type]
        state = layer.init(1)
        for _ in range(40):
            k = phi(torch.randn(1, count, 1, 16, generator=rng) + 1)
            v = torch.randn(1, count, 1, 8, generator=rng)
            g = torch.full((1, 1), -0.01)
            state = layer.write(state, Frame(k, v, torch.full((1, count, 1), 0.99), g))
        norms[scale] = float(torch.linalg.vector_norm(state["s"].double()))
    assert norms["tokens"] < 50
    assert not norms["none"] < 1e6


# --- Kalman -------------------------------------------------------------------------------------


def test_chebyshev_converges_to_the_direct_solve() -> None:
    rng = torch.Generator().manual_seed(0)
    errors = {}
    for steps in (5, 10, 30, 80):
        worst = 0.0
        for rank in (1, 4, 32, 200):
            k = torch.randn(rank, 32, generator=rng, dtype=torch.float64)
            h, q = k.T @ k, torch.randn(6, 32, generator=rng, dtype=torch.float64)
            shifted = h + 0.02 * h.norm() * torch.eye(32)
            wanted = torch.linalg.solve(shifted, q.T).T
            found = chebyshev(h, q, steps)
            worst = max(worst, float((found - wanted).norm() / wanted.norm()))
        errors[steps] = worst
    assert errors[10] < 0.12
    assert errors[30] < 1e-3
    assert errors[80] < 1e-7
    assert errors[5] > errors[10] > errors[30] > errors[80]


def test_kalman_is_the_fading_ridge_regression() -> None:
    clip = clip_of()
    layer = Kalman(SIZE.heads, SIZE.key_dim, SIZE.value_dim, steps=200)
    age = clip.g.flip(1).cumsum(1).flip(1) - clip.g
    weight = age.exp()[:, :, None] * clip.beta**2
    h = torch.einsum("bfth,bfthd,bfthe->bhde", weight, clip.k, clip.k)
    u = torch.einsum("bfth,bfthd,bfthe->bhde", weight, clip.k, clip.v)
    ridge = 0.02 * h.norm(dim=(2, 3), keepdim=True) * torch.eye(SIZE.key_dim)
    coefficients = torch.linalg.solve(h + ridge, u)
    q = clip_of(seed=4).k[:, 0]
    wanted = torch.einsum("bqhd,bhde->bqhe", q, coefficients)
    torch.testing.assert_close(layer.read(run(layer, clip)[-1], q), wanted, rtol=1e-6, atol=1e-8)


def test_kalman_without_its_regression_is_linear_attention() -> None:
    clip = replace_beta(clip_of(), 1.0)._replace(g=torch.zeros(BATCH, FRAMES, SIZE.heads))
    one = Kalman(SIZE.heads, SIZE.key_dim, SIZE.value_dim, alpha=0.0)
    two = BlockLinear(SIZE.heads, SIZE.key_dim, SIZE.value_dim, normalise=False)
    q = clip.k[:, 0]
    torch.testing.assert_close(one.read(run(one, clip)[-1], q), two.read(run(two, clip)[-1], q))


# --- Memory Caching -----------------------------------------------------------------------------

INNER = TokenDelta(SIZE.heads, SIZE.key_dim, SIZE.value_dim)


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("reading", ["residual", "grm", "ssc"])
def test_caching_is_what_it_says(reading: Reading, fresh: bool) -> None:
    """Against the definition, written with whole states in lists."""
    clip, q = clip_of(), clip_of(seed=4).k[:, 0]
    layer = Cached(INNER, segment=3, cap=8, reading=reading, fresh=fresh, top=2, sharpness=4.0)
    states, keys = [], []
    for begin in range(0, FRAMES, 3):
        carried = states[-1] if states and not fresh else INNER.init(BATCH, torch.float64)
        for f in range(begin, min(begin + 3, FRAMES)):
            carried = INNER.write(carried, frame_of(clip, f))
        states.append(carried)
        keys.append(clip.k[:, begin : begin + 3].mean((1, 2)))
    reads = torch.stack([INNER.read(state, q) for state in states], -1)
    score = 4.0 * torch.einsum("bqhd,nbhd->bqhn", q, torch.stack(keys))
    if reading == "ssc":
        least = score[..., :-1].sort(-1).values[..., -2:-1]
        score[..., :-1][score[..., :-1] < least] = -torch.inf
    gates = torch.ones_like(score) if reading == "residual" else score.softmax(-1)
    wanted = (reads * gates[..., None, :]).sum(-1)
    torch.testing.assert_close(layer.read(run(layer, clip)[-1], q), wanted, **EXACT)


@pytest.mark.parametrize("kind", [TokenDelta, BlockLinear, FrameDelta])
def test_soup_equals_grm_where_the_read_is_linear_in_the_state(kind: type[Layer]) -> None:
    clip, q = clip_of(), clip_of(seed=4).k[:, 0]
    inner = kind(SIZE.heads, SIZE.key_dim, SIZE.value_dim)
    if not isinstance(inner, TokenDelta):
        inner = replace(inner, normalise=False)  # type: ignore[call-arg]
    grm, soup = (Cached(inner, 3, 8, r) for r in ("grm", "soup"))  # type: ignore[arg-type]
    state = run(grm, clip)[-1]
    torch.testing.assert_close(soup.read(state, q), grm.read(state, q), **EXACT)


def test_soup_differs_from_grm_where_it_is_not() -> None:
    clip, q = clip_of(), clip_of(seed=4).k[:, 0]
    inner = Kalman(SIZE.heads, SIZE.key_dim, SIZE.value_dim)
    grm, soup = (Cached(inner, 3, 8, r, sharpness=1) for r in ("grm", "soup"))  # type: ignore[arg-type]
    state = run(grm, clip)[-1]
    assert not torch.allclose(soup.read(state, q), grm.read(state, q), rtol=1e-3)


def test_residual_of_linear_memories_is_one_matrix() -> None:
    """Without forgetting, one sum over the stream, whether segments are still apart or merged."""
    clip, q = clip_of(), clip_of(seed=4).k[:, 0]
    inner = BlockLinear(SIZE.heads, SIZE.key_dim, SIZE.value_dim, normalise=False)
    wanted = inner.read(run(inner, clip)[-1], q)
    for cap in (1, 2, 9):
        layer = Cached(inner, 2, cap, "residual")
        torch.testing.assert_close(layer.read(run(layer, clip)[-1], q), wanted, **EXACT)


def test_a_stream_shorter_than_a_segment_reads_as_without_caching() -> None:
    clip, q = clip_of(), clip_of(seed=4).k[:, 0]
    wanted = INNER.read(run(INNER, clip)[-1], q)
    for reading in ("residual", "grm", "soup", "ssc"):
        layer = Cached(INNER, FRAMES, 2, reading)  # type: ignore[arg-type]
        torch.testing.assert_close(layer.read(run(layer, clip)[-1], q), wanted, **EXACT)


def test_evicting_keeps_the_newest_segments_and_merging_loses_no_token() -> None:
    clip = clip_of()
    evicting, merging = (
        run(Cached(INNER, 1, 4, full=full), clip)[-1]  # type: ignore[arg-type]
        for full in ("evict", "merge")
    )
    for place, f in enumerate(range(FRAMES - 5, FRAMES - 1)):
        alone = INNER.write(INNER.init(BATCH, torch.float64), frame_of(clip, f))
        torch.testing.assert_close(evicting["cache.s"][:, :, place], alone["s"], **EXACT)
    held = merging["tokens.cache"].sum(-1) + merging["tokens.online"]
    assert (held == FRAMES * TOKENS).all()
    assert (merging["tokens.cache"] > 0).all()


def test_merging_joins_the_neighbours_that_are_most_alike() -> None:
    eye = torch.eye(SIZE.key_dim, dtype=torch.float64)
    order = [0, 1, 1, 2, 3]
    k = eye[order][None, :, None, None].expand(1, 5, 1, SIZE.heads, -1)
    v = torch.randn(1, 5, 1, SIZE.heads, SIZE.value_dim, dtype=torch.float64)
    one = torch.ones(1, 5, 1, SIZE.heads).double()
    clip = Frame(k, v, one, torch.zeros(1, 5, SIZE.heads))
    state = run(Cached(INNER, 1, 3), clip)[-1]
    assert state["tokens.cache"][0, 0].tolist() == [1, 2, 1]
    torch.testing.assert_close(state["mean.cache"][0, 0], eye[[0, 1, 2]], **EXACT)


# --- mixture ------------------------------------------------------------------------------------


def test_a_mixture_of_one_is_its_inner_layer() -> None:
    clip, q = clip_of(), clip_of(seed=4).k[:, 0]
    layer = Mixture(INNER, torch.ones(1, SIZE.heads, SIZE.key_dim), top=1, shared=False)
    one, two = run(layer, clip)[-1], run(INNER, clip)[-1]
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    torch.testing.assert_close(layer.read(one, q), INNER.read(two, q), **EXACT)


def test_a_mixture_is_what_it_says() -> None:
    """Against separate memories that are given the tokens routed to them."""
    clip, q = clip_of(count=1), clip_of(seed=4).k[:, 0]
    router = 3 * torch.randn(MANY, SIZE.heads, SIZE.key_dim, dtype=torch.float64)
    layer = Mixture(INNER, router, top=2)
    r = layer.route(q)
    wanted = INNER.read(run(INNER, clip)[-1], q)
    for m in range(MANY):
        chosen = torch.stack([layer.route(clip.k[:, f])[:, 0, m] > 0 for f in range(FRAMES)], 1)
        own = run(INNER, clip, chosen)[-1]
        wanted = wanted + r[:, :, m, None, None] * INNER.read(own, q)
    torch.testing.assert_close(layer.read(run(layer, clip)[-1], q), wanted, **EXACT)
    assert ((r > 0).sum(-1) == 2).all()
    torch.testing.assert_close(r.sum(-1), torch.ones_like(r[..., 0]))


def test_memories_of_different_scenes_do_not_interfere() -> None:
    """Scene 0 is written, then a long scene 1 that is routed elsewhere: one state forgets, and
    that which is chosen by scene 0 alone answers as before, bit for bit."""
    rng = torch.Generator().manual_seed(0)

    def scene(axis: int, count: int) -> tuple[Tensor, Tensor]:
        k = 0.5 * torch.randn(1, count, 1, 16, generator=rng)
        k[..., axis] += 4
        return normalize(k, dim=-1), torch.randn(1, count, 1, 16, generator=rng)

    router = 50 * torch.eye(2, 16)[:, None]
    (k0, v0), (k1, v1) = scene(0, 3), scene(1, 60)
    answers: dict[str, list[Tensor]] = {}
    for name, layer in {
        "one": TokenDelta(1, 16, 16),
        "mixture": Mixture(TokenDelta(1, 16, 16), router, top=1, shared=False),
    }.items():
        state, answers[name] = layer.init(1), []
        for k, v in ((k0, v0), (k1, v1)):
            for t in range(k.shape[1]):
                one = torch.ones(1, 1, 1)
                frame = Frame(k[:, t : t + 1], v[:, t : t + 1], one, torch.full((1, 1), -0.05))
                state = layer.write(state, frame)
            answers[name].append(layer.read(state, k0))
    assert torch.equal(*answers["mixture"])
    before, after = answers["one"]
    assert (after - before).norm() > 0.8 * before.norm()
