"""What the page of `retain segment --text` knows: outlines and shares of what words name."""

from __future__ import annotations

import numpy as np

from retain.apps.page import objects
from retain.apps.page.objects import describe
from retain.apps.page.section import Json, Section
from retain.pipeline.packet import Packet
from retain.pipeline.results import Masks

__all__ = ["about", "describe", "sections"]


def about() -> Json:
    """What is fixed, beside what every page says of itself."""
    return {**objects.about(), "doing": "Looking for what the words name."}


class Shares(objects.Areas):
    def observe(self, packet: Packet) -> None:
        masks = packet.results.get("masks")
        if isinstance(masks, Masks):
            # Without the rim that repeats the edge.
            inside = (masks.probability[:, 1:-1, 1:-1] > 127).mean(axis=(1, 2))
            shares = [round(float(share), 5) for share in np.atleast_1d(inside)]
            self.add((round(packet.frame.seconds, 4), packet.frame.seq, shares))


def sections() -> list[Section]:
    return [Shares()]
