"""The laws every memory of the catalogue obeys (retain/memory/base.py)."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from gaussian_parts import CONFIG, keyframes
from layer_parts import LAYERS, tokens
from memory_parts import features, frames
from torch.nn.functional import normalize

from retain.kernels.bank_read.reference import Geo
from retain.kernels.gated_delta.reference import Gates
from retain.memory.bank.memory import Bank, BankConfig
from retain.memory.bank.rows import BankWrite, GeoProjection
from retain.memory.base import State, Trial
from retain.memory.carry import Carry
from retain.memory.catalog import MEMORIES
from retain.memory.clips.bank import ClipBank
from retain.memory.clips.clip import Clip, ClipQuery, Span
from retain.memory.clips.config import ClipBankConfig, ClipShape, WindowConfig
from retain.memory.clips.windows import Seen, Windows
from retain.memory.curvestream import FrameMemory, FrameMemoryConfig, FrameQuery, Item
from retain.memory.delta_scan import DeltaScan, DeltaScanConfig, ScanWrite
from retain.memory.examples import Example, ExampleConfig, ExampleMemory
from retain.memory.gated_delta import DeltaWrite, GatedDelta, GatedDeltaConfig
from retain.memory.gaussian.memory import GaussianMemory
from retain.memory.keyframes import KeyframeConfig, KeyframeMemory, Place
from retain.memory.layers.memory import FrameWrite, LayerMemory
from retain.memory.notes import Notes
from retain.memory.router import Router, RouterConfig
from retain.memory.views import StoredView, ViewConfig, ViewMemory
from retain.pipeline.errors import StateError, UsageError


def routed_frames(count: int, seed: int) -> Iterator[Item]:
    router, rows = Router(RouterConfig(), 16), features(count, 16, seed)
    for frame, row in zip(frames(count, seed=seed), rows, strict=True):
        (route,) = router.step(row[None], [frame.seconds])
        yield Item(frame.image, frame.seq, frame.pts, frame.time_base, frame.seconds, row, route)


def delta_memory() -> GatedDelta:
    rng = torch.Generator().manual_seed(0)
    gates = Gates(*(0.1 * torch.randn(shape, generator=rng) for shape in ((2, 8), (2, 8), 2, 2)))
    return GatedDelta(GatedDeltaConfig(objects=2, key_dim=4, value_dim=8, heads=2), gates)


def delta_writes(count: int, seed: int) -> Iterator[DeltaWrite]:
    rng = torch.Generator().manual_seed(seed)
    for i in range(count):
        key = torch.randn(4, 9, generator=rng).softmax(dim=0)
        yield DeltaWrite(key, torch.randn(2, 8, 9, generator=rng), 1.0 + i % 3)


def scan_writes(count: int, seed: int) -> Iterator[ScanWrite]:
    rng = torch.Generator().manual_seed(seed)
    for i in range(count):
        tokens = (1, 9, 40)[i % 3]
        k = normalize(torch.randn(tokens, 2, 4, generator=rng), dim=-1)
        v = torch.randn(tokens, 2, 8, generator=rng)
        g, beta = -torch.rand(tokens, 2, generator=rng), torch.rand(tokens, 2, generator=rng)
        yield ScanWrite(k, v, g, beta)


CARRIED = {"map": (2, 3, 4), "numbers": (5,)}


def carried(count: int, seed: int) -> Iterator[dict[str, torch.Tensor]]:
    rng = torch.Generator().manual_seed(seed)
    for i in range(count):
        names = sorted(CARRIED) if i % 2 else ["map"]
        yield {name: torch.randn(CARRIED[name], generator=rng) for name in names}


EXAMPLES = ExampleConfig({"a": (3, 2, 4), "b": (1, 1, 2)}, (2, 2, 4), digest=5, capacity=9)


def examples(count: int, seed: int) -> Iterator[Example]:
    rng = torch.Generator().manual_seed(seed)
    for i in range(count):
        maps = {name: torch.randn(shape, generator=rng) for name, shape in EXAMPLES.maps.items()}
        masks = torch.rand(EXAMPLES.masks, generator=rng)
        yield Example(i, i / 25, maps, masks, torch.randn(5, generator=rng), pinned=i < 2)


VIEWS = ViewConfig(width=6, height=4, views=12, newest=3)


def views(count: int, seed: int) -> Iterator[StoredView]:
    rng = np.random.default_rng(seed)
    for i in range(count):
        depth = rng.integers(0, 5000, (4, 6)).astype(np.float32) / 1000
        image = rng.integers(0, 256, (4, 6, 3), np.uint8)
        yield StoredView(3 * i, i, np.eye(4), rng.uniform(1, 9, 4), image, depth)


def notes(count: int, seed: int) -> Iterator[dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    for i in range(count):
        yield {"path": rng.normal(size=(i % 7, 4, 4)), "edges": rng.integers(0, 9, (i % 5, 2))}


def places(count: int, seed: int) -> Iterator[Place]:
    rng = np.random.default_rng(seed)
    for i in range(count):
        n, c2w = int(rng.integers(0, 40)), np.eye(4)
        c2w[:3, 3] = rng.normal(size=3)
        yield Place(
            i, 2 * i, c2w, np.array([100.0, 100.0, 80.0, 60.0]),
            rng.random((n, 2), np.float32), rng.integers(0, 8, n, np.uint8),
            rng.integers(0, 256, (n, 32), np.uint8), rng.random((n, 3), np.float32),
        )  # fmt: skip


def bank() -> Bank:
    rng = torch.Generator().manual_seed(0)
    weights = Geo(*(torch.randn(*(8, 8)[:n], generator=rng) for n in (2, 1) * 3))
    return Bank(BankConfig(8, 70, 30, keep_rows=True), GeoProjection(weights, heads=2))


def detections(count: int, seed: int) -> Iterator[BankWrite]:
    rng = torch.Generator().manual_seed(seed)
    for i in range(count):
        k = (0, 1, 7)[i % 3]
        rows, scores = torch.randn(k, 8, generator=rng), torch.rand(k, generator=rng)
        yield BankWrite(rows, i, i / 25, scores.numpy(), levels=i % 2)


CLIPS = ClipBankConfig("e", "0", dim=5, shape=ClipShape(2, 3, 4), coarse=2, capacity=9)


def clips(count: int, seed: int) -> Iterator[Clip]:
    rng = np.random.default_rng(seed)
    for i in range(count):
        pixels, span = rng.integers(0, 256, (2, 3, 4, 1), np.uint8), Span(f"cam{i % 2}", i, i + 1)
        yield Clip(pixels, rng.normal(size=5), span, i, i + 1, rng.random(), rng.normal(size=2))


def seen(count: int, seed: int) -> Iterator[Seen]:
    for frame in frames(count, seed=seed):
        yield Seen(replace(frame, discontinuity=frame.seq % 17 == 5), frame.seq / count)


def frame_writes(count: int, seed: int) -> Iterator[FrameWrite]:
    clip = tokens(batch=1, frames=count, count=5, seed=seed)
    for i in range(count):
        yield FrameWrite(clip.k[0, i], clip.v[0, i], clip.beta[0, i], clip.g[0, i])


def layer_case(name: str) -> Trial:
    layer = LAYERS[name]()
    return Trial(lambda: LayerMemory(layer), layer.nbytes, frame_writes, torch.ones(3, 2, 8))


CASES = {
    "bank": Trial(bank, 70 * bank().row_bytes, detections, None),
    "clips": Trial(
        lambda: ClipBank(CLIPS),
        CLIPS.nbytes(9),
        clips,
        ClipQuery(np.arange(5.0), own=Span("a", 1, 2)),
    ),
    "examples": Trial(lambda: ExampleMemory(EXAMPLES), 9 * EXAMPLES.item_bytes, examples, None),
    "frames": Trial(
        lambda: FrameMemory(FrameMemoryConfig(dim=16, max_entries=10, byte_budget=150_000)),
        150_000,
        routed_frames,
        FrameQuery(),
    ),
    "gated-delta": Trial(delta_memory, 4 * 2 * 4 * 8, delta_writes, torch.full((4, 9), 0.25)),
    "delta-scan": Trial(
        lambda: DeltaScan(DeltaScanConfig(heads=2, key_dim=4, value_dim=8)),
        4 * 2 * 4 * 8,
        scan_writes,
        torch.ones(3, 2, 4),
    ),
    "carry": Trial(lambda: Carry(CARRIED), 4 * (24 + 5), carried, None),
    "gaussians": Trial(lambda: GaussianMemory(CONFIG), CONFIG.byte_budget, keyframes, "all"),
    "keyframes": Trial(
        lambda: KeyframeMemory(KeyframeConfig(byte_budget=20_000, max_corners=40)),
        20_000,
        places,
        None,
    ),
    "layer-block-linear": layer_case("block-linear"),
    "layer-cached": layer_case("cached-ssc"),
    "layer-frame-delta": layer_case("frame-delta"),
    "layer-kalman": layer_case("kalman"),
    "layer-mixture": layer_case("mixture"),
    "notes": Trial(lambda: Notes(2_000), 2_000, notes, None),
    "views": Trial(lambda: ViewMemory(VIEWS), 12 * VIEWS.row_bytes, views, None),
    "windows": Trial(
        lambda: Windows(WindowConfig(ClipShape(4, 6, 8, 3), stride=3)),
        4 * (6 * 8 * 3 + 24),
        seen,
        None,
    ),
}


def trial_of(name: str) -> Trial:
    """Of ``CASES``, or what the memory's own file offers."""
    module, _, _ = MEMORIES[name].partition(":")
    return CASES[name] if name in CASES else importlib.import_module(module).trial()


