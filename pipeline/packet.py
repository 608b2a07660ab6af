"""What travels on an edge: a frame and what the stages so far said about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from retain.pipeline.errors import nearest
from retain.pipeline.frame import Frame
from retain.pipeline.results import R, Result

_EMPTY: Mapping[str, Result] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Packet:
    """A frame plus results keyed by a short name (``embedding``, ``route``, ``held``)."""

    frame: Frame
    results: Mapping[str, Result] = field(default_factory=lambda: _EMPTY)

    def plus(self, **results: Result) -> Packet:
        """A new packet with these results added. A name may be written once."""
        for name in results:
            if name in self.results:
                raise KeyError(f"result {name!r} is already in the packet; a name is written once")
        return Packet(self.frame, MappingProxyType({**self.results, **results}))

    def get(self, name: str, kind: type[R]) -> R:
        """The result called ``name``; KeyError when absent, TypeError when of another kind."""
        if name not in self.results:
            raise KeyError(f"no result {name!r} in the packet. {nearest(name, self.results)}")
        value = self.results[name]
        if not isinstance(value, kind):
            raise TypeError(f"result {name!r} is a {type(value).__name__}, not a {kind.__name__}")
        return value
