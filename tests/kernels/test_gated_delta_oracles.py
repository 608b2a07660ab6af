"""The gated delta memory: what must hold of it, whoever computes it.

Every oracle is asked of the definition in float64 and of the op, both ways into it, in float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from retain.kernels.gated_delta import op, reference
from retain.kernels.gated_delta.reference import MASS_FLOOR, Gates

MODES = ["mass", "paper_raw", "released_2025"]


class Way(NamedTuple):
    """One way to compute. ``eps`` is the error allowed, relative to the largest number wanted:
    rounding of a few dozen sums, with room for ten times that."""

    dtype: torch.dtype
    write: Callable[..., Tensor]
    read: Callable[[Tensor, Tensor], Tensor]
    eps: float


class Frame(NamedTuple):
    """A state [B, N, Ck, Cv] and the frame to be written, key [B, Ck, P], value [B, N, Cv, P]."""

    state: Tensor
    key: Tensor
    value: Tensor
    gates: Gates


def by_frame(*args: Any, **options: Any) -> Tensor:
    return op.frame(*args, **options)[0]


def by_write(*args: Any, **options: Any) -> Tensor:
    with torch.no_grad():
        return op.write(*args, **options)


def by_read(state: Tensor, key: Tensor) -> Tensor:
    with torch.no_grad():
        return op.read(state, key)


WAYS = {
    "definition": Way(torch.float64, reference.step, reference.read, 1e-13),
    "frame": Way(torch.float32, by_frame, op.read, 3e-6),
    "write": Way(torch.float32, by_write, by_read, 3e-6),
}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Way:
    return WAYS[request.param]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def drawn(
    dtype: torch.dtype = torch.float64,
    *,
    batch: int = 1,
    objects: int = 1,
    rows: int = 8,
    columns: int = 16,
    heads: int = 2,
    pixels: int = 24,
    scale: float = 2.0,
    seed: int = 0,
) -> Frame:
    """A random frame; ``scale`` is the spread of the keys before the softmax over their rows."""
    rng = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=rng, dtype=torch.float64)

    per_head = columns**-0.5 * normal(heads, columns), columns**-0.5 * normal(heads, columns)
    return Frame(
        normal(batch, objects, rows, columns).to(dtype),
        (scale * normal(batch, rows, pixels)).softmax(1).to(dtype),
        normal(batch, objects, columns, pixels).to(dtype),
        Gates(*(x.to(dtype) for x in (*per_head, normal(heads) - 1, normal(heads) - 1))),
    )


def steady(heads: int, columns: int, dtype: torch.dtype, *, log_decay: float = 1e-12) -> Gates:
    """Gates that do not look at the state: b = 1/2 and a = exp(-log_decay), by default a = 1."""
    none = torch.zeros(heads, columns, dtype=dtype)
    a_log = torch.full((heads,), math.log(log_decay / math.log(2)), dtype=dtype)
    return Gates(none, none, a_log, torch.zeros(heads, dtype=dtype))


def wide(frame: Frame) -> Frame:
    return Frame(*(x.double() for x in frame[:3]), Gates(*(x.double() for x in frame.gates)))


def error(got: Tensor, want: Tensor) -> float:
    """Largest difference over the largest number wanted."""
    return float((got.double() - want.double()).abs().max() / want.abs().max())


def beta_of(frame: Frame) -> Tensor:
    """b [B, N, Ck, Cv], each head over its neighbouring columns."""
    heads, columns = frame.gates.w_beta.shape
    logits = torch.einsum("bnij,hj->bnih", frame.state, frame.gates.w_beta)
    return (1 / (1 + (-logits).exp()))[..., torch.arange(columns) // (columns // heads)]


def decay_of(frame: Frame, mode: str, dt: Tensor | None, tile: bool) -> Tensor:
    """a [B, N, Ck, Cv]."""
    heads, columns = frame.gates.w_alpha.shape
    logits = torch.einsum("bnij,hj->bnih", frame.state, frame.gates.w_alpha)
    g = frame.gates.a_log.exp() * (1 + (logits + frame.gates.dt_bias).exp()).log()
    gap = torch.ones(len(g)).to(g) if dt is None else dt.to(g)
    g = g[
        ..., torch.arange(columns) % heads if tile else torch.arange(columns) // (columns // heads)
    ]
    retained = -g.abs() if mode == "released_2025" else (-g).exp()
    return retained.sign() * retained.abs() ** gap[:, None, None, None]


# What one step computes


@pytest.mark.parametrize("mode", MODES)
def test_erase_is_what_the_keys_read_back_written_under_them(way: Way, mode: Any) -> None:
    """K (K^T S) = (K K^T) S: the step never forms the left side."""
    frame = drawn(way.dtype, batch=2, objects=2)
    exact = wide(frame)
    recalled = way.read(frame.state, frame.key).double()
    mass = exact.key.sum(2) + MASS_FLOOR if mode == "mass" else torch.ones_like(exact.key[..., 0])
    change = torch.einsum("bip,bnjp->bnij", exact.key, exact.value - recalled)
    want = exact.state + beta_of(exact) * change / mass[:, None, :, None]
    assert error(way.write(*frame, mode=mode, rule="beta"), want) < way.eps


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("rule", ["none", "sum", "replace", "beta", "alpha", "full"])
@pytest.mark.parametrize("gap", [None, [1.0, 3.0, 0.5]])
@pytest.mark.parametrize("tile", [False, True])
def test_rules_are_their_formulas(way: Way, mode: Any, rule: Any, gap: Any, tile: bool) -> None:
    frame = drawn(way.dtype, batch=3, objects=2, heads=4)
    dt = None if gap is None else torch.tensor(gap)
    s, k, v, _ = exact = wide(frame)
    written, gram = torch.einsum("bip,bnjp->bnij", k, v), torch.einsum("bip,bjp->bij", k, k)
    if mode == "mass":
        mass = torch.einsum("bip->bi", k) + 1e-4
        written, gram = written / mass[:, None, :, None], gram / mass[:, :, None]
    a, b = decay_of(exact, mode, dt, tile), beta_of(exact)
    erased = s - b * torch.einsum("bij,bnjc->bnic", gram, s)
    want = {
        "none": s,
        "sum": s + written,
        "replace": written,
        "beta": erased + b * written,
        "alpha": a * s + written,
        "full": a * erased + b * written,
    }[rule]
    new = way.write(*frame, mode=mode, rule=rule, dt=dt, tile_alpha=tile)
    assert new.dtype == way.dtype
    assert error(new, want) < way.eps
    assert error(way.read(new, frame.key), torch.einsum("bnij,bip->bnjp", want, k)) < way.eps


def test_rule_none_reads_zero() -> None:
    frame = drawn(torch.float32)
    state, readout = op.frame(*frame, rule="none")
    assert torch.equal(state, frame.state)
    assert torch.equal(readout, torch.zeros_like(frame.value))


# Mass mode does not enlarge


@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    rows=st.integers(1, 16),
    pixels=st.integers(1, 40),
    scale=st.sampled_from([0.0, 0.3, 1.0, 3.0, 10.0, 100.0]),
    seed=st.integers(0, 2**16),
)
def test_erase_has_no_eigenvalue_beyond_one(
    rows: int, pixels: int, scale: float, seed: int
) -> None:
    """diag(b) G / n is similar to the symmetric D^1/2 G D^1/2, D = diag(b / n): real, not negative.
    Its rows sum to b (n - 1e-4) / n < 1, since the columns of K sum to 1: none is above 1."""
    key = drawn(rows=rows, pixels=pixels, scale=scale, seed=seed).key
    share = reference.start(key, key[:, None])[0, 0]  # N is G where the values are the keys
    b = torch.rand(rows, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    values = torch.linalg.eigvals(b * share)
    # float64 rounding, times how skew the eigenvectors are: the root of the masses' ratio, 1e6 to 1
    assert values.imag.abs().max() < 1e-9
    assert values.real.min() > -1e-9
    assert values.real.max() < 1 + 1e-9


@settings(deadline=None, max_examples=40, derandomize=True)
@given(
    name=st.sampled_from(sorted(WAYS)),
    rows=st.integers(1, 12),
    pixels=st.integers(1, 40),
    scale=st.sampled_from([0.0, 1.0, 3.0, 10.0]),
    seed=st.integers(0, 2**16),
)
def test_erase_never_enlarges(name: str, rows: int, pixels: int, scale: float, seed: int) -> None:
    """In two norms, column by column of the state, with D = diag(b / n) of the column's head:

    1. |K^T S|, what the frame's own keys read. K^T (I - D G) S = (I - K^T D K) K^T S, where
       K^T D K is symmetric with the eigenvalues of D^1/2 G D^1/2, all in [0, 1].
    2. |D^-1/2 S|, also with the decay. D^-1/2 (I - D G) D^1/2 = I - D^1/2 G D^1/2, the same again;
       a is diagonal as D is, hence passes D^-1/2 and multiplies by at most 1.

    Neither the length of S nor its largest number is such a norm: I - D G is not symmetric.
    """
    way = WAYS[name]
    frame = drawn(way.dtype, rows=rows, pixels=pixels, scale=scale, seed=seed)
    frame = frame._replace(value=torch.zeros_like(frame.value))
    exact, room = wide(frame), 1 + 10 * way.eps
    erased = way.write(*frame, rule="beta")
    before, after = way.read(frame.state, frame.key), way.read(erased, frame.key)
    slack = way.eps * before.norm()  # a column that is all but erased is rounding of the others
    assert (after.norm(dim=-1) <= room * before.norm(dim=-1) + slack).all()

    weight = ((exact.key.sum(2)[:, None, :, None] + MASS_FLOOR) / beta_of(exact)).sqrt()
    before, after = (weight * s.double() for s in (frame.state, way.write(*frame, rule="full")))
    assert (after.norm(dim=-2) <= room * before.norm(dim=-2)).all()


def test_erases_of_different_frames_can_enlarge_together(way: Way) -> None:
    """Each frame has its own norm 2, so that without a decay two frames in turn may enlarge what
    neither writes: by 1.0729 a pair here, the spectral radius of (I - G2/2n2) (I - G1/2n1). A decay
    to 0.905 a frame outweighs it."""
    keys = [
        torch.tensor([[1, 0], [0, 1], [1, 3], [1, 0], [0, 0], [1, 0]], dtype=way.dtype)[None] / 4,
        torch.tensor([[0, 0], [3, 1], [1, 0], [0, 1], [0, 2], [0, 0]], dtype=way.dtype)[None] / 4,
    ]
    nothing = torch.zeros(1, 1, 4, 2, dtype=way.dtype)
    kept = faded = drawn(way.dtype, rows=6, columns=4).state
    gates = steady(2, 4, way.dtype, log_decay=0.1)
    norms = []
    for _ in range(200):
        for key in keys:
            kept = way.write(kept, key, nothing, gates, rule="beta")
            faded = way.write(faded, key, nothing, gates)
        norms.append(float(kept.norm()))
    assert norms[-1] / norms[-2] == pytest.approx(1.07294, rel=1e-4)
    assert faded.norm() < 1e-3


def test_paper_raw_diverges_on_crowded_keys_and_mass_does_not(way: Way) -> None:
    """16 pixels under one key: lambda_max(G) = 16, b = 1/2, a = 1. What differs from the mean value
    is multiplied by 1 - b lambda = -7 a frame in ``paper_raw``, by 1 - b = 1/2 in ``mass``."""
    gates = steady(2, 4, way.dtype)
    key = torch.zeros(1, 3, 16, dtype=way.dtype)
    key[:, 1] = 1
    value = drawn(way.dtype, columns=4, pixels=16).value
    mean = value.mean(-1)[:, :, None]
    for mode, factor in (("paper_raw", -7.0), ("mass", 0.5)):
        state = torch.zeros(1, 1, 3, 4, dtype=way.dtype)
        state[:, :, 1] = 2 * mean[:, :, 0]
        for t in range(1, 11):
            state = way.write(state, key, value, gates, mode=mode)
            want = (1 + factor**t) * mean
            # the floor makes mass mode's factor larger by 1e-4 / 32, at each of 10 frames
            assert error(state[:, :, 1:2], want) < 2e-5
        assert not state[:, :, ::2].any()


def test_still_stream_settles(way: Way) -> None:
    frame = drawn(way.dtype, objects=2, rows=8, columns=16, pixels=64, scale=3.0)
    state = reference.start(frame.key, frame.value)
    first, norms = state.norm(), []
    for _ in range(1000):
        state = way.write(state, *frame[1:])
        norms.append(state.norm())
    late = torch.stack(norms[500:])
    assert max(norms) < 2 * first
    assert late.min() > 0.1 * first
    assert (late.max() - late.min()) / late.max() < 10 * way.eps


# Means of values


def test_start_is_the_mean_value_of_each_keys_pixels_and_stays(way: Way) -> None:
    """But for the floor: 1e-4 / n below the mean, which more frames of the same make up for."""
    owner = torch.tensor([0, 0, 0, 2, 2, 3, 3, 3, 3, 3])  # no pixel has key 1
    key = torch.nn.functional.one_hot(owner, 4).mT[None].to(way.dtype)
    value = drawn(way.dtype, columns=4, pixels=10).value
    state = reference.start(key, value)
    assert state.dtype == way.dtype
    for row, pixels in ((0, slice(0, 3)), (2, slice(3, 5)), (3, slice(5, 10))):
        count = pixels.stop - pixels.start
        mean = value[0, 0, :, pixels].mean(-1)
        assert error(state[0, 0, row], mean * count / (count + MASS_FLOOR)) < way.eps
    assert not state[0, 0, 1].any()
    assert error(way.read(state, key)[0, 0, :, :3], state[0, 0, 0, :, None].expand(4, 3)) < way.eps
    again, gates = state, drawn(way.dtype, columns=4).gates
    for _ in range(20):
        again = way.write(again, key, value, gates, rule="beta")
    assert error(again, state) < MASS_FLOOR / 2 + way.eps


@pytest.mark.parametrize("mode", MODES[:2])
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_a_constant_value_stays_once_it_is_held(way: Way, mode: Any, scale: float) -> None:
    """S = 1 v^T: G 1 = K 1, so that erase and write cancel, for any keys, gates and masses."""
    frame = drawn(way.dtype, scale=scale)
    held = torch.linspace(-1, 1, 16, dtype=way.dtype)
    frame = frame._replace(
        state=held.expand(1, 1, 8, 16).contiguous(),
        value=held[:, None].expand(1, 1, 16, 24).contiguous(),
    )
    gates = frame.gates._replace(a_log=torch.full((2,), -40.0, dtype=way.dtype))
    # raw sums of 24 pixels cancel to numbers of order 1
    assert error(way.write(*frame[:3], gates, mode=mode), frame.state) < 5 * way.eps
    assert error(way.write(*frame, mode=mode, rule="beta"), frame.state) < 5 * way.eps
    assert error(way.read(frame.state, frame.key), frame.value) < way.eps


# Pixels, objects and clips


@pytest.mark.parametrize("mode", MODES)
def test_order_of_pixels_does_not_matter(way: Way, mode: Any) -> None:
    frame = drawn(way.dtype, objects=2)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(1))
    mixed = frame._replace(key=frame.key[..., order], value=frame.value[..., order])
    assert error(way.write(*mixed, mode=mode), way.write(*frame, mode=mode)) < way.eps
    first = reference.start(frame.key, frame.value, mode=mode)
    assert error(reference.start(mixed.key, mixed.value, mode=mode), first) < way.eps


def test_resolution_does_not_matter_in_mass_mode_only(way: Way) -> None:
    """Every pixel twice doubles G, N and n - 1e-4: the quotients move by 1e-4 / 2n at most."""
    frame = drawn(way.dtype)
    twice = frame._replace(key=frame.key.repeat(1, 1, 2), value=frame.value.repeat(1, 1, 1, 2))
    mass, moved = frame.key.sum(2).min(), reference.start(frame.key, frame.value).abs().max()
    recalled = reference.start(frame.key, way.read(frame.state, frame.key)).abs().max()
    bound = MASS_FLOOR / (2 * mass) * (moved + recalled) + way.eps * frame.state.abs().max()
    assert bound < 1e-3
    for write in (way.write, lambda *args, **_: reference.start(*args[1:3])):
        assert (write(*twice) - write(*frame)).abs().max() <= bound

    raw, raw_twice = (reference.start(f.key, f.value, mode="paper_raw") for f in (frame, twice))
    assert error(raw_twice, 2 * raw) < way.eps
    assert error(way.write(*twice, mode="paper_raw"), way.write(*frame, mode="paper_raw")) > 0.1


@pytest.mark.parametrize("mode", MODES)
def test_objects_and_clips_do_not_meet(way: Way, mode: Any) -> None:
    frame = drawn(way.dtype, batch=3, objects=3)
    dt = torch.tensor([1.0, 2.0, 5.0])
    together = way.write(*frame, mode=mode, dt=dt)
    readout = way.read(together, frame.key)
    for b in range(3):
        key = frame.key[b : b + 1]
        for n in range(3):
            one = frame.state[b : b + 1, n : n + 1], key, frame.value[b : b + 1, n : n + 1]
            alone = way.write(*one, frame.gates, mode=mode, dt=dt[b : b + 1])
            assert error(together[b, n], alone[0, 0]) < way.eps
            assert error(readout[b, n], way.read(alone, key)[0, 0]) < way.eps


# Gates


def test_open_gates_keep_and_shut_gates_forget(way: Way) -> None:
    """Through the parameters: b = sigmoid(-60 or 60) by a state column of ones, a by A_log."""
    frame = drawn(way.dtype)
    frame.state[..., 0] = 1
    w_beta = torch.zeros(2, 16, dtype=way.dtype)
    w_beta[:, 0] = -60
    bias = torch.zeros(2, dtype=way.dtype)
    keeps = Gates(w_beta, 0 * w_beta, bias - 60, bias)
    forgets = Gates(-w_beta, 0 * w_beta, bias + 10, bias)
    assert error(way.write(*frame[:3], keeps), frame.state) < way.eps
    written = reference.start(frame.key, frame.value)
    assert error(way.write(*frame[:3], forgets), written) < way.eps


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("gap", [1, 2, 3, 8])
def test_a_gap_is_as_many_steps_of_decay(way: Way, mode: Any, gap: int) -> None:
    """Where the gates do not look at the state and nothing is written; otherwise each step of
    decay would set the next one's gates. The sign of ``released_2025`` is that of one step."""
    frame = drawn(way.dtype)._replace(value=torch.zeros(1, 1, 16, 24, dtype=way.dtype))
    gates = frame.gates._replace(w_alpha=torch.zeros(2, 16, dtype=way.dtype))
    stepped = frame.state
    for _ in range(gap):
        stepped = way.write(stepped, *frame[1:3], gates, mode=mode, rule="alpha")
    dt = torch.tensor([float(gap)])
    leapt = way.write(*frame[:3], gates, mode=mode, rule="alpha", dt=dt)
    sign = (-1) ** (gap - 1) if mode == "released_2025" else 1
    assert error(sign * leapt, stepped) < 5 * way.eps
    halves = frame.state
    for _ in range(2):
        halves = way.write(halves, *frame[1:3], gates, mode=mode, rule="alpha", dt=dt / 2)
    assert error(halves.abs(), leapt.abs()) < 5 * way.eps


