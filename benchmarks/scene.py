"""Maps of generated rooms and of the kitchen clip: quality on unseen frames, path, time, memory.

The kitchen clip (7-Scenes) may not be shipped; its rows are there where RETAIN_KITCHEN names its
folder or the developers' data lies beside the repository.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import torch

from retain.apps.bench import Row, folder, script
from retain.apps.reconstruct import outcome
from retain.apps.reconstruct.record import HeldOut, Recorder
from retain.datasets.scene import metrics
from retain.datasets.scene.source import SceneSource
from retain.models.scene.mapper import Mapper
from retain.models.scene.stage import Reconstruct
from retain.pipeline.results import View

AREA = "models"
STEPS = 500
FUSED = ("track", "loop", "observe", "build", "fuse")
"""Parts of a frame's time that count as tracking and fusing; refinement has its own budget."""


@dataclass(frozen=True)
class Measured:
    """One sequence, mapped."""

    made: outcome.Outcome
    journal: Recorder
    mapper: Mapper
    before_db: float
    """PSNR of the held-out frames of the first tenth, right after they were seen ..."""
    after_db: float
    """... and from the map at the end of the stream, before its last refinement."""

    @property
    def ms(self) -> float:
        return sum(mean for name, mean, _ in self.journal.ms_per_frame() if name in FUSED)


def measure(quick: bool = False) -> list[Row]:
    rows = _room(80 if quick else 400, 100 if quick else STEPS)
    clip = kitchen()
    if clip is not None and not quick:
        rows += _clip(clip)
    return rows


def _room(frames: int, steps: int) -> list[Row]:
    one = mapped(f"room://?seed=3&frames={frames}&kind=loop", steps, poses="estimated")
    written = int(one.mapper.map.stats(one.mapper.stream)["written"])
    count, drift = len(one.made.gaussians), one.made.drift
    assert drift is not None
    psnr, share, lost = one.made.mean("psnr"), count / written, one.before_db - one.after_db
    most = one.journal.most_bytes / one.mapper.hub.budget_bytes
    name = f"room, loop of {frames}, 320x240, estimated poses"
    return [
        Row(name=f"{name}: held-out PSNR", value=psnr, unit="dB", bar=">= 27 dB", met=psnr >= 27),
        Row(name="… SSIM", value=one.made.mean("ssim"), unit=""),
        Row(name="… Gaussians", value=count, unit="", peer="those of its keyframes",
            peer_value=written, ratio=written / count, bar="<= 15 %", met=share <= 0.15),
        Row(name="… path error (ATE)", value=100 * drift.ate.rmse, unit="cm"),
        Row(name="… track and fuse, per frame", value=one.ms, unit="ms", bar="<= 60 ms",
            met=one.ms <= 60),
        Row(name="… refine, per frame", value=_refine_ms(one), unit="ms"),
        Row(name="… PSNR the first tenth has lost at the end", value=lost, unit="dB",
            bar="<= 1 dB", met=lost <= 1),
        Row(name="… most memory, of the budget", value=100 * most, unit="%", bar="<= 100 %",
            met=most <= 1),
        Row(name="… cells with a double wall", value=100 * one.made.double_walls, unit="%"),
    ]  # fmt: skip


def _clip(clip: Path) -> list[Row]:
    given = mapped(str(clip), STEPS, poses="given")
    psnr = given.made.mean("psnr")
    own = mapped(str(clip), STEPS, poses="estimated")
    assert own.made.drift is not None
    ate = 100 * own.made.drift.ate.rmse
    return [
        Row(name="kitchen, given poses: held-out PSNR", value=psnr, unit="dB", bar=">= 21 dB",
            met=psnr >= 21),
        Row(name="… estimated poses: held-out PSNR", value=own.made.mean("psnr"), unit="dB"),
        Row(name="… path error (ATE)", value=ate, unit="cm", bar="<= 5 cm", met=ate <= 5),
        Row(name="… track and fuse, per frame", value=own.ms, unit="ms", bar="<= 60 ms",
            met=own.ms <= 60),
    ]  # fmt: skip


def mapped(source: str, steps: int, *, depth: bool = True, **options: object) -> Measured:
    """A source as a stage of these ``options`` maps it, refined by ``steps``. ``depth`` False: from
    the pictures alone."""
    stage = Reconstruct(**options)  # type: ignore[arg-type]
    early: list[HeldOut] = []
    before = float("nan")
    with tempfile.TemporaryDirectory() as place, _threads(2):
        journal = Recorder(Path(place))
        packets = SceneSource(source, width=320)
        first = packets.open().declared_frames // 10
        for packet in packets.packets():
            if not depth:
                view = packet.get("view", View)
                packet.results["view"] = msgspec.structs.replace(view, depth=None)
            if (done := stage.process(packet)) is not None:
                journal.process(done)
            if journal.frames == max(first, 8):
                early = list(journal.held_out)
                before = _psnr(stage, early)
        journal.close()
        mapper = stage.mapper
        assert mapper is not None
        after = _psnr(stage, early)
        refined = outcome.finish(mapper, steps, 0, lambda done: None)
        made = outcome.judge(mapper, journal, refined, metric=mapper.kind.depth)
    return Measured(made, journal, mapper, before, after)


def _psnr(stage: Reconstruct, held: list[HeldOut]) -> float:
    mapper = stage.mapper
    assert mapper is not None
    gaussians = mapper.map.read(mapper.stream, "all").gaussians
    poses = mapper.map.poses(mapper.stream)
    values = [
        metrics.psnr(
            outcome.seen_from(gaussians, one, outcome.corrected(one, poses)).color, one.image()
        )
        for one in held
    ]
    return float(np.mean(values)) if values else float("nan")


def _refine_ms(one: Measured) -> float:
    return sum(mean for name, mean, _ in one.journal.ms_per_frame() if name == "refine")


def kitchen() -> Path | None:
    """The folder of the clip, where there is one."""
    beside = folder().parents[1] / "shared/data/kitchen_rgbd"
    path = Path(os.environ.get("RETAIN_KITCHEN", beside))
    return path if path.is_dir() else None


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


if __name__ == "__main__":
    script(measure, "scene")
