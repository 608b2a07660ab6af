"""Ends of edges between hosts, which are closed when a test is over."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from far_parts import HERE, far

from retain.pipeline.far.receiver import FarSource
from retain.pipeline.far.sender import FarSink


@pytest.fixture
def made() -> Iterator[list[Any]]:
    """Whatever is put in is closed at the end."""
    ends: list[Any] = []
    yield ends
    for end in ends:
        end.close()
    gc.collect()


@pytest.fixture
def sink(made: list[Any]) -> Callable[..., FarSink]:
    def make(policy: str = "block", address: str = HERE, codec: Any = "png", **kw: Any) -> FarSink:
        made.append(FarSink(address, policy=policy, codec=codec, **kw))
        return made[-1]

    return make


@pytest.fixture
def source(made: list[Any]) -> Callable[..., FarSource]:
    def make(sink: FarSink, **kw: Any) -> FarSource:
        made.append(FarSource(far(sink), timeout=10.0, **kw))
        made[-1].open()
        return made[-1]

    return make
