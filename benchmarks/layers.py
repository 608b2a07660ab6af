"""Memory layers without training: who remembers what, in the same bytes, and what a frame costs.

`python benchmarks/layers.py` prints the tables of docs/layers.md; `retain bench layers` the rows.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, cosine_similarity, interpolate, normalize

from retain.apps.bench import Row, script
from retain.memory.layers.base import Frame, Layer, phi
from retain.memory.layers.block_linear import BlockLinear
from retain.memory.layers.cached import Cached
from retain.memory.layers.frame_delta import FrameDelta
from retain.memory.layers.kalman import Kalman, chebyshev
from retain.memory.layers.mixture import Mixture
from retain.memory.layers.recall import associative_recall
from retain.memory.layers.token_delta import TokenDelta

AREA = "memory"
BUDGET, LARGE = 16 * 1024, 128 * 1024
"""Bytes of every contender's state."""

TOKENS, STEPS = (16, 64, 256), (5, 10, 20, 30, 50)
PAIRS = (8, 16, 32, 64, 128, 256)
LENGTHS = (4, 16, 64, 256)
"""Frames of a clip, 16 patches each."""

PATCH, SIDE, NOISE = 8, 4, 0.25
"""Patch and frame (in patches); noise on a query's pixels, in deviations of the picture's."""

VALUE_DIM = 48
"""Of a patch: 4 x 4 x 3."""

CACHED_KEY = 48
WINDOW, ALL = "window of the last tokens", "every token (no bound)"
"""Peers that keep keys and values as they are and answer with the nearest."""

KNOWN = {
    "linear": (0.902, 0.830, 0.707, 0.580, 0.447, 0.334),
    "token delta": (0.929, 0.860, 0.664, 0.454, 0.243, 0.125),
    "Kalman, 30 steps": (0.999, 0.993, 0.910, 0.697, 0.496, 0.352),
    "cached GRM": (0.929, 0.860, 0.739, 0.669, 0.558, 0.456),
    "cached SSC, top 2": (0.929, 0.860, 0.739, 0.645, 0.518, 0.395),
}
"""Of a separate study of the same rules, 32 x 32, 8 seeds."""

Sized = Callable[[int], Layer]
"""A layer of so many key channels."""


@dataclass(frozen=True)
class Contender:
    """``positive``: keys go through ``phi`` first. ``beta``: strength of every write."""

    make: Sized
    positive: bool = False
    beta: float = 1.0


def _delta(dim: int) -> Layer:
    return TokenDelta(1, dim, VALUE_DIM)


def _mixture(states: int, dim: int) -> Layer:
    router = 8 * torch.randn(states, 1, dim, generator=torch.Generator().manual_seed(0))
    return Mixture(_delta(dim), router, top=1, shared=False)


CONTENDERS = {
    "linear": Contender(lambda d: BlockLinear(1, d, VALUE_DIM, normalise=False)),
    "block linear, normalised": Contender(lambda d: BlockLinear(1, d, VALUE_DIM), positive=True),
    "token delta": Contender(_delta),
    "token delta, strength 0.2": Contender(_delta, beta=0.2),
    "frame delta": Contender(lambda d: FrameDelta(1, d, VALUE_DIM, normalise=False)),
    "frame delta, normalised": Contender(lambda d: FrameDelta(1, d, VALUE_DIM), positive=True),
    "Kalman, 30 steps": Contender(lambda d: Kalman(1, d, VALUE_DIM)),
    "Kalman, 10 steps": Contender(lambda d: Kalman(1, d, VALUE_DIM, steps=10)),
    "cached GRM, 4 + 1 states": Contender(lambda d: Cached(_delta(d), 8, 4)),
    "cached SSC, 4 + 1, top 2": Contender(lambda d: Cached(_delta(d), 8, 4, "ssc")),
    "mixture, 4 states, top 1": Contender(partial(_mixture, 4)),
}


def fitted(make: Sized, budget: int = BUDGET) -> Layer:
    """The largest of its kind within ``budget`` bytes."""
    dim = 1
    while make(dim + 1).nbytes <= budget:
        dim += 1
    return make(dim)


# --- associative recall -------------------------------------------------------------------------


