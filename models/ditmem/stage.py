"""The stage that imagines: what comes next, what is missing, and what nobody could have foreseen.

The camera's own past is what the model is shown: complete clips of real frames enter a bank and are
found again by content (memory/clips). Everything remembered lies in one hub of one stream. What the
model makes leaves as a result and enters no memory.

The rule ``write`` (memory/gate.py) says which clips the bank is offered. A clip's gate by the
router is the mean of its frames' gates: one that the router discards in all its frames stays out,
one that it takes in part counts for part of its worth. A rule that counts, counts clips. The worth,
which decides who stays in a full bank, is the router's score of the clip's last frame. A clip that
stays out is judged all the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from retain.memory.clips.clip import Clip, ClipQuery, Match, Span, Window
from retain.memory.gate import WriteRule
from retain.pipeline.errors import StateError, UsageError, nearest
from retain.pipeline.frame import Frame
from retain.pipeline.packet import Packet
from retain.pipeline.results import Novelty, Prediction, Reference, Result, Route
from retain.pipeline.shares import Use
from retain.pipeline.stage import StatValue

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from retain.models.ditmem.mind import Mind
    from retain.models.ditmem.slots import Strip

What = Literal["novelty", "predict", "fill"]
WHATS = get_args(What)
MOST_AHEAD = 256


class Imagine:
    """Adds ``novelty`` to the last packet of each clip (novelty, predict), ``prediction`` where one
    is due (predict) or holes can be filled (fill), and with ``compare`` also ``plain``, what the
    same model makes without references.

    weights     ``auto``: those that ship; or a file written by `retain train ditmem`
    what        ``novelty``; ``predict``, which is that too; or ``fill``
    references  clips beside the stream's own past: a video, a folder, an index; empty: none
    past        whether the stream's own past is shown
    k           how many clips are shown
    ahead       frames that are predicted; 0: as many as the model makes at once
    samples     that are drawn
    stride      frames from one clip to the next; 0: half a clip
    drop        share of frames that ``fill`` is not shown, chosen by ``seed``, to be judged by
    budget_mb   of everything remembered, in 10^6 bytes
    write       which clips the bank takes in: a WriteRule; the router's need its ``route``. With
                ``fill`` every clip without holes
    threads     of torch; results are the same bits for the same number only
    fps         at which ``references`` are read; 0: all frames
    resume      a state saved by ``save``; frames it has seen are passed over

    One stage imagines one stream, in frames of the model's size: what is smaller than their pixels
    is lost to it, and colour where the model is grey.
    """

    def __init__(
        self,
        weights: str = "auto",
        what: str = "novelty",
        references: str = "",
        past: bool = True,
        k: int = 3,
        ahead: int = 0,
        samples: int = 4,
        compare: bool = False,
        stride: int = 0,
        drop: float = 0.0,
        budget_mb: float = 2.0,
        device: str = "auto",
        threads: int = 1,
        seed: int = 0,
        fps: float = 0.0,
        write: str = "every",
        resume: str = "",
    ) -> None:
        from retain.models.ditmem.imaginer import Imaginer
        from retain.models.ditmem.references import gather
        from retain.models.ditmem.weights import opened
        from retain.models.encoders.base import choose_device

        if what not in WHATS:
            raise UsageError(f"There is no way {what!r} to imagine.", hint=nearest(what, WHATS))
        if not (k >= 1 and samples >= 1 and 0 <= ahead <= MOST_AHEAD and 0 <= drop < 1):
            raise UsageError(
                f"Of imagine: k and samples >= 1, ahead from 0 to {MOST_AHEAD}, drop in [0, 1)."
            )
        if stride < 0 or threads < 1 or seed < 0 or not 0 < budget_mb < float("inf"):
            raise UsageError("Of imagine: stride and seed >= 0, threads >= 1, budget_mb > 0.")
        if not past and not references and what != "fill":
            raise UsageError(
                "There are no references: the stream's past is left out and no others are given.",
                hint="Give some, or leave the past in.",
            )
        self._rule = WriteRule.parse(write)
        if what == "fill" and str(self._rule) != "every":
            raise UsageError(
                "Filling in takes every clip without holes; it has no write rule.",
                hint="Leave the option `write` out, or ask for novelty or predict.",
            )
        chosen = choose_device(device)
        self._make = Imaginer(opened(weights, chosen), chosen)
        self._given = gather(references, self._make, fps) if references else None
        self._what, self._past, self._k, self._samples = what, past, k, samples
        self._ahead, self._compare = ahead or self._make.horizon, compare
        self._stride = stride or max(1, self._make.shape.frames // 2)
        self._drop, self._threads, self._seed = drop, threads, seed
        self._limit = int(budget_mb * 1e6)
        self._mind: Mind | None = None
        self._seen_to = -1
        self._resume = resume
        if resume:
            from retain.memory.snapshot import load as check

            check(resume)  # a damaged file is refused at once

    def process(self, packet: Packet) -> Packet | None:
        from retain.models.curvestream import torch_threads

        frame = packet.frame
        if frame.synthetic:
            raise UsageError(
                f"Frame {frame.seq} of {frame.stream!r} was made by a model; nothing is learnt "
                "from such frames."
            )
        mind = self._mind or self._begin(frame)
        if frame.stream != mind.stream:
            raise UsageError(
                f"One imagine stage got frames of {mind.stream!r} and of {frame.stream!r}.",
                hint="Give each stream a stage of its own.",
            )
        if frame.seq <= self._seen_to:
            return None
        mind.seq = frame.seq
        with torch_threads(self._threads):
            told = self._filled(mind, frame) if self._what == "fill" else self._judged(mind, packet)
        return Packet(frame, {**packet.results, **told})

    def _begin(self, frame: Frame) -> Mind:
        from retain.models.ditmem.mind import Mind

        self._mind = mind = Mind(frame.stream, self._make, self._limit, self._stride)
        if self._resume:
            path, self._resume = self._resume, ""
            self._seen_to = mind.restore(path)
        return mind

    def _judged(self, mind: Mind, packet: Packet) -> dict[str, Result]:
        """Novelty of the clip that this frame completes; predictions where they are due."""
        from retain.memory.clips.windows import Seen

        frame, route = packet.frame, packet.results.get("route")
        seen = route if isinstance(route, Route) else None
        worth = seen.score if seen else None
        if self._rule.by_router:
            mind.gates = np.append(mind.gates, self._rule.gate(frame.seq, seen))
            mind.gates = mind.gates[-self._make.shape.frames :]
        window = mind.windows.write(mind.stream, Seen(frame, worth or 0.0))
        held = mind.windows.read(mind.stream)
        assert held is not None
        if len(held.frames) == 1:
            mind.began, mind.due = frame.seq, frame.seq
        told: dict[str, Result] = {}
        if window is not None:
            told["novelty"] = self._novelty(mind, window, worth)
        if self._what == "predict" and len(held.frames) >= 2 and frame.seq >= mind.due:
            mind.due = frame.seq + self._ahead
            found = self._found(mind, mind.described, held.span)
            told["prediction"] = self._predicted(held, found)
            if self._compare:
                told["plain"] = self._predicted(held, []) if found else told["prediction"]
        return told

    def _novelty(self, mind: Mind, window: Window, worth: float | None) -> Novelty:
        described = self._make.describe(window.frames)
        mind.described = described
        found = self._found(mind, described, window.span)
        guided, alone = self._make.novelty(
            window.frames, [m.clip.frames for m in found], self._seed_of(window.span)
        )
        score, level = guided - alone, mind.level()
        if found:
            mind.note(score)
        kept = worth if worth is not None else score if found else 0.0
        clip = window.described(described, score=kept)
        mind.clips.write(mind.stream, clip, self._gate(mind))
        mind.offered += 1
        return Novelty(
            score=score,
            guided=guided,
            alone=alone,
            level=level,
            new=bool(score > level),
            first=window.span.first,
            start_s=window.start_s,
            references=_told(found),
            clips=int(mind.clips.stats(mind.stream)["clips"]),
            nbytes=mind.nbytes,
            byte_budget=mind.hub.budget_bytes,
        )

    def _gate(self, mind: Mind) -> float:
        """Of the clip that is complete; see the module's text."""
        if not mind.clips.stats(mind.stream)["clips"]:
            return 1.0
        if self._rule.by_router:
            return float(mind.gates.mean())
        return self._rule.gate(mind.offered)

    def _predicted(self, held: Window, found: Sequence[Match]) -> Prediction:
        frames = self._make.go_on(
            held.frames[-2:],
            self._ahead,
            [m.clip.frames for m in found],
            self._samples,
            self._seed_of(held.span),
        )
        steps = 1 + np.arange(self._ahead)
        interval = (held.end_s - held.start_s) / (len(held.frames) - 1)
        return Prediction(
            "continue",
            frames,
            np.ones(self._ahead, bool),
            held.span.last + steps,
            held.end_s + interval * steps,
            _told(found),
        )

    def _filled(self, mind: Mind, frame: Frame) -> dict[str, Result]:
        """What was missing before this frame, as soon as a strip of frames is whole around it."""
        from retain.memory.clips.windows import fitted

        if not frame.discontinuity and dropped(self._seed, frame.seq, self._drop):
            return {}
        image = fitted(frame.image, self._make.shape)
        strips = mind.slots.add(image, frame.seq, frame.seconds, frame.discontinuity)
        guided, plain = [], []
        for strip in strips:
            if strip.known.all():
                self._remember(mind, strip)
            if not strip.wanted.any():
                continue
            found = self._like(mind, strip)
            guided.append(self._repaired(strip, found))
            if self._compare:
                plain.append(self._repaired(strip, []) if found else guided[-1])
        told: dict[str, Result] = {"prediction": _joined(guided)} if guided else {}
        return told | ({"plain": _joined(plain)} if plain else {})

    def _remember(self, mind: Mind, strip: Strip) -> None:
        """A strip without holes is a clip like any other."""
        span = Span(mind.stream, int(strip.seqs[0]), int(strip.seqs[-1]))
        start, end = float(strip.seconds[0]), float(strip.seconds[-1])
        described = self._make.describe(strip.frames)
        mind.clips.write(mind.stream, Clip(strip.frames, described, span, start, end))

    def _like(self, mind: Mind, strip: Strip) -> list[Match]:
        """Clips like ``strip``, whose holes are bridged for the question and for it only."""
        from retain.models.ditmem.slots import bridged

        known = strip.seqs[strip.known]
        asked = self._make.describe(bridged(strip.frames, strip.known))
        return self._found(mind, asked, Span(mind.stream, int(known[0]), int(known[-1])))

    def _repaired(self, strip: Strip, found: Sequence[Match]) -> Prediction:
        frames = self._make.fill(
            strip.frames,
            strip.known,
            [m.clip.frames for m in found],
            self._samples,
            self._seed_of(Span("", int(strip.seqs[0]), 0)),
        )
        told = strip.known | strip.wanted
        return Prediction(
            "fill",
            np.ascontiguousarray(frames[:, told]),
            strip.wanted[told],
            strip.seqs[told],
            strip.seconds[told],
            _told(found),
        )

    def _found(self, mind: Mind, described: NDArray[np.float32] | None, own: Span) -> list[Match]:
        """The ``k`` most like ``described``, of the past without what is next to ``own``, and of
        the given ones. Before there is a clip to ask with, the first of the given ones."""
        from retain.memory.clips.index import STREAM

        if described is None:
            return self._given.read(STREAM)[: self._k] if self._given else []
        # Clips of before a cut are no part of what is going on, however near they are.
        guard = min(2 * self._make.shape.frames, max(own.first - mind.began, 0))
        query = ClipQuery(described, self._k, own=own, guard=guard)
        found = mind.clips.read(mind.stream, query) if self._past else []
        if self._given:
            found += self._given.read(STREAM, query)
        return sorted(found, key=lambda match: -match.cosine)[: self._k]

    def _seed_of(self, span: Span) -> int:
        return (self._seed * 1_000_003 + max(span.first, 0)) % 2**62

    def save(self, path: str) -> None:
        """Write what is remembered to ``path``, atomically. Raises StateError while there is
        nothing."""
        if self._mind is None or self._mind.seq < 0:
            raise StateError("There is no memory to save: no frame was seen yet.")
        self._mind.save(path)

    def shrink_to(self, nbytes: int) -> None:
        """Remember within ``nbytes`` from now on."""
        if self._mind is not None:
            self._mind.hub.shrink_to(nbytes)
        self._limit = nbytes

    def use(self) -> Use:
        """What it may hold and what it needs."""
        return self._mind.hub.use() if self._mind else Use(self._limit, 0)

    def load(self, path: str) -> None:
        """Continue from ``path``, passing over frames it has seen. One that does not fit is refused
        with a StateError when the first frame comes."""
        self._resume, self._mind = path, None

    def stats(self) -> Mapping[str, StatValue]:
        told: dict[str, StatValue] = {
            "weights": self._make.opened.name,
            "device": self._make.device,
            "sees": str(self._make.shape),
        }
        if self._mind is not None:
            told |= self._mind.stats()
        return told

    def close(self) -> None:
        pass


