"""The language field: a generated room, named by words from views its map has not seen.

CLIP's weights are not in the project, so its part is played: words lie in a cone of 512 numbers,
each patch of 8 pixels is as its middle pixel, with noise half as long as what it means. The peer of
such a map is the same teacher looking at the unseen view itself, which no map helps.
"""

from __future__ import annotations

from collections.abc import Callable
from time import thread_time
from typing import NamedTuple

import numpy as np
import torch

from retain.apps.bench import Row, script
from retain.datasets.scene.metrics import Overlap, overlap
from retain.datasets.scene.room_classes import CLASSES, codes
from retain.datasets.scene.source import SceneSource
from retain.kernels.rasterize.gaussians import CODE, Gaussians
from retain.kernels.rasterize.render import render
from retain.models.language.classes import ClassTeacher
from retain.models.language.describe import Describe
from retain.models.language.field import Seen, draw, heat, judge
from retain.models.scene.stage import Reconstruct
from retain.pipeline.results import Pose, View

AREA = "models"
LIKE_CLIP = "512,8,0.5"
REPEATS = 5


class Mapped(NamedTuple):
    """A room, mapped with its class codes or with a teacher's."""

    gaussians: Gaussians
    seen: list[Seen]
    words: np.ndarray
    """[16, 16] codes of the classes from 1 on."""
    features: np.ndarray
    """[N, E] of the teacher's patches, some of each frame; [0, E] without."""
    truth: np.ndarray
    """[N] their classes."""
    kept: float
    """Share of their energy that the basis keeps."""
    basis: np.ndarray
    """[E, 16]; [E, 0] without."""


def measure(quick: bool = False) -> list[Row]:
    torch.set_num_threads(1)
    frames = 60 if quick else 120
    source = f"room://?seed=3&frames={frames}&kind=loop"
    exact = mapped(source, "")
    wide = mapped(source, "512")
    rough = mapped(source, LIKE_CLIP)
    best = judge(exact.gaussians, exact.seen, exact.words)
    through = judge(wide.gaussians, wide.seen, wide.words)
    ours = judge(rough.gaussians, rough.seen, rough.words)
    alone, asked = by_itself(rough.seen), by_query(rough)
    best_vectors = principal(rough.features)
    best_kept = float(((rough.features @ best_vectors) ** 2).sum(axis=1).mean())
    best_macc, codes_macc = (patches_named(rough, v) for v in (best_vectors, rough.basis))
    name = f"room of {frames}, unseen views"
    return [
        *_rows(f"{name}: class codes", best, bar=0.7),
        *_rows("… through 512 numbers and 16", through, peer=("class codes", best)),
        *_rows("… patches of 8 px, noise", ours, peer=("the teacher on the view itself", alone)),
        Row(name="… one word's relevancy over 0.5: mean IoU", value=asked, unit="",
            peer="the likeliest word", peer_value=ours.miou, ratio=asked / ours.miou),
        Row(name="… energy that the growing basis keeps", value=100 * rough.kept, unit="%",
            peer=f"{CODE} principal directions of the whole stream", peer_value=100 * best_kept,
            ratio=rough.kept / best_kept),
        Row(name="… mAcc of patches by their codes", value=codes_macc, unit="",
            peer=f"{CODE} principal directions of the whole stream", peer_value=best_macc,
            ratio=codes_macc / best_macc),
        _cost(exact),
    ]  # fmt: skip


