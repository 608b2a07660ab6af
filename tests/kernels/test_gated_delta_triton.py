"""The Triton kernels of the gated delta op: in the interpreter, through the compiler, on CUDA."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from retain.kernels.gated_delta.reference import Gates, Mode, Rule, read, step

ODD = ((1, 1, 17, 34, 2, 37), (2, 3, 5, 12, 3, 1), (1, 1, 20, 40, 4, 65))
"""Batch, objects, key channels, value channels, heads, pixels: none a multiple of a block."""


def inputs(sizes: tuple[int, ...], device: str) -> tuple[Tensor, Tensor, Tensor, Gates]:
    batch, objects, rows, columns, heads, pixels = sizes
    rng = torch.Generator().manual_seed(sum(sizes))
    weights = (0.2 * torch.randn(2, heads, columns, generator=rng)).unbind()
    gates = (*weights, *torch.randn(2, heads, generator=rng).unbind())
    state = 0.5 * torch.randn(batch, objects, rows, columns, generator=rng)
    key = (2 * torch.randn(batch, rows, pixels, generator=rng)).softmax(1)
    value = torch.randn(batch, objects, columns, pixels, generator=rng)
    own = Gates(*(gate.to(device) for gate in gates))
    return state.to(device), key.to(device), value.to(device), own


def agree(
    sizes: tuple[int, ...], mode: Mode, rule: Rule, device: str, dtype: torch.dtype, gap: bool
) -> None:
    from retain.kernels.gated_delta import triton_kernel

    state, key, value, gates = inputs(sizes, device)
    key, value = key.to(dtype), value.to(dtype)
    dt = 1 + torch.arange(len(state), device=device) if gap else None
    tile = mode == "released_2025"
    new = triton_kernel.write(state, key, value, gates, dt, mode, rule, tile)
    readout = triton_kernel.read(new, key)
    wide = Gates(*(gate.double() for gate in gates))
    truth = step(
        state.double(), key.double(), value.double(), wide,
        mode=mode, rule=rule, dt=dt, tile_alpha=tile,
    )  # fmt: skip
    what = f"{sizes} {mode} {rule} {dtype}"
    # Values near 1. Half-precision inputs are exact here; the readout is rounded to their type
    # and its product to TF32, both 5e-4 to 4e-3 of it.
    error = float((new - truth).abs().max() / truth.abs().max())
    assert error < 1e-5, f"{what}: state off by {error}"
    wanted = read(truth, key.double())
    error = float((readout - wanted).abs().max() / wanted.abs().max())
    assert error < (1e-5 if dtype == torch.float32 else 1e-2), f"{what}: readout off by {error}"


def check(device: str, types: tuple[torch.dtype, ...]) -> None:
    """The kernels against the definition, in a process where they can run."""
    cases: tuple[tuple[int, Mode, Rule, bool], ...] = (
        (0, "mass", "full", True),
        (1, "mass", "full", False),
        (2, "released_2025", "full", True),
        (1, "released_2025", "alpha", False),
        (0, "paper_raw", "full", True),
        (1, "paper_raw", "alpha", True),
        (1, "mass", "beta", False),
        (1, "mass", "sum", False),
        (1, "mass", "replace", False),
        (1, "paper_raw", "sum", False),
    )
    for which, mode, rule, gap in cases:
        agree(ODD[which], mode, rule, device, torch.float32, gap)
    for dtype in types:
        agree(ODD[0], "mass", "full", device, dtype, gap=False)


def test_triton_computes_the_definition_in_its_interpreter() -> None:
    """In a process of its own: the interpreter is chosen when Triton is imported, and a read
    out of bounds ends the process. Its bfloat16 is wrong, so float16 stands for both."""
    pytest.importorskip("triton")
    here = Path(__file__)
    code = f"import sys; sys.path[:0] = {[str(here.parent)]!r}; import {here.stem} as t, torch; "
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code + "t.check('cpu', (torch.float16,))"],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def compiled(kernel: Any, types: dict[str, str], constants: dict[str, Any], warps: int) -> Any:
    """For Hopper, without one. Sizes are plain integers, as at a first launch."""
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature = {
        name: "constexpr" if name in constants else types.get(name, "*fp32")
        for name in kernel.arg_names
    }
    sizes = ("objects", "rows", "columns", "heads", "pixels", "tiles")
    signature |= {name: "i32" for name in sizes if name in signature}
    source = ASTSource(kernel, signature, constants)
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": warps})


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["*fp32", "*bf16"])
@pytest.mark.parametrize("rows", [32, 64, 128])
def test_triton_compiles_for_hopper_without_spills(rows: int, dtype: str, tmp_path: Path) -> None:
    """Shared memory under 100 KiB leaves room for two programs on a multiprocessor."""
    pytest.importorskip("triton")
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("compiles nothing under TRITON_INTERPRET=1")
    from retain.kernels.gated_delta import triton_kernel as t

    precision = "ieee" if dtype == "*fp32" else "tf32"
    inputs = {"key": dtype, "value": dtype, "out": dtype}
    product = {"PRECISION": precision, "K": rows, "V": 32, "P": 32}
    step = dict.fromkeys(("MASS", "GAP"), True) | dict.fromkeys(("NEGATIVE", "TILED"), False)
    step |= {"RULE": 0, "R": t.ROWS, "K": rows, "V": 32, "H": 16}
    answer = {"PRECISION": precision, **t.TILE}
    kernels = (t.products, product, t.warps(rows)), (t.update, step, t.warps(rows))
    for kernel, constants, warps in (*kernels, (t.readout, answer, 4)):
        built = compiled(kernel, inputs, constants, warps)
        assert built.metadata.shared <= 100 << 10
        assert stack(built, tmp_path) == 0


def stack(built: Any, folder: Path) -> int:
    """Bytes of stack per thread, which is what registers spill to, asked of Triton's own tool."""
    import triton

    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    file = folder / "kernel.cubin"
    file.write_bytes(built.asm["cubin"])
    told = subprocess.run([tool, "-res-usage", file], capture_output=True, text=True, check=True)
    return int(re.findall(r"STACK:(\d+)", told.stdout)[0])


@pytest.mark.gpu
def test_triton_computes_the_definition_on_cuda() -> None:
    if not torch.cuda.is_available():
        assert os.environ.get("REQUIRE_CUDA") != "1", "REQUIRE_CUDA=1, but there is no CUDA device"
        pytest.skip("needs a CUDA device")
    check("cuda", (torch.float16, torch.bfloat16))
