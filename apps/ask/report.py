"""``answer.html``: an answer in one self-contained file, and its clips beside it."""

from __future__ import annotations

import base64
import datetime
import hashlib
import math
import re
from html import escape
from pathlib import Path
from string import Template

import numpy as np

from retain.apps.ask.answer import Answer
from retain.apps.ask.clips import cut, footage, link, window
from retain.apps.drawing import REASONS, clock, data_uri, jpeg, shrink
from retain.apps.folder import building
from retain.memory.moments import Moment
from retain.pipeline.errors import RetainError
from retain.pipeline.files import write_whole

HERE = Path(__file__).parent
PAGE = "answer.html"
WIDTH = 480
"""Pixels of a picture on the page."""
TRACK = 1000
"""Units of the time line's width."""


def write_answer(out: Path, answer: Answer, *, example: str = "", command: str = "") -> None:
    """Make the folder ``out`` with ``answer.html`` and, where the footage is a file here, a clip
    around each moment. ``example``: the file name of the question's picture.

    Raises UsageError or RetainError when it cannot be written.
    """
    with building(out) as folder:
        clips, notes = _clips(folder, answer)
        write_whole(folder / PAGE, _page(answer, clips, notes, example, command).encode())
        try:
            folder.replace(out)
        except OSError as error:
            raise RetainError(f"{str(out)!r} cannot be written: {error.strerror}.") from error


def _clips(folder: Path, answer: Answer) -> tuple[list[Path | None], list[str]]:
    """The moments' clips, in ``folder``; and why some are missing."""
    source = footage(answer.memory.source)
    clips: list[Path | None] = []
    notes = []
    for place, moment in enumerate(answer.moments, 1):
        file = folder / f"moment-{place}.mp4"
        try:
            if source is not None:
                cut(source, file, moment.start_s, moment.end_s)
        except RetainError as error:
            file.unlink(missing_ok=True)
            notes.append(f"There is no clip of moment {place}. {error}")
        clips.append(file if file.exists() else None)
    return clips, notes


def _page(
    answer: Answer, clips: list[Path | None], notes: list[str], example: str, command: str
) -> str:
    memory = answer.memory
    text = (HERE / "answer.template.html").read_text("utf-8")
    return Template(text).substitute(
        policy=_policy(text),
        tokens=(HERE.parent / "page/static/tokens.css").read_text("utf-8"),
        date=datetime.datetime.now().astimezone().strftime("%d %B %Y, %H:%M"),
        title=escape(_title(answer, example)),
        question=_question(answer, example),
        notes="".join(f"<p>{escape(note)}</p>" for note in [*answer.notes, *notes]),
        where=escape(_where(answer)),
        line=_line(answer),
        key=_key(answer),
        cards="\n".join(
            _card(answer, place, moment, clips[place - 1])
            for place, moment in enumerate(answer.moments, 1)
        ),
        command=f"<pre>{escape(command)}</pre>" if command else "",
        facts="".join(
            f"<dt>{name}</dt><dd>{escape(text)}</dd>"
            for name, text in (
                ("memory", str(memory.file or "")),
                ("footage", memory.source),
                ("made with", memory.encoder),
                ("compared with", answer.encoder),
            )
            if text
        ),
    )


