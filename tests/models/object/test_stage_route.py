"""The router's cut reaches what follows an object, as the source's does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from object_parts import Cheap, scene
from PIL import Image
from runtime_parts import frame

import retain.models.object.features
from retain.models.object.stage import SegmentObject
from retain.models.object.tracker import Tracker
from retain.pipeline.packet import Packet
from retain.pipeline.results import Route

ROUTE = Route("clear", "score", 0.5, 0.1, 0.7, 0.1, 0.2, 3.0, 0.2, 0.4)


def test_after_a_cut_by_the_router_objects_are_looked_for_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    look = Tracker.look

    def noted(self: Tracker, *args: object, cut: bool = False) -> object:
        asked.append(cut)
        return look(self, *args, cut=cut)  # type: ignore[arg-type]

    monkeypatch.setattr(retain.models.object.features, "Features", Cheap)
    monkeypatch.setattr(Tracker, "look", noted)
    image, label = scene((30, 30), (60, 40))
    Image.fromarray((255 * (label == 1)).astype(np.uint8)).save(tmp_path / "mask.png")
    stage = SegmentObject(str(tmp_path / "mask.png"), side=64)
    for seq, (cut, gap) in enumerate([(False, False)] * 2 + [(True, False), (False, True)]):
        shown = replace(frame(seq), image=image, discontinuity=gap)
        route = Route(*[getattr(ROUTE, name) for name in ROUTE.__struct_fields__[:-1]], cut=cut)
        assert stage.process(Packet(shown).plus(route=route))
    assert stage.process(Packet(replace(frame(4), image=image)))
    assert asked == [False, True, True, False]
