"""VideoSource: right pictures at exact times, and no broken file that looks like a whole one."""

from __future__ import annotations

import threading
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import media
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from video_parts import read

from retain.pipeline.errors import SourceError, SourceFault, UsageError
from retain.pipeline.sources.any import AnySource
from retain.pipeline.sources.video import VideoSource


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, int, tuple]]:
    return media.healthy(tmp_path_factory.mktemp("healthy"))


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, SourceFault]]:
    return media.broken(tmp_path_factory.mktemp("broken"))


HEALTHY = (
    "b-frames",
    "no suffix",
    "colon in name",
    "avi with b-frames",
    "h264 avi",
    "avi with gaps",
    "trimmed",
    "variable rate",
    "webm",
    "transport stream",
    "raw h264",
    "gif",
    "1x1",
    "odd size",
    "10 bit",
    "grey",
    "grey 16",
    "alpha",
    "rotated",
    "wide pixels",
)
BROKEN = (
    "missing",
    "empty",
    "text",
    "text as mp4",
    "noise",
    "folder",
    "audio only",
    "wav",
    "zero frames mp4",
    "zero frames avi",
    "zero frames mkv",
    "cut mp4",
    "cut mp4, index first",
    "cut avi",
    "cut mkv",
    "scrambled mp4",
    "scrambled avi",
    "scrambled mkv",
    "huge",
)


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_files_give_all_frames_in_order(healthy, name: str) -> None:
    path, count, shape = healthy[name]
    source = VideoSource(str(path), stream="s")
    frames, error = read(source)
    assert error is None
    assert len(frames) == count
    assert [frame.seq for frame in frames] == list(range(count))
    assert all(b.pts > a.pts for a, b in pairwise(frames))
    assert {frame.image.shape for frame in frames} == {(*shape, 3)}
    assert {frame.stream for frame in frames} == {"s"}
    assert source.stats()["decoded"] == count


@pytest.mark.parametrize(
    "name", [n for n in HEALTHY if n not in ("1x1", "odd size", "rotated", "trimmed")]
)
def test_pictures_come_in_presentation_order(healthy, name: str) -> None:
    """B-frames are stored out of order; the bar must move by one place per frame all the same."""
    path, count, _ = healthy[name]
    frames, _ = read(VideoSource(str(path)))
    assert [media.bar_of(f.image) for f in frames] == [k % 16 for k in range(count)]


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_raise_their_fault(broken, name: str) -> None:
    path, fault = broken[name]
    frames, error = read(VideoSource(str(path)))
    assert error is not None, f"{len(frames)} frames and a normal-looking end"
    assert error.fault == fault
    assert error.decoded == len(frames)
    assert "\n" not in str(error)
    assert all(b.pts > a.pts for a, b in pairwise(frames))


@pytest.mark.parametrize(
    "name", ["cut mp4, index first", "cut avi", "cut mkv", "scrambled mp4", "scrambled mkv"]
)
def test_what_can_be_decoded_of_a_broken_file_is_delivered(broken, name: str) -> None:
    frames, _ = read(VideoSource(str(broken[name][0])))
    assert len(frames) >= 20


def test_a_missing_file_names_its_neighbour(healthy) -> None:
    path = healthy["b-frames"][0]
    with pytest.raises(SourceError, match="Did you mean .*plain.mp4"):
        VideoSource(str(path.with_name("plian.mp4"))).open()
    with pytest.raises(SourceError, match="folder .* does not exist either"):
        VideoSource("/no/such/place/a.mp4").open()


