"""The kernels of the roofline: what each has to do at least, counted, and a run of it.

Counts are of the algorithm, not of the machine's instructions: a product and a sum are two
operations, exp2 is the polynomial it is computed by, other functions are one. Bytes are what must
be read and written once, at the sizes of the arrays. Traffic of intermediate results is not in
them: it is what a kernel can save.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import bank_read as reads
import gated_delta as delta
import gated_delta_scan as scans
import numpy as np
import rasterize as splats
import scorer
import torch
from torch import Tensor
from torch.nn import functional as F

from retain.kernels.bank_read import op as bank
from retain.kernels.curvature import op as curvature
from retain.kernels.gated_delta import op
from retain.kernels.gated_delta.chunked import chunked
from retain.kernels.gated_delta.reference import Gates
from retain.kernels.rasterize import cpu as raster
from retain.kernels.voxel_merge import cpu as merging
from retain.kernels.voxel_merge import reference as merging_reference
from retain.memory.router import RouterConfig, RouterState
from retain.models.encoders.mobile import InvertedResiduals, MobileNetV2

EXP2 = 13
"""Operations: five products and sums, the split of the exponent, the scaling."""
CHUNK = 32


@dataclass(frozen=True)
class Kernel:
    """One kernel at one size; ``run`` does it once. It has passed its oracle when this is made."""

    name: str
    flops: float
    nbytes: float
    run: Callable[[], object]
    wide: bool = False
    """Whether it computes in float64."""

    @property
    def intensity(self) -> float:
        """Operations to a byte."""
        return self.flops / self.nbytes


def kernels(device: str) -> Iterator[Kernel]:
    """All of them on the CPU; on CUDA those that run there."""
    for size in delta.SIZES:
        yield gated_delta(size, device)
    yield scan(device)
    yield attention(device)
    yield routing(16, device)
    yield normalise(device)
    yield encoder(device)
    if device == "cpu":
        yield from rasteriser()
        yield voxels()


def _to(device: str, *tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(tensor.to(device) for tensor in tensors)


def gated_delta(size: str, device: str) -> Kernel:
    """A frame written and read: G, N, G S and the read are products, the rest two dots of a row for
    each head, the gates, and six operations for each number of the state."""
    rows, columns, heads, side = delta.SIZES[size]
    state, key, value, gates = delta.frame(rows, columns, heads, side)
    delta.check(state, key, value, gates, side)
    state, key, value, *own = _to(device, state, key, value, *gates)
    flops, nbytes = gated_delta_cost(rows, columns, heads, side * side)
    return Kernel(
        f"gated delta, a frame, {size}",
        flops,
        nbytes,
        lambda: op.frame(state, key, value, Gates(*own)),
    )


def gated_delta_cost(rows: int, columns: int, heads: int, cells: int) -> tuple[float, float]:
    products = 2 * rows * rows * cells + 2 * 2 * rows * columns * cells + 2 * rows * rows * columns
    rest = rows * (4 * columns * heads + 6 * columns + cells)
    moved = 4 * (2 * rows * columns + rows * cells + 2 * columns * cells)
    return products + rest, moved


def scan(device: str) -> Kernel:
    """784 tokens, 32 at a time; ``chunked.py`` has the formula. Triangles count half."""
    scans.check(1)
    given = _to(device, *(x.float() for x in scans.tokens(1, seed=0)))
    c, k, v, t = CHUNK, scans.KEY_DIM, scans.VALUE_DIM, scans.TOKENS
    flops = t * (2 * c * k + c * c / 3 + 2 * c * v + 6 * k * v)
    return Kernel(
        f"gated delta rule, {t} tokens, {k}x{v}",
        flops,
        4 * (t * (2 * k + 2 * v + 2) + 2 * k * v),
        lambda: chunked(*given),
    )


def attention(device: str) -> Kernel:
    """The read of a bank: two products, and of each score maximum, difference, exp2, sum."""
    queries, keys, channels = reads.SIZES[0]
    held, _ = reads.filled(channels, own := reads.weights(channels))
    rng = torch.Generator().manual_seed(2)
    reads.check(held, torch.randn(queries, channels, generator=rng), own, keys)
    read = held.read("s", reads.BankQuery(count=keys))
    query = torch.randn(1, queries, reads.HEADS, channels // reads.HEADS, generator=rng)
    q, k, v, index = _to(device, query, read.keys, read.values, read.index[None])
    return Kernel(
        f"bank read, {queries} queries, {keys} rows, {channels} channels",
        4 * queries * keys * channels + queries * keys * reads.HEADS * (3 + EXP2),
        4 * (2 * queries * channels + 2 * keys * channels),
        lambda: bank.read(q, k, v, index),
    )


def routing(streams: int, device: str) -> Kernel:
    """Eleven operations a number: its square, the unit, two displacements, a square, a product."""
    scorer.check()
    dim, rng = 1280, np.random.default_rng(0)
    state = RouterState.fresh(streams, dim)
    features, history, numbers, times, flags, params = _to(
        device,
        torch.from_numpy(rng.standard_normal((streams, dim)).astype(np.float32)),
        torch.from_numpy(state.history),
        torch.from_numpy(state.numbers),
        torch.zeros(streams, dtype=torch.float64),
        torch.zeros(streams, dtype=torch.uint8),
        torch.from_numpy(RouterConfig().params()),
    )

    def run() -> None:
        times.add_(1.0)
        features.neg_()
        curvature.curvature_step(features, history, numbers, times, flags, params, True)

    return Kernel(f"score and routing, {streams} streams", 11 * streams * dim,
                  16 * streams * dim, run)  # fmt: skip


def normalise(device: str) -> Kernel:
    """uint8 pictures to normalised float32, as encoders take them: a difference, a product."""
    encoder = MobileNetV2(device=device)
    side = 224
    pictures = np.random.default_rng(0).integers(0, 256, (8, side, side, 3), np.uint8)
    made = encoder.normalise(pictures).cpu().double()
    mean, scale = encoder._mean.cpu().double(), encoder._scale.cpu().double()
    truth = ((torch.from_numpy(pictures).double() - mean) * scale).permute(0, 3, 1, 2)
    torch.testing.assert_close(made, truth, atol=1e-5, rtol=0)
    n = pictures.size
    return Kernel(f"uint8 to normalised float, 8 of {side}x{side}", 2 * n, 5 * n,
                  lambda: encoder.normalise(pictures))  # fmt: skip


def encoder(device: str) -> Kernel:
    """The network that describes a frame: its products; weights, pictures and features once."""
    encoder = MobileNetV2(device=device)
    network = encoder._network
    assert isinstance(network, InvertedResiduals)
    rng = torch.Generator().manual_seed(3)
    x = torch.randn(1, 3, 160, 160, generator=rng).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        truth, flops = _convolved(network, x.double())
        torch.testing.assert_close(network(x.to(device)).cpu().double(), truth, atol=1e-4, rtol=0)
    weights = sum(len(c.bias) + c.weight.numel() for chain, _ in network.blocks for c in chain)
    (given,) = _to(device, x)
    return Kernel("MobileNetV2, a frame of 160x160", flops,
                  4 * (weights + x.numel() + truth.numel()), lambda: network(given))  # fmt: skip


def _convolved(network: InvertedResiduals, x: Tensor) -> tuple[Tensor, float]:
    """The network in the type of ``x``, and its operations."""
    flops = 0.0
    for chain, adds in network.blocks:
        y = x
        for c in chain:
            weight, bias = c.weight.cpu().to(x), c.bias.cpu().to(x)
            before = c.padding[0]
            y = F.conv2d(y, weight, bias, c.stride, before, groups=y.shape[1] // weight.shape[1])
            flops += 2.0 * weight[0].numel() * y.numel()
            y = y.clamp(0, 6) if c.relu6 else y
        x = y + x if adds else y
    return x.mean((2, 3)), flops


def rasteriser() -> Iterator[Kernel]:
    """50,000 Gaussians at 320x240, colours and depth. What is blended depends on the scene, so the
    rows of 16 pixels that each Gaussian comes to are counted in it."""
    splats.check(splats.cloud(1000, 128, 96, 0.05, None))
    n, width, height, channels = 50_000, 320, 240, 4
    scene = splats.cloud(n, width, height, 0.03, None)
    a = {k: np.ascontiguousarray(v) for k, v in scene.items() if isinstance(v, Tensor)}
    shape = (a["means"], a["quats"], a["scales"], np.empty((0, 6), np.float32))
    side = (width, height)

    def project() -> Any:
        return raster.project(
            *shape, a["opacities"], a["viewmats"], a["Ks"], *side, 0.01, 1e10, 0.0, 0.3, False
        )

    seen = project()
    flat = [each[0] for each in (seen.means2d, seen.depths, seen.conics)]
    none = np.empty((0, 6), np.float32)

    def draw() -> raster.Picture:
        return raster.pixels(
            *flat, a["opacities"], seen.radii[0], none, a["colors"], *side, with_depth=True
        )

    picture = draw()
    visited, blended = _rows_blended(picture, width, height)
    drawn, pixels = len(picture.tiles.order), width * height
    yield Kernel("project, 50,000 Gaussians", project_flops(n, drawn), 4.0 * n * (11 + 9), project,
                 wide=True)  # fmt: skip
    yield Kernel(
        "tile and blend, 320x240",
        16.0 * (5 * visited + (EXP2 + 5 + 2 * channels) * blended),
        4.0 * (drawn * (8 + channels + 8) + pixels * (channels + 2)),
        draw,
    )
    gradients = np.ones((height, width, channels), np.float32)
    d_alpha = np.ones((height, width), np.float32)

    def back() -> Any:
        return raster.pixels_backward(
            gradients, d_alpha, *flat, a["opacities"], none, picture.left, picture.reached,
            picture.tiles, picture.splats, np.zeros((n, 3), np.float32), False,
        )  # fmt: skip

    yield Kernel(
        "blend, backward",
        16.0 * (6 * visited + (EXP2 + 24 + 4 * channels) * blended),
        4.0 * (drawn * (8 + channels + 8 + channels) + pixels * (2 * channels + 3)),
        back,
    )
    d_means2d, d_depths, d_conics, _, _ = back()
    given = [x[None] for x in (d_means2d, d_depths, d_conics)]

    def project_back() -> Any:
        return raster.project_backward(
            *shape, a["viewmats"], a["Ks"], *side, 0.3, seen.radii, *given,
            np.zeros_like(seen.depths),
        )  # fmt: skip

    yield Kernel("project, backward", 430.0 * drawn, 4.0 * (n * (11 + 10) + drawn * 6),
                 project_back, wide=True)  # fmt: skip


def project_flops(n: int, drawn: int) -> float:
    """Rotation and covariance 100, camera 18 for every Gaussian; the Jacobian 22, J Sigma J^T 45,
    the inverse, box and extent 40 for those that are drawn."""
    return 118.0 * n + 107.0 * drawn


def _rows_blended(picture: raster.Picture, width: int, height: int) -> tuple[int, int]:
    """Rows of a tile that its Gaussians come to before all their pixels have ended, and those of
    them in which one alpha counts."""
    tiles, splat, size = picture.tiles, picture.splats, raster.TILE
    visited = blended = 0
    for tile in range(len(tiles.starts) - 1):
        x0, y0 = tile % -(-width // size) * size, tile // -(-width // size) * size
        ended = picture.reached[y0 : y0 + size, x0 : x0 + size]
        one = splat[tiles.slots[tiles.starts[tile] : tiles.starts[tile + 1]], :8]
        x, y, curve, shear, fall, peak, half = one.T[:7, :, None]
        rows = y0 + np.arange(len(ended)) + 0.5
        there = (rows >= y - half - 1e-3) & (rows <= y + half + 1e-3)
        there &= np.arange(len(one))[:, None] < ended.max(axis=1)
        visited += int(there.sum())
        dx, dy = x0 + np.arange(ended.shape[1]) + 0.5 - x, rows - y
        u = dx[:, None, :] + (shear * dy)[:, :, None]
        power = (peak - fall * dy * dy)[:, :, None] - curve[:, :, None] * u * u
        blended += int((there & (power >= np.log2(1 / 255)).any(axis=2)).sum())
    return visited, blended


def voxels() -> Kernel:
    """20,000 Gaussians into 150,000, three in four into a voxel that is taken: a hash of all keys,
    moments of the new ones, and for each voxel that changes an eigenvalue problem (two sweeps)."""
    _check_merge()
    old, new = 150_000, 20_000
    keys, columns = _gaussians(old, new, 1)
    rows = np.arange(old, old + new)

    def run() -> None:
        _merge(keys, columns, old, rows)

    found = merging.targets(keys, old, rows)
    joined = int((found != rows).sum())
    changed = len(np.unique(found[found != rows]))
    return Kernel(
        f"voxel merge, {new // 1000},000 into {old // 1000},000",
        150.0 * joined + 650.0 * changed,
        12.0 * (old + new) + 72.0 * joined + 2 * 56.0 * changed,
        run,
        wide=True,
    )


def _gaussians(old: int, new: int, seed: int) -> tuple[np.ndarray, merging.Columns]:
    rng = np.random.default_rng(seed)
    keys = rng.permutation(4 * old)[:old].astype(np.int64)
    fresh = 4 * old + rng.integers(0, new, new // 4)
    keys = np.concatenate(
        [keys, rng.permutation(np.concatenate([keys[: new - len(fresh)], fresh]))]
    )
    n = len(keys)
    quats, normals = rng.standard_normal((n, 4)), rng.standard_normal((n, 3))
    parts = (
        rng.standard_normal((n, 3)), quats / np.linalg.norm(quats, axis=1, keepdims=True),
        np.exp(rng.uniform(-5, -3, (n, 3))), rng.uniform(0.1, 1, n), rng.uniform(0, 1, (n, 3)),
        normals, rng.uniform(0.1, 1, n),
    )  # fmt: skip
    return keys, merging.Columns(*(np.ascontiguousarray(part, np.float32) for part in parts))


def _merge(
    keys: np.ndarray, columns: merging.Columns, start: int, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """As the memory does; rows merged away, and heads."""
    found = merging.targets(keys, start, rows)
    going = rows[found != rows]
    heads, group = merging.groups(found[found != rows], len(keys))
    evidence = np.bincount(group, columns.weights[going], len(heads)).astype(np.float32)
    share = evidence / (columns.weights[heads] + evidence)
    merging.blend(columns, going, group, heads, evidence, share)
    return going, heads


def _check_merge() -> None:
    keys, columns = _gaussians(60, 40, 2)
    tensors = [torch.from_numpy(x.copy()).double() for x in
               (columns.means, columns.quats, columns.scales, columns.weights)]  # fmt: skip
    means, quats, scales, weights = tensors
    covariance = merging_reference.covariances(quats, scales)
    wanted = merging_reference.merge(
        torch.from_numpy(keys), means, covariance, means, weights, lambda w, e: (e / (w + e), w + e)
    )
    going, _ = _merge(keys, columns, 60, np.arange(60, 100))
    kept = np.setdiff1d(np.arange(100), going)
    np.testing.assert_allclose(columns.means[kept], wanted[1], rtol=2e-5, atol=2e-6)
