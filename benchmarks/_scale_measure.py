"""What a frame costs on one core, part by part; the input of ``_scale_model``."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from _clips import make_clip

from retain.apps.batch.engine import Job
from retain.apps.batch.tasks import run_task
from retain.pipeline.frame import Frame
from retain.pipeline.packet import Packet

SIZES = {240: 426, 480: 854, 720: 1280, 1080: 1920}
"""Height -> width, pixels."""
FPS, SAMPLED, SECONDS = 25, 5.0, 10
"""Of the clips that are measured: frames a second, how many of them are sampled, their length."""
CLIP = "clip, ViT-B/32"
ENCODERS = ("pixels", "mobilenetv2", CLIP)


class Costs(msgspec.Struct, frozen=True):
    """CPU milliseconds a frame on one core, and bytes. Keys of the dicts are heights, as words."""

    decode: dict[str, float]
    convert: dict[str, float]
    """To RGB; only frames that are sampled."""
    encode: dict[str, dict[str, float]]
    """By model, scaling to its input included."""
    remember: dict[str, float]
    """Route and memory."""
    segment: float
    """An echo frame of 600x800 (pydicom's), the whole stage."""
    detect: float
    """A frame of 480 lines, the generated detector with its bank, the whole stage."""
    mbit_s: dict[str, float]
    """Of the clips that were decoded."""
    item_s: dict[str, float]
    """CPU seconds for a clip whatever its length: report, summary video, snapshot."""
    item_bytes: dict[str, float]
    frame_bytes: float
    """Results of one sampled frame."""
    parent_ms: float
    """CPU milliseconds of the one process that hands out clips and records them, a clip."""
    machine: str


def measure_costs(folder: Path, quick: bool, machine: str) -> Costs:
    rounds = 2 if quick else 3
    clips = {height: folder / f"{height}.mp4" for height in SIZES}
    frames: dict[int, list[Frame]] = {}
    decode, convert, rate, remember, item_s, item_bytes = {}, {}, {}, {}, {}, {}
    frame_bytes = 0.0
    encode: dict[str, dict[str, float]] = {name: {} for name in ENCODERS}
    encoders = {name: _encoder(name) for name in ENCODERS}
    for height, path in clips.items():
        count = FPS * SECONDS
        make_clip(path, width=SIZES[height], height=height, frames=count, fps=FPS)
        rate[str(height)] = 8e-6 * path.stat().st_size / SECONDS
        bare = _least(lambda path=path: _play(path, 0.01), rounds)
        whole = _least(lambda path=path: _play(path, 0.0), rounds)
        decode[str(height)] = 1e3 * bare / count
        convert[str(height)] = 1e3 * max(0.0, whole - bare) / (count - 1)
        frames[height] = _play(path, SAMPLED)
        for name, encoder in encoders.items():
            some = frames[height][: 4 if name == CLIP else 12]
            encode[name][str(height)] = _each(
                lambda f, e=encoder: e.encode([f.image]), some, rounds
            )
        remember[str(height)] = _remember(frames[height], rounds)
        alone = sum(part[str(height)] for part in (convert, encode["pixels"], remember))
        known = 1e-3 * SECONDS * (FPS * decode[str(height)] + SAMPLED * alone)
        spent, item_bytes[str(height)], frame_bytes = _item(path, rounds)
        item_s[str(height)] = max(0.0, spent - known)
    return Costs(
        decode=decode, convert=convert, encode=encode, remember=remember,
        segment=_segment(rounds), detect=_detect(frames[480], rounds),
        mbit_s=rate, item_s=item_s, item_bytes=item_bytes, frame_bytes=frame_bytes,
        parent_ms=_parent(folder, rounds), machine=machine,
    )  # fmt: skip


def _least(job: Callable[[], Any], rounds: int) -> float:
    """CPU seconds of the fastest run."""
    best = float("inf")
    for _ in range(rounds):
        began = time.process_time()
        job()
        best = min(best, time.process_time() - began)
    return best


def _each(job: Callable[[Frame], Any], frames: list[Frame], rounds: int) -> float:
    """CPU milliseconds a frame."""
    job(frames[0])
    return 1e3 * _least(lambda: [job(frame) for frame in frames], rounds) / len(frames)


def _play(path: Path, fps: float) -> list[Frame]:
    from retain.pipeline.sources.video import VideoSource

    kept: list[Frame] = []
    for frame in VideoSource(str(path), fps=fps).frames():
        if fps:
            kept.append(frame)
    return kept


def _encoder(name: str) -> Any:
    from retain.models.encoders.base import TorchEncoder, create

    if name != CLIP:
        return create(name, device="cpu")
    import open_clip

    network = open_clip.create_model("ViT-B-32", pretrained=None).visual.eval()
    mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
    return TorchEncoder(
        name, network, dim=512, side=224, device="cpu",
        mean=[255 * v for v in mean], std=[255 * v for v in std],
    )  # fmt: skip


def _remember(frames: list[Frame], rounds: int) -> float:
    from retain.models.curvestream import Encode, Remember

    encode = Encode("pixels", device="cpu")
    packets = [encode.process(Packet(frame)) for frame in frames]

    def run() -> None:
        stage = Remember()
        for packet in packets:
            stage.process(packet)

    return 1e3 * _least(run, rounds) / len(packets)


def _segment(rounds: int) -> float:
    import pydicom.data

    from retain.models.gdkvm.stage import Segment
    from retain.pipeline.sources.dicom import DicomSource

    path = pydicom.data.get_testdata_file("examples_ybr_color.dcm", download=False)
    frames = list(DicomSource(str(path)).frames())
    return 1e3 * _least(lambda: _through(Segment(threads=1), frames), rounds) / len(frames)


def _detect(frames: list[Frame], rounds: int) -> float:
    from retain.models.mamba.stage import Detect

    frames = frames[:16]
    return 1e3 * _least(lambda: _through(Detect(), frames), rounds) / len(frames)


def _through(stage: Any, frames: list[Frame]) -> None:
    for frame in frames:
        out = stage.process(Packet(frame))
        if not isinstance(out, Packet | None):
            list(out)


def _parent(folder: Path, rounds: int) -> float:
    from retain.apps.batch.engine import Outcome
    from retain.apps.batch.items import Item
    from retain.apps.batch.manifest import Manifest

    count, best = 2000, float("inf")
    (folder / "ends").mkdir()
    for number in range(rounds):
        manifest = Manifest(folder / f"{number}.sqlite", "watch")
        manifest.plan([Item(f"{n}", f"/{n}", 1, 0) for n in range(count)], "a", set(), False)
        for n in range(count):
            (folder / f"begins-{number}-{n}").mkdir()

        def run(manifest: Manifest = manifest, number: int = number) -> None:
            for n, job in enumerate(manifest.jobs(folder, folder)):
                msgspec.json.encode(job)
                (folder / f"begins-{number}-{n}").rename(folder / "ends" / f"{number}-{n}")
                manifest.record(Outcome(job.id, "done", facts={"frames": 1}), f"items/{job.id}")

        best = min(best, _least(run, 1))
        manifest.close()
    return 1e3 * best / count


def _item(path: Path, rounds: int) -> tuple[float, float, float]:
    """CPU s of watching a clip, bytes it leaves beside its frames' results, and bytes of those of a
    frame."""
    options = {"task": "watch", "set": {"encoder": "pixels", "fps": SAMPLED}}
    outs = [path.with_name(f"{path.stem}-{number}") for number in range(rounds)]
    jobs = iter([Job("x", str(path), path.stat().st_size, 0, str(out), "") for out in outs])
    spent = _least(lambda: run_task(next(jobs), options), rounds)
    files = {file.name: file.stat().st_size for file in outs[0].iterdir()}
    lines = files.pop("results.jsonl")
    return spent, float(sum(files.values())), lines / (SECONDS * SAMPLED)
