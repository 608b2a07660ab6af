"""Gaussians to the picture plane, and gradients back, one at a time, in double precision inside.

Where a Gaussian's centre is far outside the picture, the Jacobian of the projection is taken at
the border (30% beyond): ``clamp``. ``reference.project`` is the definition.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from retain.kernels.rasterize.cpu_tiles import EXTENT
from retain.kernels.rasterize.lanes import compiled

# Indices of ``settings``.
NEAR, FAR, CLIP, BLUR = range(4)
MARGIN = 0.15
"""How far beyond the picture's border the Jacobian follows, as a share of its size."""
SMALLEST = 1 / 255
"""Opacity."""


@compiled
def rotation(quat: Any) -> Any:
    """The nine numbers of the matrix of ``quat`` wxyz, and its length."""
    w, x = np.float64(quat[0]), np.float64(quat[1])
    y, z = np.float64(quat[2]), np.float64(quat[3])
    length = math.sqrt(w * w + x * x + y * y + z * z)
    w, x, y, z = w / length, x / length, y / length, z / length
    return (
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
        length,
    )  # fmt: skip


@compiled
def covariance(quat: Any, scale: Any) -> Any:
    """xx, xy, xz, yy, yz, zz of R S S R^T."""
    a, b, c, d, e, f, g, h, i, _ = rotation(quat)
    s, t, u = np.float64(scale[0]) ** 2, np.float64(scale[1]) ** 2, np.float64(scale[2]) ** 2
    return (
        a * a * s + b * b * t + c * c * u,
        a * d * s + b * e * t + c * f * u,
        a * g * s + b * h * t + c * i * u,
        d * d * s + e * e * t + f * f * u,
        d * g * s + e * h * t + f * i * u,
        g * g * s + h * h * t + i * i * u,
    )


@compiled
def numbers_of(covar: Any) -> Any:
    return (
        np.float64(covar[0]), np.float64(covar[1]), np.float64(covar[2]),
        np.float64(covar[3]), np.float64(covar[4]), np.float64(covar[5]),
    )  # fmt: skip


@compiled
def seen_from(view: Any, mean: Any) -> Any:
    """Camera coordinates."""
    x, y, z = np.float64(mean[0]), np.float64(mean[1]), np.float64(mean[2])
    return (
        view[0, 0] * x + view[0, 1] * y + view[0, 2] * z + view[0, 3],
        view[1, 0] * x + view[1, 1] * y + view[1, 2] * z + view[1, 3],
        view[2, 0] * x + view[2, 1] * y + view[2, 2] * z + view[2, 3],
    )


@compiled
def clamp(ratio: float, focal: float, center: float, size: int) -> float:
    margin = MARGIN * size
    return min(max(ratio, -(center + margin) / focal), (size - center + margin) / focal)


@compiled
def flatten(view: Any, K: Any, x: float, y: float, z: float, width: int, height: int) -> Any:
    """The two rows of J R, J the Jacobian of the projection."""
    tx = clamp(x / z, K[0, 0], K[0, 2], width)
    ty = clamp(y / z, K[1, 1], K[1, 2], height)
    fx, fy = K[0, 0] / z, K[1, 1] / z
    return (
        fx * (view[0, 0] - tx * view[2, 0]),
        fx * (view[0, 1] - tx * view[2, 1]),
        fx * (view[0, 2] - tx * view[2, 2]),
        fy * (view[1, 0] - ty * view[2, 0]),
        fy * (view[1, 1] - ty * view[2, 1]),
        fy * (view[1, 2] - ty * view[2, 2]),
    )


@compiled
def turned(cov: Any, x: float, y: float, z: float) -> Any:
    """The symmetric matrix times a vector."""
    return (
        cov[0] * x + cov[1] * y + cov[2] * z,
        cov[1] * x + cov[3] * y + cov[4] * z,
        cov[2] * x + cov[4] * y + cov[5] * z,
    )