def mapped(source: str, teacher: str) -> Mapped:
    """A room with given poses; every eighth frame is kept from the map, to be judged by."""
    stage = Reconstruct(poses="given", refine=0, threads=1)
    describe = Describe(f"classes:{teacher}", threads=1) if teacher else None
    model = ClassTeacher.of(teacher)
    seen, features, classes = [], [np.zeros((0, model.dim), np.float32)], [np.zeros(0, np.uint8)]
    for packet in SceneSource(source, width=320).packets():
        truth = packet.get("view", View)
        assert truth.labels is not None
        if describe is not None:
            packet = describe.process(packet)
            rows = model.dense(packet.frame.image, truth.labels).reshape(-1, model.dim)[::7]
            step = model.patch
            every = truth.labels[step // 2 :: step, step // 2 :: step].reshape(-1)[::7]
            features.append(rows[every > 0])
            classes.append(every[every > 0])
        done = stage.process(packet)
        assert done is not None
        pose = done.get("pose", Pose)
        if pose.held_out:
            assert stage.mapper is not None
            seen.append(Seen(stage.mapper.kind.camera, pose.c2w, truth.labels))
    assert stage.mapper is not None
    stage.mapper.settle()
    gaussians = stage.mapper.map.read(stage.mapper.stream, "all").gaussians
    rows, basis = np.concatenate(features), describe.basis if describe else None
    words = codes()[1:] if basis is None else basis.codes(model.text(CLASSES[1:]))
    kept = basis.kept(rows) if basis else 1.0
    vectors = basis.vectors if basis else np.zeros((model.dim, 0), np.float32)
    return Mapped(gaussians, seen, words, rows, np.concatenate(classes), kept, vectors)


def by_query(one: Mapped) -> float:
    """Mean IoU of the classes that occur, each asked for alone and lit where it is likelier than
    every other."""
    hits, either = np.zeros((2, len(CLASSES)))
    for view in one.seen:
        for k in range(1, len(CLASSES)):
            others = np.delete(one.words, k - 1, axis=0)
            share = heat(one.gaussians, view.camera, view.c2w, one.words[k - 1], others)
            lit, true = (share > 0.5) & (view.labels > 0), view.labels == k
            hits[k] += (lit & true).sum()
            either[k] += (lit | true).sum()
    present = [k for k in range(1, len(CLASSES)) if any((v.labels == k).any() for v in one.seen)]
    return float(np.mean(hits[present] / either[present]))


def by_itself(seen: list[Seen]) -> Overlap:
    """What the teacher says of the unseen views, patch by patch, in all its numbers."""
    teacher = ClassTeacher.of(LIKE_CLIP)
    words = teacher.text(CLASSES[1:])

    def named(labels: np.ndarray) -> np.ndarray:
        features = teacher.dense(np.zeros((*labels.shape, 3), np.uint8), labels)
        coarse = ((features @ words.T).argmax(axis=2) + 1) * features.any(axis=2)
        size = [np.arange(n) * m // n for n, m in zip(labels.shape, coarse.shape, strict=True)]
        return np.asarray(coarse[np.ix_(*size)], np.uint8)

    return overlap((named(one.labels) for one in seen), (one.labels for one in seen), len(CLASSES))


def principal(features: np.ndarray) -> np.ndarray:
    """[E, 16]: principal components of everything, afterwards."""
    return np.linalg.eigh(features.T.astype(np.float64) @ features)[1][:, -CODE:]


def patches_named(one: Mapped, vectors: np.ndarray) -> float:
    """mAcc of patches by their codes in a basis [E, 16], without a map."""
    words = ClassTeacher.of(LIKE_CLIP).text(CLASSES[1:]) @ vectors
    named = (one.features @ vectors @ words.T).argmax(axis=1) + 1
    right = [(named[one.truth == k] == k).mean() for k in np.unique(one.truth)]
    return float(np.mean(right))


def _rows(
    name: str, found: Overlap, *, bar: float | None = None, peer: tuple[str, Overlap] | None = None
) -> list[Row]:
    rows = []
    for what, value, other in (
        ("mIoU", found.miou, peer and peer[1].miou), ("mAcc", found.macc, peer and peer[1].macc)
    ):  # fmt: skip
        first = bar is not None and what == "mIoU"
        rows.append(
            Row(
                name=f"{name}: {what}" if what == "mIoU" else f"… {what}", value=value, unit="",
                peer=peer[0] if peer else "", peer_value=other,
                ratio=value / other if other else None,
                bar=f">= {bar}" if first else "", met=value >= bar if first and bar else None,
            )
        )  # fmt: skip
    return rows


def _cost(one: Mapped) -> Row:
    """Processor time of a view with codes, against one of colours alone."""
    view = one.seen[0]

    def spent(work: Callable[[], object]) -> float:
        work()
        times = []
        for _ in range(REPEATS):
            began = thread_time()
            work()
            times.append(thread_time() - began)
        return 1000 * min(times)

    both = spent(lambda: draw(one.gaussians, view.camera, view.c2w))
    alone = spent(lambda: render(one.gaussians, view.camera, view.c2w))
    return Row(
        name="a view with codes", value=both, unit="ms", peer="colours alone", peer_value=alone,
        ratio=alone / both,
    )  # fmt: skip


if __name__ == "__main__":
    script(measure, "The language field of a generated room")
