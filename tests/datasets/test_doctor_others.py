"""Archives, shards, pages and folders of anything, and what the doctor says of them; real sets."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

import doctor_parts as parts
import pytest
from doctor_parts import found, lines
from shared_data import shared_data

from retain.datasets.doctor import kits
from retain.datasets.doctor.kits import KITS
from retain.datasets.doctor.recognise import recognise


def test_bbc_names_missing_episodes(tmp_path: Path) -> None:
    finding = found(parts.bbc(tmp_path, range(1, 9)))
    (line,) = lines(finding, "partial")
    assert line.names == ("09", "10", "11")


def test_the_raw_annotation_of_gebd_is_not_what_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "k400_val_raw_annotation.pkl").write_bytes(b"\x80\x04}\x94.")
    finding = found(tmp_path)
    assert finding.kit is kits.GEBD
    assert finding.state == "broken"


def test_an_archive_beside_nothing(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "DAVIS-2017-trainval-480p.zip", "w"):
        pass
    finding = found(tmp_path)
    assert (finding.kit, finding.state) == (kits.DAVIS, "partial")
    assert "Unpack" in finding.lines[0].fix
    assert found(tmp_path / "DAVIS-2017-trainval-480p.zip").kit is kits.DAVIS


def test_archives_one_folder_down_and_recordings(tmp_path: Path) -> None:
    for name in ("chess/seq-01.zip", "chess/seq-02.zip", "scans/scene0000_00.sens"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    scenes, scans = recognise(tmp_path).findings
    assert scenes.kit is kits.SEVEN_SCENES
    assert scenes.lines[0].names == ("chess/seq-01.zip", "chess/seq-02.zip")
    assert (scans.kit, scans.lines[0].found) == (kits.SCANNET, "1 scan not yet exported")


def test_shards(tmp_path: Path) -> None:
    source = parts.pictures(tmp_path / "in", 1) / "0.png"
    (tmp_path / "out").mkdir()
    for number in (0, 1, 3):
        with tarfile.open(tmp_path / "out" / f"{number:06d}.tar", "w") as tar:
            tar.add(source, "sample0.png")
    finding = found(tmp_path / "out")
    assert finding.kit is kits.SHARDS
    assert [line.names for line in lines(finding, "partial")] == [("number 2",)]
    assert "png" in finding.lines[0].found


def test_a_page_instead_of_a_file(tmp_path: Path) -> None:
    parts.pictures(tmp_path)
    (tmp_path / "0.png").write_text("<!DOCTYPE html><html>Please sign in</html>")
    (line,) = lines(found(tmp_path), "broken")
    assert "web page" in line.found


def test_unknown_folders_get_the_nearest_guess(tmp_path: Path) -> None:
    assert recognise(tmp_path).guess == "The folder is empty."
    (tmp_path / "FileList.txt").write_text("x")
    (tmp_path / "VolumeTracings.csv").write_text("x")
    report = recognise(tmp_path)
    assert report.state == "unknown"
    assert "EchoNet-Dynamic (VolumeTracings.csv)" in report.guess
    assert "FileList.csv, Videos" in report.guess
    assert "Did you mean" in recognise(tmp_path / "FileList.tx").guess


@pytest.mark.parametrize("kit", KITS, ids=lambda kit: kit.key)
def test_records_say_what_a_person_needs(kit: kits.Kit) -> None:
    assert kit.title
    assert kit.use
    assert kit.terms
    if kit.page:
        assert kit.where.endswith(".")
        assert kit.page.startswith(("https://", "http://", "docs/"))
    assert len({part.name for part in kit.parts}) == len(kit.parts)


def test_real_davis(tmp_path: Path) -> None:
    first = shared_data("davis_dev/JPEGImages/libby/00000.jpg")
    finding = found(first.parents[2])
    (val,) = lines(finding, "partial")
    assert (val.name, val.found) == ("2016 val", "4 of 20 sequences")
    assert not lines(finding, "broken")


def test_real_seven_scenes() -> None:
    finding = found(shared_data("kitchen_rgbd/frame-000000.color.jpg").parent)
    assert finding.kit is kits.SEVEN_SCENES
    assert finding.state == "whole"