@compiled
def forward(
    begin: int,
    end: int,
    means: Any,
    quats: Any,
    scales: Any,
    covars: Any,
    opacities: Any,
    views: Any,
    Ks: Any,
    width: int,
    height: int,
    settings: Any,
    antialiased: bool,
    radii: Any,
    means2d: Any,
    depths: Any,
    conics: Any,
    compensations: Any,
) -> None:
    """Of Gaussians ``begin`` to ``end`` in every camera; all zero where one is not to be drawn.

    ``covars`` [N, 6] or, when there are none, [0, 6]; ``views`` [C, 4, 4] and ``Ks`` [C, 3, 3] are
    float64; the outputs [C, N, ...].
    """
    for n in range(begin, end):
        cov = numbers_of(covars[n]) if covars.shape[0] else covariance(quats[n], scales[n])
        for c in range(views.shape[0]):
            view, K = views[c], Ks[c]
            radii[c, n, 0] = radii[c, n, 1] = 0
            means2d[c, n, 0] = means2d[c, n, 1] = depths[c, n] = compensations[c, n] = 0.0
            conics[c, n, 0] = conics[c, n, 1] = conics[c, n, 2] = 0.0
            x, y, z = seen_from(view, means[n])
            if not (settings[NEAR] <= z <= settings[FAR]):
                continue
            a, b, d, e, f, g = flatten(view, K, x, y, z, width, height)
            p, q, r = turned(cov, a, b, d)
            s, t, u = turned(cov, e, f, g)
            xx, xy, yy = a * p + b * q + d * r, a * s + b * t + d * u, e * s + f * t + g * u
            sharp = xx * yy - xy * xy
            xx, yy = xx + settings[BLUR], yy + settings[BLUR]
            det = xx * yy - xy * xy
            if not det > 0:
                continue
            compensation = math.sqrt(max(sharp / det, 0.0))
            opacity = np.float64(opacities[n]) * (compensation if antialiased else 1.0)
            if not opacity >= SMALLEST:
                continue
            extent = min(EXTENT, math.sqrt(2 * math.log(opacity / SMALLEST)))
            wide, high = math.ceil(extent * math.sqrt(xx)), math.ceil(extent * math.sqrt(yy))
            if wide <= settings[CLIP] and high <= settings[CLIP]:
                continue
            px, py = K[0, 0] * x / z + K[0, 2], K[1, 1] * y / z + K[1, 2]
            if px + wide <= 0 or px - wide >= width or py + high <= 0 or py - high >= height:
                continue
            radii[c, n, 0], radii[c, n, 1] = min(wide, 1e9), min(high, 1e9)
            means2d[c, n, 0], means2d[c, n, 1] = px, py
            depths[c, n] = z
            compensations[c, n] = compensation
            conics[c, n, 0], conics[c, n, 1], conics[c, n, 2] = yy / det, -xy / det, xx / det


