"""Keyframes and the motions measured between them: what a loop closure bends into shape.

Nodes are poses, for monocular maps with a scale each (similarities). A residual compares a measured
motion with that between the current poses, rotation, translation and scale apart (no coupling
through the logarithm of the whole motion: simpler, and as good for small residuals). Minimised by
Levenberg-Marquardt with sparse factorisation; loops count with Cauchy's loss, so that a wrong one
is ignored rather than obeyed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retain.kernels.geometry import rigid
from retain.models.scene.tracking.base import Pose
from retain.pipeline.errors import StateError

Floats = NDArray[np.float64]
_STEPS = 20
_CAUCHY = 3.0
"""Standard deviations at which a loop begins to be doubted."""
_SCALE_SIGMA = 0.02


@dataclass(frozen=True, slots=True)
class Edge:
    """``motion`` takes coordinates of camera ``b`` to camera ``a``; ``sigma`` are its standard
    deviations in radians and metres; ``scale`` that of b's map in units of a's."""

    a: int
    b: int
    motion: Pose
    sigma: tuple[float, float]
    loop: bool = False
    scale: float = 1.0


class PoseGraph:
    """Edges between keyframes; the poses are the caller's."""

    def __init__(self) -> None:
        self._edges: dict[tuple[int, int], Edge] = {}

    def __len__(self) -> int:
        return len(self._edges)

    def add(self, edge: Edge) -> None:
        """An edge between the same two keyframes is replaced."""
        self._edges[edge.a, edge.b] = edge

    def neighbours(self, key: int) -> set[int]:
        """Ids that an edge joins with ``key``."""
        return {b if a == key else a for a, b in self._edges if key in (a, b)}

    def drop(self, key: int) -> None:
        """Take a keyframe out. Its neighbours are joined with the one it knew best."""
        touching = [self._edges.pop(pair) for pair in list(self._edges) if key in pair]
        turned = [_from(edge, key) for edge in touching]
        if not turned:
            return
        best = min(turned, key=lambda edge: (edge.sigma[1], edge.b))
        for edge in turned:
            pair = tuple(sorted((best.b, edge.b)))
            if edge is best or pair in self._edges or pair[::-1] in self._edges:
                continue
            motion = rigid.inverse(best.motion) @ edge.motion
            sigma = np.hypot(best.sigma, edge.sigma)
            joined = Edge(
                best.b, edge.b, motion, (float(sigma[0]), float(sigma[1])),
                edge.loop or best.loop, edge.scale / best.scale,
            )  # fmt: skip
            self.add(joined)

    def optimised(
        self, poses: Mapping[int, Pose], scales: Mapping[int, float] | None = None
    ) -> tuple[dict[int, Pose], dict[int, float]]:
        """Poses, and scales if given, that fit the edges best; the keyframe with the lowest id
        stays where it is. Edges with other keyframes than those of ``poses`` are left out."""
        ids = sorted(poses)
        row = {key: i for i, key in enumerate(ids)}
        edges = [e for e in self._edges.values() if e.a in row and e.b in row]
        if not edges:
            return dict(poses), dict(scales or {})
        problem = _Problem(edges, row, free_scale=scales is not None)
        nodes = _Nodes(
            np.array([poses[key][:3, :3] for key in ids]),
            np.array([poses[key][:3, 3] for key in ids]),
            np.log([(scales or {}).get(key, 1.0) for key in ids]),
        )
        nodes = problem.solve(nodes)
        out = {}
        for key, i in row.items():
            out[key] = np.eye(4)
            out[key][:3, :3] = rigid.matrix(rigid.quaternion(nodes.turn[i]))
            out[key][:3, 3] = nodes.at[i]
        out[ids[0]] = np.array(poses[ids[0]])
        freed = {key: float(np.exp(nodes.scale[i])) for key, i in row.items()}
        return out, freed if scales is not None else {}

    def arrays(self) -> dict[str, np.ndarray]:
        """For saving."""
        edges = list(self._edges.values())
        return {
            "graph.ids": np.array([(e.a, e.b) for e in edges], np.int64).reshape(-1, 2),
            "graph.motion": np.array([e.motion for e in edges]).reshape(-1, 4, 4),
            "graph.sigma": np.array([e.sigma for e in edges]).reshape(-1, 2),
            "graph.loop": np.array([e.loop for e in edges], bool),
            "graph.scale": np.array([e.scale for e in edges], np.float64),
        }

    @staticmethod
    def of(arrays: Mapping[str, np.ndarray]) -> PoseGraph:
        """Raises StateError for arrays that ``arrays`` did not make."""
        shapes = {"ids": (2,), "motion": (4, 4), "sigma": (2,), "loop": (), "scale": ()}
        held = {name: arrays.get(f"graph.{name}") for name in shapes}
        n = -1 if held["loop"] is None else len(held["loop"])
        for name, shape in shapes.items():
            array = held[name]
            if array is None or array.shape != (n, *shape) or not np.isfinite(array).all():
                raise StateError(f"The saved graph of keyframes has no usable array {name!r}.")
        graph = PoseGraph()
        for ids, motion, sigma, loop, scale in zip(*held.values(), strict=True):  # type: ignore[arg-type]
            graph.add(Edge(
                int(ids[0]), int(ids[1]), motion.copy(), (float(sigma[0]), float(sigma[1])),
                bool(loop), float(scale),
            ))  # fmt: skip
        return graph


