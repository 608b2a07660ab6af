"""What the page of `retain run --page` knows: the sections of all the pages whose results may
travel on one stream. A panel whose results do not travel stays empty."""

from __future__ import annotations

from retain.apps.page import detect, imagine, memory, objects, scene
from retain.apps.page.section import Json, Section
from retain.pipeline.frame import Image
from retain.pipeline.packet import Packet


def about() -> Json:
    """What is fixed, beside what every page says of itself."""
    return memory.about() | objects.about() | {"doing": "Several models on one stream."}


def describe(packet: Packet, preview: Image) -> Json:
    """Boxes and outlines over the newest picture, the decision under it."""
    told = detect.describe(packet, preview) | imagine.describe(packet, preview)
    outlined = objects.describe(packet, preview).get("outlines")
    return told | memory.describe(packet, preview) | ({"outlines": outlined} if outlined else {})


def sections() -> list[Section]:
    kept: list[Section] = [memory.Points(), memory.Whole(), memory.Kept()]
    return [
        *kept,
        *objects.sections(),
        *detect.sections(),
        *scene.sections(),
        *imagine.sections(),
    ]
