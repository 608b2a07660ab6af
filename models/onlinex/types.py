"""What goes in and comes out of the network with every frame."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Maps:
    """Gaussians of one picture, one per block of ``head_stride`` pixels, in rows; values activated.

    B batch, n = (S / head_stride)^2. All float32.
    """

    centres: Tensor
    """[B, n, 3] metres, in the frame that the field holding these maps names."""
    confidence: Tensor
    """[B, n], above 1."""
    scales: Tensor
    """[B, n, 3] metres."""
    quats: Tensor
    """[B, n, 4] wxyz, unit."""
    opacities: Tensor
    """[B, n] in 0..1."""
    colours: Tensor
    """[B, n, 3] RGB; the picture's in 0..1, give or take a quarter."""
    codes: Tensor
    """[B, n, language], unit."""

    def moved(self, c2w: Tensor) -> Maps:
        """Rigidly moved by ``c2w`` [B, 4, 4]."""
        return replace(
            self,
            centres=transform(c2w, self.centres),
            quats=multiply(quaternion(c2w[:, :3, :3])[:, None], self.quats),
        )


@dataclass(frozen=True, slots=True)
class State:
    """All that the network remembers: its size does not depend on how many frames came."""

    anchors: Tensor
    """[B, A, D], the stable state."""
    weight: Tensor
    """[B, A], how much each anchor has been told (policy ``confidence``)."""
    previous: Tensor
    """[B, N, dim], the encoder's tokens of the previous picture."""
    picture: Tensor
    """[B, 3, S, S], the previous picture."""
    pose: Tensor
    """[B, 4, 4], c2w of the previous camera in the frame of the first."""
    step: int = 0
    """Frames seen, by all of the batch."""

    def detach(self) -> State:
        """Cut from the graph: gradients end here."""
        return State(**{k: v.detach() for k, v in self.tensors().items()}, step=self.step)

    def tensors(self) -> dict[str, Tensor]:
        """Everything but ``step``, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "step"}


@dataclass(frozen=True, slots=True)
class Out:
    """What one frame gives."""

    relative: Maps
    """In the camera of frame t - 1."""
    global_: Maps
    """In the camera of the first frame."""
    relative_pose: Tensor
    """[B, 4, 4], c2w of camera t in camera t - 1."""
    pose: Tensor
    """[B, 4, 4], c2w of camera t in the first camera."""
    features: Tensor
    """[B, n, head_dim], what fusion averages."""
    depth: Tensor
    """[B, n] metres along the axis of camera t, of the relative maps."""
    size: Tensor
    """[B, n] metres, width of a Gaussian's block of pixels at that depth."""

    def believed(self, gate: float) -> Out:
        """The same with ``gate`` times the confidence where a map fuses it."""
        sure = replace(self.global_, confidence=gate * self.global_.confidence)
        return replace(self, global_=sure)


def transform(c2w: Tensor, points: Tensor) -> Tensor:
    """``points`` [B, n, 3] moved by ``c2w`` [B, 4, 4]."""
    return points @ c2w[:, :3, :3].mT + c2w[:, None, :3, 3]


def inverse(c2w: Tensor) -> Tensor:
    """Of rigid [B, 4, 4]."""
    turn = c2w[:, :3, :3].mT
    return rigid(turn, -(turn @ c2w[:, :3, 3:])[..., 0])


def rigid(turn: Tensor, shift: Tensor) -> Tensor:
    """[B, 3, 3] and [B, 3] to [B, 4, 4]."""
    top = torch.cat([turn, shift[:, :, None]], -1)
    last = top.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(len(top), 1, 4)
    return torch.cat([top, last], 1)


def corrected(c2w: Tensor, change: Tensor) -> Tensor:
    """``c2w`` turned in its camera and shifted in its world by ``change``, [B, 4, 4] both."""
    turn = c2w[:, :3, :3] @ change[:, :3, :3]
    return rigid(turn, c2w[:, :3, 3] + change[:, :3, 3])


def upright(c2w: Tensor) -> Tensor:
    """[B, 4, 4] with a turn that is one again: products of many drift from that by rounding."""
    return rigid(rotation(quaternion(c2w[:, :3, :3])), c2w[:, :3, 3])


def rotation(quats: Tensor) -> Tensor:
    """Unit quaternions wxyz [..., 4] to rotations [..., 3, 3]."""
    w, x, y, z = quats.unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, -1).reshape(*quats.shape[:-1], 3, 3)


def quaternion(turn: Tensor) -> Tensor:
    """Rotations [..., 3, 3] to unit quaternions wxyz [..., 4], w >= 0 but for rounding.

    Each row of 4 q q^T is a multiple of the quaternion; the one with the largest diagonal is taken,
    so that no square root is near zero and gradients are finite.
    """
    m = [[turn[..., i, j] for j in range(3)] for i in range(3)]
    a, b, c = m[2][1] - m[1][2], m[0][2] - m[2][0], m[1][0] - m[0][1]
    d, e, f = m[1][0] + m[0][1], m[0][2] + m[2][0], m[2][1] + m[1][2]
    x, y, z = m[0][0], m[1][1], m[2][2]
    outer = torch.stack([
        torch.stack([1 + x + y + z, a, b, c], -1),
        torch.stack([a, 1 + x - y - z, d, e], -1),
        torch.stack([b, d, 1 - x + y - z, f], -1),
        torch.stack([c, e, f, 1 - x - y + z], -1),
    ], -2)  # fmt: skip
    best = outer.diagonal(dim1=-2, dim2=-1).argmax(-1)
    row = outer.gather(-2, best[..., None, None].expand(*best.shape, 1, 4)).squeeze(-2)
    unit = torch.nn.functional.normalize(row, dim=-1)
    return torch.where(unit[..., :1] < 0, -unit, unit)


def multiply(p: Tensor, q: Tensor) -> Tensor:
    """Hamilton product of wxyz quaternions: first ``q``'s turn, then ``p``'s."""
    a, b, c, d = p.unbind(-1)
    w, x, y, z = q.unbind(-1)
    return torch.stack([
        a * w - b * x - c * y - d * z, a * x + b * w + c * z - d * y,
        a * y - b * z + c * w + d * x, a * z + b * y - c * x + d * w,
    ], -1)  # fmt: skip