def _from(edge: Edge, key: int) -> Edge:
    """The same edge with ``key`` as its ``a``."""
    if edge.a == key:
        return edge
    back = rigid.inverse(edge.motion)
    back[:3, 3] /= edge.scale
    return Edge(edge.b, edge.a, back, edge.sigma, edge.loop, 1.0 / edge.scale)


@dataclass(frozen=True, slots=True)
class _Nodes:
    turn: Floats
    """[K, 3, 3], camera to world."""
    at: Floats
    """[K, 3]."""
    scale: Floats
    """[K], logarithms."""

    def moved(self, step: Floats) -> _Nodes:
        """``step`` [K, 7]: rotation in the camera, translation in the world, log scale."""
        half = 0.5 * step[:, :3]
        angle = np.linalg.norm(half, axis=1, keepdims=True)
        turns = rigid.matrix(np.hstack([np.cos(angle), np.sinc(angle / np.pi) * half]))
        return _Nodes(self.turn @ turns, self.at + step[:, 3:6], self.scale + step[:, 6])


class _Problem:
    def __init__(self, edges: list[Edge], row: Mapping[int, int], *, free_scale: bool) -> None:
        self.a = np.array([row[e.a] for e in edges])
        self.b = np.array([row[e.b] for e in edges])
        self.turn = np.array([e.motion[:3, :3] for e in edges])
        self.at = np.array([e.motion[:3, 3] for e in edges])
        self.scale = np.log([e.scale for e in edges])
        self.loop = np.array([e.loop for e in edges])
        sigma = np.array([e.sigma for e in edges])
        self.weight = np.concatenate(
            [np.repeat(1 / sigma, 3, axis=1), np.full((len(edges), 1), 1 / _SCALE_SIGMA)], axis=1
        )
        free = np.ones((len(row), 7), bool)
        free[0] = False
        free[:, 6] &= free_scale
        self.free = np.flatnonzero(free)
        self.nodes = len(row)

    def solve(self, nodes: _Nodes) -> _Nodes:
        from scipy.sparse import coo_array, diags_array
        from scipy.sparse.linalg import spsolve

        damping = 1e-6
        r, cost = self.residuals(nodes)
        for _ in range(_STEPS):
            rows, columns, values = self.jacobian(nodes)
            j = coo_array((values, (rows, columns)), shape=(r.size, 7 * self.nodes)).tocsc()
            j = j[:, self.free]
            w = self.loss_weights(r)
            h = (j.T @ diags_array(w) @ j).tocsc()
            g = j.T @ (w * r.ravel())
            damped = h + diags_array(damping * h.diagonal() + 1e-9)
            step = np.zeros(7 * self.nodes)
            step[self.free] = -spsolve(damped.tocsc(), g)
            tried = nodes.moved(step.reshape(-1, 7))
            r_new, cost_new = self.residuals(tried)
            if not cost_new < cost:
                damping *= 10
                if damping > 1e3:
                    break
                continue
            done = cost - cost_new < 1e-6 * cost
            nodes, r, cost, damping = tried, r_new, cost_new, max(damping / 10, 1e-9)
            if done:
                break
        return nodes

    def residuals(self, nodes: _Nodes) -> tuple[Floats, float]:
        """[E, 7] in standard deviations, and the robust cost."""
        turn_a, turn_b = nodes.turn[self.a], nodes.turn[self.b]
        between = self.turn.transpose(0, 2, 1) @ turn_a.transpose(0, 2, 1) @ turn_b
        q = rigid.quaternion(between)
        q = np.where(q[:, :1] < 0, -q, q)
        length = np.linalg.norm(q[:, 1:], axis=1, keepdims=True)
        turned = 2 * np.arctan2(length, q[:, :1]) / np.maximum(length, 1e-12) * q[:, 1:]
        moved = self._motion(nodes) - self.at
        scaled = nodes.scale[self.b] - nodes.scale[self.a] - self.scale
        r = np.concatenate([turned, moved, scaled[:, None]], axis=1) * self.weight
        square = (r * r).sum(axis=1)
        robust = _CAUCHY**2 * np.log1p(square / _CAUCHY**2)
        return r, float(np.where(self.loop, robust, square).sum())

    def loss_weights(self, r: Floats) -> Floats:
        square = (r * r).sum(axis=1)
        weights = np.where(self.loop, 1 / (1 + square / _CAUCHY**2), 1.0)
        return np.repeat(weights, 7)

    def _motion(self, nodes: _Nodes) -> Floats:
        """Where b is in a's camera and scale, [E, 3]."""
        moved = nodes.at[self.b] - nodes.at[self.a]
        inside = np.einsum("eji,ej->ei", nodes.turn[self.a], moved)
        return np.asarray(inside * np.exp(-nodes.scale[self.a])[:, None])

    def jacobian(self, nodes: _Nodes) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
        """Rows, columns and values of the derivatives by ``_Nodes.moved``'s steps, weighted. That
        of the rotation takes the residual to be small."""
        n = len(self.a)
        a, b = np.zeros((n, 7, 7)), np.zeros((n, 7, 7))
        turn_a, turn_b = nodes.turn[self.a], nodes.turn[self.b]
        a[:, :3, :3] = -turn_b.transpose(0, 2, 1) @ turn_a
        b[:, :3, :3] = np.eye(3)
        inside = self._motion(nodes)
        into = turn_a.transpose(0, 2, 1) * np.exp(-nodes.scale[self.a])[:, None, None]
        a[:, 3:6, :3] = np.cross(inside[:, None], np.eye(3)[None]).transpose(0, 2, 1)
        a[:, 3:6, 3:6], b[:, 3:6, 3:6] = -into, into
        a[:, 3:6, 6] = -inside
        a[:, 6, 6], b[:, 6, 6] = -1.0, 1.0
        values = np.stack([a, b]) * self.weight[None, :, :, None]
        rows = np.broadcast_to((7 * np.arange(n)[:, None] + np.arange(7))[None, :, :, None],
                               values.shape)  # fmt: skip
        columns = np.broadcast_to(
            (7 * np.stack([self.a, self.b])[:, :, None] + np.arange(7))[:, :, None, :], values.shape
        )
        return rows.ravel(), columns.ravel(), values.ravel()
