"""`retain segment --object` and `retain eval object`, with cheap features in place of a network."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import av
import numpy as np
import object_parts as parts
import pytest
from command_parts import Retain
from PIL import Image as Pil

from retain.apps.numbers import records
from retain.apps.page.state import PageState
from retain.apps.segment_object import judging
from retain.apps.segment_object import run as job
from retain.apps.segment_object.files import palette, truth_of, write_mask
from retain.datasets.detect.files import read_indices
from retain.models.object import features
from retain.models.object.tracker import TrackerOptions
from retain.pipeline.packet import Packet

FRAMES = 8


@pytest.fixture
def retain(retain: Retain, monkeypatch: pytest.MonkeyPatch) -> Retain:
    """`retain` with a tracker that needs no weights."""
    monkeypatch.setattr(job, "STAGE", "object_parts:Small")
    monkeypatch.setattr(features, "Features", parts.Cheap)
    return retain


@pytest.fixture(scope="module")
def davis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One sequence as DAVIS lays them out: a disc, number 3 of the palette."""
    root = tmp_path_factory.mktemp("davis")
    for folder in ("JPEGImages/disc", "Annotations/disc"):
        (root / folder).mkdir(parents=True)
    for k, (image, label) in enumerate(parts.crossing(FRAMES)):
        Pil.fromarray(image).save(root / f"JPEGImages/disc/{k:05d}.jpg", quality=95)
        write_mask(root / f"Annotations/disc/{k:05d}.png", 3 * label)
    return root


SEGMENT = ("segment", "--no-page", "--runner", "inline", "--memory-mb", 2)


