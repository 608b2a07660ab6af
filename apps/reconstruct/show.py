"""`retain render`: a map along a path as a video, what a word names lit up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from retain.apps import console
from retain.apps.folder import building
from retain.apps.reconstruct.outcome import TRAJECTORY
from retain.apps.reconstruct.run import LANGUAGE, MAP, SCENE
from retain.apps.video import video
from retain.kernels.geometry.camera import Camera
from retain.kernels.geometry.rigid import exp, inverse, log, matrix, upward
from retain.kernels.rasterize.gaussians import Gaussians
from retain.kernels.rasterize.render import render
from retain.pipeline.errors import RetainError, UsageError, nearest
from retain.pipeline.frame import Image

Poses = NDArray[np.float64]

FPS = 30
ORBIT_S = 8.0
SMOOTH = 9
"""Poses of a recorded path that are averaged: hands shake."""
SURE = 0.5
"""Share of a pixel's opacity that must carry the word's code."""
TINT = np.array([1.0, 0.78, 0.1], np.float32)


class Words(msgspec.Struct, frozen=True):
    """``scene.json``: the words a map can be asked for, and their codes."""

    names: tuple[str, ...]
    codes: tuple[tuple[float, ...], ...]
    """[K][16]."""


@dataclass(frozen=True, slots=True)
class RenderOptions:
    """What `retain render` was asked."""

    results: Path
    """Folder of a finished `retain reconstruct`."""
    out: Path
    path: str = "along"
    """``along`` the camera's, ``orbit`` around where it stood, or a file like trajectory.txt."""
    width: int = 640
    query: str = ""
    download: bool = False
    """May what reads ``query`` fetch its weights."""
    weights: str = ""
    """Of a neural map, where they lie now; empty: where they did."""


def show(options: RenderOptions) -> int:
    """Write the video; the exit code. Raises RetainError when something it needs is not there."""
    from retain.models.scene.mapper import read_map

    folder = options.results
    if not (folder / MAP).is_file():
        raise UsageError(
            f"{str(folder)!r} is no folder of `retain reconstruct`: there is no {MAP} in it."
        )
    if options.out.exists():
        raise UsageError(f"{str(options.out)!r} is there already; nothing is ever overwritten.")
    gaussians, camera = read_map(str(folder / MAP), options.weights)
    lens = camera.resized(options.width, round(options.width * camera.height / camera.width))
    like = _like(options, gaussians) if options.query else None
    poses = _poses(options, folder)
    with building(options.out) as spare:
        with video(spare / "video.mp4", FPS) as written:
            for pose in poses:
                written.add(_picture(gaussians, lens, pose, like))
        (spare / "video.mp4").replace(options.out)
    console.output().print(f"  {options.out}  {len(poses) / FPS:.1f} s, {lens.width}x{lens.height}")
    return 0


def _picture(
    gaussians: Gaussians, camera: Camera, pose: Poses, like: NDArray[np.float32] | None
) -> Image:
    """The map; where ``like`` [N, 1], 0 to 1, is large, lit up."""
    drawn = render(gaussians, camera, pose)
    color = np.clip(drawn.color, 0, 1)
    if like is not None:
        share = render(gaussians, camera, pose, channels=like).color[..., 0]
        lit = (share > SURE * np.maximum(drawn.alpha, 1e-3))[..., None]
        grey = np.repeat(color.mean(axis=2, keepdims=True) * 0.55, 3, axis=2)
        color = np.where(lit, 0.45 * color + 0.55 * TINT, grey)
    return np.rint(255 * color).astype(np.uint8)


def _like(options: RenderOptions, gaussians: Gaussians) -> NDArray[np.float32]:
    """[N, 1], 0 to 1: how much each Gaussian is what the query names. Raises UsageError for a map
    or a word that cannot be used."""
    codes = gaussians.codes
    if codes is None:
        raise UsageError("This map keeps no language codes, so it cannot be asked for words.")
    basis = options.results / LANGUAGE
    if not basis.is_file():
        like = np.clip(codes @ _code(options.results, options.query), 0, 1)
        return like[:, None].astype(np.float32)
    from retain.models.language import describe, query, teacher

    name, directions = describe.read_basis(str(basis))
    reader = teacher.make(name, download=options.download)
    word, canonical = describe.ask(reader, directions, options.query)
    return query.relevancy(codes, word, canonical)[:, None]


def _code(folder: Path, word: str) -> NDArray[np.float32]:
    """The code of ``word``. Raises UsageError, naming those there are."""
    try:
        known = msgspec.json.decode((folder / SCENE).read_bytes(), type=Words)
    except FileNotFoundError:
        raise UsageError(
            "This map was made without language codes, so it cannot be asked for words.",
            hint="Codes come with --language clip, or from room://, which labels its pixels.",
        ) from None
    except (OSError, msgspec.DecodeError) as error:
        raise RetainError(f"{str(folder / SCENE)!r} cannot be read: {error}.") from error
    named = dict(zip(known.names, known.codes, strict=False))
    if word not in named:
        raise UsageError(
            f"The map knows no {word!r}, but {', '.join(known.names[1:])}.",
            hint=nearest(word, named),
        )
    return np.array(named[word], np.float32)


def _poses(options: RenderOptions, folder: Path) -> list[Poses]:
    if options.path == "orbit":
        return list(_orbit(read_path(folder / TRAJECTORY)))
    if options.path == "along":
        return _smoothed(read_path(folder / TRAJECTORY))
    return read_path(Path(options.path))


def read_path(path: Path) -> list[Poses]:
    """Poses of ``seconds tx ty tz qx qy qz qw`` lines, c2w. Raises UsageError for other files."""
    try:
        lines = (line.partition("#")[0].split() for line in path.read_text().splitlines())
        rows = np.array([line for line in lines if line], float)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            f"{str(path)!r} is no path: {why}.", hint="A path is along, orbit or a file."
        ) from None
    fits = rows.ndim == 2 and rows.shape[1] == 8 and np.isfinite(rows).all()
    if not fits or (np.linalg.norm(rows[:, 4:], axis=1) < 1e-6).any():
        raise UsageError(f"{str(path)!r} is no path: lines must be `seconds tx ty tz qx qy qz qw`.")
    poses = np.tile(np.eye(4), (len(rows), 1, 1))
    poses[:, :3, :3] = matrix(rows[:, [7, 4, 5, 6]])
    poses[:, :3, 3] = rows[:, 1:4]
    return list(poses)


def _smoothed(poses: list[Poses]) -> list[Poses]:
    """Each pose the mean of those around it, in the tangent space of the middle one."""
    half = SMOOTH // 2
    out = []
    for i, pose in enumerate(poses):
        around = poses[max(0, i - half) : i + half + 1]
        back = inverse(pose)
        out.append(pose @ exp(np.mean([log(back @ other) for other in around], axis=0)))
    return out


def _orbit(poses: list[Poses]) -> Iterator[Poses]:
    """A turn on the spot, from the middle of the path, about the cameras' mean up."""
    middle = poses[len(poses) // 2]
    up = upward(poses)
    steps = round(ORBIT_S * FPS)
    for step in range(steps):
        turn = exp(np.concatenate([up * 2 * np.pi * step / steps, np.zeros(3)]))
        pose = middle.copy()
        pose[:3, :3] = turn[:3, :3] @ middle[:3, :3]
        yield pose
