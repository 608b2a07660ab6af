"""A question to a running watch, over its live page's address."""

from __future__ import annotations

import math
from http.client import HTTPException
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import ProxyHandler, Request, build_opener

import msgspec

from retain.apps.ask.answer import Question
from retain.apps.drawing import at_most
from retain.apps.snapshot import HEADER, local_page
from retain.apps.token import bearer
from retain.pipeline.errors import RetainError, UsageError
from retain.pipeline.frame import Image
from retain.pipeline.redact import redact

T = TypeVar("T")
TIMEOUT_S = 120.0
MAX_ANSWER = 16 << 20
LONGEST = 1024
"""Pixels of the longer side of a picture that is sent: encoders look at less."""


_LATER = (409, 429)
"""The question is right and comes at the wrong time."""


class Found(msgspec.Struct, frozen=True):
    """A moment of an answer; see ``Answer.as_json``."""

    rank: int
    seq: int
    seconds: float
    start_s: float
    end_s: float
    score: float | None
    tier: str
    reason: str
    frames: int = 1
    clip: str = ""
    picture: str = ""


class _About(msgspec.Struct, frozen=True):
    source: str = ""


class _State(msgspec.Struct, frozen=True):
    about: _About


class _Can(msgspec.Struct, frozen=True):
    words: bool = False


class Told(msgspec.Struct, frozen=True):
    moments: list[Found]
    encoder: str = ""
    notes: list[str] = []


def ask_running(page: str, question: Question, token_file: Path | None = None) -> dict[str, Any]:
    """What the watch at ``page`` (address or port) answers, as ``Answer.as_json`` gives it.

    Raises UsageError when nothing listens there or it refuses the question, RetainError when the
    question comes at the wrong time.
    """
    fields: dict[str, Any] = {"k": question.k}
    if question.text:
        fields["text"] = question.text
    for name, value in (("start_s", question.start_s), ("end_s", question.end_s)):
        if math.isfinite(value):
            fields[name] = value
    if question.image is None:
        kind, body, query = "application/json", msgspec.json.encode(fields), ""
    else:
        kind, body, query = "image/png", _png(question.image), f"?{urlencode(fields)}"
    headers = {HEADER: "1", "Content-Type": kind, **bearer(token_file)}
    url = f"{local_page(page)}/api/ask{query}"
    return dict(msgspec.to_builtins(_asked(Request(url, body, headers, method="POST"), Told)))


def source_of(page: str, token_file: Path | None = None) -> str:
    """What the watch at ``page`` says that it watches, without credentials. Raises as above."""
    request = Request(f"{local_page(page)}/api/state", headers=bearer(token_file))
    return _asked(request, _State).about.source


def reads_words(page: str, token_file: Path | None = None) -> bool:
    """Whether the watch at ``page`` was started with an encoder for words. Raises as above."""
    return _asked(Request(f"{local_page(page)}/api/ask", headers=bearer(token_file)), _Can).words


def _asked(request: Request, kind: type[T]) -> T:
    where = redact(request.full_url.partition("/api/")[0])
    try:
        # Without the proxies of the environment, as for a snapshot.
        with build_opener(ProxyHandler({})).open(request, timeout=TIMEOUT_S) as told:
            return msgspec.json.decode(told.read(MAX_ANSWER), type=kind)
    except msgspec.DecodeError:
        raise UsageError(
            f"What answers at {where} is not a page of retain.",
            hint="Name the port or the address that a running watch prints.",
        ) from None
    except HTTPError as error:
        raise _refused(where, error) from None
    except (OSError, ValueError, HTTPException) as error:
        reason = error.reason if isinstance(error, URLError) else error
        raise UsageError(
            f"Nothing answers at {where} ({reason}).",
            hint="It is the address or the port that a running watch prints.",
        ) from None


class _Refusal(msgspec.Struct, frozen=True):
    error: str
    hint: str = ""


def _refused(where: str, error: HTTPError) -> RetainError:
    """In the page's own words, where it is one of ours."""
    try:
        said = msgspec.json.decode(error.read(MAX_ANSWER), type=_Refusal)
        kind = RetainError if error.code in _LATER else UsageError
        return kind(said.error, hint=said.hint)
    except (OSError, msgspec.DecodeError):
        return UsageError(
            f"What runs at {where} has no memory to ask ({error.code}).",
            hint="Name the port or the address that a running watch prints.",
        )


def _png(image: Image) -> bytes:
    """``image`` as PNG, no larger than is of use."""
    import cv2

    image = at_most(image, LONGEST)
    done, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    assert done, "OpenCV refuses PNG only for shapes that an Image does not have"
    return bytes(data.tobytes())
