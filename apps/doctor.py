"""`retain doctor`: what this machine can do, and how to mend what it cannot. Fit to paste."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import retain
from retain.apps import console

State = Literal["ok", "missing", "broken"]
MIN_SHM = 64 << 20
"""/dev/shm of many containers; a ring for 4K pictures needs more."""


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. ``essential`` ones make the command fail."""

    name: str
    state: State
    found: str
    fix: str = ""
    essential: bool = True


Probe = Callable[[], Iterator[Check]]


def doctor(as_json: bool) -> int:
    """Print all findings; 1 when something essential is amiss."""
    checks = examine()
    failed = [check for check in checks if check.essential and check.state != "ok"]
    if as_json:
        document = {"ok": not failed, "checks": [asdict(check) for check in checks]}
        print(json.dumps(document, indent=1, ensure_ascii=False))
    else:
        _show(checks, len(failed))
    return 1 if failed else 0


def examine() -> list[Check]:
    """Every check. One that goes wrong in a way nobody foresaw is itself a finding."""
    found: list[Check] = []
    for probe in PROBES:
        name = probe.__name__.strip("_").replace("_", " ")
        try:
            found.extend(probe())
        except Exception as error:
            fix = "Reinstall: pip install --force-reinstall retain"
            found.append(Check(name, "broken", f"{type(error).__name__}: {error}", fix))
    return found


def _show(checks: list[Check], failed: int) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False)
    for _ in range(3):
        table.add_column(overflow="fold")
    for check in checks:
        good = check.state == "ok"
        style = "green" if good else "red" if check.essential else "yellow"
        word = "ok" if good else check.state if check.essential else "absent"
        table.add_row(Text(word, style), check.name, Text(check.found))
        if check.fix and not good:
            table.add_row("", "", Text(check.fix, "bold"))
    out = console.output()
    out.print(table)
    verdict = "everything essential works" if not failed else f"{failed} essential checks failed"
    out.print(f"\n{verdict}")


def _python() -> Iterator[Check]:
    good = sys.version_info >= (3, 11)
    place = f"{platform.python_version()}, {platform.system()} {platform.machine()}"
    yield Check("python", "ok" if good else "broken", place, "Install Python 3.11 or newer.")
    yield Check("retain", "ok", retain.__version__)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Check("cores", "ok", f"{cores} usable")


