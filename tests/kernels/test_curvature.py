"""The curvature op: identities of the score, and CPU = definition = Triton."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retain.kernels.curvature import cpu, reference
from retain.kernels.curvature import layout as at
from retain.memory.router import RouterConfig

MODES = [RouterConfig(mode="paper"), RouterConfig(max_gap_s=7.0, floor=0.02, warm_up=4)]


def walk(steps: int, streams: int, dim: int, seed: int, noise: float = 0.1) -> np.ndarray:
    """Unit features [T, B, D] with still, moving, repeated, flashing and unusable frames."""
    rng = np.random.default_rng(seed)
    here = rng.standard_normal((streams, dim))
    rows = []
    for t in range(steps):
        here = here + noise * rng.standard_normal(here.shape) * rng.uniform(0.5, 2, (streams, 1))
        here[rng.random(streams) < 0.05] = rng.standard_normal(dim)
        frame = here.copy()
        frame[rng.random(streams) < 0.05] *= -1.0
        frame[rng.random(streams) < 0.03] = 0.0
        frame[rng.random(streams) < 0.03, 0] = np.nan
        if t and rng.random() < 0.15:
            frame = rows[-1].copy()
        rows.append(frame)
    return np.stack(rows)


def ticks(steps: int, streams: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Times [T, B], now and then running backwards, and flags [T, B]."""
    rng = np.random.default_rng(seed + 1)
    times = np.cumsum(rng.uniform(0.0, 2.0, (steps, streams)), axis=0)
    times[rng.random(times.shape) < 0.04] -= 5.0
    flags = (rng.random(times.shape) < 0.04) * at.DISCONTINUITY
    return times, (flags | (rng.random(times.shape) < 0.04) * at.QUERY).astype(np.uint8)