def test_a_forbidden_file_is_denied(healthy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root, as which tests may run, can read everything; so the question itself is answered no."""
    monkeypatch.setattr("os.access", lambda path, mode: False)
    _, error = read(VideoSource(str(healthy["b-frames"][0])))
    assert error is not None
    assert error.fault == SourceFault.DENIED


def test_exact_times_of_a_variable_rate(healthy) -> None:
    for name in ("variable rate", "avi with gaps"):
        frames, error = read(VideoSource(str(healthy[name][0])))
        assert error is None
        times = [f.pts * f.time_base for f in frames]
        assert times == [Fraction(k, 25) for k in (0, 1, 5, 6, 20, 21)]


def test_avi_with_b_frames_counts_from_zero(healthy) -> None:
    """AVI stores no presentation times; FFmpeg's guesses go back and forth there."""
    for name in ("avi with b-frames", "h264 avi"):
        source = VideoSource(str(healthy[name][0]))
        frames, _ = read(source)
        assert [f.pts * f.time_base * 25 for f in frames] == list(range(30))
        assert source.stats()["repaired_times"] == 0


def test_missing_times_are_made_up_and_counted(healthy) -> None:
    source = VideoSource(str(healthy["raw h264"][0]))
    frames, _ = read(source)
    steps = {b.pts - a.pts for a, b in pairwise(frames)}
    assert len(steps) == 1
    assert steps.pop() * frames[0].time_base == Fraction(1, 25)
    assert source.stats()["repaired_times"] == 30


def test_a_clock_that_starts_anew_is_a_discontinuity(tmp_path: Path) -> None:
    one = media.write_video(tmp_path / "one.ts", 100, options={"bf": "0"})
    two = tmp_path / "two.ts"
    two.write_bytes(one.read_bytes() * 2)
    frames, error = read(VideoSource(str(two)))
    # where the files meet, the transport stream's own counter says that packets may be missing
    assert error is not None
    assert error.fault == SourceFault.BROKEN
    assert len(frames) == 200
    assert all(b.pts > a.pts for a, b in pairwise(frames))
    assert [f.seq for f in frames if f.discontinuity] == [100]
    assert frames[-1].seconds - frames[0].seconds == pytest.approx(199 / 25, abs=0.1)


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ((0, 1, -1, 0), lambda a: np.rot90(a, -1)),
        ((-1, 0, 0, -1), lambda a: np.rot90(a, 2)),
        ((0, -1, 1, 0), lambda a: np.rot90(a, 1)),
        ((-1, 0, 0, 1), lambda a: a[:, ::-1]),
        ((0, 1, 1, 0), lambda a: a.transpose(1, 0, 2)),
    ],
)
def test_display_matrix_is_applied(healthy, tmp_path: Path, matrix, expected) -> None:
    plain = healthy["b-frames"][0]
    upright, _ = read(VideoSource(str(plain), limit=2))
    source = VideoSource(str(media.turn(tmp_path / "turned.mp4", plain, matrix)), limit=2)
    info = source.open()
    turned = list(source.frames())
    assert np.array_equal(turned[1].image, expected(upright[1].image))
    assert (info.height, info.width) == turned[0].image.shape[:2]


def test_pixel_aspect_is_noted(healthy) -> None:
    frames, _ = read(VideoSource(str(healthy["wide pixels"][0]), limit=1))
    assert frames[0].meta["pixel_aspect"] == "4/3"


@pytest.mark.parametrize("name", ["10 bit", "alpha", "odd size", "1x1"])
def test_lossless_colours_survive(healthy, name: str) -> None:
    path, _, (height, width) = healthy[name]
    frames, _ = read(VideoSource(str(path)))
    wanted = media.picture(0, width, height).astype(int)
    # 4:2:0 smears colour at the bar's edges, so the median tells a wrong matrix from chroma loss
    assert np.median(np.abs(frames[0].image - wanted)) <= 3


def test_grey_is_the_same_in_all_channels(healthy) -> None:
    for name in ("grey", "grey 16"):
        frames, _ = read(VideoSource(str(healthy[name][0])))
        assert np.ptp(frames[0].image.astype(int), axis=2).max() <= 1
        assert frames[0].image.max() >= 250


@pytest.mark.parametrize(
    ("matrix", "luma", "expected"),
    [
        # limited range: red is Y 81 Cb 90 Cr 240 in BT.601 and Y 63 Cb 102 Cr 240 in BT.709
        ("bt470bg", (81, 90, 240), (255, 0, 0)),
        ("bt709", (63, 102, 240), (255, 0, 0)),
    ],
)
def test_colour_matrix_is_honoured(tmp_path: Path, matrix: str, luma, expected) -> None:
    import av

    path = tmp_path / "red.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"qp": "0", "colorspace": matrix})
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        planes = np.concatenate(
            [np.full((32, 32), luma[0], np.uint8)]
            + [np.full((8, 32), value, np.uint8) for value in luma[1:]]
        )
        frame = av.VideoFrame.from_ndarray(planes, "yuv420p")
        frame.pts = 0
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    frames, error = read(VideoSource(str(path)))
    assert error is None
    assert frames[0].image[16, 16] == pytest.approx(expected, abs=4)