def _packages() -> Iterator[Check]:
    from packaging.requirements import Requirement

    wrong: list[str] = []
    right: list[str] = []
    for line in importlib.metadata.requires("retain") or []:
        need = Requirement(line)
        if need.marker and not need.marker.evaluate({"extra": ""}):
            continue
        try:
            version = importlib.metadata.version(need.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{need.name} is missing")
            continue
        good = need.specifier.contains(version, prereleases=True)
        (right if good else wrong).append(f"{need.name} {version}")
    if wrong:
        yield Check("packages", "broken", ", ".join(wrong), "Run: pip install --upgrade retain")
    else:
        yield Check("packages", "ok", ", ".join(right))


def _torch() -> Iterator[Check]:
    import torch

    fix = "Install a matching pair: pip install --upgrade torch torchvision"
    value = float(torch.ones(4, 4).matmul(torch.ones(4, 4)).sum())
    yield Check("torch", "ok" if value == 64 else "broken", torch.__version__, fix)
    yield _torchvision(fix)
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            card = torch.cuda.get_device_properties(index)
            yield Check(f"cuda:{index}", "ok", f"{card.name}, {card.total_memory >> 30} GiB")
    else:
        fix = "None needed: everything runs on the CPU."
        yield Check("cuda", "missing", "no device that torch can use", fix, essential=False)
    try:
        yield Check("triton", "ok", importlib.metadata.version("triton"), essential=False)
    except importlib.metadata.PackageNotFoundError:
        fix = "Only CUDA kernels need it: pip install triton"
        yield Check("triton", "missing", "not installed", fix, essential=False)


def _torchvision(fix: str) -> Check:
    """Its compiled part is loaded, which fails where it does not fit torch. Importing all of it
    would take as long as everything else here together."""
    import torch

    spec = importlib.util.find_spec("torchvision")
    if spec is None or not spec.submodule_search_locations:
        return Check("torchvision", "broken", "not installed", fix, essential=False)
    parts = sorted(Path(spec.submodule_search_locations[0]).glob("_C*"))
    if not parts:
        found = "its compiled part is not there"
        return Check("torchvision", "broken", found, fix, essential=False)
    try:
        torch.ops.load_library(str(parts[0]))  # type: ignore[no-untyped-call]
    except OSError as error:
        found = f"does not fit torch {torch.__version__}: {error}"
        return Check("torchvision", "broken", found, fix, essential=False)
    return Check("torchvision", "ok", importlib.metadata.version("torchvision"), essential=False)


def _video() -> Iterator[Check]:
    import av
    import numpy as np

    fix = "Install the wheel, which brings FFmpeg along: pip install --force-reinstall av"
    yield Check("PyAV", "ok", f"{av.__version__}, FFmpeg {av.ffmpeg_version_info}", fix)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/probe.mp4"
        with av.open(path, "w") as written:
            stream = written.add_stream("libx264", rate=10)
            stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
            for level in (40, 120, 200):
                picture = np.full((64, 64, 3), level, np.uint8)
                written.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            written.mux(stream.encode())
        with av.open(path) as read:
            frames = sum(1 for _ in read.decode(video=0))
    good = frames == 3
    yield Check("H.264", "ok" if good else "broken", f"{frames} of 3 frames came back", fix)
    names = {"hevc": "H.265", "vp9": "VP9", "libdav1d": "AV1", "mjpeg": "MJPEG"}
    have = [shown for name, shown in names.items() if name in av.codecs_available]
    yield Check("other codecs", "ok", ", ".join(have), essential=False)
    try:
        import decord

        yield Check("decord", "ok", decord.__version__, essential=False)
    except (ImportError, OSError) as error:
        why = f"cannot be imported: {error}"
        fix = "Only datasets use it: pip install decord"
        yield Check("decord", "missing", why, fix, essential=False)


def _pictures() -> Iterator[Check]:
    import cv2
    import numpy as np

    done, data = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))
    good = done and cv2.imdecode(data, cv2.IMREAD_COLOR) is not None
    fix = "Keep one OpenCV only: pip uninstall opencv-python; pip install opencv-python-headless"
    yield Check("OpenCV", "ok" if good else "broken", cv2.__version__, fix)


def _dicom() -> Iterator[Check]:
    import pydicom
    from pydicom.pixels import get_decoder
    from pydicom.uid import JPEG2000, ExplicitVRLittleEndian, JPEGBaseline8Bit, RLELossless

    yield Check("pydicom", "ok", pydicom.__version__)
    for uid in (ExplicitVRLittleEndian, RLELossless, JPEGBaseline8Bit, JPEG2000):
        name = f"DICOM {uid.name.split('(')[0].strip()}"
        if uid == ExplicitVRLittleEndian:
            continue
        decoder = get_decoder(uid)
        fix = "Run: pip install pillow pylibjpeg-openjpeg"
        if decoder.is_available:
            yield Check(name, "ok", ", ".join(decoder.available_plugins), essential=False)
        else:
            yield Check(name, "missing", "no decoder", fix, essential=False)


def _sockets() -> Iterator[Check]:
    import zmq

    fix = "Install the wheel: pip install --force-reinstall --only-binary :all: pyzmq"
    context = zmq.Context()
    with tempfile.TemporaryDirectory(prefix="retain-") as folder:
        a, b = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
        try:
            for one in (a, b):
                one.setsockopt(zmq.LINGER, 0)
                one.setsockopt(zmq.RCVTIMEO, 2000)
            a.bind(f"ipc://{folder}/probe")
            b.connect(f"ipc://{folder}/probe")
            b.send(b"here")
            good = a.recv() == b"here"
        except zmq.ZMQError:
            good = False
        finally:
            a.close()
            b.close()
            context.term()
    version = f"pyzmq {zmq.__version__}, libzmq {zmq.zmq_version()}"
    blocked = "The temporary folder cannot hold sockets: set TMPDIR to a local disk."
    yield Check("ZeroMQ ipc", "ok" if good else "broken", version, blocked)
    curve = bool(zmq.has("curve"))
    found = "encryption between hosts" if curve else "built without it"
    yield Check("ZeroMQ CURVE", "ok" if curve else "missing", found, fix, essential=False)