def small_layers() -> dict[str, Layer]:
    """One 32 x 32 state, or copies of it: the bytes differ."""
    delta = TokenDelta(1, 32, 32)
    router = 8 * torch.randn(4, 1, 32, generator=torch.Generator().manual_seed(0))
    return {
        "linear": BlockLinear(1, 32, 32, normalise=False),
        "token delta": delta,
        "frame delta": FrameDelta(1, 32, 32, normalise=False),
        "Kalman, 30 steps": Kalman(1, 32, 32),
        "cached GRM": Cached(delta, 16, 16),
        "cached SSC, top 2": Cached(delta, 16, 16, "ssc"),
        "mixture, 4 states, top 1": Mixture(delta, router, top=1, shared=False),
    }


def associative(seeds: int) -> dict[str, list[float]]:
    return {
        name: [associative_recall(layer, n, seeds) for n in PAIRS]
        for name, layer in small_layers().items()
    }


def associative_equal(seeds: int) -> dict[str, list[float]]:
    """Layers of signed keys, each as large as ``BUDGET`` allows."""
    return {
        name: [associative_recall(fitted(c.make), n, seeds) for n in PAIRS]
        for name, c in CONTENDERS.items()
        if not c.positive and c.beta == 1
    }


# --- copied patches of a video ------------------------------------------------------------------


class Clip(NamedTuple):
    """Patches of B clips of F frames."""

    seen: Tensor
    """[B, F, T, 192], mean 0: what keys are made of."""
    hidden: Tensor
    """[B, F, T, 1, 48]: what else lies there, in small. It cannot be told from what is seen."""


def draw(clips: int, frames: int, seed: int) -> Clip:
    """A camera that walks over a textured world, two pixels a frame: what it sees is nearly the
    same in the next frame, and another after some. Every place also has a texture it cannot see."""
    rng = torch.Generator().manual_seed(seed)
    extent, size = PATCH * SIDE, 512
    world = torch.zeros(clips, 6, size, size)
    for n, amplitude in ((32, 1.0), (64, 1.0), (128, 0.7), (256, 0.4)):
        coarse = torch.randn(clips, 6, n, n, generator=rng)
        world += amplitude * interpolate(coarse, (size, size), mode="bicubic", align_corners=False)
    turn = 0.15 * torch.randn(clips, frames, generator=rng).cumsum(1)
    step = 2 * torch.stack([turn.cos(), turn.sin()], -1)
    room = size - extent - 1
    place = room * torch.rand(clips, 1, 2, generator=rng) + step.cumsum(1)
    # The walk turns back at the borders.
    place = (room - (place % (2 * room) - room).abs()).round().long()
    views = torch.stack(
        [world[b, :, y : y + extent, x : x + extent] for b in range(clips)
         for y, x in place[b].tolist()]
    )  # fmt: skip
    patches = views.unfold(2, PATCH, PATCH).unfold(3, PATCH, PATCH).permute(0, 2, 3, 1, 4, 5)
    patches = patches.reshape(clips, frames, SIDE**2, 6, PATCH, PATCH)
    patches = patches - patches.mean((4, 5), keepdim=True)
    hidden = avg_pool2d(patches[:, :, :, 3:].flatten(0, 2), 2)
    return Clip(
        patches[:, :, :, :3].flatten(3), hidden.reshape(clips, frames, SIDE**2, 1, VALUE_DIM)
    )


class Eye:
    """Keys as training would make them, roughly: patches decorrelated by other clips' statistics,
    noise allowed for, then projected at random."""

    def __init__(self) -> None:
        pixels = draw(16, 32, seed=10**6).seen.flatten(0, 2)
        values, vectors = torch.linalg.eigh(pixels.T @ pixels / len(pixels))
        self.deviation = float(pixels.std())
        self._white = vectors / (values + (NOISE * self.deviation) ** 2).sqrt()

    def keys(self, pixels: Tensor, dim: int, positive: bool = False) -> Tensor:
        """[..., 1, ``dim``] of pixels [..., 192]."""
        rng = torch.Generator().manual_seed(dim)
        project = torch.randn(self._white.shape[1], dim, generator=rng)
        seen = pixels @ (self._white @ project)
        return (phi(seen) if positive else normalize(seen, dim=-1))[..., None, :]


class Asked(NamedTuple):
    """Noisy copies of patches of every clip, Q for each age, and what lies there."""

    seen: Tensor
    """[B, ages, Q, 192]."""
    hidden: Tensor
    """[B, ages, Q, 1, 48]."""


