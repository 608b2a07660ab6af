"""What a routing decision costs: our step against the plain NumPy way, interleaved in one run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np

from retain.apps.bench import Row, script
from retain.memory.router import Router, RouterConfig

AREA = "memory"
SIZES = [(dim, streams) for dim in (1280, 384) for streams in (1, 16, 64)]
TICKS = 256


class PlainRouter:
    """One stream of the published router as one writes it down first."""

    def __init__(self, gamma: float = 0.9, lambda_: float = 0.2) -> None:
        self.gamma, self.lambda_ = gamma, lambda_
        self.mean = self.var = 0.0
        self.history: list[np.ndarray] = []

    def step(self, feature: np.ndarray) -> str:
        f = feature / np.linalg.norm(feature)
        state = "discard"
        if len(self.history) == 2:
            before, last = self.history
            d1, d2 = last - before, f - last
            motion = 1.0 - float(np.dot(f, last))
            lengths = float(np.linalg.norm(d1) * np.linalg.norm(d2))
            turn = 1.0 - float(np.dot(d1, d2)) / lengths if lengths > 0 else 0.0
            score = motion + self.lambda_ * turn
            self.mean = self.gamma * self.mean + (1 - self.gamma) * score
            self.var = self.gamma * self.var + (1 - self.gamma) * (score - self.mean) ** 2
            sigma = math.sqrt(self.var)
            if score >= self.mean + sigma:
                state = "clear"
            elif score >= self.mean:
                state = "blurred"
        self.history = [*self.history[-1:], f]
        return state


def check() -> None:
    """Both must decide alike before either is timed."""
    rows = np.random.default_rng(1).standard_normal((200, 384)).astype(np.float32)
    ours, plain = Router(RouterConfig(mode="paper"), 384), PlainRouter()
    for i, row in enumerate(rows):
        (route,) = ours.step(row[None], [float(i)])
        if abs(route.score - route.high) > 1e-5 and abs(route.score - route.low) > 1e-5:
            assert plain.step(row) == route.state, f"frame {i} is routed differently"
        else:
            plain.step(row)


def measure(quick: bool = False) -> list[Row]:
    """Microseconds per frame and stream."""
    check()
    rows = []
    for dim, streams in SIZES:
        data = np.random.default_rng(0).standard_normal((TICKS, streams, dim))
        features = np.ascontiguousarray(data, np.float32)
        times = np.arange(TICKS, dtype=np.float64)[:, None] + np.zeros(streams)
        ours, plain = Router(RouterConfig(), dim, streams), [PlainRouter() for _ in range(streams)]

        def routed(
            ours: Router = ours, features: np.ndarray = features, times: np.ndarray = times
        ) -> None:
            for t in range(TICKS):
                ours.step(features[t], times[t])

        def peer(plain: list[PlainRouter] = plain, features: np.ndarray = features) -> None:
            for t in range(TICKS):
                for router, feature in zip(plain, features[t], strict=True):
                    router.step(feature)

        value, other = _interleaved(routed, peer, 3 if quick else 9)
        scale = 1e6 / (TICKS * streams)
        rows.append(
            Row(
                name=f"routing decision, D={dim}, B={streams}",
                value=value * scale,
                unit="us per frame and stream",
                peer="plain NumPy",
                peer_value=other * scale,
                ratio=other / value,
                bar="<= 20 us",
                met=value * scale <= 20,
            )
        )
    return rows


def _interleaved(
    one: Callable[[], None], two: Callable[[], None], repeats: int
) -> tuple[float, float]:
    """Best seconds of each, run in turn, so that both see the same machine."""
    best = [math.inf, math.inf]
    for _ in range(repeats):
        for k, run in enumerate((one, two)):
            start = time.perf_counter()
            run()
            best[k] = min(best[k], time.perf_counter() - start)
    return best[0], best[1]


if __name__ == "__main__":
    script(measure, "scorer")
