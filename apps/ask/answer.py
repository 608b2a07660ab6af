"""Answering a question: described by the encoder that described the memory, then ranked."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from retain.apps.ask.clips import link
from retain.apps.ask.features import described
from retain.apps.ask.places import Remembered, plain
from retain.apps.drawing import clock
from retain.memory.moments import Moment, rank
from retain.pipeline.errors import MissingExtra, UsageError
from retain.pipeline.frame import Image

if TYPE_CHECKING:
    from retain.models.encoders.base import Encoder

FOR_WORDS = "openclip"
UNREADABLE, DOUBTFUL = 0.2, 0.7
"""Shares of the letters of a text that its encoder knows as more than single bytes: under the first
the answer would be chance and is refused, under the second it comes with a note."""
ALIKE, ENOUGH = 0.02, 4
"""Cosines of so many frames or more that lie within so little of each other tell nothing."""

Features = NDArray[np.float32]
Progress = Callable[[int, int], None]
"""Told how many of how many pictures have been described."""


@dataclass(frozen=True)
class Question:
    """An example picture, words, a time range in seconds, or several of them: the range then
    limits where is looked, and a picture with words is the mean of both features."""

    image: Image | None = None
    """uint8 [H, W, 3] RGB."""
    text: str = ""
    seq: int | None = None
    """Of a held frame that is its own example, which needs no encoder; alone or with a range."""
    start_s: float = -math.inf
    end_s: float = math.inf
    k: int = 5

    @property
    def only_time(self) -> bool:
        return self.image is None and not self.text.strip() and self.seq is None


@dataclass(frozen=True)
class Answer:
    question: Question
    moments: list[Moment]
    """Best first; of a range alone, in order of time."""
    memory: Remembered
    notes: list[str]
    """What a reader should know, in sentences."""
    encoder: str
    """That compared; empty for a range alone."""
    scores: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0), repr=False)
    """Of every frame held [N], NaN where there is none."""

    def as_json(self) -> dict[str, Any]:
        """Plain values. ``frames``: kept frames folded into the moment; ``clip``: a link that plays
        the footage around it, empty when there is none."""
        return {
            "encoder": self.encoder,
            "notes": self.notes,
            "moments": [self._plain(place, m) for place, m in enumerate(self.moments, 1)],
        }

    def _plain(self, place: int, moment: Moment) -> dict[str, Any]:
        entry = self.memory.entries[moment.row]
        return {
            "rank": place,
            "seq": entry.seq,
            "seconds": moment.seconds,
            "start_s": moment.start_s,
            "end_s": moment.end_s,
            "score": None if math.isnan(moment.score) else moment.score,
            "tier": entry.tier,
            "reason": entry.reason,
            "frames": len(moment.rows),
            "clip": link(self.memory.source, moment.start_s, moment.end_s),
        }


def answer(
    memory: Remembered,
    question: Question,
    *,
    encoder: str | Encoder = "",
    device: str = "auto",
    download: bool = False,
    progress: Progress | None = None,
) -> Answer:
    """The moments of ``memory`` that answer.

    ``encoder``: default the memory's own, or OpenCLIP for words where that knows pictures only. By
    another than its own, the kept pictures are described anew, which the notes say. One that is
    there already spares whoever asks often the loading.
    ``download``: it may fetch its weights.

    Raises UsageError: nothing asked, an empty memory or range, words that the encoder cannot read,
    an encoder that is not here; StateError for a kept picture that is damaged.
    """
    check(memory, question)
    if question.only_time:
        return _by_time(memory, question)
    if question.seq is not None:
        rows, name, notes = memory.embedding, memory.encoder, list[str]()
        query = rows[memory.seqs.index(question.seq)]
    else:
        made = _encoder(memory, question, encoder, device, download)
        query, notes = _query(made, question)
        rows, more = described(memory, made, progress)
        name, notes = made.name, [*more, *notes]
    moments = rank(
        rows,
        memory.seconds,
        query,
        k=question.k,
        start_s=question.start_s,
        end_s=question.end_s,
    )
    if not moments:
        raise UsageError("No frame held there has a feature to compare the question with.")
    scores = _scores(rows, query)
    inside = (memory.seconds >= question.start_s) & (memory.seconds <= question.end_s)
    notes = [*notes, *_alike(scores[inside])]
    return Answer(question, moments, memory, notes, name, scores)


def check(memory: Remembered, question: Question) -> None:
    """Raises UsageError for what cannot be asked of ``memory``."""
    start, end = question.start_s, question.end_s
    if question.k < 1:
        raise UsageError(f"At least one moment must be asked for (-k), not {question.k}.")
    if not start <= end:
        raise UsageError(f"The range from {clock(start)} to {clock(end)} ends before it starts.")
    if question.only_time and math.isinf(start) and math.isinf(end):
        raise UsageError(
            "Nothing was asked.", hint="Give an example picture, words, or a time range."
        )
    if not memory.entries:
        raise UsageError(
            f"The memory of {memory.stream!r} is empty: it holds not one frame.",
            hint="Let the watch run on; a stream's first frames are kept at once.",
        )
    if question.seq is not None:
        if question.image is not None or question.text.strip():
            raise UsageError("A held frame is an example alone, without words or another picture.")
        if question.seq not in memory.seqs:
            raise UsageError(f"Frame {question.seq} is not held.", hint="Ask by its picture.")
    if not ((memory.seconds >= start) & (memory.seconds <= end)).any():
        first, last = map(clock, memory.span)
        raise UsageError(
            f"No frame held lies {_range(start, end)}; the memory holds {first} to {last}."
        )


def _range(start: float, end: float) -> str:
    if math.isinf(start):
        return f"before {clock(end)}"
    if math.isinf(end):
        return f"after {clock(start)}"
    return f"between {clock(start)} and {clock(end)}"


def _by_time(memory: Remembered, question: Question) -> Answer:
    """In order of time; where there are more than k, those where the picture changed most."""
    worth = np.array([entry.score for entry in memory.entries], np.float64)
    start, end = question.start_s, question.end_s
    seconds = memory.seconds
    found = rank(
        memory.embedding, seconds, None, k=question.k, worth=worth, start_s=start, end_s=end
    )
    notes = []
    if sum(len(moment.rows) for moment in found) < ((seconds >= start) & (seconds <= end)).sum():
        notes.append(
            f"There are more moments in this range; these are the {len(found)} where the picture "
            "changed most."
        )
    return Answer(question, found, memory, notes, "", np.full(len(worth), np.nan))


def _encoder(
    memory: Remembered, question: Question, wanted: str | Encoder, device: str, download: bool
) -> Encoder:
    """The one asked for, else the memory's own, else, for words, one that reads them."""
    from retain.models.encoders.base import TextEncoder, create

    own = memory.encoder
    name = (wanted if isinstance(wanted, str) else wanted.name) or own
    if question.text.strip() and not wanted and own.partition(":")[0] != FOR_WORDS:
        return _for_words(device, download)
    if not name:
        raise UsageError(
            "The memory does not say which encoder described it.", hint="Name one with --encoder."
        )
    if not wanted:
        name = _spelt(own)
    made = create(name, device=device, download=download) if isinstance(wanted, str) else wanted
    if question.text.strip() and not isinstance(made, TextEncoder):
        raise UsageError(
            f"The encoder {name!r} knows pictures only; words need one like {FOR_WORDS!r}.",
            hint=f"Leave --encoder away, or write --encoder {FOR_WORDS}.",
        )
    return made


