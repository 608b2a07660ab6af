"""Colours that change with the direction of view, as real spherical harmonics."""

from __future__ import annotations

import torch
from torch import Tensor

DEGREES = 4


def basis(degree: int, directions: Tensor) -> Tensor:
    """The (degree + 1)^2 functions at unit ``directions`` [..., 3]; [..., (degree + 1)^2].

    Within a degree by order -l..l, with the signs of Kerbl et al. 2023 (Condon-Shortley's phase).
    """
    x, y, z = directions.unbind(-1)
    xx, yy, zz = x * x, y * y, z * z
    values = [torch.full_like(x, 0.28209479177387814)]
    if degree > 0:
        values += [-0.4886025119029199 * y, 0.4886025119029199 * z, -0.4886025119029199 * x]
    if degree > 1:
        values += [
            1.0925484305920792 * x * y,
            -1.0925484305920792 * y * z,
            0.31539156525252005 * (3 * zz - 1),
            -1.0925484305920792 * x * z,
            0.5462742152960396 * (xx - yy),
        ]
    if degree > 2:
        values += [
            -0.5900435899266435 * y * (3 * xx - yy),
            2.890611442640554 * x * y * z,
            -0.4570457994644658 * y * (5 * zz - 1),
            0.3731763325901154 * z * (5 * zz - 3),
            -0.4570457994644658 * x * (5 * zz - 1),
            1.445305721320277 * z * (xx - yy),
            -0.5900435899266435 * x * (xx - 3 * yy),
        ]
    if degree > 3:
        values += [
            2.5033429417967046 * x * y * (xx - yy),
            -1.7701307697799304 * y * z * (3 * xx - yy),
            0.9461746957575601 * x * y * (7 * zz - 1),
            -0.6690465435572892 * y * z * (7 * zz - 3),
            0.10578554691520431 * (35 * zz * zz - 30 * zz + 3),
            -0.6690465435572892 * x * z * (7 * zz - 3),
            0.47308734787878004 * (xx - yy) * (7 * zz - 1),
            -1.7701307697799304 * x * z * (xx - 3 * yy),
            0.6258357354491761 * (xx * (xx - 3 * yy) - yy * (3 * xx - yy)),
        ]
    return torch.stack(values, dim=-1)


def colors(degree: int, directions: Tensor, coefficients: Tensor) -> Tensor:
    """[..., 3] of ``coefficients`` [..., K, 3] seen along ``directions`` [..., 3] of any length;
    degrees above ``degree`` are not used. As in Kerbl et al., plus 1/2 and never negative.
    """
    if not 0 <= degree <= DEGREES:
        raise ValueError(f"sh_degree must be 0 to {DEGREES}, got {degree}.")
    count = (degree + 1) ** 2
    weights = basis(degree, torch.nn.functional.normalize(directions, dim=-1))
    shade = torch.einsum("...k,...kc->...c", weights, coefficients[..., :count, :])
    return (shade + 0.5).clamp_min(0.0)