def test_a_folder_of_masks_gives_the_first_and_judges_the_rest(retain: Retain, davis: Path) -> None:
    said = retain(
        *SEGMENT, davis / "JPEGImages/disc", "--object", davis / "Annotations/disc", "--out", "o"
    )
    assert said.code == 0, said.err
    assert "object 3: J&F 0." in said.out
    out = Path("o")
    names = sorted(path.name for path in (out / "masks").iterdir())
    assert names == [f"{k:05d}.png" for k in range(FRAMES)]
    for k, (_, label) in enumerate(parts.crossing(FRAMES)):
        with Pil.open(out / "masks" / names[k]) as picture:
            assert picture.mode == "P"
        found = read_indices(out / "masks" / names[k])
        assert set(np.unique(found)) == {0, 3}
        assert parts_overlap(found == 3, label == 1) > 0.7
    summary = json.loads((out / "summary.json").read_text())
    assert summary["labels"] == ["object 3"]
    assert summary["judged"]["object 3"]["jf"] > 0.7
    assert 0 < summary["memory_bytes"] <= 2_000_000
    lines = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert [line["seq"] for line in lines] == list(range(FRAMES))
    assert lines[3]["results"]["masks"]["j"][0] > 0.7
    with (out / "curve.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == FRAMES
    assert float(rows[2]["area"]) == lines[2]["results"]["masks"]["areas"][0]
    with av.open(str(out / "overlay.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == FRAMES
    report = (out / "report.html").read_text()
    assert "Against the truth" in report
    assert report.count('<article class="card">') == 12
    assert "http" not in report.replace("http-equiv", "").replace("http://www.w3.org", "")


def parts_overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


def test_one_mask_is_enough(retain: Retain, davis: Path) -> None:
    mask = davis / "Annotations/disc/00000.png"
    said = retain(
        *SEGMENT, davis / "JPEGImages/disc", "--object", mask, "--learn", "none", "--out", "o"
    )
    assert said.code == 0, said.err
    assert "J&F" not in said.out
    assert json.loads(Path("o/summary.json").read_text())["judged"] == {}


def test_a_truth_of_another_size_is_told_and_not_judged_by(
    retain: Retain, davis: Path, tmp_path: Path
) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    first = (davis / "Annotations/disc/00000.png").read_bytes()
    (masks / "00000.png").write_bytes(first)
    write_mask(masks / "00001.png", np.ones((4, 4), np.uint8))
    said = retain(*SEGMENT, davis / "JPEGImages/disc", "--object", masks, "--out", "o")
    assert said.code == 0
    assert "'00001.png' is of another size" in said.out
    assert "J&F 0" not in said.out


def refusals(folder: Path) -> list[tuple[Path, int, str]]:
    empty, small, text = folder / "empty.png", folder / "small.png", folder / "mask.txt"
    write_mask(empty, np.zeros((64, 96), np.uint8))
    write_mask(small, np.ones((32, 48), np.uint8))
    text.write_text("no")
    (folder / "nothing").mkdir()
    return [
        (folder / "none.png", 1, "none.png"),
        (empty, 2, "shows no object"),
        (small, 2, "48x32 pixels, the first frame is 96x64"),
        (text, 2, "is no PNG"),
        (folder / "nothing", 1, "has no PNG"),
    ]


def test_a_mask_that_cannot_be_used_is_refused_in_one_sentence(
    retain: Retain, davis: Path, tmp_path: Path
) -> None:
    for path, code, word in refusals(tmp_path):
        said = retain(*SEGMENT, davis / "JPEGImages/disc", "--object", path, "--out", "o")
        assert (said.code, said.out) == (code, ""), path
        assert word in " ".join(said.err.split())
        assert "Traceback" not in said.err
        assert not Path("o").exists()


def test_another_device_is_refused(retain: Retain, davis: Path) -> None:
    mask = davis / "Annotations/disc"
    said = retain(*SEGMENT, davis / "JPEGImages/disc", "--object", mask, "--device", "cuda")
    assert (said.code, "on the CPU only" in said.err) == (2, True)


@pytest.mark.parametrize(
    "arguments", [("--object", "m.png", "--weights", "mini"), ("--learn", "fifo")]
)
def test_options_of_the_other_kind_are_refused(retain: Retain, arguments: tuple[str, ...]) -> None:
    said = retain("segment", "clip.mp4", *arguments)
    assert (said.code, "Leave it out" in said.err) == (2, True)


def test_the_ways_to_learn_are_judged_in_one_table(
    retain: Retain, davis: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = parts.options().budget_bytes / 1e6
    monkeypatch.setattr(TrackerOptions, "__post_init__", lambda self: None)
    said = retain(
        "eval", "object", davis, "--learn", "hybrid,none", "--side", 64, "--memory-mb", small,
        "--json", "rows.json",
    )  # fmt: skip
    assert said.code == 0, said.err
    assert "none    disc: J&F 0." in said.err
    (measured,) = records.read(Path("rows.json")).measured.values()
    names = {row.name for row in measured.rows}
    assert {"none, disc: J&F", "hybrid, disc: speed"} <= names
    said = retain("eval", "object", davis, "--learn", "best")
    assert (said.code, "best" in said.err) == (2, True)


def test_generated_clips_are_followed_by_their_largest_objects() -> None:
    ((clip, numbers),) = judging._clips("objects://?seed=41&clips=1&frames=3", relit=True)
    mask = clip[0].mask
    assert mask is not None
    assert 1 <= len(numbers) <= judging.MOST
    assert min(np.count_nonzero(mask == n) for n in numbers) >= judging.LEAST * mask.size
    assert clip.name.endswith("-relit")


def test_the_page_knows_outlines_and_areas(tmp_path: Path) -> None:
    image, label = parts.scene((30, 30), (70, 40))
    write_mask(tmp_path / "m.png", label)
    one = parts.Small(str(tmp_path / "m.png"), "none", 5, 2.0)
    packet = one.process(Packet(parts.frame(0, image)))
    assert packet is not None
    state = PageState("t", "s", view="object")
    state.observe(packet)
    view = state.patch({})
    assert view["about"]["view"] == "object"
    assert "notice" not in view["about"]
    assert {line["label"] for line in view["latest"]["outlines"]} == {"object 1", "object 2"}
    (point,) = view["areas"]["points"]
    assert point[2] == pytest.approx([(label == k).mean() for k in (1, 2)], abs=0.01)


def test_the_palette_is_that_of_davis(tmp_path: Path) -> None:
    colours = np.array(palette()).reshape(256, 3)
    assert colours[:4].tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    assert len({tuple(colour) for colour in colours.tolist()}) == 256
    label = np.arange(64, dtype=np.uint8).reshape(8, 8)
    write_mask(tmp_path / "m.png", label)
    assert np.array_equal(truth_of(tmp_path / "m.png"), label)
    with Pil.open(tmp_path / "m.png") as picture:
        picture.convert("RGB").save(tmp_path / "rgb.png")
    assert np.array_equal(truth_of(tmp_path / "rgb.png"), label)
