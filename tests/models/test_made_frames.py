"""No stage that remembers pictures learns from what a model made."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from retain.models.curvestream import Remember
from retain.models.ditmem.stage import Imagine
from retain.models.gdkvm.stage import Segment
from retain.models.mamba.stage import Detect
from retain.models.object.stage import SegmentObject
from retain.models.scene.stage import Reconstruct
from retain.pipeline.errors import UsageError
from retain.pipeline.frame import SYNTHETIC, Frame
from retain.pipeline.packet import Packet
from retain.pipeline.results import Embedding


@pytest.mark.parametrize("stage", [Detect, Imagine, Reconstruct, Remember, Segment, SegmentObject])
def test_frames_that_a_model_made_are_refused(stage: Any) -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    frame = Frame("main", 3, 3, Fraction(1, 25), image, meta={SYNTHETIC: True})
    packet = Packet(frame, {"embedding": Embedding(np.ones(4, np.float32), "any")})
    bare = stage() if stage is Remember else object.__new__(stage)  # refused before it is looked at
    with pytest.raises(UsageError, match="made by a model"):
        _all(bare.process, packet)


def _all(process: Callable[[Packet], object], packet: Packet) -> None:
    out = process(packet)
    if isinstance(out, Iterable):
        list(out)
