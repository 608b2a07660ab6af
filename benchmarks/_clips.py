"""Clips that the benchmarks share."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def make_clip(path: Path, *, width: int, height: int, frames: int, fps: int = 25) -> None:
    """H.264 with motion, texture and noise, so that it is neither trivial nor incompressible."""
    import av
    import cv2

    rng = np.random.default_rng(0)
    texture = cv2.resize(
        rng.integers(0, 255, (height // 8, width // 4, 3), dtype=np.uint8),
        (width * 2, height),
        interpolation=cv2.INTER_CUBIC,
    )
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(frames):
            shift = (index * 5) % width
            picture = np.ascontiguousarray(texture[:, shift : shift + width])
            cv2.circle(picture, ((index * 7) % width, height // 2), height // 8, (255, 80, 40), -1)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def decode_with_opencv(path: Path) -> int:
    """Every frame to RGB, the way most scripts do it. Returns how many there were."""
    import cv2

    capture = cv2.VideoCapture(str(path))
    count = 0
    while True:
        good, picture = capture.read()
        if not good:
            break
        cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
        count += 1
    capture.release()
    return count
