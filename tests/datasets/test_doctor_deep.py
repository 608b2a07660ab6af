"""The deep check opens everything, and tells what is broken and why; it can be broken off."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
from doctor_parts import WHOLE, autoshot, camus, found, lines, objects, scene, videos
from PIL import Image as Pil

from retain.datasets.detect.mot import Mot
from retain.datasets.doctor import kits
from retain.datasets.doctor.base import Finding
from retain.datasets.doctor.deep import CAUSES, examine


def deep(path: Path) -> Finding:
    finding = found(path)
    examine(finding, lambda done, total: None)
    return finding


def damage(path: Path) -> None:
    """In the middle, where no look at the ends finds it."""
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle - 8 : middle + 8] = bytes(16)
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("name", [*WHOLE, "camus"])
def test_whole_ones_pass(name: str, tmp_path: Path) -> None:
    place = {**WHOLE, "camus": camus}[name](tmp_path / "it")
    counts: list[tuple[int, int | None]] = []
    finding = found(place)
    examine(finding, lambda done, total: counts.append((done, total)))
    last = finding.lines[-1]
    assert (last.name, last.state) == ("deep", "ok"), last
    assert [done for done, _ in counts] == list(range(1, len(counts) + 1))
    assert all(total is None or done <= total for done, total in counts)


@pytest.mark.parametrize("name", ["davis", "coco", "mot", "tum", "rgbd", "pictures"])
def test_damage_that_only_decoding_finds(name: str, tmp_path: Path) -> None:
    root = WHOLE[name](tmp_path / "it")
    ends = (".png",)
    path = sorted(p for p in root.rglob("*") if p.suffix in ends)[-1]
    damage(path)
    assert found(root).state == "whole"
    finding = deep(root)
    assert finding.state == "broken"
    (line,) = lines(finding, "broken")
    assert (line.name, line.count) == ("deep", 1)
    assert str(root) not in line.found  # the cause is worded for all files that have it


def test_videos_that_stop_early(tmp_path: Path) -> None:
    path = videos(tmp_path) / "a.mp4"
    data = path.read_bytes()
    path.write_bytes(data.replace(b"mdat", b"mdat", 1).replace(b"avc1", b"xxxx"))
    assert lines(deep(tmp_path), "broken")


def test_videos_of_annotations_are_played(tmp_path: Path) -> None:
    root = autoshot(tmp_path)
    path = root / "2.mp4"
    path.write_bytes(path.read_bytes().replace(b"avc1", b"xxxx"))
    (line,) = lines(deep(root), "broken")
    assert line.names == ("2.mp4",)


def test_a_sequence_by_itself_is_one_clip(tmp_path: Path) -> None:
    root = objects(tmp_path, "mot")
    one = min(root.iterdir())
    assert [clip.name for clip in Mot(one)] == [one.name]
    assert deep(one).lines[-1].found == "all 3 items can be read"


def test_sequences_without_truth_are_read_with_their_detections(tmp_path: Path) -> None:
    root = objects(tmp_path, "mot")
    for one in root.iterdir():
        (one / "det").mkdir()
        (one / "gt" / "gt.txt").rename(one / "det" / "det.txt")
    assert deep(root).lines[-1].found == "all 6 items can be read"


def test_echo_items_that_are_lost(tmp_path: Path) -> None:
    root = camus(tmp_path)
    mask = next((root / "training" / "patient0001").glob("*4CH_half_sequence_gt.raw"))
    mask.write_bytes(bytes([255]) * mask.stat().st_size)
    broken = [line for line in lines(deep(root), "broken") if line.name == "deep"]
    assert [line.names for line in broken] == [("patient0001_4CH",)]
    assert "values 255" in broken[0].found


def test_shards_are_read_to_their_end(tmp_path: Path) -> None:
    content = tmp_path / "a.bin"
    content.write_bytes(bytes(40_000))
    (tmp_path / "s").mkdir()
    for number in range(2):
        with tarfile.open(tmp_path / "s" / f"{number:06d}.tar", "w") as tar:
            tar.add(content, "a.bin")
    cut = tmp_path / "s" / "000001.tar"
    cut.write_bytes(cut.read_bytes()[:30_000])
    finding = deep(tmp_path / "s")
    assert finding.kit is kits.SHARDS
    (line,) = lines(finding, "broken")
    assert line.names == ("000001.tar",)


def test_one_size_of_a_picture_is_one_cause(tmp_path: Path) -> None:
    """Files with the same fault are one line, however many they are."""
    root = scene(tmp_path, "rgbd")
    for path in (root / "depth").iterdir():
        Pil.fromarray(np.ones((5, 5), np.uint16)).save(path)
    broken = lines(deep(root), "broken")
    assert [line.count for line in broken] == [3]


def test_many_causes_are_counted_together(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    finding = Finding(kits.VIDEOS, tmp_path)
    causes = ((f"item {k}", f"cause {k}") for k in range(CAUSES + 7))
    monkeypatch.setattr("retain.datasets.doctor.deep._items", lambda _: causes)
    examine(finding, lambda done, total: None)
    assert len(finding.lines) == CAUSES + 1
    assert finding.lines[-1].count == 7


def test_it_can_be_broken_off(tmp_path: Path) -> None:
    finding = found(objects(tmp_path, "davis"))

    def tell(done: int, total: int | None) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        examine(finding, tell)
    assert finding.lines[-1].found == "stopped after 2 items"
