"""On CUDA the work is gsplat's, which compiles itself with the CUDA toolkit at its first call."""

from __future__ import annotations

import importlib.util
import shutil
from functools import lru_cache
from typing import Any

from torch import Tensor


def gsplat_rasterization(given: dict[str, Any]) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """``gsplat.rasterization(**given)``. Raises NotImplementedError, which says what to install,
    where it cannot run."""
    what = missing()
    if what:
        raise NotImplementedError(
            f"Gaussians on CUDA are drawn by gsplat, and {what}. Install what is missing, or "
            "move the tensors to the CPU."
        )
    import gsplat

    image, alpha, meta = gsplat.rasterization(**given)
    return image, alpha, meta


@lru_cache(maxsize=1)
def missing() -> str | None:
    """Why gsplat cannot run, or None."""
    if importlib.util.find_spec("gsplat") is None:
        return "it is not installed (pip install 'retain[splat]')"
    from torch.utils.cpp_extension import CUDA_HOME

    if CUDA_HOME is None or shutil.which("nvcc", path=f"{CUDA_HOME}/bin") is None:
        return "the CUDA toolkit (nvcc), with which it compiles itself, was not found"
    try:
        from gsplat.cuda._backend import _C
    except Exception as error:  # whatever its build ran into
        return f"its CUDA part could not be compiled ({type(error).__name__}: {error})"
    return None if _C is not None else "its CUDA part could not be compiled"