def run_cpu(
    features: np.ndarray, times: np.ndarray, flags: np.ndarray, params: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    steps, streams, dim = features.shape
    history, state = fresh(streams, dim, np.float32)
    out = np.zeros((steps, streams, at.DECISION))
    for t in range(steps):
        frame = np.ascontiguousarray(features[t], np.float32)
        cpu.step(frame, history, state, times[t], flags[t], params, out[t])
    return out, history, state


def fresh(streams: int, dim: int, dtype: type) -> tuple[np.ndarray, np.ndarray]:
    state = np.zeros((streams, at.STATE))
    state[:, [at.LAST_TIME, at.LAST_KEPT]] = -math.inf
    return np.zeros((streams, 2, dim), dtype), state


def run_reference(
    features: np.ndarray, times: np.ndarray, flags: np.ndarray, params: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    steps, streams, dim = features.shape
    history, state = (torch.from_numpy(array) for array in fresh(streams, dim, np.float64))
    outs = []
    for t in range(steps):
        history, state, out = reference.step(
            torch.from_numpy(np.asarray(features[t], np.float32)).double(),
            history,
            state,
            torch.from_numpy(times[t]),
            torch.from_numpy(flags[t]),
            torch.from_numpy(params),
        )
        outs.append(out)
    return torch.stack(outs).numpy(), history.numpy(), state.numpy()


def assert_same_decisions(fast: np.ndarray, truth: np.ndarray) -> None:
    """Scores to 1e-5; decisions equal except where the score all but touches a threshold."""
    numbers = [at.MOTION, at.CURVATURE, at.SCORE, at.OUT_MEAN, at.OUT_SIGMA, at.LOW, at.HIGH]
    np.testing.assert_allclose(fast[..., numbers], truth[..., numbers], atol=1e-5, rtol=1e-4)
    score = truth[..., at.SCORE]
    close = np.abs(score - truth[..., at.LOW]) < 1e-5
    close |= np.abs(score - truth[..., at.HIGH]) < 1e-5
    codes = [at.ROUTE, at.REASON, at.FLASH, at.CUT]
    same = (fast[..., codes] == truth[..., codes]).all(-1)
    assert (same | close).all(), np.argwhere(~(same | close))[:5]


def directions(*angles: float) -> torch.Tensor:
    """Unit features on one great circle, [T, 8], float64."""
    plane = torch.linalg.qr(torch.randn(8, 2, dtype=torch.float64, generator=seeded()))[0]
    turned = torch.tensor(angles, dtype=torch.float64)
    return torch.stack((turned.cos(), turned.sin()), 1) @ plane.T


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("angle", [0.01, 0.3, 1.0, 3.0])
def test_on_a_great_circle_the_turn_equals_the_motion(angle: float) -> None:
    before, last, current = directions(0.0, angle, 2 * angle)
    motion, turn, *_ = reference.scores(current, last, before)
    assert float(turn) == pytest.approx(float(motion), abs=1e-12)
    assert float(motion) == pytest.approx(1 - math.cos(angle), abs=1e-12)


def test_a_flash_turns_back_on_itself() -> None:
    scene, flash, again = directions(0.0, 1.2, 0.0)
    motion, turn, length1, length2 = reference.scores(again, flash, scene)
    assert float(turn) == pytest.approx(2.0)
    assert float(motion) == pytest.approx(0.5 * float(length2) ** 2)
    assert float(length1) == pytest.approx(float(length2))


def test_the_turn_equals_its_closed_form_in_float64() -> None:
    f = torch.randn(3, 50, 16, dtype=torch.float64, generator=seeded())
    f = f / f.norm(dim=-1, keepdim=True)
    a, b, c = ((f[i] * f[j]).sum(-1) for i, j in ((0, 1), (1, 2), (0, 2)))
    closed = 1 - (a + b - c - 1) / (2 * ((1 - a) * (1 - b)).sqrt())
    torch.testing.assert_close(reference.scores(f[0], f[1], f[2])[1], closed)


@pytest.mark.parametrize("ratio", [0.1, 0.5, 1.0, 2.0, 50.0])
def test_the_mean_turn_of_a_noisy_pan_follows_its_law(ratio: float) -> None:
    """E[C] = 3 r^2 / (1 + 2 r^2) for noise r times the step; 1.5 when nothing moves."""
    dim, steps, step = 384, 1500, 0.004
    rng = np.random.default_rng(7)
    angles = np.arange(steps) * step
    clean = np.zeros((steps, dim))
    clean[:, 0], clean[:, 1] = np.cos(angles), np.sin(angles)
    noise = rng.standard_normal((steps, dim)) * (ratio * step / math.sqrt(dim))
    f = torch.from_numpy(clean + noise)
    turn = reference.scores(f[2:], f[1:-1], f[:-2])[1]
    wanted = 3 * ratio**2 / (1 + 2 * ratio**2)
    assert float(turn.mean()) == pytest.approx(wanted, abs=0.05)


def test_a_near_still_half_precision_stream_keeps_its_turn() -> None:
    """Differences first: a kernel of three dot products is off by more than 100 here."""
    rng = np.random.default_rng(3)
    scene = rng.standard_normal(384)
    scene /= np.linalg.norm(scene)
    steps = rng.standard_normal((400, 384)) * (0.003 / math.sqrt(384))
    stored = np.float32(np.float16(scene + np.cumsum(steps, axis=0)))[:, None]
    params = RouterConfig(mode="paper").params()
    times, flags = np.arange(400.0)[:, None], np.zeros((400, 1), np.uint8)
    fast = run_cpu(stored, times, flags, params)[0][3:, 0, at.CURVATURE]
    truth = run_reference(stored, times, flags, params)[0][3:, 0, at.CURVATURE]
    assert np.abs(fast - truth).max() < 1e-3

    f = np.float16(stored[:, 0])
    unit = f / np.linalg.norm(np.float32(f), axis=1, keepdims=True).astype(np.float16)
    a = np.sum(unit[1:] * unit[:-1], axis=1, dtype=np.float32)
    c = np.sum(unit[2:] * unit[:-2], axis=1, dtype=np.float32)
    with np.errstate(all="ignore"):
        dots = 1 - (a[1:] + a[:-1] - c - 1) / (2 * np.sqrt((1 - a[1:]) * (1 - a[:-1])))
    assert np.nan_to_num(np.abs(dots[1:] - truth), nan=9.9).max() > 0.5, "the case lost its teeth"


@pytest.mark.parametrize("config", MODES, ids=["paper", "robust"])
@pytest.mark.parametrize(("streams", "dim"), [(1, 16), (5, 384), (3, 1281)])
def test_cpu_decides_as_the_float64_definition(
    config: RouterConfig, streams: int, dim: int
) -> None:
    features = walk(120, streams, dim, seed=dim)
    times, flags = ticks(120, streams, seed=dim)
    # The definition sees what float32 made of the features: the op, not the input, is compared.
    fast, history, state = run_cpu(features, times, flags, config.params())
    truth, history64, state64 = run_reference(features, times, flags, config.params())
    assert_same_decisions(fast, truth)
    np.testing.assert_allclose(history, history64, atol=1e-6)
    np.testing.assert_allclose(state, state64, atol=1e-5, rtol=1e-4)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000), paper=st.booleans(), noise=st.sampled_from([0.05, 0.1, 1.0]))
