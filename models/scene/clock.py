"""Where the time of a frame goes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter


@dataclass
class Clock:
    """Milliseconds by part, of one frame."""

    parts: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        began = perf_counter()
        try:
            yield
        finally:
            spent = 1000 * (perf_counter() - began)
            self.parts[name] = round(self.parts.get(name, 0.0) + spent, 3)