@compiled
def backward(
    begin: int,
    end: int,
    share: int,
    means: Any,
    quats: Any,
    scales: Any,
    covars: Any,
    views: Any,
    Ks: Any,
    width: int,
    height: int,
    blur: float,
    radii: Any,
    d_means2d: Any,
    d_depths: Any,
    d_conics: Any,
    d_compensations: Any,
    d_means: Any,
    d_quats: Any,
    d_scales: Any,
    d_covars: Any,
    d_views: Any,
) -> None:
    """Gradients of ``forward``; ``d_views`` [shares, C, 3, 4] float64, one sum for each share."""
    d_cov = np.empty(6)
    d_flat = np.empty((2, 3))
    for n in range(begin, end):
        cov = numbers_of(covars[n]) if covars.shape[0] else covariance(quats[n], scales[n])
        d_cov[:] = 0.0
        touched = False
        for c in range(views.shape[0]):
            given = abs(d_means2d[c, n, 0]) + abs(d_means2d[c, n, 1]) + abs(d_depths[c, n])
            for j in range(3):
                given += abs(d_conics[c, n, j])
            if radii[c, n, 0] == 0 or given + abs(d_compensations[c, n]) == 0:
                continue
            touched = True
            view, K, d_view = views[c], Ks[c], d_views[begin // share, c]
            x, y, z = seen_from(view, means[n])
            a, b, d, e, f, g = flatten(view, K, x, y, z, width, height)
            p, q, r = turned(cov, a, b, d)
            s, t, u = turned(cov, e, f, g)
            xx, xy, yy = a * p + b * q + d * r, a * s + b * t + d * u, e * s + f * t + g * u
            sharp = xx * yy - xy * xy
            wide, tall = xx + blur, yy + blur
            det = wide * tall - xy * xy
            # Of the inverse Q: -Q G Q, G with half of the gradient of its middle number twice.
            A, B, C = tall / det, -xy / det, wide / det
            k, m = np.float64(d_conics[c, n, 0]), 0.5 * np.float64(d_conics[c, n, 1])
            o = np.float64(d_conics[c, n, 2])
            d_xx = -(A * (k * A + m * B) + B * (m * A + o * B))
            d_xy = -(A * (k * B + m * C) + B * (m * B + o * C))
            d_yy = -(B * (k * B + m * C) + C * (m * B + o * C))
            ratio = math.sqrt(max(sharp / det, 0.0))
            if d_compensations[c, n] != 0 and ratio > 1e-6:
                half = 0.5 * np.float64(d_compensations[c, n])
                d_xx += half * (yy / (ratio * det) - ratio * A)
                d_xy += half * (-xy / (ratio * det) - ratio * B)
                d_yy += half * (xx / (ratio * det) - ratio * C)
            # Sigma2D = F Sigma F^T.
            d_cov[0] += d_xx * a * a + 2 * d_xy * a * e + d_yy * e * e
            d_cov[1] += 2 * (d_xx * a * b + d_xy * (a * f + b * e) + d_yy * e * f)
            d_cov[2] += 2 * (d_xx * a * d + d_xy * (a * g + d * e) + d_yy * e * g)
            d_cov[3] += d_xx * b * b + 2 * d_xy * b * f + d_yy * f * f
            d_cov[4] += 2 * (d_xx * b * d + d_xy * (b * g + d * f) + d_yy * f * g)
            d_cov[5] += d_xx * d * d + 2 * d_xy * d * g + d_yy * g * g
            d_flat[0, 0], d_flat[1, 0] = 2 * (d_xx * p + d_xy * s), 2 * (d_xy * p + d_yy * s)
            d_flat[0, 1], d_flat[1, 1] = 2 * (d_xx * q + d_xy * t), 2 * (d_xy * q + d_yy * t)
            d_flat[0, 2], d_flat[1, 2] = 2 * (d_xx * r + d_xy * u), 2 * (d_xy * r + d_yy * u)
            # F's rows are f/z (R_row - t R_z), with t the ratio x/z or y/z, held at the border.
            d_z = np.float64(d_depths[c, n])
            d_eye = (0.0, 0.0)
            for axis in range(2):
                focal, size = K[axis, axis], width if axis == 0 else height
                free = (x if axis == 0 else y) / z
                held = clamp(free, focal, K[axis, 2], size)
                along = across = 0.0
                for j in range(3):
                    along += d_flat[axis, j] * view[axis, j]
                    across += d_flat[axis, j] * view[2, j]
                    d_view[axis, j] += focal / z * d_flat[axis, j]
                    d_view[2, j] -= focal / z * held * d_flat[axis, j]
                d_z -= focal / (z * z) * (along - held * across)
                d_ratio = focal * np.float64(d_means2d[c, n, axis])
                if held == free:
                    d_ratio -= focal / z * across
                d_z -= d_ratio * free / z
                d_eye = (d_ratio / z, 0.0) if axis == 0 else (d_eye[0], d_ratio / z)
            d_x, d_y = d_eye
            for j in range(3):
                m_j = np.float64(means[n, j])
                d_view[0, j] += d_x * m_j
                d_view[1, j] += d_y * m_j
                d_view[2, j] += d_z * m_j
                d_means[n, j] += view[0, j] * d_x + view[1, j] * d_y + view[2, j] * d_z
            d_view[0, 3] += d_x
            d_view[1, 3] += d_y
            d_view[2, 3] += d_z
        if not touched:
            continue
        if covars.shape[0]:
            for j in range(6):
                d_covars[n, j] = d_cov[j]
        else:
            shape_backward(quats[n], scales[n], d_cov, d_quats[n], d_scales[n])


@compiled
def shape_backward(quat: Any, scale: Any, d_cov: Any, d_quat: Any, d_scale: Any) -> None:
    """From the six numbers of a covariance to the quaternion and scales that made it."""
    a, b, c, d, e, f, g, h, i, length = rotation(quat)
    # Of the off-diagonal numbers, which stand twice in the matrix, each place has half.
    half = (d_cov[0], d_cov[1] / 2, d_cov[2] / 2, d_cov[3], d_cov[4] / 2, d_cov[5])
    turn = np.empty((3, 3))
    for j in range(3):
        s = np.float64(scale[j])
        x, y, z = (a, d, g) if j == 0 else ((b, e, h) if j == 1 else (c, f, i))
        p, q, r = turned(half, x, y, z)
        d_scale[j] = 2 * s * (x * p + y * q + z * r)
        turn[0, j], turn[1, j], turn[2, j] = 2 * s * s * p, 2 * s * s * q, 2 * s * s * r
    w, x = quat[0] / length, quat[1] / length
    y, z = quat[2] / length, quat[3] / length
    # The matrix's slopes by quaternion: differences go with w, sums with the vector's parts.
    p, q, r = turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]
    yz, xz, xy = turn[2, 1] + turn[1, 2], turn[0, 2] + turn[2, 0], turn[1, 0] + turn[0, 1]
    d_w = 2 * (x * p + y * q + z * r)
    d_x = 2 * (w * p + y * xy + z * xz - 2 * x * (turn[1, 1] + turn[2, 2]))
    d_y = 2 * (w * q + x * xy + z * yz - 2 * y * (turn[0, 0] + turn[2, 2]))
    d_z = 2 * (w * r + x * xz + y * yz - 2 * z * (turn[0, 0] + turn[1, 1]))
    along = d_w * w + d_x * x + d_y * y + d_z * z
    d_quat[0] = (d_w - along * w) / length
    d_quat[1] = (d_x - along * x) / length
    d_quat[2] = (d_y - along * y) / length
    d_quat[3] = (d_z - along * z) / length
