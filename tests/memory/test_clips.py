"""The bank of reference clips: what enters, what leaves, what is refused."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retain.memory.base import Json
from retain.memory.clips import index
from retain.memory.clips.bank import ClipBank
from retain.memory.clips.clip import Clip, ClipQuery, Span, as_bytes, as_model, packed, unpacked
from retain.memory.clips.config import SCORES, ClipBankConfig, ClipShape, WindowConfig
from retain.memory.clips.rows import ClipRows
from retain.memory.clips.windows import Seen, Windows
from retain.memory.hub import Hub
from retain.memory.snapshot import MemoryFile, save
from retain.memory.table import ARRIVAL
from retain.pipeline.errors import StateError, UsageError
from retain.pipeline.frame import SYNTHETIC, Frame
from retain.pipeline.packet import Packet
from retain.pipeline.wire import PacketHead

SHAPE = ClipShape(2, 3, 3)
CONFIG = ClipBankConfig("made-up", "abc", dim=6, shape=SHAPE, capacity=8)


def clip(
    direction: np.ndarray | int, first: int = 0, stream: str = "cam", score: float = 0.0
) -> Clip:
    if isinstance(direction, int):
        direction = np.eye(6)[direction]
    pixels = np.full(SHAPE.array, first % 256, np.uint8)
    return Clip(pixels, direction, Span(stream, first, first + 1), first / 10, first / 10, score)


def near(place: int, rng: np.random.Generator, by: float = 0.05) -> np.ndarray:
    made: np.ndarray = np.eye(6)[place] + by * rng.normal(size=6)
    return made


def test_what_was_written_comes_back() -> None:
    bank = ClipBank(replace(CONFIG, coarse=2))
    given = replace(
        clip(2, 7, "kamera-ö", 1.5), coarse=np.array([3.0, 4.0]), origin="world 3", caption="falls"
    )
    assert bank.write("s", given)
    (match,) = bank.read("s", ClipQuery(3.0 * np.eye(6)[2]))
    assert match.cosine == 1.0
    got = match.clip
    assert got.span == given.span
    assert (got.origin, got.caption, got.score, got.start_s) == ("world 3", "falls", 1.5, 0.7)
    assert (got.frames == 7).all()
    assert got.frames.dtype == np.uint8
    np.testing.assert_allclose(got.coarse, [0.6, 0.8])  # type: ignore[arg-type]


def test_no_references_are_an_empty_answer() -> None:
    bank = ClipBank(CONFIG)
    assert bank.read("s", ClipQuery(np.eye(6)[0])) == []
    assert bank.read("s") == []
    bank.write("s", clip(0), gate=0.0)
    assert bank.read("s", ClipQuery(np.eye(6)[0])) == []


def test_rare_kinds_outlive_a_flood_of_the_common_one() -> None:
    rng, bank = np.random.default_rng(0), ClipBank(CONFIG)
    for i in range(600):
        kind = i // 100 if i % 100 == 50 else 0
        bank.write("s", clip(near(kind, rng), i))
    for kind in range(6):
        best = bank.read("s", ClipQuery(np.eye(6)[kind], k=1))[0]
        assert best.cosine > 0.9, kind
    assert bank.stats("s")["clips"] == 8


def test_a_full_bank_takes_high_scores_and_refuses_the_usual() -> None:
    rng, bank = np.random.default_rng(1), ClipBank(replace(CONFIG, far=0.2))
    for i in range(SCORES):
        bank.write("s", clip(near(0, rng, 0.01), i, score=float(rng.random())))
    assert not bank.write("s", clip(near(0, rng, 0.01), 900, score=0.5))
    assert bank.write("s", clip(near(0, rng, 0.01), 901, score=0.99))
    assert not bank.write("s", clip(near(0, rng, 0.01), 902, score=0.99), gate=0.5)
    assert bank.write("s", clip(5, 903, score=0.0))
    assert len(bank.snapshot("s").tensors["scores"]) == SCORES


def test_what_is_held_grows_apart() -> None:
    """Whatever the encoder finds alike: here nothing is more than 0.02 apart."""
    rng, bank = np.random.default_rng(3), ClipBank(CONFIG)
    closest = []
    for i in range(300):
        made = np.ones(6) + 0.05 * rng.normal(size=6)
        bank.write("s", clip(made, i))
        rows = np.stack([m.clip.descriptor for m in bank.read("s")]).astype(np.float64)
        closest.append((rows @ rows.T)[np.triu_indices(len(rows), 1)].max(initial=-1))
    assert (np.diff(closest[7:]) < 1e-6).all()
    assert 1 - closest[-1] > 3 * (1 - closest[7])


def test_of_two_alike_the_lower_score_leaves() -> None:
    bank = ClipBank(replace(CONFIG, capacity=4))
    bank.write("s", clip(0, 1, score=2.0))
    bank.write("s", clip(0, 2, score=1.0))
    bank.write("s", clip(1, 3))
    bank.write("s", clip(2, 4))
    assert bank.write("s", clip(3, 5))
    assert [m.clip.span.first for m in bank.read("s")] == [1, 3, 4, 5]


def test_a_reservoir_is_uniform() -> None:
    counts = np.zeros(40)
    for seed in range(150):
        bank = ClipBank(replace(CONFIG, admit="reservoir", seed=seed))
        for i in range(40):
            bank.write("s", clip(i % 6, i))
        for match in bank.read("s"):
            counts[match.clip.span.first] += 1
    assert counts.sum() == 8 * 150
    # 30 expected in each: a binomial of 150 draws at 0.2 has a standard deviation of 4.9.
    assert abs(counts - 30).max() < 5 * 4.9
    assert abs(counts[:20].sum() - 600) < 5 * 16


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-6, 8), max_size=30), st.integers(0, 99))
def test_twins_are_the_nearest_at_any_time(steps: list[int], seed: int) -> None:
    rng, rows = np.random.default_rng(seed), ClipRows(CONFIG, 40)
    for step in steps:
        if step < 0 and len(rows):
            rows.remove(-step % len(rows))
        else:
            unit = rng.normal(size=6)
            unit /= np.linalg.norm(unit)
            blank = {name: np.zeros((), np.int64) for name in CONFIG.columns}
            rows.append({**blank, "descriptor": unit})
        d = rows["descriptor"].astype(np.float64)
        cosine = d @ d.T
        np.fill_diagonal(cosine, -2)
        np.testing.assert_allclose(rows["nearest"], cosine.max(1, initial=-2), atol=1e-6)
        if len(rows) > 1:
            at = np.arange(len(rows))
            np.testing.assert_allclose(cosine[at, rows["twin"]], cosine.max(1), atol=1e-6)
        assert len(set(rows[ARRIVAL].tolist())) == len(rows)


def test_shrinking_keeps_the_newest_and_what_is_apart() -> None:
    bank = ClipBank(CONFIG)
    for i, kind in enumerate((0, 1, 0, 2, 0, 0)):
        bank.write("s", clip(kind, i, score=-i))
    bank.shrink_to("s", CONFIG.nbytes(4))
    held = [m.clip for m in bank.read("s")]
    assert [c.span.first for c in held][-1] == 5
    assert {int(c.descriptor.argmax()) for c in held} == {0, 1, 2}
    assert bank.nbytes("s") == CONFIG.nbytes(4)


def test_made_clips_are_refused() -> None:
    bank = ClipBank(CONFIG)
    with pytest.raises(UsageError, match="made by a model"):
        bank.write("s", replace(clip(0), synthetic=True))
    assert bank.read("s") == []


def test_the_flag_of_made_frames_travels() -> None:
    plain = Frame("s", 0, 0, Fraction(1), np.zeros((2, 2, 3), np.uint8))
    made = Frame("s", 0, 0, Fraction(1), np.zeros((2, 2, 3), np.uint8), meta={SYNTHETIC: True})
    assert not plain.synthetic
    arrived = msgspec.msgpack.decode(
        msgspec.msgpack.encode(PacketHead.of(Packet(made))), type=PacketHead
    )
    assert arrived.packet(made.image).frame.synthetic


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (replace(clip(0), frames=np.zeros((2, 4, 3, 1), np.uint8)), "2 grey frames of 3x3"),
        (replace(clip(0), frames=np.zeros(SHAPE.array, np.float32)), "float32"),
        (replace(clip(0), descriptor=np.ones(5)), r"\[5\].*\[6\]"),
        (replace(clip(0), descriptor=np.zeros(6)), "like no other"),
        (replace(clip(0), descriptor=np.full(6, np.nan)), "like no other"),
        (replace(clip(0), coarse=np.ones(3)), "coarse"),
        (replace(clip(0), caption="x" * 257), "256"),
        (replace(clip(0), span=Span("s", 5, 4)), "cannot be"),
        (replace(clip(0), score=float("nan")), "cannot be"),
    ],
)
def test_clips_that_do_not_fit_are_refused(wrong: Clip, why: str) -> None:
    bank = ClipBank(CONFIG)
    with pytest.raises(UsageError, match=why):
        bank.write("s", wrong)
    assert bank.nbytes("s") == 0


def test_an_index_is_bound_to_its_encoder(tmp_path: Path) -> None:
    bank = ClipBank(CONFIG)
    for i in range(5):
        bank.write("cam", clip(i, i))
    index.save(tmp_path / "i", bank, "cam")
    again = index.load(tmp_path / "i", "made-up", "abc")
    assert [m.clip.span for m in again.read(index.STREAM)] == [
        m.clip.span for m in bank.read("cam")
    ]
    assert again.config == bank.config
    for name, weights in (("made-up", "abd"), ("other", "abc")):
        with pytest.raises(StateError, match="made by encoder made-up"):
            index.load(tmp_path / "i", name, weights)
        other = ClipBank(replace(CONFIG, encoder=name, weights=weights))
        with pytest.raises(StateError, match="cannot be compared"):
            other.restore("s", bank.snapshot("cam"))


def test_a_hub_saves_clips_and_windows_and_goes_on(tmp_path: Path) -> None:
    def made() -> Hub:
        hub = Hub(200_000, "s")
        hub.add("clips", ClipBank(CONFIG))
        hub.add("windows", Windows(WindowConfig(SHAPE, stride=1)))
        return hub

    def step(hub: Hub, i: int) -> None:
        image = np.full((6, 6, 3), 5 * i, np.uint8)
        window = hub["windows"].write("s", Seen(Frame("s", i, i, Fraction(1), image), i))
        if window is not None:
            hub["clips"].write("s", window.described(np.eye(6)[i % 6]))

    one, two = made(), made()
    for i in range(8):
        step(one, i)
    one.snapshot(tmp_path / "m", 7)
    assert two.restore(tmp_path / "m") == 7
    for i in range(8, 20):
        step(one, i)
        step(two, i)
    one.snapshot(tmp_path / "a")
    two.snapshot(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    other = Hub(200_000, "s")
    other.add("clips", ClipBank(replace(CONFIG, weights="other")))
    other.add("windows", Windows(WindowConfig(SHAPE, stride=1)))
    with pytest.raises(StateError, match="weights"):
        other.restore(tmp_path / "m")


def test_files_that_hold_no_clips_are_refused(tmp_path: Path) -> None:
    hub = Hub(10_000, "s")
    hub.snapshot(tmp_path / "none")
    with pytest.raises(StateError, match="no clip bank"):
        index.load(tmp_path / "none", "made-up", "abc")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=4,
)


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from(sorted(ClipBank(CONFIG).config)), JSON | st.integers(2**30, 2**70))
def test_any_configuration_in_a_file_is_refused_or_works(
    tmp_path: Path, name: str, value: Json
) -> None:
    bank = ClipBank(CONFIG)
    bank.write("cam", clip(1, 5))
    forged = {**bank.config, name: value}
    file = MemoryFile("cam", -1, {"clips": (forged, bank.snapshot("cam"))})
    save(tmp_path / "i", file)
    try:
        again = index.load(tmp_path / "i", "made-up", "abc")
    except StateError:
        return
    assert again.write(index.STREAM, clip(2, 9))
    assert len(again.read(index.STREAM, ClipQuery(np.eye(6)[1]))) == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("twin", 99),
        ("start_s", 1e9),
        ("score", np.nan),
        ("arrival", 0),
        ("descriptor", 0),
        ("first", 2**40),
    ],
)
def test_rows_no_bank_writes_are_refused(name: str, value: float) -> None:
    bank = ClipBank(CONFIG)
    for i in range(5):
        bank.write("s", clip(i, i))
    saved = bank.snapshot("s")
    forged = saved.tensors[f"rows.{name}"].copy()
    forged[:] = value
    with pytest.raises(StateError, match="could have written"):
        bank.restore("s", replace(saved, tensors={**saved.tensors, f"rows.{name}": forged}))


@given(st.text(), st.integers(1, 12))
def test_texts_are_cut_between_characters(text: str, size: int) -> None:
    kept = unpacked(packed(text, size))
    assert len(packed(text, size)) == size
    clean = text.replace("\0", " ").encode("utf-8", "replace").decode()
    assert clean.startswith(kept)


def test_pixels_make_the_round_trip() -> None:
    made = np.random.default_rng(0).random((3, 1, 4, 5)).astype(np.float32)
    kept = as_bytes(made)
    assert kept.shape == (3, 4, 5, 1)
    np.testing.assert_allclose(as_model([kept])[0], made, atol=0.5 / 255 + 1e-6)


@pytest.mark.parametrize(
    "values",
    [{"dim": 0}, {"capacity": 3}, {"capacity": 10**7}, {"admit": "surprize"}, {"quantile": 2.0}],
)
def test_configurations_that_cannot_work(values: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        replace(CONFIG, **values)  # type: ignore[arg-type]
