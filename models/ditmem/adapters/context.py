"""What a transformer of diffusers is about to be called with. Needs diffusers to be imported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from diffusers.hooks.hooks import BaseState, HookRegistry, ModelHook, StateManager
from torch import nn

Begin = Callable[[str | None, tuple[Any, ...], dict[str, Any]], None]
_NAME = "retain_memory"


class Watch(ModelHook):  # type: ignore[misc]
    """Calls ``begin`` before the transformer: the name of the pipeline's ``cache_context`` (None
    outside of one), then the call's arguments."""

    _is_stateful = True  # or a pipeline's context would not reach the manager

    def __init__(self, begin: Begin) -> None:
        super().__init__()
        self.begin = begin
        self.manager = StateManager(BaseState)

    def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        try:
            name = self.manager.context.name
        except ValueError:
            name = None
        self.begin(name, args, kwargs)
        return args, kwargs

    def reset_state(self, module: nn.Module) -> nn.Module:
        self.manager.reset()
        return module


def watch(transformer: nn.Module, begin: Begin) -> Callable[[], None]:
    """``begin`` before every call from now on; returns what ends it."""
    registry = HookRegistry.check_if_exists_or_initialize(transformer)
    registry.register_hook(Watch(begin), _NAME)
    return lambda: registry.remove_hook(_NAME, recurse=False)  # type: ignore[no-any-return]
