"""The Triton kernel of the bank read: in the interpreter, through the compiler, on CUDA."""

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

from retain.kernels.bank_read import cpu, reference

ODD = ((2, 5, 40, 3, 9, 11, 3), (1, 33, 65, 2, 20, 20, 1), (3, 1, 7, 4, 16, 33, 4))
"""Streams, queries, rows, heads, key channels, value channels, value heads."""


def inputs(sizes: tuple[int, ...], device: str) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    batch, queries, rows, heads, dim, width, own = sizes
    rng = torch.Generator().manual_seed(sum(sizes))
    query = torch.randn(batch, queries, heads, dim, generator=rng)
    keys = torch.randn(rows, heads, dim, generator=rng)
    values = torch.randn(rows, own, width, generator=rng)
    index = torch.randint(0, rows, (batch, 70), generator=rng)
    index[torch.rand(batch, 70, generator=rng) < 0.3] = -1
    index[:, :66] = torch.where(torch.arange(batch)[:, None] == 1, -1, index[:, :66])
    bias = torch.randn(batch, 70, heads, generator=rng)
    query, keys, values = query.to(device), keys.to(device), values.to(device)
    return query, keys, values, index.to(device), bias.to(device)


def agree(sizes: tuple[int, ...], device: str, dtype: torch.dtype, listed: bool) -> None:
    from retain.kernels.bank_read import triton_kernel

    query, keys, values, *rest = inputs(sizes, device)
    query, keys, values = query.to(dtype), keys.to(dtype), values.to(dtype)
    index, bias = rest if listed else (None, None)
    out, lse = triton_kernel.read(query, keys, values, index, bias, 0.3)
    wide = query.double(), keys.double(), values.double()
    wanted = reference.attend(*wide, index, bias, 0.3)
    _, sums = cpu.read(*wide, index, bias, 0.3)
    limit = 1e-5 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(out.double(), wanted, atol=limit, rtol=0)
    torch.testing.assert_close(lse.double(), sums, atol=limit, rtol=0)


def check(device: str, types: tuple[torch.dtype, ...]) -> None:
    """The kernel against the definition, in a process where it can run."""
    from retain.kernels.bank_read import triton_kernel

    for sizes in ODD:
        agree(sizes, device, torch.float32, listed=True)
        agree(sizes, device, torch.float32, listed=False)
    for dtype in types:
        agree(ODD[1], device, dtype, listed=True)
    query, keys, values, index, bias = inputs(ODD[0], device)
    nothing, _ = triton_kernel.read(query, keys, values, torch.full_like(index, -1), bias, 1.0)
    assert not nothing.any()
    both, _ = triton_kernel.read(query, keys, values, index, bias, 1.0)
    one, _ = triton_kernel.read(query[1:], keys, values, index[1:], bias[1:], 1.0)
    assert torch.equal(both[1:], one)


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


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["*fp32", "*bf16"])
@pytest.mark.parametrize("dims", [(64, 64), (36, 128), (128, 128)])
def test_triton_compiles_for_hopper_without_spills(
    dims: tuple[int, int], dtype: str, tmp_path: Path
) -> None:
    """Shared memory under 100 KiB leaves room for two programs on a multiprocessor."""
    triton = pytest.importorskip("triton")
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("compiles nothing under TRITON_INTERPRET=1")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from retain.kernels.bank_read import triton_kernel as t

    d, e = (t.tile(size) for size in dims)
    constants: dict[str, Any] = dict.fromkeys(("INDEXED", "BIASED", "SHARED"), True)
    constants |= {"PRECISION": "ieee" if dtype == "*fp32" else "tf32"}
    constants |= {**t.TILE, "D": d, "E": e}
    types = dict.fromkeys(("query", "keys", "values", "out"), dtype)
    types |= {"index": "*i64", "bias": "*fp32", "lse": "*fp32", "scale": "fp32"}
    types |= dict.fromkeys(("queries", "rows", "count", "heads", "dims", "width"), "i32")
    signature = {name: types.get(name, "constexpr") for name in t.attend.arg_names}
    built = triton.compile(
        ASTSource(t.attend, signature, constants),
        target=GPUTarget("cuda", 90, 32),
        options={"num_warps": t.warps(d, e)},
    )
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