def _shared_memory() -> Iterator[Check]:
    path = Path("/dev/shm")
    if not path.is_dir():
        fix = "Mount it: mount -t tmpfs tmpfs /dev/shm. Until then use --runner inline."
        yield Check("/dev/shm", "missing", "pixels cannot travel between processes", fix)
        return
    usage = shutil.disk_usage(path)
    found = f"{usage.free >> 20:,} of {usage.total >> 20:,} MiB free"
    fix = "In a container: docker run --shm-size 1g. Or use --runner inline."
    yield Check("/dev/shm", "ok" if usage.free >= MIN_SHM else "broken", found, fix)


def _encoders() -> Iterator[Check]:
    from retain.models.catalog import ENCODERS
    from retain.models.encoders.base import create
    from retain.pipeline.errors import RetainError

    for name in ENCODERS:
        if name == "torchvision":  # a family; its members are too many to try
            continue
        essential = name == "mobilenetv2"
        try:
            encoder = create(name, device="cpu")
        except RetainError as error:
            found = error.what
            yield Check(f"encoder {name}", "missing", found, error.hint, essential=essential)
            continue
        plain = ", without weights: colours and edges only" if name == "pixels" else ""
        found = f"{encoder.dim} numbers per picture{plain}"
        yield Check(f"encoder {name}", "ok", found, essential=essential)


def _scenes() -> Iterator[Check]:
    import importlib.metadata

    import torch

    from retain.kernels.rasterize import cuda

    fix = "Run: pip install 'retain[viewer]'"
    try:
        found = f"viser {importlib.metadata.version('viser')}"
        yield Check("3D view", "ok", found, essential=False)
    except importlib.metadata.PackageNotFoundError:
        found = "viser is not installed: the page shows no 3D while a map grows"
        yield Check("3D view", "missing", found, fix, essential=False)
    if not torch.cuda.is_available():
        yield Check("rasteriser", "ok", "our own, on the CPU", essential=False)
    elif why := cuda.missing():
        yield Check(
            "rasteriser", "missing", f"CUDA tensors need gsplat, and {why}", essential=False
        )
    else:
        yield Check("rasteriser", "ok", "our own on the CPU, gsplat on CUDA", essential=False)


def _demo_clip() -> Iterator[Check]:
    from retain.apps.demo import INSTALL, find_clip

    clip = find_clip()
    found = clip.name if clip else "the package it comes with is not installed"
    state: State = "ok" if clip else "missing"
    yield Check("demo clip", state, found, f"Run: {INSTALL}", essential=False)


def _folders() -> Iterator[Check]:
    import platformdirs

    cache = Path(platformdirs.user_cache_dir("retain"))
    fix = "Set XDG_CACHE_HOME to a folder you may write to."
    yield _writable("cache folder", cache, fix, essential=False)
    fix = "Change to a folder you may write to, or give `retain watch` --out."
    yield _writable("results folder", Path("retain-out").absolute(), fix, essential=True)


def _writable(name: str, path: Path, fix: str, *, essential: bool) -> Check:
    """Whether ``path`` could be made and written to; leaves nothing behind."""
    place = next(parent for parent in (path, *path.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        found = f"{path}: {error.strerror}"
        return Check(name, "broken", found, fix, essential)
    free = shutil.disk_usage(place).free >> 20
    return Check(name, "ok", f"{path}, {free:,} MiB free", essential=essential)


PROBES: tuple[Probe, ...] = (
    _python,
    _packages,
    _torch,
    _video,
    _pictures,
    _dicom,
    _sockets,
    _shared_memory,
    _encoders,
    _scenes,
    _demo_clip,
    _folders,
)
