"""What is handed to a multimodal model: within the budget, in order of time, as promised."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from typing import Any

import memory_parts
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from retain.memory import pictures
from retain.memory.context import Context, Entry, context, priority
from retain.memory.curvestream import FrameMemory, FrameMemoryConfig
from retain.memory.tokens import FAMILIES, Family, tokens
from retain.pipeline.errors import UsageError
from retain.pipeline.frame import Frame

SIZES = [(640, 360), (360, 640), (500, 500), (96, 64), (224, 224), (1280, 720)]


@cache
def jpeg(width: int, height: int) -> bytes:
    ramp = np.linspace(0, 255, width).astype(np.uint8)[None, :, None]
    return pictures.encode(np.ascontiguousarray(np.broadcast_to(ramp, (height, width, 3))))


def entry(number: int, size: tuple[int, int] = (640, 360), worth: float = 1.0) -> Entry:
    """A Clear frame unlike any other, ``number`` seconds into the stream."""
    embedding = np.zeros(64, np.float32)
    embedding[number % 64] = 1.0
    return Entry(
        seq=number,
        pts=number,
        time_base=Fraction(1),
        seconds=float(number),
        tier="clear",
        reason="score",
        score=worth,
        tokens=tokens(*size),
        width=size[0],
        height=size[1],
        embedding=embedding,
        jpeg=jpeg(*size),
        worth=worth,
    )


def seqs(made: Context) -> list[int]:
    return [picture.seq for picture in made.pictures]


@st.composite
def memories(draw: st.DrawFn) -> list[Entry]:
    size = st.sampled_from(SIZES)
    worths = draw(st.lists(st.floats(0, 3), min_size=1, max_size=12))
    return [entry(i, draw(size), worth) for i, worth in enumerate(worths)]


families = st.sampled_from(list(FAMILIES))


@settings(max_examples=60, deadline=None)
@given(memories(), st.integers(1, 6000), families, st.text(max_size=40))
def test_the_budget_holds_in_order_of_time_with_the_newest(
    held: list[Entry], budget: int, family: Family, question: str
) -> None:
    try:
        made = context(held, family, budget, question=question)
    except UsageError as error:
        # Only what one frame and the question need can be too much.
        if budget < 13 + 28 + len(question.encode()) + 80 + 14 and "under one" in error.what:
            return
        raise
    assert made.tokens <= budget
    assert seqs(made) == sorted(seqs(made))
    assert made.pictures[-1].seq == held[-1].seq
    for picture in made.pictures:
        assert picture.tokens == tokens(picture.width, picture.height, family)
        assert picture.image().shape == (picture.height, picture.width, 3)


@settings(max_examples=40, deadline=None)
@given(memories(), st.integers(200, 5000), st.integers(0, 800), families)
def test_a_larger_budget_loses_no_frame(
    held: list[Entry], budget: int, more: int, family: Family
) -> None:
    less, greater = (context(held, family, b) for b in (budget, budget + more))
    assert set(seqs(less)) <= set(seqs(greater))


@settings(max_examples=30, deadline=None)
@given(memories(), families)
def test_with_room_for_all_every_byte_is_the_memorys(held: list[Entry], family: Family) -> None:
    made = context(held, family, 100_000)
    assert [picture.jpeg for picture in made.pictures] == [entry.jpeg for entry in held]
    assert made.demoted == 0


def test_clear_becomes_blurred_before_a_frame_is_left_out() -> None:
    held = [entry(i) for i in range(10)]  # 299 tokens each
    made = context(held, budget=1400)
    assert made.held == len(made.pictures) == 10
    tiers = [picture.tier for picture in made.pictures]
    assert tiers[-1] == "clear"
    assert tiers.count("blurred") == made.demoted > 0
    assert all(p.tokens <= 64 for p in made.pictures if p.tier == "blurred")


def test_the_newest_few_stay_then_the_worthiest() -> None:
    held = [entry(i, worth=2.0 if i in (3, 11) else 1.0 - i / 100) for i in range(20)]
    assert priority(held)[:6] == [19, 18, 17, 16, 3, 11]
    made = context(held, budget=13 + 28 + 299 + 11 + 6 * 75)  # the newest, and five or six more
    assert set(seqs(made)) >= {3, 11, 16, 17, 18, 19}
    assert len(made.pictures) < 20


def test_a_frame_that_a_worthier_one_resembles_counts_less() -> None:
    held = [entry(i, worth=w) for i, w in enumerate([2.0, 1.9, 1.0, 0.5, 0.5, 0.5, 0.5])]
    held[1] = dataclasses.replace(held[1], embedding=held[0].embedding)
    assert priority(held)[4:] == [0, 2, 1]


def test_many_more_frames_than_are_compared_are_ranked() -> None:
    held = [entry(i, worth=float(i % 1500)) for i in range(1500)]
    order = priority(held)
    assert sorted(order) == list(range(1500))
    assert order[:4] == [1499, 1498, 1497, 1496]
    assert order[-1] == 0  # the least worth of all


def test_a_cheaper_frame_does_not_pass_one_that_does_not_fit() -> None:
    held = [entry(0, (96, 64)), entry(1), entry(2, (96, 64))]  # 6, 60 and 6 tokens, 9 beside each
    assert seqs(context(held, budget=13 + 28 + 15 + 68)) == [2]
    assert seqs(context(held, budget=13 + 28 + 15 + 69)) == [1, 2]
    assert seqs(context(held, budget=13 + 28 + 15 + 69 + 15)) == [0, 1, 2]


def test_a_newest_frame_over_half_of_the_budget_is_scaled_down() -> None:
    held = [entry(i, (1280, 720)) for i in range(40)]
    made = context(held, budget=1000)
    newest = made.pictures[-1]
    assert newest.tier == "clear"
    assert 300 < newest.tokens < 600
    assert len(made.pictures) > 5
    alone = context(held[:1], budget=1000)
    assert alone.pictures[0].tokens > 800  # what the others do not take is its own


def test_the_frame_on_screen_is_clear_and_last() -> None:
    image = np.full((360, 640, 3), 90, np.uint8)
    small = dataclasses.replace(
        entry(7, (224, 126)), tier="blurred", tokens=tokens(224, 126), jpeg=jpeg(224, 126)
    )
    for seq, count in ((7, 2), (8, 3)):
        now = Frame("s", seq, seq, Fraction(1), image)
        made = context([entry(2), small], budget=4000, now=now)
        assert len(made.pictures) == count
        last = made.pictures[-1]
        assert (last.seq, last.tier, last.reason) == (seq, "clear", "query")
        assert (last.width, last.height) == (640, 360)
    with pytest.raises(UsageError, match="not of one stream"):
        context([entry(9)], now=Frame("s", 1, 1, Fraction(1), image))


def test_only_the_frame_on_screen_is_enough() -> None:
    now = Frame("s", 0, 0, Fraction(1), np.zeros((64, 96, 3), np.uint8))
    assert seqs(context([], now=now)) == [0]


def test_the_text_is_counted_from_above() -> None:
    made = context([entry(12)], question="Wer öffnet?", system="Short.")
    # Qwen's vocabulary: 7 tokens for <12.0 seconds>, 2 around a picture, 13 around the messages.
    assert made.text_tokens >= 7 + 2 + 13 + 4 + 2
    assert made.text_tokens == 7 + 3 + 13 + len("Wer öffnet?".encode()) + len("Short.")


ADDRESS: dict[str, Callable[[dict[str, Any]], str]] = {
    "openai": lambda part: part["image_url"]["url"],
    "qwen": lambda part: part["image"],
    "hf": lambda part: part["url"],
}


@pytest.mark.parametrize("style", ADDRESS)
def test_messages_carry_the_pictures_whole(style: str) -> None:
    made = context([entry(i) for i in range(6)], budget=900, question="What?", system="Be brief.")
    system, user = json.loads(json.dumps(made.messages(style)))
    assert system == {"role": "system", "content": [{"type": "text", "text": "Be brief."}]}
    *content, question = user["content"]
    assert question == {"type": "text", "text": "What?"}
    assert len(content) == 2 * len(made.pictures)
    for time, part, picture in zip(content[::2], content[1::2], made.pictures, strict=True):
        assert time == {"type": "text", "text": f"<{picture.seconds:.1f} seconds>"}
        assert part["type"] == ("image_url" if style == "openai" else "image")
        head, data = ADDRESS[style](part).split(",")
        assert head == "data:image/jpeg;base64"
        with Pillow.open(io.BytesIO(base64.b64decode(data))) as shown:
            shown.load()
            assert shown.size == (picture.width, picture.height)


@pytest.mark.parametrize("family", FAMILIES)
def test_qwen_vl_utils_is_told_the_size_that_is_counted(family: Family) -> None:
    made = context([entry(i, size) for i, size in enumerate(SIZES)], family, 1500)
    content = made.messages("qwen")[-1]["content"]
    assert isinstance(content, list)
    for part, picture in zip(content[1::2], made.pictures, strict=True):
        assert isinstance(part, dict)
        width, height = part["resized_width"], part["resized_height"]
        assert isinstance(width, int)
        assert isinstance(height, int)
        assert width * height == picture.tokens * FAMILIES[family].cell ** 2
        assert tokens(width, height, family) == picture.tokens  # no later step changes it


def test_without_a_system_line_there_is_one_message() -> None:
    (user,) = context([entry(0)]).messages()
    assert user["role"] == "user"
    assert len(user["content"]) == 2  # type: ignore[arg-type]


def test_a_running_memory_hands_itself_over_and_stays_as_it_is() -> None:
    memory = FrameMemory(FrameMemoryConfig(dim=32, max_entries=12))
    for frame, feature in zip(memory_parts.frames(60), memory_parts.features(60), strict=True):
        memory.observe("s", frame, feature)
    before = memory.snapshot("s")
    made = memory.context("s", 300, "What happened?", now=frame)
    assert made.tokens <= 300
    assert made.pictures[-1].seq == 59
    after = memory.snapshot("s")
    assert all(np.array_equal(before.tensors[k], after.tensors[k]) for k in before.tensors)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: context([entry(0)], "qwen3vl"), "Unknown model family 'qwen3vl'. Did you mean"),  # type: ignore[arg-type]
        (lambda: context([entry(0)], budget=60), "budget of 60 tokens is under one frame"),
        (lambda: context([]), "The memory is empty"),
        (lambda: context([dataclasses.replace(entry(0), jpeg=b"")]), "keeps no pictures"),
        (
            lambda: context([dataclasses.replace(entry(0), width=640, height=3)]),
            "too long and thin",
        ),
        (lambda: context([entry(0)]).messages("chatml"), "Unknown message format 'chatml'"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(call: Callable[[], object], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        call()


def test_the_sentence_names_a_budget_that_works() -> None:
    with pytest.raises(UsageError, match="it takes 1") as raised:
        context([entry(5)], budget=60, question="Now?")
    needed = int(str(raised.value).split("it takes ")[1].split(".")[0])
    assert context([entry(5)], budget=needed, question="Now?").tokens == needed
    with pytest.raises(UsageError):
        context([entry(5)], budget=needed - 1, question="Now?")