def test_cpu_agrees_with_the_definition_whatever_comes(
    seed: int, paper: bool, noise: float
) -> None:
    features = walk(40, 2, 24, seed, noise)
    times, flags = ticks(40, 2, seed)
    params = MODES[0 if paper else 1].params()
    fast, truth = (run(features, times, flags, params)[0] for run in (run_cpu, run_reference))
    assert_same_decisions(fast, truth)


def test_offline_scores_by_scan_equal_the_stream() -> None:
    rng = np.random.default_rng(5)
    features = np.cumsum(rng.standard_normal((300, 4, 64)), axis=0).astype(np.float32)
    params = RouterConfig(mode="paper").params()
    times, flags = np.tile(np.arange(300.0)[:, None], 4), np.zeros((300, 4), np.uint8)
    truth = run_reference(features, times, flags, params)[0]
    offline = reference.paper_offline(
        torch.from_numpy(features.transpose(1, 0, 2)).double(), torch.from_numpy(params)
    )
    for values, column in zip(offline, (at.SCORE, at.LOW, at.HIGH), strict=True):
        np.testing.assert_allclose(values[:, 2:].numpy().T, truth[2:, :, column], atol=1e-10)


def test_the_scan_equals_the_recurrence() -> None:
    x = torch.randn(3, 37, dtype=torch.float64, generator=seeded())
    y, last = torch.empty_like(x), torch.zeros(3, dtype=torch.float64)
    for t in range(37):
        last = y[:, t] = 0.93 * last + x[:, t]
    torch.testing.assert_close(reference.linear_scan(0.93, x), y)


def check_triton(device: str) -> None:
    """The Triton kernel against the definition; in a process where it can run."""
    from retain.kernels.curvature.triton_kernel import launch

    for config in MODES:
        for streams, dim in ((3, 37), (2, 384)):
            features = walk(60, streams, dim, seed=dim)
            times, flags = ticks(60, streams, seed=dim)
            params = torch.from_numpy(config.params()).to(device)
            history, state = (
                torch.from_numpy(array).to(device) for array in fresh(streams, dim, np.float32)
            )
            out = [
                launch(
                    torch.from_numpy(np.float32(features[t])).to(device),
                    history,
                    state,
                    torch.from_numpy(times[t]).to(device),
                    torch.from_numpy(flags[t]).to(device),
                    params,
                    config.mode == "robust",
                )
                for t in range(60)
            ]
            truth, _, state64 = run_reference(features, times, flags, config.params())
            assert_same_decisions(torch.stack(out).cpu().numpy(), truth)
            np.testing.assert_allclose(state.cpu().numpy(), state64, atol=1e-5, rtol=1e-4)


def test_triton_decides_as_the_definition_in_its_interpreter() -> None:
    """In a process of its own, since the interpreter is chosen when Triton is imported."""
    pytest.importorskip("triton")
    here = Path(__file__)
    code = f"import sys; sys.path[:0] = {[str(here.parent)]!r}; import {here.stem} as t; "
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code + "t.check_triton('cpu')"],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize("robust", [True, False])
def test_triton_compiles_for_hopper_without_spills(robust: bool) -> None:
    """Cross-compiled, so no GPU is needed; the bound leaves room for other compiler versions."""
    triton = pytest.importorskip("triton")
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("compiles nothing under TRITON_INTERPRET=1")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from retain.kernels.curvature.triton_kernel import curvature_step

    doubles = ("state", "times", "params", "decision")
    signature = {"features": "*fp32", "history": "*fp32", "flags": "*u8", "dim": "i32"}
    signature |= dict.fromkeys(doubles, "*fp64") | dict.fromkeys(("ROBUST", "BLOCK"), "constexpr")
    ordered = {name: signature[name] for name in curvature_step.arg_names}
    source = ASTSource(curvature_step, ordered, {"ROBUST": robust, "BLOCK": 2048})
    target = GPUTarget("cuda", 90, 32)
    compiled = triton.compile(source, target=target, options={"num_warps": 4})
    assert compiled.metadata.shared <= 1024
    assert ".local" not in compiled.asm["ptx"]


@pytest.mark.gpu
def test_triton_decides_as_the_definition_on_cuda() -> None:
    if not torch.cuda.is_available():
        assert os.environ.get("REQUIRE_CUDA") != "1", "REQUIRE_CUDA=1, but there is no CUDA device"
        pytest.skip("needs a CUDA device")
    check_triton("cuda")