@pytest.mark.parametrize("fps", [5, 10, 12.5, 25, 24, 100])
def test_sampling_follows_a_grid_of_time(healthy, fps: float) -> None:
    path = healthy["b-frames"][0]
    every, _ = read(VideoSource(str(path)))
    some, _ = read(VideoSource(str(path), fps=fps))
    assert [f.seq for f in some] == list(range(len(some)))
    assert {f.pts for f in some} <= {f.pts for f in every}
    assert len(some) == pytest.approx(min(fps, 25) * 30 / 25, abs=1)
    if fps < 25:
        assert max(b.seconds - a.seconds for a, b in pairwise(some)) < 1 / fps + 1 / 25
    else:
        assert len(some) == 30


def test_sampling_at_a_rounded_rate_loses_nothing(tmp_path: Path) -> None:
    """Matroska rounds 1/30 s to whole milliseconds, half of them downwards."""
    path = media.write_video(tmp_path / "a.mkv", 60, rate=30, options={"bf": "0"})
    frames, _ = read(VideoSource(str(path), fps=30))
    assert len(frames) == 60


def test_limit_ends_normally(healthy, broken) -> None:
    frames, error = read(VideoSource(str(healthy["b-frames"][0]), limit=7))
    assert (len(frames), error) == (7, None)
    frames, error = read(VideoSource(str(broken["cut avi"][0]), limit=3))
    assert (len(frames), error) == (3, None)


def test_threads_change_nothing(healthy, broken) -> None:
    for path in (healthy["b-frames"][0], broken["cut avi"][0]):
        one, first = read(VideoSource(str(path)))
        two, second = read(VideoSource(str(path), threads=2))
        assert [f.pts for f in one] == [f.pts for f in two]
        assert (first and first.fault) == (second and second.fault)
        assert np.array_equal(one[-1].image, two[-1].image)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"fps": -1}, "'fps' is a number from 0"),
        ({"fps": "ten"}, "'fps' is a number"),
        ({"limit": 1.5}, "'limit' is a whole number"),
        ({"timeout": 0}, "'timeout' is a number from 0.1"),
        ({"threads": 0}, "'threads' is a whole number from 1 to 64"),
        ({"stream": ""}, "'stream' is a word"),
        ({"max_side": True}, "'max_side' is a whole number"),
    ],
)
def test_options_are_checked(options, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        VideoSource("a.mp4", **options)


def test_close_is_idempotent_and_ends_frames(healthy) -> None:
    source = VideoSource(str(healthy["b-frames"][0]))
    source.open()
    frames = source.frames()
    next(frames)
    source.close()
    source.close()
    assert list(frames) == []


def test_close_at_any_moment_is_safe(healthy) -> None:
    path = healthy["b-frames"][0]
    closed_first = VideoSource(str(path))
    closed_first.close()
    assert list(closed_first.frames()) == []
    for k in range(30):
        source = VideoSource(str(path))
        closer = threading.Timer(k / 4000, source.close)
        closer.start()
        frames, error = read(source)
        closer.join()
        assert error is None
        assert [f.seq for f in frames] == list(range(len(frames)))


def test_frames_outlive_their_source(healthy) -> None:
    path = healthy["b-frames"][0]
    kept, _ = read(VideoSource(str(path)))
    again, _ = read(VideoSource(str(path)))
    assert all(np.array_equal(a.image, b.image) for a, b in zip(kept, again, strict=True))


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    name=st.sampled_from(["b-frames", "avi with b-frames", "webm", "transport stream", "gif"]),
    keep=st.floats(0, 1),
    spots=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=64)), max_size=6),
)
def test_no_damage_escapes_the_contract(healthy, tmp_path: Path, name, keep, spots) -> None:
    """Whatever is cut off or overwritten: frames with rising times, or a SourceError; no more."""
    data = bytearray(healthy[name][0].read_bytes())
    data = data[: int(len(data) * keep)]
    for at, noise in spots:
        start = int(len(data) * at)
        data[start : start + len(noise)] = noise
    path = tmp_path / "damaged"
    path.write_bytes(data)
    frames, error = read(AnySource(str(path), limit=100))
    assert error is None or isinstance(error.fault, SourceFault)
    assert all(b.pts > a.pts for a, b in pairwise(frames))
    assert all(frame.image.ndim == 3 for frame in frames)