def _for_words(device: str, download: bool) -> Encoder:
    from retain.models.encoders.base import create

    try:
        return create(FOR_WORDS, device=device, download=download)
    except MissingExtra:
        raise
    except UsageError as error:
        raise UsageError(
            error.what,
            hint="Words need them: allow it once with --download, name a file with --encoder "
            f"{FOR_WORDS}:MODEL@FILE, or ask by an example picture.",
        ) from error


def _spelt(own: str) -> str:
    """The name an encoder was asked for by, from the one a memory has it by: / became _ there."""
    kind, _, variant = own.partition(":")
    if kind != FOR_WORDS or "/" in variant or not variant:
        return own
    from retain.models.encoders.base import need

    need("open_clip", "clip", f"The encoder {own!r}")
    import open_clip

    for model, tag in open_clip.list_pretrained():
        if plain(f"{model}/{tag}") == variant:
            return f"{kind}:{model}/{tag}"
    raise UsageError(
        f"The memory was made by {own!r}, in whose name each _ may have been a /.",
        hint=f"Say which it was: --encoder {FOR_WORDS}:MODEL@FILE.",
    )


def _query(encoder: Encoder, question: Question) -> tuple[Features, list[str]]:
    """The question's feature [D], and what is to be said about it."""
    from retain.models.encoders.base import TextEncoder

    parts, notes = [], []
    text = question.text.strip()
    if question.image is not None:
        parts.append(encoder.encode([question.image])[0])
    if text and isinstance(encoder, TextEncoder):
        notes = _readable(encoder.known(text), encoder.name, text)
        if not encoder.fits(text):
            notes.append("The question is too long for the encoder, which read its beginning only.")
        parts.append(encoder.encode_text([text])[0])
    return np.asarray(np.mean(parts, axis=0), np.float32), notes


def _readable(known: float, encoder: str, text: str) -> list[str]:
    """Raises UsageError for words that the encoder knows as bytes only."""
    shown = text if len(text) <= 40 else f"{text[:40]}…"
    if known < UNREADABLE:
        raise UsageError(
            f"The encoder {encoder!r} does not know the words of {shown!r}.",
            hint="Ask in English, by an example picture, or with a model of that language.",
        )
    if known < DOUBTFUL:
        return [f"The encoder knows only some words of {shown!r}, so this may be chance."]
    return []


def _scores(rows: Features, query: Features) -> NDArray[np.float64]:
    """Cosines of all frames [N], for drawing; NaN for frames without a feature."""
    length = float(np.linalg.norm(query.astype(np.float64)))
    scores = (rows @ query).astype(np.float64) / (length or 1.0)
    scores[scores == 0] = np.nan
    return scores


def _alike(scores: NDArray[np.float64]) -> list[str]:
    found = scores[np.isfinite(scores)]
    if len(found) < ENOUGH or found.max() - found.min() >= ALIKE:
        return []
    return [
        "Nothing in this memory stands out for this question: all its frames are about as near "
        f"(cosine {found.min():.3f} to {found.max():.3f})."
    ]
