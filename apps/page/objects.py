"""What the page of `retain segment --object` knows: outlines and areas of the objects. Bounded."""

from __future__ import annotations

import cv2
import numpy as np

from retain.apps.page.section import Json, Recent, Section
from retain.apps.segment_object.files import COLOURS
from retain.models.gdkvm.place import masks_on_frame, outlines
from retain.pipeline.frame import Image
from retain.pipeline.packet import Packet
from retain.pipeline.results import Masks

SMOOTH = 0.6
"""Pixels by which a drawn outline may leave the true one."""


def about() -> Json:
    """What is fixed, beside what every page says of itself."""
    return {
        "doing": "Following what was marked in the first frame.",
        "colours": ["#{:02x}{:02x}{:02x}".format(*colour) for colour in COLOURS],
    }


def describe(packet: Packet, preview: Image) -> Json:
    """Outlines in pixels of the preview, each with the number of its object, and what is seen."""
    masks = packet.results.get("masks")
    if not isinstance(masks, Masks):
        return {}
    size = packet.frame.height, packet.frame.width
    label = masks_on_frame(masks, preview.shape[0], preview.shape[1], frame=size)
    return {
        "outlines": [
            {
                "label": name,
                "number": k,
                "points": cv2.approxPolyDP(line, SMOOTH, True)[:, 0].tolist(),
            }
            for k, name in enumerate(masks.labels)
            for line in outlines(label, k + 1)
        ],
        "objects": [
            {"label": name, "share": round(float((label == k + 1).mean()), 5)}
            for k, name in enumerate(masks.labels)
        ],
    }


class Areas(Recent):
    """The objects' last sizes: (seconds, seq, share of the frame of each)."""

    name = "areas"

    def observe(self, packet: Packet) -> None:
        masks = packet.results.get("masks")
        if isinstance(masks, Masks):
            # Planes cover the frame evenly, so shares of a plane are shares of the frame.
            inside = (masks.probability > 127).mean(axis=(1, 2))
            shares = [round(float(share), 5) for share in np.atleast_1d(inside)]
            self.add((round(packet.frame.seconds, 4), packet.frame.seq, shares))


def sections() -> list[Section]:
    return [Areas()]