def asked(clip: Clip, noise: float, seed: int, queries: int = 48) -> Asked:
    rng = torch.Generator().manual_seed(seed)
    clips, frames = clip.seen.shape[:2]
    spans = ((0, frames), (max(0, frames - 4), frames), (0, min(4, frames)))
    frame = torch.stack([torch.randint(*s, (clips, queries), generator=rng) for s in spans], 1)
    place = torch.randint(SIDE**2, frame.shape, generator=rng)
    rows = torch.arange(clips)[:, None, None]
    true = clip.seen[rows, frame, place]
    return Asked(
        true + noise * torch.randn(true.shape, generator=rng), clip.hidden[rows, frame, place]
    )


def video(frames: int, clips: int, budget: int, eye: Eye) -> dict[str, list[float]]:
    """Mean cosine by age for every contender, then for a window of tokens and for all tokens."""
    clip = draw(clips, frames, seed=frames)
    ask = asked(clip, NOISE * eye.deviation, seed=frames)
    out = {}
    for name, contender in CONTENDERS.items():
        layer = fitted(contender.make, budget)
        k = eye.keys(clip.seen, layer.key_dim, contender.positive)
        state = layer.init(clips)
        beta, g = torch.full((clips, SIDE**2, 1), contender.beta), torch.zeros(clips, 1)
        for f in range(frames):
            state = layer.write(state, Frame(k[:, f], clip.hidden[:, f], beta, g))
        q = eye.keys(ask.seen, layer.key_dim, contender.positive).flatten(1, 2)
        out[name] = _by_age(layer.read(state, q).view_as(ask.hidden), ask)
    out[WINDOW] = _nearest(clip, ask, eye, budget // (4 * (CACHED_KEY + VALUE_DIM)))
    out[ALL] = _nearest(clip, ask, eye, frames * SIDE**2)
    return out


def _nearest(clip: Clip, ask: Asked, eye: Eye, last: int) -> list[float]:
    """What a cache of the ``last`` tokens answers: the value of the nearest key."""
    k = eye.keys(clip.seen, CACHED_KEY).flatten(1, 2)[:, -last:, 0]
    v = clip.hidden.flatten(1, 2)[:, -last:]
    q = eye.keys(ask.seen, CACHED_KEY)[..., 0, :]
    best = torch.einsum("baqd,btd->baqt", q, k).argmax(-1)
    return _by_age(v[torch.arange(len(v))[:, None, None], best], ask)


def _by_age(read: Tensor, ask: Asked) -> list[float]:
    mean: list[float] = cosine_similarity(read, ask.hidden, dim=-1).mean((0, 2, 3)).tolist()
    return mean


# --- time ---------------------------------------------------------------------------------------


def times(repeats: int) -> dict[str, tuple[float, float]]:
    """Best milliseconds of thread time to write a frame of 196 cells and to read as many."""
    out = {}
    rng = torch.Generator().manual_seed(0)
    for name, contender in CONTENDERS.items():
        layer = fitted(contender.make)
        k = phi(torch.randn(1, 196, 1, layer.key_dim, generator=rng))
        v = torch.randn(1, 196, 1, VALUE_DIM, generator=rng)
        frame = Frame(k, v, torch.full((1, 196, 1), contender.beta), torch.zeros(1, 1))
        state = layer.write(layer.init(1), frame)
        out[name] = (
            _best(partial(layer.write, state, frame), repeats),
            _best(partial(layer.read, state, k), repeats),
        )
    return out


def _best(run: Callable[[], object], repeats: int) -> float:
    best = math.inf
    for _ in range(repeats):
        start = time.thread_time()
        run()
        best = min(best, time.thread_time() - start)
    return 1e3 * best


# --- stability and convergence ------------------------------------------------------------------


def growth() -> dict[str, list[float]]:
    """Frames until a frame delta without its key scale is longer than 1e6, and how long the one
    with it is after 200, by tokens a frame: keys of random textures, strength 0.99, decay 0.99."""
    out: dict[str, list[float]] = {"without the scale": [], "with it, length after 200": []}
    for scale, row in zip(("none", "tokens"), out.values(), strict=True):
        for tokens in TOKENS:
            rng = torch.Generator().manual_seed(0)
            layer = FrameDelta(1, 32, 32, normalise=False, key_scale=scale)  # type: ignore[arg-type]
            state, frames, length = layer.init(1, torch.float64), 0, 0.0
            while frames < 200 and length < 1e6:
                k = phi(torch.randn(1, tokens, 1, 32, generator=rng))
                v = torch.randn(1, tokens, 1, 32, generator=rng)
                beta, g = torch.full((1, tokens, 1), 0.99), torch.full((1, 1), -0.01)
                state = layer.write(state, Frame(k, v, beta, g))
                frames, length = frames + 1, float(state["s"].norm())
            row.append(frames if scale == "none" else length)
    return out


def convergence() -> dict[str, list[float]]:
    """Relative error of the Chebyshev iteration against a direct solve, by steps; keys written."""
    rng = torch.Generator().manual_seed(0)
    out = {}
    for count in (8, 64, 512):
        k = normalize(torch.randn(count, 64, generator=rng, dtype=torch.float64), dim=-1)
        h, q = k.T @ k, normalize(torch.randn(64, 64, generator=rng, dtype=torch.float64), dim=-1)
        true = torch.linalg.solve(h + 0.02 * h.norm() * torch.eye(64), q.T).T
        errors = [float((chebyshev(h, q, n) - true).norm() / true.norm()) for n in STEPS]
        out[f"{count} keys of 64 channels"] = errors
    return out


# --- what is printed ----------------------------------------------------------------------------


def measure(quick: bool = False) -> list[Row]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            return _measure(quick)
    finally:
        torch.set_num_threads(before)


def _measure(quick: bool) -> list[Row]:
    seeds, clips = (8, 4) if quick else (64, 12)
    own = associative(seeds)
    bytes_of = {name: layer.nbytes for name, layer in small_layers().items()}
    _show("Associative recall, mean cosine, by pairs", PAIRS, own, bytes_of)
    sizes = {name: fitted(c.make).nbytes for name, c in CONTENDERS.items()}
    large = {name: fitted(c.make, LARGE).nbytes for name, c in CONTENDERS.items()}
    _show(f"The same, every state in {BUDGET} bytes", PAIRS, associative_equal(seeds), sizes)
    eye = Eye()
    lengths = LENGTHS[:3] if quick else LENGTHS
    columns = (*map(str, lengths), "last 4", "first 4")
    for budget, own_sizes in ((BUDGET, sizes), (LARGE, large)):
        found = [video(frames, clips, budget, eye) for frames in lengths]
        table = {n: [by[n][0] for by in found] + found[-1][n][1:] for n in found[0]}
        title = f"Copied patches, mean cosine, {budget} bytes, by frames; of the longest also"
        _show(f"{title} the last and first 4 frames", columns, table, own_sizes)
    _show("Frame delta: frames until it is longer than 1e6, by tokens", TOKENS, growth(), {})
    _show("Chebyshev, relative error by steps", STEPS, convergence(), {})
    cost = times(20 if quick else 200)
    _show("Thread ms per frame of 196 cells", ("write", "read"), cost, sizes)
    worst = max(
        abs(a - b) for name, known in KNOWN.items() for a, b in zip(own[name], known, strict=True)
    )
    rows = [
        Row(name="recall table, largest difference from the study's", value=worst,
            unit="cosine", bar="<= 0.03", met=worst <= 0.03),
    ]  # fmt: skip
    for name in CONTENDERS:
        value, other = table[name][len(lengths) - 1], table[ALL][len(lengths) - 1]
        rows.append(
            Row(name=f"patches of any of {lengths[-1]} frames in {LARGE} bytes, {name}",
                value=value, unit="cosine", peer=ALL, peer_value=other, ratio=value / other)
        )  # fmt: skip
    for name, (write, read) in cost.items():
        other = sum(cost["token delta"])
        rows.append(
            Row(name=f"write and read a frame, {name}", value=write + read, unit="ms",
                peer="token delta", peer_value=other, ratio=other / (write + read))
        )  # fmt: skip
    return rows


def _show(
    title: str,
    columns: tuple[object, ...],
    table: dict[str, list[float]] | dict[str, tuple[float, float]],
    sizes: dict[str, int],
) -> None:
    """A table as the documents have it."""
    print(f"\n{title}\n")
    print("| layer | bytes | " + " | ".join(str(c) for c in columns) + " |")
    print("|---|---|" + "---|" * len(columns))
    for name, values in table.items():
        numbers = " | ".join(map(_number, values))
        print(f"| {name} | {sizes.get(name, '')} | {numbers} |")


def _number(value: float) -> str:
    return f"{value:.3f}" if 1e-3 <= abs(value) < 1 else f"{value:.3g}"


if __name__ == "__main__":
    script(measure, "memory layers")
