"""The stage that imagines: what it tells, what it remembers and never does, how it goes on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import imagine_parts as parts
import numpy as np
import pytest

from retain.memory.clips import index
from retain.memory.clips.bank import ClipBank
from retain.memory.clips.config import ClipShape
from retain.memory.clips.windows import fitted
from retain.models.ditmem import references
from retain.models.ditmem.config import DitConfig
from retain.models.ditmem.imaginer import Imaginer
from retain.models.ditmem.stage import Imagine, dropped
from retain.models.ditmem.weights import opened
from retain.pipeline.errors import RetainError, StateError, UsageError
from retain.pipeline.frame import Frame
from retain.pipeline.packet import Packet
from retain.pipeline.results import Novelty, Prediction, Route
from retain.pipeline.wire import PixelRef, Ticket, decode, encode

Make = Callable[..., Imagine]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    return parts.weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def make(weights: str) -> Make:
    return lambda **options: Imagine(weights, samples=2, **options)


def told(packets: Sequence[Packet], name: str) -> dict[int, object]:
    return {p.frame.seq: p.results[name] for p in packets if name in p.results}


def clips_of(stage: Imagine) -> list[np.ndarray]:
    assert stage._mind is not None
    return [match.clip.frames for match in stage._mind.clips.read("main")]


def same(one: object, other: object) -> bool:
    """Bit for bit, arrays and NaN too."""
    if isinstance(one, Prediction):
        return all(
            np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b
            for a, b in ((getattr(one, n), getattr(other, n)) for n in one.__struct_fields__)
        )
    return repr(one) == repr(other)


def test_each_clip_is_compared_with_the_past_but_not_with_itself(make: Make) -> None:
    found = told(parts.feed(make(), [parts.frame(n) for n in range(48)]), "novelty")
    assert list(found) == list(range(7, 48, 4)), "every half clip"
    for seq, one in found.items():
        assert isinstance(one, Novelty)
        assert (one.first, one.start_s) == (seq - 7, (seq - 7) / 8)
        assert math.isnan(one.score) == (not one.references)
        assert all(r.last < one.first - 16 for r in one.references), "two clips are left out"
        if one.references:
            assert one.score == one.guided - one.alone
    assert len(found[47].references) == 3
    assert not found[27].references
    assert found[31].references


def test_after_a_cut_what_was_before_it_is_past(make: Make) -> None:
    frames = [parts.frame(n, fresh=n % 8 == 0 and n > 0) for n in range(24)]
    found = told(parts.feed(make(), frames), "novelty")
    assert [len(one.references) for one in found.values()] == [0, 1, 2]


def test_what_stands_out_is_called_new(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([(0.1 + 0.001 * (n % 3), 0.1) for n in range(12)] + [(0.5, 0.1), (0.1, 0.1)])
    monkeypatch.setattr(Imaginer, "novelty", lambda *_: next(scores))
    frames = [parts.frame(n, fresh=n % 8 == 0 and n > 0) for n in range(8 * 14)]
    found = list(told(parts.feed(make(), frames), "novelty").values())
    assert [one.new for one in found] == [False] * 12 + [True, False]
    assert [math.isnan(one.level) for one in found] == [True] * 9 + [False] * 5


def test_predictions_tile_the_time_and_are_the_same_for_the_same_seed(make: Make) -> None:
    frames = [parts.frame(n) for n in range(40)]
    stage = make(what="predict", compare=True, ahead=9)
    packets = parts.feed(stage, frames)
    guided, plain = told(packets, "prediction"), told(packets, "plain")
    assert list(guided) == list(plain) == [1, 10, 19, 28, 37]
    one = guided[37]
    assert isinstance(one, Prediction)
    assert one.frames.shape == (2, 9, 12, 12, 1)
    assert one.made.all()
    assert one.seqs.tolist() == list(range(38, 47))
    np.testing.assert_allclose(one.seconds, one.seqs / 8)
    assert one.references
    assert not np.array_equal(one.frames, plain[37].frames), "the references are felt"
    assert same(guided[10], plain[10]), "there were none yet"
    again = told(parts.feed(make(what="predict", compare=True, ahead=9), frames), "prediction")
    assert all(map(same, guided.values(), again.values()))
    other = told(parts.feed(make(what="predict", ahead=9, seed=1), frames), "prediction")
    assert not same(guided[37], other[37])


def test_what_is_made_enters_no_memory(make: Make) -> None:
    """Each clip held is of frames that came, and frames that a model made are refused."""
    for what, drop in (("novelty", 0.0), ("predict", 0.0), ("fill", 0.1)):
        stage = make(what=what, drop=drop)
        frames = [parts.frame(n) for n in range(64)]
        parts.feed(stage, frames)
        came = {fitted(f.image, ClipShape()).tobytes() for f in frames}
        held = clips_of(stage)
        assert held
        assert all(image.tobytes() in came for clip in held for image in clip)
        before = len(held)
        with pytest.raises(UsageError, match="made by a model"):
            stage.process(Packet(parts.frame(64, made=True)))
        assert len(clips_of(stage)) == before


def test_holes_are_filled_once_between_frames_that_are_kept(make: Make) -> None:
    frames = [parts.frame(n) for n in range(60)]
    stage = make(what="fill", drop=0.3, compare=True)
    found = told(parts.feed(stage, frames), "prediction")
    kept = {n for n in range(60) if not dropped(0, n, 0.3)}
    filled: list[int] = []
    for one in found.values():
        assert isinstance(one, Prediction)
        assert one.purpose == "fill"
        filled += one.seqs[one.made].tolist()
        assert set(one.seqs[~one.made].tolist()) <= kept
        for k in np.flatnonzero(~one.made):
            true = fitted(frames[one.seqs[k]].image, ClipShape())
            assert all((sample[k] == true).all() for sample in one.frames), "given frames stay"
    assert len(filled) == len(set(filled)) > 8
    gone = set(range(min(kept), 48)) - kept
    assert gone <= set(filled) <= set(range(60)) - kept


def test_missing_frames_of_a_file_are_filled_by_their_time(make: Make) -> None:
    times = [n for n in range(40) if n not in (11, 12, 25)]
    frames = [parts.frame(seq, pts) for seq, pts in enumerate(times)]
    found = told(parts.feed(make(what="fill"), frames), "prediction")
    filled = [t for one in found.values() for t in (8 * one.seconds[one.made]).tolist()]
    assert filled == [11, 12, 25]
    assert all((one.seqs[one.made] == -1).all() for one in found.values())


@pytest.mark.parametrize("options", [{"what": "predict", "compare": True}, {"what": "fill"}])
def test_a_resumed_stage_goes_on_bit_for_bit(
    make: Make, tmp_path: Path, options: dict[str, object]
) -> None:
    drop = {"drop": 0.25} if options["what"] == "fill" else {}
    frames = [parts.frame(n, fresh=n == 20) for n in range(60)]
    whole = parts.feed(make(**options, **drop), frames)
    first = make(**options, **drop)
    parts.feed(first, frames[:33])
    first.save(str(tmp_path / "state"))
    told_later = make(**options, **drop)
    told_later.load(str(tmp_path / "state"))
    for second in (make(**options, **drop, resume=str(tmp_path / "state")), told_later):
        out = parts.feed(second, frames)
        assert [packet.frame.seq for packet in out] == list(range(33, 60))
        for a, b in zip(out, whole[33:], strict=True):
            assert a.results.keys() == b.results.keys()
            assert all(same(a.results[name], b.results[name]) for name in a.results)
    assert any("prediction" in packet.results for packet in whole[33:])


def test_results_travel_between_processes(make: Make) -> None:
    frames = [parts.frame(n, fresh=n == 8) for n in range(16)]
    for packet in parts.feed(make(what="predict", compare=True), frames):
        ref = PixelRef(1, 1, 1, 1, 0, 1, 1, 24, 36)
        ticket = decode(encode(packet, ref))
        assert isinstance(ticket, Ticket)
        assert packet.results.keys() == ticket.results.keys()
        assert all(same(packet.results[name], ticket.results[name]) for name in ticket.results)


def test_what_is_remembered_is_bounded(make: Make) -> None:
    stage = make(budget_mb=0.1)
    frames = [parts.frame(n, fresh=n % 8 == 0 and n > 0) for n in range(8 * 40)]
    last = told(parts.feed(stage, frames), "novelty")[8 * 40 - 1]
    assert isinstance(last, Novelty)
    assert last.nbytes <= last.byte_budget == 100_000
    assert 4 <= last.clips < 40
    with pytest.raises(UsageError, match="need at least"):
        make(budget_mb=0.01).process(Packet(parts.frame(0)))


def test_a_router_decides_what_is_worth_keeping(make: Make) -> None:
    stage = make()
    for n in range(8):
        route = Route("clear", "score", 1, 1, n / 10, 1, 1, 1, 1, 1)
        stage.process(Packet(parts.frame(n), {"route": route}))
    assert stage._mind is not None
    assert [match.clip.score for match in stage._mind.clips.read("main")] == [0.7]


def test_given_references_guide_from_the_first_frame_on(make: Make, tmp_path: Path) -> None:
    import cv2

    for n in range(16):
        cv2.imwrite(str(tmp_path / f"{n:02}.png"), parts.frame(n).image)
    stage = make(what="predict", references=str(tmp_path), past=False)
    packets = parts.feed(stage, [parts.frame(n) for n in range(8)])
    prediction, novelty = told(packets, "prediction")[1], told(packets, "novelty")[7]
    assert len(prediction.references) == len(novelty.references) == 2, "two clips of 8 frames"
    assert {r.stream for r in novelty.references} == {str(tmp_path)}
    assert math.isfinite(novelty.score)


def test_an_index_of_references_must_fit(weights: str, tmp_path: Path) -> None:
    make = Imaginer(opened(weights))
    path = str(tmp_path / "clips.safetensors")
    index.save(path, references.gather("worlds://ball?clips=5", make))
    assert len(references.gather(path, make).read(index.STREAM)) == 5
    other = Imaginer(opened(parts.weights(tmp_path, "other", seed=1)))
    with pytest.raises(StateError, match="index was made by encoder.*cannot be compared"):
        references.gather(path, other)
    index.save(path, ClipBank(references.settings(make, 4)))
    with pytest.raises(UsageError, match="There are no references in"):
        references.gather(path, make)
    larger = ClipBank(replace(references.settings(make, 4), shape=ClipShape(8, 24, 24, 1)))
    index.save(path, larger)
    with pytest.raises(
        StateError, match="24x24 pixels, but these weights take 8 grey frames of 12x"
    ):
        references.gather(path, make)


def test_references_that_are_none_are_named(make: Make, tmp_path: Path) -> None:
    import cv2

    with pytest.raises(UsageError, match="no references.*folder is empty"):
        make(references=str(tmp_path))
    for n in range(5):
        cv2.imwrite(str(tmp_path / f"{n}.png"), parts.frame(n).image)
    with pytest.raises(UsageError, match="is no reference. A reference has 5 frames.*needs 8"):
        make(references=str(tmp_path))
    with pytest.raises(RetainError, match="none.mp4"):
        make(references=str(tmp_path / "none.mp4"))
    with pytest.raises(UsageError, match="There are no references: the stream's past is left out"):
        make(past=False)


def test_frames_of_any_size_are_taken_and_colour_where_the_model_has_it(tmp_path: Path) -> None:
    dit = DitConfig(channels=3, dim=24, depth=1, heads=2, mlp=1)
    stage = Imagine(parts.weights(tmp_path, config=replace(parts.CONFIG, dit=dit)), what="predict")
    sizes = [(24, 36), (7, 5), (300, 200)]
    out = []
    for n in range(9):
        grey = np.full((*sizes[n % 3], 3), (10, 120, 250), np.uint8)
        one = parts.frame(n)
        out += parts.feed(stage, [Frame("main", n, n, one.time_base, grey)])
    assert told(out, "prediction")[1].frames.shape == (4, 6, 12, 12, 3)
    assert clips_of(stage)[0][0, 0, 0].tolist() == [10, 120, 250]


def test_what_cannot_work_is_refused(make: Make, tmp_path: Path) -> None:
    stage = make()
    with pytest.raises(StateError, match="no memory to save"):
        stage.save(str(tmp_path / "state"))
    parts.feed(stage, [parts.frame(0)])
    with pytest.raises(UsageError, match="'main' and of 'other'"):
        stage.process(Packet(parts.frame(1, stream="other")))
    with pytest.raises(UsageError, match="no way 'prdict'.*'predict'"):
        make(what="prdict")
    for wrong in ({"k": 0}, {"ahead": 1000}, {"drop": 1.0}, {"budget_mb": 0.0}, {"threads": 0}):
        with pytest.raises(UsageError, match="Of imagine"):
            make(**wrong)
    oracle = replace(parts.CONFIG, source="oracle", params=4)
    with pytest.raises(UsageError, match="no encoder of reference clips"):
        Imagine(parts.weights(tmp_path, "oracle", config=oracle))
    (tmp_path / "torn").write_bytes(b"no")
    with pytest.raises(StateError, match="not a memory file"):
        make(resume=str(tmp_path / "torn"))
    stage.save(str(tmp_path / "state"))
    other = make(stride=3, resume=str(tmp_path / "state"))
    with pytest.raises(StateError, match="another configuration"):
        other.process(Packet(parts.frame(1)))
