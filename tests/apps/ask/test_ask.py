"""Asking a memory: it finds what was seen, says what it did, and refuses in one sentence."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import media
import numpy as np
import pytest
from colour_parts import COLOURS, RATE, SCENE, Words, shot

from retain.apps.ask import answer as asking
from retain.apps.ask.answer import Answer, Question, answer
from retain.apps.ask.clips import cut, footage, link, same_footage
from retain.apps.ask.places import Remembered, open_memory
from retain.memory.curvestream import FrameMemory, FrameMemoryConfig
from retain.memory.hub import Hub
from retain.models.encoders.base import unit
from retain.models.encoders.pixels import Pixels
from retain.pipeline.errors import UsageError

# places


# answers


def test_an_example_finds_its_scene(memory: Remembered) -> None:
    for scene in range(4):
        found = answer(memory, Question(image=shot(SCENE * scene + 20)))
        best = found.moments[0]
        assert scene * 4 <= best.seconds < (scene + 1) * 4, "of a scene of four seconds"
        assert best.score > 0.95
        assert found.notes == []
        assert found.encoder == "pixels"


def test_an_example_in_a_range_is_looked_for_there_only(memory: Remembered) -> None:
    found = answer(memory, Question(image=shot(20), start_s=5, end_s=11))
    assert found.moments
    assert all(5 <= m.start_s <= m.end_s <= 11 for m in found.moments)


def test_a_range_alone_needs_no_encoder(memory: Remembered) -> None:
    strange = replace(memory, encoder="gone")
    found = answer(strange, Question(start_s=4, end_s=12, k=50))
    rows = [row for m in found.moments for row in m.rows]
    assert rows == [i for i, s in enumerate(memory.seconds) if 4 <= s <= 12]
    plain = found.as_json()
    assert plain["encoder"] == ""
    assert all(m["score"] is None for m in plain["moments"])
    few = answer(strange, Question(start_s=0, k=1))
    assert "where the picture changed most" in few.notes[0]


def test_the_answer_as_plain_values(memory: Remembered, video: Path) -> None:
    found = answer(memory, Question(image=shot(50), k=2))
    first, second = found.as_json()["moments"]
    assert (first["rank"], second["rank"]) == (1, 2)
    entry = memory.entries[found.moments[0].row]
    assert (first["seq"], first["tier"], first["reason"]) == (entry.seq, entry.tier, entry.reason)
    assert first["frames"] == len(found.moments[0].rows)
    assert first["clip"].startswith(video.as_uri() + "#t=")


def test_words_describe_the_memory_anew_once(
    memory: Remembered, folder: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, int]] = []
    first = answer(memory, Question(text="blue"), progress=lambda *at: told.append(at))
    assert words == ["openclip"]
    assert 8 <= first.moments[0].seconds < 12
    assert told[-1] == (len(memory.entries),) * 2
    assert "described anew" in first.notes[0]
    kept = [p for p in folder.iterdir() if "features" in p.name]
    assert len(kept) == 1

    def refuse(*_: object) -> None:
        raise AssertionError("they were kept")

    monkeypatch.setattr(Words, "encode", refuse)
    monkeypatch.setattr(Words, "encode_text", lambda _, texts: unit(np.ones((1, Pixels().dim))))
    again = answer(open_memory(folder), Question(text="blue"))
    assert again.notes[0] == first.notes[0]


@pytest.mark.parametrize("spoil", ["bytes", "shape", "nan", "other pictures"])
def test_kept_features_that_are_not_these_are_made_again(
    memory: Remembered, folder: Path, words: list[str], spoil: str
) -> None:

    from safetensors import safe_open
    from safetensors.numpy import save_file

    first = answer(memory, Question(text="green"))
    (kept,) = [p for p in folder.iterdir() if "features" in p.name]
    with safe_open(str(kept), "np") as file:
        rows, about = file.get_tensor("rows"), file.metadata()
    if spoil == "bytes":
        kept.write_bytes(b"nothing")
    elif spoil == "other pictures":
        save_file({"rows": rows[::-1].copy()}, kept, {"retain": json.dumps({"key": "x"})})
    else:
        save_file({"rows": rows[1:] if spoil == "shape" else rows * np.nan}, kept, about)
    assert answer(memory, Question(text="green")).moments == first.moments


def test_a_place_that_cannot_be_written_is_no_error(
    memory: Remembered, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from retain.apps.ask import features

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(features, "write_whole", full)
    assert answer(memory, Question(text="red")).moments[0].seconds < 4


def test_a_memory_of_a_text_encoder_is_asked_as_it_is(memory: Remembered, words: list[str]) -> None:
    own = replace(memory, encoder=Words().name.replace("/", "_"))
    found = answer(own, Question(text="blue"), encoder="openclip:Words/of-colour")
    assert found.notes == []
    assert 8 <= found.moments[0].seconds < 12


def test_the_name_of_an_encoder_is_found_again(
    memory: Remembered, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = ModuleType("open_clip")  # the real one takes seconds to import
    known.__spec__ = ModuleSpec("open_clip", None)
    known.list_pretrained = lambda: [("ViT-B-32", "laion2b_s34b_b79k")]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "open_clip", known)
    own = replace(memory, encoder="openclip:ViT-B-32_laion2b_s34b_b79k")
    answer(own, Question(text="blue"))
    assert words == ["openclip:ViT-B-32/laion2b_s34b_b79k"]
    with pytest.raises(UsageError, match=r"--encoder openclip:MODEL@FILE"):
        answer(replace(own, encoder="openclip:ViT-B-32@_a_b.bin"), Question(text="blue"))


def test_a_picture_with_words_is_between_both(memory: Remembered, words: list[str]) -> None:
    example = shot(SCENE + 20)
    both = answer(memory, Question(text="red", image=example))
    rows = Pixels().encode([entry.image() for entry in memory.entries])
    mean = Words().encode_text(["red"])[0] + Words().encode([example])[0]
    np.testing.assert_allclose(both.scores, rows @ mean / np.linalg.norm(mean), atol=1e-5)
    assert both.moments[0].row == np.argmax(rows @ mean)


def test_words_nobody_taught_the_encoder(memory: Remembered, words: list[str]) -> None:
    with pytest.raises(UsageError, match="does not know the words of '赤い車'"):
        answer(memory, Question(text="赤い車"))
    COLOURS["red 車車車"] = COLOURS["red"]
    try:
        noted = answer(memory, Question(text="red 車車車"))
    finally:
        del COLOURS["red 車車車"]
    assert any("may be chance" in note for note in noted.notes)


def test_nothing_stands_out(memory: Remembered) -> None:
    same = [replace(entry, embedding=memory.entries[0].embedding) for entry in memory.entries]
    found = answer(replace(memory, entries=same), Question(image=shot(0)))
    assert any("stands out" in note for note in found.notes)
    assert all(m.row == min(m.rows) for m in found.moments), "equal frames: the earliest"


@pytest.mark.parametrize(
    ("question", "words"),
    [
        (Question(), "Nothing was asked"),
        (Question(text="  "), "Nothing was asked"),
        (Question(start_s=3, k=0), "At least one"),
        (Question(start_s=3, end_s=2), "ends before"),
        (Question(start_s=1000), "No frame held lies after 16:40.0; the memory holds 0:0"),
        (Question(end_s=-1), "No frame held lies before"),
        (Question(image=np.full((8, 8, 3), 127, np.uint8)), None),
    ],
)
def test_what_cannot_be_asked(memory: Remembered, question: Question, words: str | None) -> None:
    if words is None:  # mid-grey is only nearly nothing to this encoder
        assert answer(memory, question).moments
        return
    with pytest.raises(UsageError, match=words):
        answer(memory, question)


def test_encoders_that_will_not_do(memory: Remembered) -> None:
    with pytest.raises(UsageError, match="knows pictures only"):
        answer(memory, Question(text="red"), encoder="pixels")
    with pytest.raises(UsageError, match="does not say which encoder"):
        answer(replace(memory, encoder=""), Question(image=shot(0)))
    assert answer(replace(memory, encoder=""), Question(image=shot(0)), encoder="pixels").notes


def test_weights_that_are_absent(memory: Remembered, monkeypatch: pytest.MonkeyPatch) -> None:
    from retain.models.encoders import base

    def absent(*_: object, **__: object) -> None:
        raise UsageError("The weights were not found.", hint="Use --encoder mobilenetv2.")

    monkeypatch.setattr(base, "create", absent)
    with pytest.raises(UsageError, match="were not found.*ask by an example picture"):
        answer(memory, Question(text="red"))


def test_an_empty_memory(tmp_path: Path) -> None:
    config = FrameMemoryConfig(dim=Pixels().dim)
    hub = Hub(config.byte_budget, "door")
    hub.add("frames by pixels", FrameMemory(config))
    hub.snapshot(tmp_path / "none.safetensors")
    memory = open_memory(tmp_path / "none.safetensors")
    assert math.isnan(memory.span[0])
    with pytest.raises(UsageError, match="The memory of 'door' is empty"):
        answer(memory, Question(image=shot(0)))


def test_frames_without_pictures_cannot_be_described_anew(
    memory: Remembered, words: list[str]
) -> None:
    bare = [replace(e, jpeg=b"") if i else e for i, e in enumerate(memory.entries)]
    found = answer(replace(memory, entries=bare, file=None), Question(text="red"))
    assert [m.row for m in found.moments] == [0]
    assert any("have no picture" in note for note in found.notes)


# clips


def test_a_clip_shows_the_moment(video: Path, tmp_path: Path) -> None:
    import av

    cut(video, tmp_path / "clip.mp4", 6.0, 7.0)
    with av.open(str(tmp_path / "clip.mp4")) as clip:
        frames = [frame.to_ndarray(format="rgb24") for frame in clip.decode(video=0)]
    assert 49 <= len(frames) <= 51, "from 4 s to 9 s, both ends shown"
    for place, expected in ((0, 40), (20, 60), (45, 85)):
        difference = np.abs(frames[place].astype(int) - shot(expected)).mean()
        assert difference < 6, f"picture {place} of the clip"


def test_footage_that_is_another_is_noticed(
    memory: Remembered, video: Path, tmp_path: Path
) -> None:
    path = footage(memory.source)
    assert path is not None
    assert all(same_footage(path, entry) for entry in memory.entries[::4])
    other = media.write_video(
        tmp_path / "other.mp4", 160, size=(128, 96), rate=RATE, draw=lambda k: shot(k + 80)
    )
    assert not same_footage(other, memory.entries[5])
    (tmp_path / "text.mp4").write_text("no video")
    assert not same_footage(tmp_path / "text.mp4", memory.entries[5])


def test_only_files_are_played(video: Path, tmp_path: Path) -> None:
    assert link(str(video), 1.0, 2.0) == f"{video.as_uri()}#t=0.00,4.00"
    for source in ("", "rtsp://***@cam/1", "https://x.org/a.mp4", str(tmp_path), "gone.mp4", "0"):
        assert link(source, 1.0, 2.0) == ""


def test_scores_are_of_every_frame(memory: Remembered) -> None:
    found: Answer = answer(memory, Question(image=shot(20)))
    for moment in found.moments:
        assert found.scores[moment.row] == pytest.approx(moment.score, abs=1e-5)
    assert np.ptp(found.scores) > asking.ALIKE
