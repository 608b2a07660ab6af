"""References that a person gives: clips of other videos, or a bank of them on disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from retain.memory.clips import index
from retain.memory.clips.bank import ClipBank
from retain.memory.clips.config import ClipBankConfig, WindowConfig
from retain.memory.clips.index import STREAM
from retain.memory.clips.windows import cut
from retain.models.ditmem.imaginer import Imaginer
from retain.pipeline.errors import StateError, UsageError
from retain.pipeline.sources.common import IMAGE_SUFFIXES
from retain.pipeline.stage import Source

MOST = 4096
"""Clips that are held of what is given; of more the most redundant leave."""
WORLDS = "worlds:"


def gather(where: str, imaginer: Imaginer, fps: float = 0.0) -> ClipBank:
    """The clips at ``where`` under the stream ``memory.clips.index.STREAM``.

    where  an index (.safetensors, of ``memory.clips.index``), a video, a folder of videos or of
           the pictures of one, or generated clips, ``worlds://…``
    fps    at which videos are read; 0: all frames

    Videos are stretched to the model's size; an index has to have it. Raises UsageError where there
    is no clip or too short a one, SourceError for what cannot be read, StateError for an index of
    another encoder or of clips of another size.
    """
    if where.endswith(".safetensors"):
        bank = index.load(where, imaginer.opened.encoder, imaginer.opened.digest)
        if bank.settings.shape != imaginer.shape:
            raise StateError(
                f"The references of {where!r} are clips of {bank.settings.shape}, but these "
                f"weights take {imaginer.shape}.",
                hint="Give the videos themselves; they are stretched to the size.",
            )
        return _some(bank, where)
    bank = ClipBank(settings(imaginer, MOST))
    windows = WindowConfig(imaginer.shape, stride=imaginer.shape.frames)
    for name, source in _sources(where, fps):
        with closing(source):
            try:
                source.open()
                clips = cut(source.frames(), windows)
            except UsageError as error:
                raise UsageError(
                    f"{name!r} is no reference. {error.what}", hint=error.hint
                ) from None
        for clip in clips:
            bank.write(STREAM, clip.described(imaginer.describe(clip.frames), origin=name))
    return _some(bank, where)


def _some(bank: ClipBank, where: str) -> ClipBank:
    if not bank.stats(STREAM)["clips"]:
        raise UsageError(
            f"There are no references in {where!r}.",
            hint="Give a video, a folder of videos or of pictures, or an index of clips.",
        )
    return bank


def settings(imaginer: Imaginer, capacity: int) -> ClipBankConfig:
    """Of a bank that holds what ``imaginer`` can be shown."""
    e = imaginer.opened.guided.config
    dim = e.dit.dim * (len(e.encoder.bands) + 1)
    return ClipBankConfig(
        imaginer.opened.encoder, imaginer.opened.digest, dim, imaginer.shape, capacity=capacity
    )


def _sources(where: str, fps: float) -> Iterator[tuple[str, Source]]:
    from retain.pipeline.sources.any import AnySource

    if where.startswith(WORLDS):
        from retain.datasets.worlds.source import WorldSource

        yield where, WorldSource(where, fps=fps)
        return
    path = Path(where)
    files = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else []
    videos = [p for p in files if p.suffix.lower() not in IMAGE_SUFFIXES]
    if path.is_dir() and not files:
        raise UsageError(f"There are no references in {where!r}: the folder is empty.")
    for name in map(str, videos) if videos else (where,):
        yield name, AnySource(name, stream=Path(name).stem, fps=fps)
