"""``from retain.kernels import rasterization``, or from this module: the function either way."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from retain.kernels.rasterize.op import rasterization

__all__ = ["rasterization"]


class _Callable(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return rasterization(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