def dropped(seed: int, seq: int, share: float) -> bool:
    """Whether frame ``seq`` is among the ``share`` that is left out."""
    return bool(share) and bool(np.random.default_rng((seed, seq)).random() < share)


def _told(found: Sequence[Match]) -> tuple[Reference, ...]:
    return tuple(
        Reference(
            m.clip.origin or m.clip.span.stream,
            m.clip.span.first,
            m.clip.span.last,
            m.clip.start_s,
            m.clip.end_s,
            m.cosine,
        )
        for m in found
    )


def _joined(parts: Sequence[Prediction]) -> Prediction:
    """Strips that follow each other as one, frames of both once."""
    if len(parts) == 1:
        return parts[0]
    seconds = np.concatenate([part.seconds for part in parts])
    made = np.concatenate([part.made for part in parts])
    # Of a frame that one strip filled and the next was given, the filled one is told.
    order = np.lexsort((~made, seconds))
    kept = order[np.append(True, np.diff(seconds[order]) > 0)]
    return Prediction(
        "fill",
        np.ascontiguousarray(np.concatenate([part.frames for part in parts], 1)[:, kept]),
        made[kept],
        np.concatenate([part.seqs for part in parts])[kept],
        seconds[kept],
        tuple(dict.fromkeys(one for part in parts for one in part.references)),
    )
