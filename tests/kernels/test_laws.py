"""The laws every kernel of the catalogue obeys (retain/kernels/catalog.py)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from retain.kernels.catalog import KERNELS, Kernel
from retain.pipeline.catalog import load_class

ROOT = Path(__file__).parents[2]
Arguments = tuple[Any, ...]


@pytest.fixture(params=sorted(KERNELS))
def kernel(request: pytest.FixtureRequest) -> Kernel:
    listed = load_class(KERNELS[request.param])
    assert isinstance(listed, Kernel)
    return listed


def tried(kernel: Kernel, dtype: torch.dtype | None = None) -> Iterator[Arguments]:
    """Every input in ``dtype``, by default the first of those it takes."""
    for arguments in kernel.inputs(torch.Generator().manual_seed(0)):
        yield turned(kernel, arguments, dtype or first(kernel)[0])


def first(kernel: Kernel) -> tuple[torch.dtype, float]:
    return next(iter(kernel.tolerance.items()))


def varies(kernel: Kernel, place: int, one: Any) -> bool:
    """Whether an argument comes in every type of the kernel."""
    return (
        isinstance(one, Tensor)
        and one.is_floating_point()
        and (kernel.narrow is None or place in kernel.narrow)
    )


def turned(kernel: Kernel, arguments: Arguments, dtype: torch.dtype) -> Arguments:
    """Copies, in ``dtype`` where that varies."""
    return tuple(
        one.detach().clone().to(dtype if varies(kernel, i, one) else one.dtype)
        if isinstance(one, Tensor)
        else one
        for i, one in enumerate(arguments)
    )


def several(returned: Any) -> list[Tensor]:
    return list(returned) if isinstance(returned, tuple) else [returned]


def outputs(kernel: Kernel, arguments: Arguments) -> list[Tensor]:
    """What the operator returns, then what it wrote to."""
    return several(kernel.fast(*arguments)) + [arguments[i] for i in kernel.writes]


def defined(kernel: Kernel, got: list[Tensor], truth: list[Tensor]) -> list[Tensor]:
    """Of the operator's outputs those that the definition gives as well."""
    written = len(kernel.writes)
    return got[: len(truth) - written] + got[len(got) - written :]


def assert_near(got: Tensor, wanted: Tensor, share: float) -> None:
    assert got.shape == wanted.shape
    wide = wanted.double()
    largest = float(wide[wide.isfinite()].abs().max()) if wide.isfinite().any() else 0.0
    torch.testing.assert_close(got.double(), wide, atol=share * largest, rtol=share, equal_nan=True)


def leaves(kernel: Kernel, arguments: Arguments) -> list[Tensor]:
    """The arguments that gradients reach, as leaves; where one is left out, None stays None."""
    found = [arguments[i] for i in kernel.gradients]
    return [one.requires_grad_() for one in found if one is not None]


def test_every_operator_is_listed() -> None:
    """Those that are another's backward are under its law of gradients."""
    said = {
        name
        for path in (ROOT / "kernels").rglob("*.py")
        for name in re.findall(r'"retain::(\w+)"', path.read_text())
    }
    assert {name.removesuffix("_backward") for name in said} == {
        name.replace("-", "_") for name in KERNELS
    }


def test_the_fast_form_computes_the_definition(kernel: Kernel) -> None:
    for dtype, share in kernel.tolerance.items():
        for arguments in tried(kernel, dtype):
            truth = several(kernel.reference(*turned(kernel, arguments, torch.float64)))
            got = outputs(kernel, arguments)
            for one, wanted in zip(defined(kernel, got, truth), truth, strict=True):
                assert_near(one, wanted, share)


def test_gradients_are_those_of_the_definition(kernel: Kernel) -> None:
    dtype, share = first(kernel)
    for arguments in tried(kernel, dtype) if kernel.gradients else ():
        wide = turned(kernel, arguments, torch.float64)
        own, wanted = leaves(kernel, arguments), leaves(kernel, wide)
        truth = several(kernel.reference(*wide))
        got = defined(kernel, outputs(kernel, arguments), truth)
        sums = [torch.zeros((), dtype=torch.float64) for _ in range(2)]
        rng = torch.Generator().manual_seed(1)
        for one, other in zip(got, truth, strict=True):
            if other.is_floating_point():
                weight = torch.rand(other.shape, generator=rng, dtype=torch.float64)
                sums = [sums[0] + (weight * one).sum(), sums[1] + (weight * other).sum()]
        fast, plain = (
            torch.autograd.grad(total, inputs, materialize_grads=True)
            for total, inputs in zip(sums, (own, wanted), strict=True)
        )
        for one, other in zip(fast, plain, strict=True):
            assert_near(one, other, 100 * share)


def test_it_writes_to_nothing_but_what_it_says(kernel: Kernel) -> None:
    for arguments in tried(kernel):
        before = turned(kernel, arguments, first(kernel)[0])
        kernel.fast(*arguments)
        for i, (one, was) in enumerate(zip(arguments, before, strict=True)):
            if isinstance(one, Tensor) and i not in kernel.writes:
                assert torch.equal(one, was), f"argument {i}"


def test_it_gives_the_same_bits_again(kernel: Kernel) -> None:
    for arguments in tried(kernel):
        again = turned(kernel, arguments, first(kernel)[0])
        for one, other in zip(outputs(kernel, arguments), outputs(kernel, again), strict=True):
            assert one.numpy().tobytes() == other.numpy().tobytes()


def test_how_its_inputs_lie_in_memory_does_not_matter(kernel: Kernel) -> None:
    dtype, share = first(kernel)
    for arguments in tried(kernel, dtype):
        across = tuple(
            one.mT.contiguous().mT if varies(kernel, i, one) and one.dim() > 1 else one
            for i, one in enumerate(turned(kernel, arguments, dtype))
        )
        for one, other in zip(outputs(kernel, across), outputs(kernel, arguments), strict=True):
            assert_near(one, other, share)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_torch_accepts_the_operator(kernel: Kernel) -> None:
    """Its schema, its form without data, and how it is bound to autograd."""
    arguments = next(tried(kernel))
    leaves(kernel, arguments)
    tests = ("test_schema", "test_faketensor", "test_autograd_registration")
    torch.library.opcheck(kernel.fast, arguments, test_utils=tests)
