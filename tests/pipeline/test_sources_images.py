"""ImageSource and StdinSource: natural order, every flavour of pixel, nothing skipped silently."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import media
import numpy as np
import pytest
from PIL import Image as Pil

from retain.pipeline.errors import SourceError, SourceFault, UsageError
from retain.pipeline.frame import Frame
from retain.pipeline.sources.any import AnySource, describe
from retain.pipeline.sources.images import ImageSource
from retain.pipeline.sources.stdin import StdinSource


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return media.write_images(tmp_path_factory.mktemp("images") / "shots")


def test_a_folder_in_natural_order(folder: Path) -> None:
    source = ImageSource(str(folder), rate=10)
    info = source.open()
    frames = list(source.frames())
    names = [f"im{n}" for n in (1, 2, 3, 4, 9, 10, 11, 12)]
    assert [str(f.meta["name"]).partition(".")[0] for f in frames] == names
    assert [f.pts * f.time_base for f in frames] == [Fraction(k, 10) for k in range(8)]
    assert (info.declared_frames, info.kind) == (8, "finite")
    assert info.duration_s == pytest.approx(0.8)


def test_every_flavour_becomes_rgb(folder: Path) -> None:
    source = ImageSource(str(folder))
    source.open()
    images = {str(f.meta["name"]): f.image.astype(int) for f in source.frames()}
    base = media.picture(0).astype(int)
    assert np.array_equal(images["im1.png"], base)
    assert np.ptp(images["im2.png"], axis=2).max() == 0
    assert np.array_equal(images["im3.png"], base), "alpha is dropped, not blended"
    assert np.array_equal(images["im4.png"], np.repeat(base[:, :, :1], 3, axis=2))
    assert np.median(np.abs(images["im9.png"] - base)) < 30
    assert np.median(np.abs(images["im10.jpg"] - base)) < 10
    assert images["im11.jpg"].shape == base.shape, "EXIF orientation is applied"
    assert np.median(np.abs(images["im11.jpg"] - base)) < 6
    assert images["im12.bmp"].shape == (17, 33, 3)


def test_patterns_single_files_and_sampling(folder: Path) -> None:
    assert describe(str(folder / "*.jpg")) == "images"
    pattern = AnySource(str(folder / "*.jpg"))
    pattern.open()
    assert [f.meta["name"] for f in pattern.frames()] == ["im10.jpg", "im11.jpg"]
    single = AnySource(str(folder / "im12.bmp"))
    assert single.open().declared_frames == 1
    assert len(list(single.frames())) == 1
    few = ImageSource(str(folder), fps=5, rate=10)
    few.open()
    assert [f.meta["name"] for f in few.frames()] == ["im1.png", "im3.png", "im9.png", "im11.jpg"]


def test_times_from_names(tmp_path: Path) -> None:
    for name in ("1305031102.175304", "1305031102.211214", "1305031103.5"):
        Pil.fromarray(media.picture(0)).save(tmp_path / f"{name}.png")
    source = ImageSource(str(tmp_path), rate="name")
    source.open()
    times = [f.pts * f.time_base for f in source.frames()]
    assert times[1] - times[0] == Fraction("0.03591")
    Pil.fromarray(media.picture(0)).save(tmp_path / "depth.png")
    with pytest.raises(UsageError, match="'depth.png' is not a time in seconds"):
        ImageSource(str(tmp_path), rate="name").open()


def test_unreadable_images_are_counted_and_reported(tmp_path: Path) -> None:
    for k in range(4):
        Pil.fromarray(media.noisy(k)).save(tmp_path / f"{k}.jpg")
    media.cut(tmp_path / "4.jpg", tmp_path / "3.jpg")
    (tmp_path / "5.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing more")
    (tmp_path / "6.png").write_bytes(b"")
    Pil.fromarray(media.picture(7)).save(tmp_path / "7.png")
    source = ImageSource(str(tmp_path))
    source.open()
    frames: list[Frame] = []
    with pytest.raises(
        SourceError, match="3 of 8 images .* cannot be read: 4.jpg, 5.png"
    ) as caught:
        frames.extend(source.frames())
    assert [f.meta["name"] for f in frames] == ["0.jpg", "1.jpg", "2.jpg", "3.jpg", "7.png"]
    assert [f.seq for f in frames] == list(range(5))
    assert (caught.value.fault, caught.value.decoded) == (SourceFault.BROKEN, 5)
    assert source.stats()["unreadable"] == 3


def test_a_folder_without_images_says_what_it_holds(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is an empty folder") as caught:
        ImageSource(str(tmp_path)).open()
    assert caught.value.fault == SourceFault.EMPTY
    (tmp_path / "sub").mkdir()
    for name in ("a.txt", "b.txt", "c.mp4"):
        (tmp_path / name).write_text("x")
    with pytest.raises(SourceError, match="only 2 .txt files, .*1 .mp4 file"):
        AnySource(str(tmp_path)).open()
    with pytest.raises(SourceError, match="No file matches"):
        AnySource(str(tmp_path / "*.png")).open()


def test_huge_images_are_refused_before_decoding(tmp_path: Path) -> None:
    Pil.new("1", (9000, 3)).save(tmp_path / "wide.png")
    source = ImageSource(str(tmp_path))
    source.open()
    with pytest.raises(SourceError, match="9000x3 pixels exceeds the limit of 8192") as caught:
        next(source.frames())
    assert caught.value.fault == SourceFault.TOO_LARGE


@pytest.fixture
def give_stdin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bytes], None]]:
    """Make a pipe the standard input: one that ends after the data, or is silent without any."""
    with ExitStack() as stack:

        def give(data: bytes) -> None:
            ours, theirs = os.pipe()
            monkeypatch.setattr("sys.stdin", stack.enter_context(os.fdopen(ours)))
            other = stack.enter_context(os.fdopen(theirs, "wb"))
            if data:
                other.write(data)
                other.close()

        yield give


def test_paths_on_standard_input(folder: Path, give_stdin: Callable[[bytes], None]) -> None:
    clip = media.write_video(folder.parent / "clip.mp4", 10)
    lines = [folder / "im1.png", folder / "im12.bmp", clip, "", clip]
    give_stdin("\n".join(map(str, lines)).encode())
    source = AnySource("-", rate=10)
    assert source.open().kind == "finite"
    frames = list(source.frames())
    assert len(frames) == 22
    assert [f.seq for f in frames] == list(range(22))
    assert all(b.pts * b.time_base > a.pts * a.time_base for a, b in pairwise(frames))
    assert frames[2].seconds == pytest.approx(0.2)
    assert frames[12].seconds == pytest.approx(0.2 + 10 / 25)
    assert [f.seq for f in frames if f.discontinuity] == [2, 12]
    assert frames[2].meta["item"] == str(clip)


def test_bad_items_of_a_list_do_not_stop_it(
    folder: Path, give_stdin: Callable[[bytes], None]
) -> None:
    lines = ["/no/such/file.png", str(folder / "im1.png"), "0", "synthetic://still?live=1"]
    give_stdin("\n".join(lines).encode())
    source = StdinSource()
    frames: list[Frame] = []
    with pytest.raises(SourceError, match="3 of 4 items on standard input failed") as caught:
        frames.extend(source.frames())
    assert len(frames) == caught.value.decoded == 1
    give_stdin(b"\n")
    with pytest.raises(SourceError, match="named no files"):
        next(StdinSource().frames())


def test_a_silent_standard_input_can_be_left(give_stdin: Callable[[bytes], None]) -> None:
    give_stdin(b"")
    source = StdinSource()
    threading.Timer(0.2, source.close).start()
    with pytest.raises(SourceError, match="named no files"):
        next(source.frames())


def test_data_on_standard_input_is_no_list(give_stdin: Callable[[bytes], None]) -> None:
    give_stdin(b"\x00\x00\x00\x20ftypisom")
    with pytest.raises(SourceError, match="carries data, not a list of files") as caught:
        next(StdinSource().frames())
    assert caught.value.fault == SourceFault.NOT_VIDEO


def test_rate_is_checked() -> None:
    with pytest.raises(UsageError, match="'rate' is a number or the word 'name'"):
        ImageSource("x", rate="names")
