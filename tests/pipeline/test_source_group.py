"""Many streams as one source: fair, never held up, changed while it runs, every frame counted."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from retain.pipeline.errors import UsageError
from retain.pipeline.frame import Frame
from retain.pipeline.sources import group
from retain.pipeline.sources.group import GroupSource

LIVE = "synthetic://bounce?live=1&size=32x24&rate=50"
DEAD = "synthetic://still?live=1&size=32x24&stall=0:inf"
MISSING = "/no/such/file.mp4"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group, "WATCH_S", 0.02)


def write(path: Path, **sources: str) -> Path:
    return replace_text(
        path, json.dumps({"streams": {n: {"source": s, "fps": 0} for n, s in sources.items()}})
    )


def replace_text(path: Path, text: str) -> Path:
    """Whole at any moment, as editors do: the file is looked at meanwhile."""
    path.with_suffix(".part").write_text(text)
    return path.with_suffix(".part").replace(path)


def take(source: GroupSource, until: Callable[[list[Frame]], bool]) -> list[Frame]:
    """Frames until ``until`` says so of all; a source that gives none for long fails the test."""
    timer = threading.Timer(20, source.close)
    timer.start()
    taken: list[Frame] = []
    try:
        for frame in source.frames():
            taken.append(frame)
            if until(taken):
                return taken
        raise AssertionError(f"closed after {len(taken)} frames: {source.stats()}")
    finally:
        timer.cancel()
        source.close()


def by_stream(frames: list[Frame]) -> dict[str, list[Frame]]:
    found = defaultdict(list)
    for frame in frames:
        found[frame.stream].append(frame)
    return found


def test_a_dead_a_missing_and_two_living_streams(tmp_path: Path) -> None:
    source = GroupSource(str(write(tmp_path / "s.yaml", a=LIVE, b=DEAD, c=LIVE, d=MISSING)))
    assert source.open().kind == "live"
    frames = take(
        source, lambda all: min(Counter(f.stream for f in all).get(n, 0) for n in "ac") > 9
    )
    stats = source.stats()
    assert {f.stream for f in frames} == {"a", "c"}
    assert stats["a.state"] == stats["c.state"] == "running"
    assert stats["b.state"] == "connecting"
    assert stats["d.state"] == "failed"
    assert "no file" in str(stats["d.cause"])
    for stream in by_stream(frames).values():
        assert all(b.seq > a.seq and b.pts > a.pts for a, b in pairwise(stream))


def test_a_slow_consumer_serves_all_alike_and_finds_young_frames(tmp_path: Path) -> None:
    names = [f"s{n}" for n in range(12)]
    source = GroupSource(str(write(tmp_path / "s.yaml", **dict.fromkeys(names, LIVE))))
    ages: list[float] = []

    def slowly(frames: list[Frame]) -> bool:
        time.sleep(0.002)  # 500 a second, where 600 come
        ages.append(frames[-1].age_s())
        return len(frames) >= 480

    frames = take(source, slowly)
    served = Counter(frame.stream for frame in frames[120:])  # those before: not all had begun
    assert set(served) == set(names)
    assert max(served.values()) <= 1.1 * min(served.values()), served
    stats = source.stats()
    for name in names:
        whole = int(stats[f"{name}.captured"])
        assert whole - int(stats[f"{name}.delivered"]) - int(stats[f"{name}.dropped"]) in (0, 1)


def test_turns_when_all_wait(tmp_path: Path) -> None:
    names = ["a", "b", "c"]
    source = GroupSource(str(write(tmp_path / "s.yaml", **dict.fromkeys(names, LIVE))))
    frames = iter(source.frames())
    order = []
    for _ in range(12):
        deadline = time.monotonic() + 20
        while any(reader.newest is None for reader in _readers(source)):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        order.append(next(frames).stream)
    source.close()
    assert order == names * 4


def _readers(source: GroupSource) -> Iterator[group._Reader]:
    if source._watcher is None:
        source.open()
    return iter(source._readers.values())


def test_a_round_says_how_many_follow(tmp_path: Path) -> None:
    names = dict.fromkeys("abcde", LIVE)
    source = GroupSource(str(write(tmp_path / "s.yaml", **names)), round=4)

    def slowly(frames: list[Frame]) -> bool:
        time.sleep(0.004)
        return len(frames) >= 60 and not frames[-1].meta["more"]

    more = [int(frame.meta["more"]) for frame in take(source, slowly)]
    assert max(more) == 3
    assert all(b == a - 1 for a, b in pairwise(more) if a)


def test_streams_come_and_go_with_the_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = write(tmp_path / "s.yaml", a=LIVE, b=LIVE)
    steps = iter([
        lambda: write(file, a=LIVE, c=LIVE),
        lambda: replace_text(file, "streams: {a: {sauce: 1}}"),
        lambda: write(file, a=LIVE, b=LIVE, c=LIVE),
    ])  # fmt: skip
    wanted = [{"a", "b"}, {"a", "c"}, {"a", "c"}, {"a", "b", "c"}]
    recent: list[str] = []
    source = GroupSource(str(file))

    def step(frames: list[Frame]) -> bool:
        recent.append(frames[-1].stream)
        if len(recent) < 80 or set(recent[-40:]) != wanted[0]:
            return False
        if "sauce" in file.read_text() and "stay as they were" not in caplog.text:
            return False
        wanted.pop(0)
        recent.clear()
        if wanted:
            next(steps)()
        return not wanted

    frames = by_stream(take(source, step))
    assert caplog.text.count("stay as they were") == 1
    assert "Did you mean 'source'" in caplog.text
    b = frames["b"]
    assert all(y.seq > x.seq and y.seconds > x.seconds for x, y in pairwise(b))
    assert [frame.discontinuity for frame in b].count(True) == 1
    assert not any(frame.discontinuity for frame in frames["a"])
    assert {key.partition(".")[0] for key in source.stats()} == {"a", "b", "c"}


def test_a_file_is_played_as_if_live_and_ends_alone(tmp_path: Path) -> None:
    short = "synthetic://bounce?size=32x24&rate=50&frames=10"
    source = GroupSource(str(write(tmp_path / "s.yaml", a=short, b=LIVE)))
    frames = take(source, lambda all: sum(f.stream == "b" for f in all) > 40)
    a = by_stream(frames)["a"]
    assert a[-1].seq == 9
    assert a[-1].t_arrival_ns - a[0].t_arrival_ns > 0.9e9 * (a[-1].seconds - a[0].seconds)
    assert source.stats()["a.state"] == "ended"


def test_a_wrong_file_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        GroupSource(str(tmp_path / "none.yaml")).open()


def test_closing_wakes_who_waits(tmp_path: Path) -> None:
    source = GroupSource(str(write(tmp_path / "s.yaml", b=DEAD)))
    threading.Timer(0.2, source.close).start()
    assert list(source.frames()) == []
