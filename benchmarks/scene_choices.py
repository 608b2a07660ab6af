"""What the choices of docs/scene.md are worth: a map as it is made, and with one of them undone.

The kitchen clip's rows are there where ``retain bench scene`` finds it. Each map is made anew, so
the loop is shorter than that of ``scene``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from scene import STEPS, Measured, kitchen, mapped

from retain.apps.bench import Row, script
from retain.models.scene import mapper

AREA = "models"
ROOM = "room://?seed=3&frames={}&kind=loop"


def measure(quick: bool = False) -> list[Row]:
    frames, steps = (60, 60) if quick else (160, STEPS)
    rows = _of(ROOM.format(frames), f"room, loop of {frames}", steps)
    rows += _pictures(60 if quick else 100, steps)
    clip = kitchen()
    if clip is not None and not quick:
        rows += _of(str(clip), "kitchen", steps)
        rows += _depth(str(clip), steps)
    return rows


def _of(source: str, name: str, steps: int) -> list[Row]:
    """Estimated poses: moved by the last refinement or not, fitted to a keyframe or the map."""
    plain = mapped(source, steps, poses="estimated")
    still = mapped(source, steps, poses="estimated", refine_poses=False)
    fitted = mapped(source, steps, poses="estimated", fit="map")
    return [
        _psnr(f"{name}: held-out PSNR", plain, "poses not refined", still),
        _ate("… path error (ATE)", plain, "poses not refined", still),
        _ate("… path error (ATE)", plain, "fit: map", fitted),
    ]


def _depth(source: str, steps: int) -> list[Row]:
    """Given poses of a sensor that sees two thirds of its pixels."""
    plain = mapped(source, steps, poses="given")
    with _undone("complete", lambda depth: depth):
        bare = mapped(source, steps, poses="given")
    with _undone("VIEW_EVERY", 10**9):
        few = mapped(source, steps, poses="given")
    return [
        _psnr("kitchen, given poses: held-out PSNR", plain, "no depth guessed", bare),
        _psnr("… held-out PSNR", plain, "refined on keyframes alone", few),
    ]


def _pictures(frames: int, steps: int) -> list[Row]:
    """The same pictures without depth."""
    source = ROOM.format(frames)
    given = mapped(source, steps, depth=False, poses="given")
    own = mapped(source, steps, depth=False, poses="estimated")
    name = f"room, loop of {frames}, no depth, given poses: held-out PSNR"
    return [_psnr(name, given, "estimated", own)]


def _psnr(name: str, one: Measured, peer: str, other: Measured) -> Row:
    psnr, theirs = one.made.mean("psnr"), other.made.mean("psnr")
    return Row(name=name, value=psnr, unit="dB", peer=peer, peer_value=theirs)


def _ate(name: str, one: Measured, peer: str, other: Measured) -> Row:
    a, b = one.made.drift, other.made.drift
    assert a is not None
    assert b is not None
    return Row(name=name, value=100 * a.ate.rmse, unit="cm", peer=peer, peer_value=100 * b.ate.rmse)


@contextmanager
def _undone(name: str, value: object) -> Iterator[None]:
    """One of the mapper's choices made otherwise."""
    before = getattr(mapper, name)
    setattr(mapper, name, value)
    try:
        yield
    finally:
        setattr(mapper, name, before)


if __name__ == "__main__":
    script(measure, "scene_choices")