@pytest.fixture(params=sorted(MEMORIES))
def case(request: pytest.FixtureRequest) -> Trial:
    return trial_of(request.param)


def image(state: State) -> tuple[object, dict[str, bytes]]:
    return state.header, {name: array.tobytes() for name, array in sorted(state.tensors.items())}


def test_what_is_tried_is_what_is_listed() -> None:
    assert set(CASES) <= set(MEMORIES)
    for name in MEMORIES:
        assert isinstance(trial_of(name).make(), MEMORIES.load(name))


def test_bounded(case: Trial) -> None:
    memory = case.make()
    assert memory.min_bytes <= case.budget
    for item in case.items(80, 0):
        memory.write("s", item)
        assert memory.nbytes("s") <= case.budget


def test_reading_does_not_write(case: Trial) -> None:
    memory = case.make()
    for item in case.items(30, 0):
        memory.write("s", item)
    before = image(memory.snapshot("s"))
    memory.read("s", case.query)
    memory.stats("s")
    memory.nbytes("s")
    assert image(memory.snapshot("s")) == before


def test_streams_do_not_mix(case: Trial) -> None:
    both, alone = case.make(), case.make()
    for a, b in zip(case.items(30, 0), case.items(30, 1), strict=True):
        both.write("a", a)
        both.write("b", b)
        alone.write("a", a)
    assert image(both.snapshot("a")) == image(alone.snapshot("a"))
    both.reset("b")
    assert image(both.snapshot("a")) == image(alone.snapshot("a"))