# Types


@pytest.mark.parametrize("name", ["frame", "write"])
def test_float32_follows_float64_over_a_clip(name: str) -> None:
    """Released sizes, 16 frames, each side going on from its own state."""
    sizes = {"rows": 64, "columns": 256, "heads": 8, "pixels": 256, "scale": 3.0}
    way, first = WAYS[name], drawn(torch.float32, seed=100, **sizes)
    state, exact = reference.start(*first[1:3]), reference.start(*wide(first)[1:3])
    for seed in range(16):
        _, key, value, _ = drawn(torch.float32, seed=seed, **sizes)
        state = way.write(state, key, value, first.gates)
        exact = reference.step(exact, key.double(), value.double(), wide(first).gates)
        assert error(state, exact) < 1e-5
        assert error(way.read(state, key), reference.read(exact, key.double())) < 1e-5


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_inputs_lose_only_their_own_rounding(mode: Any, dtype: torch.dtype) -> None:
    exact = drawn(objects=2, rows=16, columns=32, pixels=64)
    narrow = [x.to(dtype) for x in exact[1:3]]
    gates = Gates(*(x.float() for x in exact.gates))
    state, readout = op.frame(exact.state.float(), *narrow, gates, mode=mode)
    want = reference.step(*exact, mode=mode)
    assert (state.dtype, readout.dtype) == (torch.float32, dtype)
    assert error(state, want) < 2e-2
    assert error(readout, reference.read(want, exact.key)) < 2e-2
    rounded = reference.step(exact.state, *(x.double() for x in narrow), exact.gates, mode=mode)
    assert error(state, rounded) < 1e-5
