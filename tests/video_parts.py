"""What tests of video files share."""

from __future__ import annotations

from retain.pipeline.errors import SourceError
from retain.pipeline.frame import Frame
from retain.pipeline.sources.any import AnySource
from retain.pipeline.sources.video import VideoSource


def read(source: VideoSource | AnySource) -> tuple[list[Frame], SourceError | None]:
    """All frames, and the error that ended them."""
    frames: list[Frame] = []
    try:
        source.open()
        frames.extend(source.frames())
    except SourceError as error:
        return frames, error
    finally:
        source.close()
    return frames, None
