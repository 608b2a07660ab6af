"""Asking a running watch: its memory by barrier, one question at a time, and clips of its file.

The memory is in another process, so a question takes a snapshot and answers from that; one that is
two seconds old will do. When the run has ended, its results are asked.
"""

from __future__ import annotations

import io
import math
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse

from retain.apps.ask.remote import LONGEST
from retain.apps.drawing import at_most
from retain.apps.page.section import Clock, Json
from retain.apps.snapshot import HEADER
from retain.pipeline.errors import RetainError, StateError, UsageError
from retain.pipeline.frame import Image

if TYPE_CHECKING:
    from retain.apps.ask.answer import Question
    from retain.apps.ask.places import Remembered
    from retain.apps.page.server import Page
    from retain.models.encoders.base import Encoder

FRESH_S = 2.0
"""A snapshot so old answers the next question too."""
MAX_JSON, MAX_PICTURE = 10_000, 8 << 20
"""Bytes of a question in words, and of one with a picture."""
MAX_PIXELS = 50_000_000
PICTURES, CLIPS = 200, 8
"""Of the last answers, kept for whoever looks at them."""
PATIENCE_S = 20.0
"""How long a clip waits for the one before it, and a question for the results of a run."""
NO_WORDS = (
    "Words need an encoder that reads them: start the watch with --encoder openclip. "
    "An example picture works with any."
)
_OVER = ("stopping", "done", "failed")
_SITES = ("", "same-origin", "none")
Seconds = Annotated[float, msgspec.Meta(ge=-1e9, le=1e9)]


class _Asked(msgspec.Struct, forbid_unknown_fields=True):
    """A question as it comes; a picture comes as the body."""

    text: Annotated[str, msgspec.Meta(max_length=2000)] = ""
    seq: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] | None = None
    """A held frame that is its own example."""
    if_held: bool = False
    """Frames leave while they are looked at: then the answer is ``{"held": false}``, no error."""
    start_s: Seconds | None = None
    end_s: Seconds | None = None
    k: Annotated[int, msgspec.Meta(ge=1, le=50)] = 6


class Busy(RetainError):
    """Something that is done one at a time is being done."""


