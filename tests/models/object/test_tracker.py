"""Following objects in a small world: out of the picture and back, bounded, resumed bit by bit."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import object_parts as parts
import pytest
from PIL import Image as Pil

from retain.memory.hub import Hub
from retain.models.object import features, track
from retain.models.object.evaluate import on_frame
from retain.models.object.learn import MODES, Mode
from retain.models.object.stage import SegmentObject
from retain.models.object.tracker import Tracker, TrackerOptions, believed
from retain.pipeline.errors import RetainError, SourceError, StateError, UsageError
from retain.pipeline.packet import Packet
from retain.pipeline.results import Masks

View = tuple[parts.Image, parts.Label]


def tracker(objects: int = 1, options: TrackerOptions | None = None) -> Tracker:
    size = (parts.HEIGHT, parts.WIDTH)
    return Tracker("main", objects, size, options or parts.options(), parts.Cheap())  # type: ignore[arg-type]


def follow(views: Iterable[View], objects: int = 1, mode: Mode = "hybrid") -> list[parts.Label]:
    """The masks of all frames; the first is given."""
    one, out = tracker(objects, parts.options(mode)), []
    for seq, (image, label) in enumerate(views):
        planes = one.look(image, seq, seq / 25) if seq else one.begin(image, label, 0, 0.0)
        out.append(on_frame(planes, *label.shape))
    return out


def overlap(a: parts.Label, b: parts.Label, k: int = 1) -> float:
    return float(((a == k) & (b == k)).sum() / max(1, ((a == k) | (b == k)).sum()))


@pytest.mark.parametrize("mode", MODES)
def test_an_object_is_followed(mode: Mode) -> None:
    views = list(parts.crossing(9))
    found = follow(views, mode=mode)
    assert min(overlap(f, label) for f, (_, label) in zip(found, views, strict=True)) > 0.75


def test_two_objects_keep_their_names() -> None:
    views = [parts.scene((20 + 4 * k, 20), (70 - 4 * k, 44)) for k in range(8)]
    found = follow(views, objects=2)
    for k in (1, 2):
        assert overlap(found[-1], views[-1][1], k) > 0.7


def test_an_object_that_left_is_nowhere_and_found_again_when_it_returns() -> None:
    away = [30, 55, 80, 95, 108, 125, 125, 125, 108, 95, 80, 55]
    views = [parts.scene((x, 30)) for x in away]
    found = follow(views)
    for image, (_, label) in zip(found[5:8], views[5:8], strict=True):
        assert not label.any()
        assert not image.any()
    assert overlap(found[-1], views[-1][1]) > 0.7


def test_an_object_that_was_hidden_is_found_elsewhere() -> None:
    gone = (parts.ground(), np.zeros((parts.HEIGHT, parts.WIDTH), np.uint8))
    views = [parts.scene((25, 30)), gone, gone, parts.scene((72, 40))]
    found = follow(views)
    assert not found[1].any()
    assert overlap(found[-1], views[-1][1]) > 0.7


def test_bytes_are_bounded_and_constant() -> None:
    budget = parts.options().budget_bytes
    one = tracker()
    sizes = []
    for seq, (image, label) in enumerate(parts.crossing(40)):
        one.look(image, seq, 0.0) if seq else one.begin(image, label, 0, 0.0)
        sizes.append(one.hub.nbytes)
        assert sizes[-1] <= budget
    assert len(set(sizes)) == 1
    assert one.examples.stats("main")["examples"] == one.examples.room("main")


def test_a_small_budget_holds_fewer_examples_and_a_tiny_one_is_refused() -> None:
    options = parts.options()
    room = tracker().examples.room("main")
    least = tracker().hub.budget_bytes - (room - 6) * tracker().examples.item_bytes
    small = TrackerOptions(
        recipe=options.recipe, side=64, examples=8, budget_bytes=least, threads=1
    )
    one = tracker(options=small)
    assert one.examples.room("main") >= 6
    tiny = TrackerOptions(recipe=options.recipe, side=64, examples=8, budget_bytes=10_000)
    with pytest.raises(UsageError, match="budget"):
        tracker(options=tiny)


def test_the_head_alone_learns_from_the_first_frame_only() -> None:
    one = tracker(options=parts.options("none"))
    for seq, (image, label) in enumerate(parts.crossing(6)):
        one.look(image, seq, 0.0) if seq else one.begin(image, label, 0, 0.0)
        if not seq:
            before = one.heads.read("main")["theta"]
    assert np.array_equal(one.heads.read("main")["theta"], before)
    assert one.examples.read("main").pinned.all()


def test_what_the_first_head_sees_is_not_learnt_to_be_ground() -> None:
    planes = np.array([[[0.9, 0.1, 0.1]], [[0.4, 0.1, 0.2]]], np.float32)
    first = np.array([[[-1.0, 2.0, -2.0]], [[3.0, 3.0, 3.0]]], np.float32)
    kept = believed(planes, first)
    assert kept[0].tolist() == [pytest.approx([0.9, 0.5, 0.1])]
    assert not kept[1].any()  # an object that is not shown teaches nothing


def test_what_is_not_seen_is_not_kept() -> None:
    one = tracker()
    image, label = parts.scene((25, 30))
    one.begin(image, label, 0, 0.0)
    for seq in range(1, 7):
        one.look(parts.ground(), seq, 0.0)
    assert one.examples.read("main").pinned.all()


def test_a_cut_takes_no_motion_over() -> None:
    one = tracker()
    image, label = parts.scene((25, 30))
    one.begin(image, label, 0, 0.0)
    other, truth = parts.scene((75, 40))
    assert overlap(on_frame(one.look(other, 1, 0.1, cut=True), *label.shape), truth) > 0.7


def test_edges_are_followed() -> None:
    image, label = parts.scene((48, 32))
    guide = image.astype(np.float32) / 255
    rough = np.roll((label == 1).astype(np.float32), 2, axis=1)
    better = track.guided(guide, rough, 3, 1e-4) > 0.5
    assert overlap(better.astype(np.uint8), label) > overlap(rough.astype(np.uint8), label) + 0.03


def test_the_guided_filter_is_the_affine_fit_of_its_windows() -> None:
    rng = np.random.default_rng(2)
    guide = rng.random((9, 11, 3)).astype(np.float32)
    plane = rng.random((9, 11)).astype(np.float32)
    radius, smooth = 2, 0.05
    slope, offset = np.zeros((9, 11, 3)), np.zeros((9, 11))
    padded = [
        np.pad(x, [(2, 2), (2, 2)] + [(0, 0)] * (x.ndim - 2), "symmetric") for x in (guide, plane)
    ]
    for y in range(9):
        for x in range(11):
            g = padded[0][y : y + 5, x : x + 5].reshape(-1, 3).astype(float)
            p = padded[1][y : y + 5, x : x + 5].ravel().astype(float)
            cov = np.cov(g.T, bias=True) + smooth * np.eye(3)
            a = np.linalg.solve(cov, ((g - g.mean(0)) * (p - p.mean())[:, None]).mean(0))
            slope[y, x], offset[y, x] = a, p.mean() - a @ g.mean(0)
    got = track.guided(guide, plane, radius, smooth)
    for y in range(2, 7):
        for x in range(2, 9):
            near = np.s_[y - 2 : y + 3, x - 2 : x + 3]
            want = slope[near].mean((0, 1)) @ guide[y, x] + offset[near].mean()
            assert got[y, x] == pytest.approx(want, abs=1e-4)


def test_motion_brings_a_mask_along() -> None:
    rng = np.random.default_rng(0)
    wide = rng.integers(0, 255, (20, 30), np.uint8)
    large = cv2.resize(wide, (320, 220), interpolation=cv2.INTER_CUBIC)
    before, now = large[10:202, 10:298].copy(), large[14:206, 16:304].copy()  # the camera pans
    masks = np.zeros((2, 1, 96, 144), np.float32)
    masks[0, 0, 40:60, 50:80] = masks[1, 0, 38:58, 47:77] = 1  # at half the size of the greys
    moved = track.moved(masks[0], before, now)
    assert np.abs(moved - masks[1]).mean() < 0.2 * np.abs(masks[0] - masks[1]).mean()


def test_working_sizes_are_sixteens_with_the_frames_shape() -> None:
    assert features.working_size(480, 854, 480) == (480, 848)
    assert features.working_size(1080, 1920, 480) == (480, 848)
    assert features.working_size(40, 4000, 64)[0] == 64


# The stage.


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "Features", parts.Cheap)


def drawn(path: Path, label: parts.Label) -> str:
    Pil.fromarray(label).save(path)
    return str(path)


def stage(mask: str, **options: object) -> SegmentObject:
    return SegmentObject(mask, side=64, budget_mb=2.0, every=2, **options)  # type: ignore[arg-type]


def packets(views: Iterable[View]) -> list[Packet]:
    return [Packet(parts.frame(seq, image)) for seq, (image, _) in enumerate(views)]


def through(one: SegmentObject, given: Iterable[Packet]) -> list[bytes]:
    out = [one.process(packet) for packet in given]
    return [p.get("masks", Masks).probability.tobytes() for p in out if p is not None]


@pytest.mark.parametrize("mode", ["fifo", "hybrid"])
def test_resumed_it_goes_on_bit_for_bit(tmp_path: Path, mode: Mode) -> None:
    views = list(parts.crossing(13))
    mask = drawn(tmp_path / "m.png", views[0][1])
    given = packets(views)
    whole = through(stage(mask, mode=mode), given)
    first = stage(mask, mode=mode)
    through(first, given[:7])
    first.save(str(tmp_path / "state"))
    second = stage(mask, mode=mode, resume=str(tmp_path / "state"))
    assert through(second, given) == whole[7:]  # frames it has seen are passed over
    third = stage(mask, mode=mode)
    third.load(str(tmp_path / "state"))
    assert through(third, given[7:]) == whole[7:]


def test_a_state_of_another_way_is_refused(tmp_path: Path) -> None:
    views = list(parts.crossing(2))
    mask = drawn(tmp_path / "m.png", views[0][1])
    one = stage(mask)
    with pytest.raises(StateError, match="no frame"):
        one.save(str(tmp_path / "state"))
    through(one, packets(views))
    one.save(str(tmp_path / "state"))
    other = stage(mask, mode="fifo", resume=str(tmp_path / "state"))
    with pytest.raises(StateError, match="other options"):
        through(other, packets(views))


def test_masks_say_whose_they_are_and_where(tmp_path: Path) -> None:
    image, label = parts.scene((30, 30), (70, 40))
    label[label == 2] = 5
    one = stage(drawn(tmp_path / "m.png", label))
    (packet,) = [one.process(p) for p in packets([(image, label)])]
    assert packet is not None
    masks = packet.get("masks", Masks)
    assert masks.labels == ("object 1", "object 5")
    assert masks.probability.shape == (2, 32, 48)
    assert masks.to_frame.tolist() == [[2, 0, 0], [0, 2, 0]]
    assert one.stats()["objects"] == 2


def test_a_frame_without_the_object_is_flagged(tmp_path: Path) -> None:
    image, label = parts.scene((30, 30))
    one = stage(drawn(tmp_path / "m.png", label))
    empty = (parts.ground(), label)
    flags = [
        p.get("masks", Masks).flags
        for p in (one.process(p) for p in packets([(image, label), empty]))
        if p is not None
    ]
    assert flags == [(), ("not-seen",)]


def wrong_masks(folder: Path) -> list[tuple[str, type[RetainError], str]]:
    broken = folder / "broken.png"
    broken.write_bytes(b"\x89PNG no")
    many = np.arange(100, dtype=np.uint8).reshape(10, 10)
    return [
        (str(folder / "none.png"), SourceError, "none.png"),
        (str(broken), SourceError, "broken.png"),
        (drawn(folder / "empty.png", np.zeros((9, 9), np.uint8)), UsageError, "shows no object"),
        (drawn(folder / "many.png", many), UsageError, "at most 8"),
    ]


def test_masks_that_cannot_be_used_are_refused_in_a_sentence(tmp_path: Path) -> None:
    for path, kind, word in wrong_masks(tmp_path):
        with pytest.raises(kind, match=word):
            stage(path)


def test_a_mask_of_another_size_is_refused_with_both_sizes(tmp_path: Path) -> None:
    one = stage(drawn(tmp_path / "m.png", np.full((9, 12), 255, np.uint8)))
    with pytest.raises(UsageError, match="12x9 pixels, the first frame is 96x64"):
        one.process(packets(parts.crossing(1))[0])


def test_two_streams_need_two_stages(tmp_path: Path) -> None:
    views = list(parts.crossing(2))
    one = stage(drawn(tmp_path / "m.png", views[0][1]))
    one.process(packets(views)[0])
    with pytest.raises(UsageError, match="stage of its own"):
        one.process(Packet(parts.frame(1, views[1][0], stream="other")))


def test_the_hub_holds_all_that_is_remembered() -> None:
    one = tracker()
    assert isinstance(one.hub, Hub)
    assert set(one.hub) == {"heads", "trail", "examples"}
