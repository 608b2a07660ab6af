"""Clips in tar shards against plain files: decoding, listing, and the bytes that are asked for."""

from __future__ import annotations

import io
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _clips import make_clip

from retain.apps.batch.stores import of_shard
from retain.apps.bench import Row, script
from retain.pipeline.sources.any import AnySource
from retain.pipeline.sources.blocks import LocalBlob
from retain.pipeline.sources.shards import open_member

AREA = "runtime"
MEMBERS = 10_000


def measure(quick: bool = False) -> list[Row]:
    rounds = 3 if quick else 7
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip, shard = folder / "c.mp4", folder / "c.tar"
        make_clip(clip, width=640, height=360, frames=250)
        with tarfile.open(shard, "w") as made:
            for number in range(20):
                made.add(clip, f"{number:03}.mp4")
        return [*_decoding(clip, shard, rounds), _fetched(shard), _listing(folder, rounds)]


def _decoding(clip: Path, shard: Path, rounds: int) -> list[Row]:
    plain, inside = _interleaved(
        rounds,
        lambda: sum(1 for _ in AnySource(str(clip)).frames()),
        lambda: sum(1 for _ in AnySource(f"{shard}::@0::000.mp4").frames()),
    )
    return [
        Row(name="a clip of 250 frames, from a shard", value=1e3 * inside, unit="CPU ms",
            peer="from its own file", peer_value=1e3 * plain, ratio=plain / inside,
            bar="<= 10 % more", met=inside <= 1.1 * plain),
    ]  # fmt: skip


def _fetched(shard: Path) -> Row:
    """What a store would be asked for, to read one member of twenty from its headers on."""

    class Counting(LocalBlob):
        asked = 0

        def fetch(self, start: int, stop: int) -> bytes:
            self.asked += stop - start
            return super().fetch(start, stop)

    import av

    blob = Counting(shard)
    with tarfile.open(shard) as opened:
        at = opened.getmember("010.mp4").offset
    window = open_member(blob, "010.mp4", at)
    size = window.size
    with av.open(window) as container:
        sum(1 for _ in container.decode(video=0))
    window.close()
    over = (blob.asked - size) / 2**20
    return Row(name=f"asked for beyond a member of {size / 2**20:.2f} MiB", value=over, unit="MiB",
               peer="the whole shard", peer_value=shard.stat().st_size / 2**20, bar="<= 2 MiB",
               met=over <= 2)  # fmt: skip


def _listing(folder: Path, rounds: int) -> Row:
    path = folder / "many.tar"
    with tarfile.open(path, "w") as made:
        for number in range(MEMBERS // 2):
            for name, data in ((f"{number:06}.json", b"{}"), (f"{number:06}.mp4", bytes(3000))):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                made.addfile(member, io.BytesIO(data))

    def walked() -> None:
        with tarfile.open(path) as opened:
            opened.getmembers()

    theirs, ours = _interleaved(rounds, walked, lambda: list(of_shard("x", str(path))))
    return Row(name=f"a shard of {MEMBERS:,} files as items", value=ours, unit="CPU s",
               peer="tarfile alone", peer_value=theirs, ratio=theirs / ours, bar="<= 3x tarfile",
               met=ours <= 3 * theirs)  # fmt: skip


def _interleaved(rounds: int, *jobs: Callable[[], Any]) -> list[float]:
    """CPU seconds of each job's fastest run."""
    best = [float("inf")] * len(jobs)
    for _ in range(rounds):
        for place, job in enumerate(jobs):
            began = time.process_time()
            job()
            best[place] = min(best[place], time.process_time() - began)
    return best


if __name__ == "__main__":
    script(measure, "shards")