class Asker:
    """Answers questions about one watch. ``source``: where its footage is; empty where the times of
    the memory are not the footage's. ``encoder``: the name the watch was given."""

    def __init__(
        self, source: str, encoder: str, device: str = "auto", clock: Clock = time.monotonic
    ) -> None:
        from retain.apps.ask.clips import footage

        self._name, self._device, self._clock = encoder, device, clock
        self._encoder: Encoder | None = None
        """Loaded with the first question that needs it, and kept for the next."""
        self.asked_at = -math.inf
        self._footage = footage(source)
        self._one, self._cutting = threading.Lock(), threading.Lock()
        self._held: Remembered | None = None
        self._held_at = -math.inf
        self._final = False
        self._pictures: OrderedDict[int, bytes] = OrderedDict()
        self._clips: OrderedDict[tuple[int, int], Path] = OrderedDict()
        self._spare: tempfile.TemporaryDirectory[str] | None = None

    def about(self) -> Json:
        """What can be asked, for the page."""
        from retain.models.catalog import ENCODERS

        words = hasattr(ENCODERS.load(self._name.partition(":")[0]), "encode_text")
        return {
            "asks": True,
            "words": words,
            "why": "" if words else NO_WORDS,
            "clips": self._footage is not None,
        }

    def answer(self, page: Page, question: Question, if_held: bool = False) -> Json:
        """``Answer.as_json`` with addresses on this page: ``picture`` and ``clip`` of each moment.
        ``if_held``: of a frame that has left, only that it has.

        Raises Busy while another question is answered, StateError before there is a memory,
        UsageError as ``answer`` does.
        """
        from retain.apps.ask.answer import answer

        with _alone(self._one, 0, "Another question is being answered."):
            memory = self._memory(page, question.seq)
            if if_held and question.seq is not None and question.seq not in memory.seqs:
                return {"held": False}
            found = answer(memory, question, encoder=self._its_own(question)).as_json()
            self.asked_at = self._clock()
            for moment in found["moments"]:
                self._address(moment, memory)
            return found

    def _its_own(self, question: Question) -> str | Encoder:
        """The encoder of the watch, where the question needs one."""
        from retain.models.encoders.base import create

        if question.only_time or question.seq is not None:
            return ""
        if question.text.strip() and not self.about()["words"]:
            raise UsageError("The encoder of this watch knows pictures only.", hint=NO_WORDS)
        self._encoder = self._encoder or create(self._name, device=self._device)
        return self._encoder

    def _address(self, moment: dict[str, Any], memory: Remembered) -> None:
        seq = moment["seq"]
        kept = next(entry for entry in memory.entries if entry.seq == seq)
        moment["picture"] = f"/api/ask/{seq}.jpg" if kept.jpeg else ""
        span = f"start={moment['start_s']:.3f}&end={moment['end_s']:.3f}"
        moment["clip"] = f"/api/clip?{span}" if self._footage else ""
        self._pictures[seq] = kept.jpeg
        self._pictures.move_to_end(seq)
        while len(self._pictures) > PICTURES:
            self._pictures.popitem(last=False)

    def _memory(self, page: Page, seq: int | None) -> Remembered:
        """As it is now, or was a moment ago if it held frame ``seq`` then."""
        now = self._clock()
        old = page.report or now - self._held_at >= FRESH_S
        old = old or (seq is not None and self._held is not None and seq not in self._held.seqs)
        if not self._final and old:
            self._held, self._final = _newest(page, PATIENCE_S)
            self._held_at = now
        if self._held is None or not self._held.entries:
            raise StateError("No frame is held yet.", hint="Ask again in a moment.")
        return self._held

    def picture(self, seq: int) -> bytes | None:
        """The JPEG of a moment of one of the last answers."""
        return self._pictures.get(seq)

    def clip(self, start_s: float, end_s: float) -> Path:
        """An MP4 of what the source shows around a moment. Raises RetainError where it shows
        nothing, UsageError where there is no such source, Busy when others take too long."""
        from retain.apps.ask.clips import cut

        if self._footage is None:
            raise UsageError("The source is no video file on this machine: nothing to play.")
        if not (math.isfinite(start_s) and math.isfinite(end_s) and 0 <= start_s <= end_s < 1e9):
            raise UsageError("A clip has a start and an end in seconds.")
        key = round(1000 * start_s), round(1000 * end_s)
        with _alone(self._cutting, PATIENCE_S, "Another clip is being cut."):
            if key not in self._clips:
                self._spare = self._spare or tempfile.TemporaryDirectory(prefix="retain-clips-")
                path = Path(self._spare.name) / f"{key[0]}-{key[1]}.mp4"
                cut(self._footage, path, start_s, end_s)
                self._clips[key] = path
            self._clips.move_to_end(key)
            while len(self._clips) > CLIPS:
                self._clips.popitem(last=False)[1].unlink(missing_ok=True)
            return self._clips[key]

    def close(self) -> None:
        """Remove the clips."""
        if self._spare:
            self._spare.cleanup()


@contextmanager
def _alone(lock: threading.Lock, patience_s: float, otherwise: str) -> Iterator[None]:
    if not lock.acquire(timeout=patience_s) if patience_s else not lock.acquire(blocking=False):
        raise Busy(otherwise, hint="Ask again in a moment.")
    try:
        yield
    finally:
        lock.release()


def _newest(page: Page, patience_s: float) -> tuple[Remembered, bool]:
    """The run's memory as it is now, and whether that is its last; between its end and its results
    those are waited for. Raises StateError."""
    if page.report is None:
        try:
            return _snapshot(page), False
        except StateError:
            ended = page.run is not None and page.run.stats().state in _OVER
            if not ended or not _written(page, patience_s):
                raise
    assert page.report is not None
    return _opened(page.report.parent), True


def _written(page: Page, patience_s: float) -> bool:
    """Wait for the results of a run that has ended; False when they do not come."""
    until = time.monotonic() + patience_s
    while page.report is None and not page.stopping and time.monotonic() < until:
        time.sleep(0.05)
    return page.report is not None


def _snapshot(page: Page) -> Remembered:
    """The run's memory at this moment. Raises StateError."""
    if page.run is None or page.state.preview() is None:
        raise StateError("No frame has come yet.", hint="Ask again in a moment.")
    with tempfile.TemporaryDirectory(prefix="retain-ask-") as spare:
        folder = Path(spare) / "state"
        page.run.snapshot(folder)
        return _opened(folder)


def _opened(folder: Path) -> Remembered:
    """Without a file of its own: what is found out about it is not kept beside it. Raises
    StateError."""
    from retain.apps.ask.places import open_memory

    try:
        return replace(open_memory(folder), file=None)
    except UsageError as error:  # whoever asks named no place that could be wrong
        raise StateError(error.what, hint=error.hint) from error