def test_a_snapshot_restores(case: Trial) -> None:
    one, two = case.make(), case.make()
    items = list(case.items(60, 0))
    for item in items[:30]:
        one.write("s", item)
    saved = one.snapshot("s")
    two.restore("other name", saved)
    for item in items[30:]:
        one.write("s", item)
        two.write("other name", item)
    assert image(one.snapshot("s")) == image(two.snapshot("other name"))


def test_a_snapshot_does_not_change_when_the_memory_does(case: Trial) -> None:
    memory = case.make()
    items = list(case.items(60, 0))
    for item in items[:30]:
        memory.write("s", item)
    saved = memory.snapshot("s")
    before = image(saved)
    for item in items[30:]:
        memory.write("s", item)
    assert image(saved) == before


def test_the_same_input_gives_the_same_state(case: Trial) -> None:
    states = []
    for _ in range(2):
        memory = case.make()
        for item in case.items(40, 3):
            memory.write("s", item)
        states.append(image(memory.snapshot("s")))
    assert states[0] == states[1]


def test_reset_forgets(case: Trial) -> None:
    memory = case.make()
    fresh = image(memory.snapshot("s"))
    for item in case.items(20, 0):
        memory.write("s", item)
    memory.reset("s")
    assert image(memory.snapshot("s")) == fresh


def test_a_missing_array_is_refused(case: Trial) -> None:
    memory = case.make()
    for item in case.items(20, 0):
        memory.write("s", item)
    saved = memory.snapshot("s")
    before = image(saved)
    for name in saved.tensors:
        rest = {k: v for k, v in saved.tensors.items() if k != name}
        with pytest.raises(StateError):
            memory.restore("s", State(rest, saved.header))
        wrong = saved.tensors | {name: np.zeros((2, 3, 5, 7), np.float16)}
        with pytest.raises(StateError):
            memory.restore("s", State(wrong, saved.header))
    assert image(memory.snapshot("s")) == before


def test_shrinking_holds_from_now_on(case: Trial) -> None:
    memory = case.make()
    items = list(case.items(60, 0))
    for item in items[:30]:
        memory.write("s", item)
    memory.shrink_to("s", memory.min_bytes)
    for item in items[30:]:
        assert memory.nbytes("s") <= memory.min_bytes
        memory.write("s", item)
    with pytest.raises(UsageError):
        memory.shrink_to("s", 10)
