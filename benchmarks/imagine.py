"""What `retain imagine` is worth on streams of unseen worlds, guided by their own past; its cost.

Each stream is a camera that sees clips of one ball world; at clip ``CHANGE`` another world's law
begins to hold. Peers: the same weights without references, the last frame held, interpolation.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from retain.apps.bench import Row, script
from retain.apps.imagine.errors import Errors, squares
from retain.apps.imagine.pairs import Pair, Waiting
from retain.datasets.worlds.source import WorldSource
from retain.memory.clips.windows import fitted
from retain.models.ditmem.evaluate import auc
from retain.models.ditmem.imaginer import Imaginer
from retain.models.ditmem.stage import Imagine
from retain.models.ditmem.weights import opened
from retain.pipeline.packet import Packet
from retain.pipeline.results import Novelty, Prediction

AREA = "models"
CHANGE, CLIPS, EARLY = 24, 26, 6
"""Clips under the first law and in all; the first ``EARLY`` have few references and count not."""
WORLDS, SEED, DROP = 32, 500, 0.3


def measure(quick: bool = False, weights: str = "auto") -> list[Row]:
    """Errors in grey levels of 255, shares, and CPU milliseconds of one thread."""
    worlds = WORLDS // 8 if quick else WORLDS
    make = Imaginer(opened(weights))
    return [*_novelty(weights, worlds), *_made(weights, worlds, make), *_cost(make)]


def _stream(world: int, change: int) -> Iterator[Packet]:
    source = WorldSource(f"worlds://ball?seed={SEED + world}&clips={CLIPS}&change={change}")
    source.open()
    return map(Packet, source.frames())


def _novelty(weights: str, worlds: int) -> Iterator[Row]:
    usual, odd, false, right = [], [], [], []
    for world in range(worlds):
        stage = Imagine(weights)
        results = [out.results for p in _stream(world, CHANGE) if (out := stage.process(p))]
        told = [r["novelty"] for r in results if "novelty" in r]
        scores = [(one.score, one.new) for one in told if isinstance(one, Novelty)]
        usual += [score for score, _ in scores[EARLY:CHANGE]]
        false += [new for _, new in scores[EARLY:CHANGE]]
        odd.append(scores[CHANGE][0])
        right.append(scores[CHANGE][1])
    value = auc(np.array(usual), np.array(odd))
    yield Row(name="novelty of the first clip of another law: AUC", value=value, unit="")
    yield Row(name="such clips called new", value=100 * float(np.mean(right)), unit="%")
    yield Row(name="clips of the usual law called new", value=100 * float(np.mean(false)), unit="%")


def _made(weights: str, worlds: int, make: Imaginer) -> Iterator[Row]:
    for what, drop, simple, word in (
        ("predict", 0.0, "held", "last frame held"),
        ("fill", DROP, "linear", "linear interpolation"),
    ):
        errors = Errors()
        for world in range(worlds):
            stage, waiting = Imagine(weights, what=what, drop=drop, compare=True), Waiting()
            for packet in _stream(world, 0):
                _judge(stage.process(packet), waiting, errors, simple, make)
        value = errors.mean("guided")
        for peer, arm in (("no references", "plain"), (word, simple)):
            other = errors.mean(arm)
            yield Row(
                name=f"{what}: error of a pixel, {errors.frames} frames",
                value=value,
                unit="of 255",
                peer=peer,
                peer_value=other,
                ratio=other / value,
            )


def _judge(
    packet: Packet | None, waiting: Waiting, errors: Errors, simple: str, make: Imaginer
) -> None:
    assert packet is not None
    frame = packet.frame
    image = fitted(frame.image, make.shape)
    pairs: list[Pair | None] = [waiting.saw(frame.seq, image, frame.discontinuity)]
    guided, plain = packet.results.get("prediction"), packet.results.get("plain")
    if isinstance(guided, Prediction) and isinstance(plain, Prediction):
        if guided.purpose == "fill":
            pairs += waiting.filled(guided, plain)
        else:
            waiting.predicted(guided, plain, image)
    for pair in pairs:
        if pair is None or not pair.made or pair.truth is None or pair.plain is None:
            continue
        arms = {"guided": pair.guided, "plain": pair.plain, simple: pair.simple}
        found = {arm: squares(made, pair.truth) for arm, made in arms.items()}
        errors.add(pair.ahead, found, bool(pair.references))


def _cost(make: Imaginer) -> Iterator[Row]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    clip = np.random.default_rng(0).integers(0, 255, make.shape.array, dtype=np.uint8)
    shown = [clip, clip, clip]
    works = {
        "a clip described": lambda: make.describe(clip),
        "a clip judged, 3 references": lambda: make.novelty(clip, shown, 0),
        "6 frames predicted, 4 samples, 3 references": lambda: make.go_on(clip[:2], 6, shown, 4, 0),
    }
    for name, work in works.items():
        work()
        best = float("inf")
        for _ in range(5):
            start = time.thread_time()
            work()
            best = min(best, time.thread_time() - start)
        yield Row(name=name, value=1000 * best, unit="ms")
    torch.set_num_threads(threads)


if __name__ == "__main__":
    script(measure, "imagine")