def decoded(data: bytes) -> Image:
    """A picture from outside, upright, uint8 [H, W, 3] RGB, no larger than is of use. Raises
    UsageError; what is too large is refused before it is decoded."""
    from PIL import Image as Pictures

    from retain.pipeline.sources.images import upright

    try:
        with Pictures.open(io.BytesIO(data), formats=("JPEG", "PNG")) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise UsageError(
                    f"The picture has {picture.width}x{picture.height} pixels; that is too large."
                )
            return at_most(upright(picture), LONGEST)
    except UsageError:
        raise
    except Exception as error:  # decoders meet damage with exceptions of every kind
        raise UsageError(
            "The picture cannot be read.", hint="Give a JPEG or PNG picture that is whole."
        ) from error


def add_routes(app: FastAPI, page: Page) -> None:
    """``POST /api/ask``, ``GET /api/ask/{seq}.jpg``, ``GET /api/clip``; ``GET /api/ask`` says what
    can be asked."""

    @app.get("/api/ask")
    async def asks() -> Response:
        return _json(page.asker.about() if page.asker else {"asks": False})

    @app.post("/api/ask")
    async def ask(request: Request) -> Response:
        if request.headers.get(HEADER) != "1":
            return _refusal(403, f"Say {HEADER}: 1.")
        asker = page.asker
        if asker is None:
            return _refusal(404, "This page has no memory to ask.", "Ask a `retain watch`.")
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in ("application/json", "image/jpeg", "image/png"):
            return _refusal(415, "A question is JSON, or a JPEG or PNG picture.")
        length = request.headers.get("content-length", "")
        limit = MAX_JSON if kind == "application/json" else MAX_PICTURE
        if not length.isdigit() or int(length) > limit:
            return _refusal(413, f"A question of this kind has at most {limit} bytes.")
        body = await request.body()
        query = dict(request.query_params)

        def answered() -> Response:
            asked = _read(kind, body, query)
            image = None if kind == "application/json" else decoded(body)
            return _json(asker.answer(page, _question(asked, image), asked.if_held))

        return await run_in_threadpool(_said, answered)

    @app.get("/api/ask/{seq}.jpg")
    async def picture(seq: int) -> Response:
        data = page.asker.picture(seq) if page.asker else None
        if not data:
            return Response(status_code=204)
        headers = {"Cache-Control": "private, max-age=3600"}
        return Response(data, media_type="image/jpeg", headers=headers)

    @app.get("/api/clip")
    def clip(request: Request, start: str = "", end: str = "") -> Response:
        """In a thread: it decodes and encodes."""
        asker = page.asker
        if request.headers.get("sec-fetch-site", "") not in _SITES:
            return _refusal(403, "Pages of other sites are not answered.")
        if asker is None:
            return _refusal(404, "This page has no clips.")

        def cut() -> Response:
            return FileResponse(asker.clip(*_times(start, end)), media_type="video/mp4")

        return _said(cut)


def _read(kind: str, body: bytes, query: dict[str, str]) -> _Asked:
    """Raises UsageError."""
    try:
        if kind == "application/json":
            return msgspec.json.decode(body, type=_Asked)
        return msgspec.convert(query, _Asked, strict=False)
    except msgspec.MsgspecError as error:
        raise UsageError(f"That is no question: {error}.") from None


def _question(asked: _Asked, image: Image | None) -> Question:
    from retain.apps.ask.answer import Question

    return Question(
        image=image,
        text=asked.text,
        seq=asked.seq,
        start_s=-math.inf if asked.start_s is None else asked.start_s,
        end_s=math.inf if asked.end_s is None else asked.end_s,
        k=asked.k,
    )


def _times(*given: str) -> tuple[float, float]:
    try:
        start_s, end_s = map(float, given)
    except ValueError:
        raise UsageError("A clip has a start and an end in seconds.") from None
    return start_s, end_s


def _json(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def _refusal(status: int, error: str, hint: str = "") -> Response:
    return _json({"error": error, "hint": hint}, status)


def _said(do: Callable[[], Response]) -> Response:
    """What ``do`` gives, or why not: 400 for a question that is wrong, 409 for one that comes at
    the wrong time, 429 for one that comes with another."""
    try:
        return do()
    except RetainError as error:
        status = 429 if isinstance(error, Busy) else 400 if isinstance(error, UsageError) else 409
        return _refusal(status, error.what, error.hint)
