"""`retain segment --text`, with colours in place of CLIP: words name them."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from command_parts import Retain
from PIL import Image as Pil

from retain.apps.page.state import PageState
from retain.datasets.detect.files import read_indices
from retain.models.language import query, segment
from retain.models.language.teacher import Looked
from retain.pipeline.frame import Image
from retain.pipeline.packet import Packet
from retain.pipeline.results import Masks

FRAMES, PATCH = 4, 8
COLOURS = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "grey": (1, 1, 1)}


class Colours:
    """Stands in for ``ClipTeacher``: a patch's feature is the direction of its colour."""

    name, dim = "colours", 3

    def __init__(self, objects: bool = False) -> None:
        self._objects = objects

    def look(self, image: Image) -> Looked:
        size = (image.shape[1] // PATCH, image.shape[0] // PATCH)
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.float32)
        rows = small / np.maximum(np.linalg.norm(small, axis=2, keepdims=True), 1)
        return Looked(rows, np.zeros(rows.shape[:2], np.float32) if self._objects else None)

    def text(self, words: Sequence[str]) -> np.ndarray:
        rows = np.array([COLOURS.get(word, (1, 1, 1)) for word in words], np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def retain(retain: Retain, work: Path, monkeypatch: pytest.MonkeyPatch) -> Retain:
    """`retain` beside a clip: grey, a red square that moves, green on the left."""
    (work / "clip").mkdir()
    for k in range(FRAMES):
        Pil.fromarray(picture(k)).save(work / f"clip/{k}.png")
    monkeypatch.setattr(segment, "clip", lambda *a, **k: Colours())
    return retain


def picture(k: int) -> Image:
    image = np.full((64, 96, 3), 120, np.uint8)
    image[:, :24] = (0, 200, 0)
    image[16:40, 40 + 8 * k : 64 + 8 * k] = (220, 0, 0)
    return image


SEGMENT = ("segment", "--no-page", "--runner", "inline", "clip")


def test_words_become_masks_shares_and_a_video(retain: Retain) -> None:
    said = retain(*SEGMENT, "--text", "green, red", "--background", "grey", "--out", "o")
    assert said.code == 0, said.err
    shares = json.loads(Path("o/summary.json").read_text())["shares"]
    assert shares == {"green": pytest.approx(0.25, abs=0.01), "red": pytest.approx(0.094, abs=0.01)}
    assert said.out.index("25.0 %  green") < said.out.index("%  red")
    for k in range(FRAMES):
        with Pil.open(f"o/masks/{k:05d}.png") as mask:
            assert mask.mode == "P"
        found = read_indices(Path(f"o/masks/{k:05d}.png"))
        truth = np.zeros(found.shape, np.uint8)
        truth[:, :24], truth[16:40, 40 + 8 * k : 64 + 8 * k] = 1, 2
        assert (found != truth).mean() < 0.02
        assert found[0, 0] == found[-1, 0] == 1  # to the very edge
    with Path("o/curve.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["object"] for row in rows] == ["green", "red"] * FRAMES
    with av.open("o/overlay.mp4") as video:
        assert sum(1 for _ in video.decode(video=0)) == FRAMES
    report = Path("o/report.html").read_text()
    assert "green" in report
    assert "Against the truth" not in report


def test_without_background_every_pixel_is_one_of_the_words(retain: Retain) -> None:
    said = retain(*SEGMENT, "--text", "green,red,grey", "--background", "", "--out", "o")
    assert said.code == 0, said.err
    assert sum(json.loads(Path("o/summary.json").read_text())["shares"].values()) > 0.99


def test_a_word_that_is_asked_for_is_no_background(retain: Retain) -> None:
    said = retain(*SEGMENT, "--text", "grey", "--background", "grey,red,green", "--out", "o")
    assert said.code == 0, said.err
    assert json.loads(Path("o/summary.json").read_text())["shares"]["grey"] > 0.6


def test_frames_in_which_nothing_is_named_are_counted(retain: Retain) -> None:
    said = retain(*SEGMENT, "--text", "blue", "--background", "grey,red,green", "--out", "o")
    assert said.code == 0, said.err
    assert "none of them in 4 of 4 frames" in said.out
    lines = Path("o/results.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["results"]["masks"]["flags"] == ["not-seen"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--text", " , "), "names nothing to look for"),
        (("--text", ",".join(map(str, range(255)))), "masks have room for 254"),
        (("--text", "red", "--object", "mask.png"), "Leave one out"),
        (("--text", "red", "--resume", "state"), "no state to continue from"),
        (("--text", "red", "--structures", "all"), "is of hearts, not of --text"),
        (("--text", "red", "--learn", "fifo"), "says how --object learns"),
        (("--download",), "is of --text, and there is none"),
        (("--encoder", "clip"), "is of --text, and there is none"),
    ],
)
def test_what_cannot_be_asked_is_said(retain: Retain, arguments: Sequence[str], said: str) -> None:
    found = retain(*SEGMENT, *arguments)
    assert found.code == 2
    assert said in " ".join(found.err.split())
    assert not [path for path in Path().iterdir() if path.name != "clip"]


def test_without_weights_one_sentence_says_what_to_do(
    retain: Retain, monkeypatch: pytest.MonkeyPatch
) -> None:
    from retain.models.language import teacher

    monkeypatch.setattr(segment, "clip", teacher.clip)
    found = retain(*SEGMENT, "--text", "red")
    assert found.code == 2
    assert "were not found" in " ".join(found.err.split())
    assert "--download, or name a file" in " ".join(found.err.split())


def stage(monkeypatch: pytest.MonkeyPatch, objects: bool, **options: object) -> segment.SegmentText:
    monkeypatch.setattr(segment, "clip", lambda *a, **k: Colours(objects))
    return segment.SegmentText(**options)  # type: ignore[arg-type]


def packet() -> Packet:
    from fractions import Fraction

    from retain.pipeline.frame import Frame

    return Packet(Frame("s", 0, 0, Fraction(1, 25), picture(0)), {})


def test_off_objects_only_what_is_certain_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """CLIP-DINOiser's background: neither an object nor certainly a word."""
    soft = {"text": "red,blue", "background": "grey"}

    def named(objects: bool, **options: object) -> np.ndarray:
        masks = stage(monkeypatch, objects, **options).process(packet()).get("masks", Masks)
        return masks.probability.max(axis=0) > 127

    np.testing.assert_array_equal(named(True, **soft), named(False, **soft))  # it is certain
    monkeypatch.setattr(query, "SHARP", 9.0)
    assert named(False, **soft).sum() == 9
    assert not named(True, **soft).any()
    assert named(True, text="red,grey,green", background="").all()  # without one, all is named


def test_the_page_knows_shares_without_the_rim(monkeypatch: pytest.MonkeyPatch) -> None:
    state = PageState("s", "clip", view="text")
    state.observe(stage(monkeypatch, False, text="green", background="grey,red").process(packet()))
    told = state.patch({})
    assert told["about"]["doing"] == "Looking for what the words name."
    assert {line["label"] for line in told["latest"]["outlines"]} == {"green"}
    assert told["areas"]["points"][0][2] == [0.25]
