"""``scene.html``: Gaussians in one self-contained page that turns, flies and follows the path."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template

import numpy as np
from numpy.typing import NDArray

from retain.apps.drawing import number
from retain.datasets.splats.parts import importance
from retain.datasets.splats.splat import RECORD, to_records
from retain.kernels.geometry.camera import Camera
from retain.kernels.geometry.rigid import upward
from retain.kernels.rasterize.gaussians import Gaussians
from retain.pipeline.files import write_whole

HERE = Path(__file__).parent
SCRIPTS = ("sort", "splats", "eye", "controls", "main")
"""Modules of the page, each after those it imports."""
LIMIT = 400_000
"""Gaussians of a page: about 8 MB, and what a laptop's graphics still turn without a stutter."""
MOST = 2**21
"""Gaussians that fit into the smallest texture WebGL 2 promises."""
STEP = 2.0**-12
"""Metres to which places are rounded: a quarter of a millimetre, as in .spz."""

View = tuple[NDArray[np.float64], Camera]
"""c2w [4, 4], OpenCV axes, and the camera that stood there."""


def write_viewer(
    path: str | Path,
    gaussians: Gaussians,
    cameras: Sequence[View] = (),
    *,
    title: str,
    limit: int = LIMIT,
) -> Path:
    """Write the page ``path`` (atomically) and return it. It opens with the first of ``cameras``.

    Of more than ``limit`` Gaussians those that add most to pictures are shown, and the page says
    so. Places are rounded to ``STEP``, scales to 1 %, colours and turns to 8 bits. Raises OSError;
    ValueError for numbers that are not finite or a limit beyond ``MOST``.
    """
    if not 0 < limit <= MOST:
        raise ValueError(f"limit must be in 1..{MOST}, got {limit}")
    shown = gaussians
    if len(gaussians) > limit:
        shown = gaussians[np.argsort(-importance(gaussians), kind="stable")[:limit]]
    script = _script()
    page = Template((HERE / "viewer.html").read_text("utf-8")).substitute(
        policy=_policy(script),
        tokens=(HERE.parent / "page/static/tokens.css").read_text("utf-8"),
        title=escape(title),
        facts=_facts(len(shown), len(gaussians), len(cameras)),
        scene=_scene(len(shown), cameras),
        records=base64.b64encode(pack(to_records(shown))).decode(),
        script=script,
    )
    write_whole(path, page.encode())
    return Path(path)


def pack(records: NDArray[np.uint8]) -> bytes:
    """uint8 [N, 32] rounded, in an order along space, byte column by byte column, deflated.

    The columns that rounding and order have made alike then take next to nothing.
    """
    rows = records.reshape(-1).view(RECORD).copy()
    rows["mean"] = np.rint(rows["mean"] / STEP) * STEP
    mantissa = rows["scale"].copy().view(np.uint32)
    rows["scale"] = ((mantissa + 0x8000) & 0xFFFF0000).view(np.float32)
    rows = rows[_along_space(rows["mean"])]
    columns = rows.view(np.uint8).reshape(-1, RECORD.itemsize).T
    return gzip.compress(columns.tobytes(), 6, mtime=0)


def _along_space(means: NDArray[np.float32]) -> NDArray[np.int64]:
    """Order of a Z-shaped curve (Morton, 1966) through 1024 cells a side."""
    if not len(means):
        return np.zeros(0, np.int64)
    low, high = means.min(axis=0), means.max(axis=0)
    cells = ((means - low) / np.maximum(high - low, STEP).max() * 1023).astype(np.uint64)
    code = np.zeros(len(means), np.uint64)
    for bit in range(10):
        for axis in range(3):
            one = (cells[:, axis] >> np.uint64(bit)) & np.uint64(1)
            code |= one << np.uint64(3 * bit + axis)
    return np.argsort(code, kind="stable")


def _scene(count: int, cameras: Sequence[View]) -> str:
    """What the script needs beside the records, as JSON that may stand inside HTML."""
    views = [
        {
            "pose": [round(float(v), 6) for v in np.asarray(c2w).reshape(-1)],
            "lens": [lens.fx, lens.fy, lens.cx, lens.cy, lens.width, lens.height],
        }
        for c2w, lens in cameras
    ]
    up = upward([c2w for c2w, _ in cameras])
    if not up.any():
        up = np.array([0.0, -1.0, 0.0])
    scene = {"count": count, "cameras": views, "up": [round(float(v), 6) for v in up]}
    return json.dumps(scene, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _facts(shown: int, count: int, cameras: int) -> str:
    facts = [f"{number(count)} Gaussian{'s' * (count != 1)}"]
    if shown < count:
        facts[0] = f"{number(shown)} of {facts[0]}, those that show most"
    if cameras:
        facts.append(f"{number(cameras)} view{'s' * (cameras != 1)}")
    return " · ".join(facts)


def _script() -> str:
    """The modules as one, since a page opened from disk cannot import."""
    sources = [(HERE / f"viewer.{name}.js").read_text("utf-8") for name in SCRIPTS]
    joined = re.sub(r"^import .*?;\n", "", "\n".join(sources), flags=re.MULTILINE)
    return re.sub(r"^export (?=class|const|function)", "", joined, flags=re.MULTILINE)


def _policy(script: str) -> str:
    """Nothing is loaded from anywhere; only the page's own script may run, and its worker."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "worker-src blob:; base-uri 'none'; form-action 'none'"
    )