def _policy(template: str) -> str:
    """Nothing is loaded from anywhere; only the one script of the template may run."""
    script = re.search(r"<script>(.*?)</script>", template, re.DOTALL)
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    return (
        "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


def _title(answer: Answer, example: str) -> str:
    question = answer.question
    words = question.text.strip()
    parts = [f"“{words}”"] if words else []
    if question.image is not None:
        parts.append(f"Like {example}" if example else "Like the example")
    return " and ".join(parts) or _range(answer).capitalize()


def _range(answer: Answer) -> str:
    start, end = answer.question.start_s, answer.question.end_s
    if math.isinf(start):
        return f"up to {clock(end)}"
    return f"from {clock(start)} on" if math.isinf(end) else f"{clock(start)} to {clock(end)}"


def _where(answer: Answer) -> str:
    memory, question = answer.memory, answer.question
    first, last = map(clock, memory.span)
    told = f"{len(memory.entries)} frames of {memory.stream} are held, from {first} to {last}"
    limited = not (math.isinf(question.start_s) and math.isinf(question.end_s))
    if limited and not question.only_time:
        told += f"; asked for: {_range(answer)}"
    return f"{told}."


def _question(answer: Answer, example: str) -> str:
    image = answer.question.image
    if image is None:
        return ""
    address = data_uri(jpeg(shrink(image, WIDTH)))
    return f'<img class="example" src="{address}" alt="The question: {escape(example)}">'


def _key(answer: Answer) -> str:
    if answer.question.only_time:
        return "Every frame held, by its time; the numbers are the moments below."
    return (
        "Every frame held, by its time. The higher, the more it is like the question; the numbers "
        "are the moments below."
    )


def _line(answer: Answer) -> str:
    """All frames held on a line of time, as high as they are like the question; the moments."""
    memory = answer.memory
    start, end = memory.span
    scale = TRACK / max(end - start, 1e-9)
    height = _heights(answer)
    bars = []
    for entry, share in zip(memory.entries, height, strict=True):
        x, top = (entry.seconds - start) * scale, 92 - 56 * share
        bars.append(f'<path class="held {entry.tier}" d="M{x:.1f} 92V{top:.1f}"/>')
    for place, moment in enumerate(answer.moments, 1):
        x, top = (moment.seconds - start) * scale, 92 - 56 * height[moment.row]
        bars.append(
            f'<a href="#m{place}"><title>{place}: {clock(moment.seconds)}</title>'
            f'<path class="hit" d="M{x:.1f} 92V{top:.1f}"/>'
            f'<circle class="hit" cx="{x:.1f}" cy="{top - 13:.1f}" r="11"/>'
            f'<text class="place" x="{x:.1f}" y="{top - 8.8:.1f}">{place}</text></a>'
        )
    ends = (
        f'<text class="tick" x="0" y="110">{clock(start)}</text>'
        f'<text class="tick last" x="{TRACK}" y="110">{clock(end)}</text>'
    )
    return (
        f'<svg class="when" viewBox="-14 0 {TRACK + 28} 116" role="img" '
        f'aria-label="When the moments were">'
        f'{_band(answer, start, scale)}<path class="rail" d="M0 92H{TRACK}"/>'
        f"{''.join(bars)}{ends}</svg>"
    )


def _band(answer: Answer, start: float, scale: float) -> str:
    """The range that was asked for, where there is one."""
    asked = (answer.question.start_s, answer.question.end_s)
    if math.isinf(asked[0]) and math.isinf(asked[1]):
        return ""
    left, right = (min(max((limit - start) * scale, -10), TRACK + 10) for limit in asked)
    return f'<path class="band" d="M{left:.1f} 8H{right:.1f}V92H{left:.1f}z"/>'


def _heights(answer: Answer) -> list[float]:
    """How like the question each frame held is, from 0 (the least) to 1 (the most)."""
    scores = answer.scores
    good = scores[np.isfinite(scores)]
    if not len(good):
        return [0.5] * len(scores)
    low, high = float(good.min()), float(good.max())
    shares = np.nan_to_num((scores - low) / max(high - low, 1e-9))
    return [0.06 + 0.94 * float(share) for share in shares]


def _card(answer: Answer, place: int, moment: Moment, clip: Path | None) -> str:
    entry = answer.memory.entries[moment.row]
    when = clock(moment.seconds)
    picture = data_uri(jpeg(shrink(entry.image(), WIDTH))) if entry.jpeg else ""
    if clip is not None:
        shown = (
            f'<video controls muted playsinline preload="none" poster="{picture}" '
            f'aria-label="The stream around {when}" '
            f'src="{data_uri(clip.read_bytes(), "video/mp4")}"></video>'
            f'<button class="play" hidden aria-label="Play the stream around {when}"></button>'
        )
    elif picture:
        shown = f'<img src="{picture}" alt="The stream at {when}">'
    else:
        shown = "<p>Only the feature was kept.</p>"
    more = _frames(moment)
    if clip is not None:
        first, last = window(moment.start_s, moment.end_s)
        address = escape(link(answer.memory.source, moment.start_s, moment.end_s))
        more += f'<br>clip {clock(first)} – {clock(last)}, <a href="{address}">in the footage</a>'
    return (
        f'<article class="card {entry.tier}" id="m{place}"><div class="picture">{shown}'
        f'<span class="place">{place}</span></div>'
        f'<div class="words"><div class="top"><span class="time">{when}</span>'
        f'<span class="badge {entry.tier}"><i class="mark {entry.tier}"></i>'
        f"{entry.tier.capitalize()}</span></div>{_bar(answer, moment)}"
        f"<div>Kept because {REASONS[entry.reason]}</div>"
        f'<div class="more">{more}</div></div></article>'
    )


def _frames(moment: Moment) -> str:
    if len(moment.rows) == 1:
        return "one kept frame"
    return f"{len(moment.rows)} kept frames, {clock(moment.start_s)} – {clock(moment.end_s)}"


def _bar(answer: Answer, moment: Moment) -> str:
    if math.isnan(moment.score):
        return ""
    share = 100 * _heights(answer)[moment.row]
    return (
        f'<div class="score"><span class="bar"><i style="width:{share:.0f}%"></i></span>'
        f"<b>{moment.score:.3f}</b></div>"
    )
