"""Records of measurements: kept whole, refused when damaged, and the page is what they give."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from retain.apps import bench
from retain.apps.bench import Row
from retain.apps.numbers import command, page, picture, records, run
from retain.apps.numbers.records import Machine, Measured, Record
from retain.pipeline.errors import StateError, UsageError

GOOD = """
'''Counts to one. And more.'''
from retain.apps.bench import Row
AREA = "kernels"
def measure(quick=False):
    return [Row(name="ones", value=1.0, unit="", peer="none", peer_value=float("inf"))]
"""
BAD = {
    "raises": "def measure(quick=False):\n    raise ValueError('no luck\\nat all')",
    "lacks": "import a_package_nobody_has",
    "dies": "import os\ndef measure(quick=False):\n    os.abort()",
    "asks": (
        "import subprocess, sys\ndef measure(quick=False):\n"
        "    subprocess.run([sys.executable, '-c', 'import gone'], check=True, capture_output=True)"
    ),
}
SAID = {
    "raises": "ValueError: no luck",
    "lacks": "the package a_package_nobody_has is not installed (`make bench` installs all peers)",
    "dies": "its process ended by SIGABRT",
    "asks": "a process it started says: ModuleNotFoundError: No module named 'gone'",
}


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with benchmarks of our own, which processes that are started see too."""
    place = tmp_path / "repository" / "benchmarks"
    place.mkdir(parents=True)
    (place / "good.py").write_text(GOOD)
    for name, text in BAD.items():
        (place / f"{name}.py").write_text(text)
    monkeypatch.setenv("RETAIN_BENCHMARKS", str(place))
    return place.parent


def record(day: int = 1, gpu: str = "", **measured: Measured) -> Record:
    named = {f"retain bench {name}": one for name, one in measured.items()}
    machine = Machine(processor="Abacus", cores=2, gpu=gpu)
    date = f"2026-01-{day:02}"
    return Record(
        date=date, commit="abc1234", dirty=False, machine=machine, versions={}, measured=named
    )


def found(*rows: Row, day: int = 1, area: str = "memory", **more: object) -> Measured:
    return Measured(area=area, at=f"2026-01-{day:02}T12:00:00Z", rows=rows, **more)  # type: ignore[arg-type]


def row(value: float = 2.0, name: str = "a", **more: object) -> Row:
    return Row(name=name, value=value, unit="ms", **more)  # type: ignore[arg-type]


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    never = row(peer="OpenCV", peer_value=math.inf, ratio=math.inf, bar="< 3 ms", met=True)
    kept = record(a=found(never, load=(0.5, 1.0), seconds=3.0), b=found(failed="no peer"))
    records.write(kept, tmp_path / "x.json")
    assert records.read(tmp_path / "x.json") == kept
    assert records.read_all(tmp_path) == [kept]
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.parametrize("given", ["--json {}", "--json={}", "--json '{} y'", "'--json={} y'"])
def test_a_command_is_named_without_where_it_keeps_its_rows(tmp_path: Path, given: str) -> None:
    path = tmp_path / "x.json"
    words = f"retain eval detect 'objects://?a=1&b=2' {given.format(path)} --seeds 3"
    records.keep([row()], words, "models", path)
    ((command, one),) = records.read(path).measured.items()
    assert command == "retain eval detect 'objects://?a=1&b=2' --seeds 3"
    assert one.rows == (row(),)


@pytest.mark.parametrize("quick", [False, True])
def test_a_benchmark_run_by_itself_says_whether_it_was_quick(
    repository: Path, monkeypatch: pytest.MonkeyPatch, quick: bool
) -> None:
    kept = repository / "kept.json"
    words = ["good.py", "--json", str(kept), *(["--quick"] if quick else [])]
    monkeypatch.setattr(sys, "argv", words)
    bench.script(lambda quick: [row()], "good")
    assert records.read(kept).measured["retain bench good"].quick == quick
    assert len(page.latest([records.read(kept)])) == (not quick)


def test_only_what_draws_takes_a_picture(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn: list[Path | None] = []

    def draws(quick: bool, picture: Path | None = None) -> list[bench.Row]:
        drawn.append(picture)
        return [row()]

    for words in (["good.py", "--picture", "good.webp"], ["good.py"]):
        monkeypatch.setattr(sys, "argv", words)
        bench.script(draws, "good")
    assert drawn == [Path("good.webp"), None]
    monkeypatch.setattr(sys, "argv", ["good.py", "--picture", "good.webp"])
    with pytest.raises(SystemExit, match="2"):
        bench.script(lambda quick: [row()], "good")
    assert "--picture" in capsys.readouterr().err


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text.replace('"commit"', '"comit"'),
        lambda text: text.replace('"ms"', "7.5e", 1),
        lambda text: "[]",
        lambda text: "",
    ],
)
def test_a_damaged_record_is_refused(tmp_path: Path, damage) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "x.json"
    records.write(record(a=found(row())), path)
    path.write_text(damage(path.read_text()))
    with pytest.raises(StateError, match=r"x\.json is not a record") as caught:
        records.read_all(tmp_path)
    assert "git" in caught.value.hint


def test_a_benchmark_that_fails_does_not_end_the_run(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = repository / "record.json"
    taken = run.run([*BAD, "good"], path=path).measured
    assert {name: taken[run.command(name)].failed for name in BAD} == SAID
    assert taken["retain bench good"].rows[0].peer_value == math.inf
    assert taken["retain bench good"].area == "kernels"
    assert records.read(path).measured == taken
    assert "no luck" in capsys.readouterr().err


def test_what_is_done_is_kept_and_not_measured_again(repository: Path) -> None:
    (repository / "benchmarks" / "slow.py").write_text(
        "import time, pathlib\ndef measure(quick=False):\n"
        f"    pathlib.Path({str(repository / 'started')!r}).touch()\n    time.sleep(600)\n"
    )
    path = repository / "record.json"
    words = [sys.executable, "-m", "retain", "bench", "good", "slow", "--json", str(path)]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as running:
        while not (repository / "started").exists():
            assert running.poll() is None
            time.sleep(0.02)
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "--resume goes on" in said
    first = records.read(path)
    assert list(first.measured) == ["retain bench good"]
    (repository / "benchmarks" / "slow.py").write_text(GOOD)
    again = run.run(["good", "slow"], path=path, resume=True).measured
    assert again["retain bench good"] == first.measured["retain bench good"]
    assert again["retain bench slow"].rows


def test_the_page_tells_the_last_of_each_and_every_missed_bar_first() -> None:
    missed = row(9.0, "… of b|c", peer="p", peer_value=3.0, ratio=1 / 3, bar="< 3 ms", met=False)
    every = [
        record(1, x=found(row(1.0)), gone=found(row(7.0, "old"))),
        record(2, x=found(row(2.0), missed, day=2), y=found(row(4.0), day=2, quick=True)),
        record(3, x=found(day=3, failed="no peer")),
        record(4, "H200", x=found(row(0.5), day=4)),
    ]
    text = page.text(every)
    assert text.index("## Bars missed") < text.index("## Not run") < text.index("## Memory")
    assert "1 of 1.\n\n- a … of b\\|c: 9 ms, 0.33 times p, bar &lt; 3 ms (`retain bench x`)" in text
    table = text.split("## Memory")[1].split("## Records")[0]
    assert "| a | 2 ms |  |  |  | 2026-01-02 B | `retain bench x` |" in table
    assert "| … of b\\|c | 9 ms | p: 3 | 0.33 | &lt; 3 ms **MISSED** | 2026-01-02 B |" in table
    assert "| a | 0.5 ms |  |  |  | 2026-01-04 C |" in table
    assert "| old | 7 ms |" in table
    assert " 1 ms " not in table
    assert " 4 ms " not in table
    assert "| C | 2026-01-04 | abc1234 | Abacus, 2 cores, H200 | not told | not told |" in text


def test_the_page_in_the_repository_is_what_its_records_give() -> None:
    root = bench.folder().parent
    assert (root / page.FILE).read_text() == page.text(records.read_all(records.place()))
    assert (root / picture.FILE).is_file()


def test_the_picture_shows_ratios_of_what_was_recorded(tmp_path: Path) -> None:
    better = row(1.0, peer="p", peer_value=3.0, ratio=3.0)
    worse = row(9.0, peer="p", peer_value=3.0, ratio=0.3, bar="< 3 ms", met=False)
    every = [record(1, x=found(better)), record(5, x=found(worse, row(), day=5, source="a page"))]
    points = picture.lines(every)["retain bench x"]["a, p"]
    assert [(p.ratio, p.missed, p.measured) for p in points] == [
        (3.0, False, True),
        (0.3, True, False),
    ]
    picture.draw(every, tmp_path / "x.webp")
    with Image.open(tmp_path / "x.webp") as image:
        red, green, blue = np.moveaxis(np.asarray(image.convert("RGB")), -1, 0)
    assert ((red > 150) & (green < 110) & (blue < 110)).any()


@pytest.mark.parametrize(
    ("seconds", "cpu_s", "load", "usual"),
    [
        (60.0, 10.0, (0.0, 1.0), 60.0),  # mostly waits
        (60.0, 10.0, (12.0, 12.0), 10.0),  # six times slowed down by others
        (60.0, 10.0, (4.0, 4.0), 50.0),
        (60.0, None, None, 60.0),
    ],
)
def test_what_a_benchmark_takes_is_told_without_what_others_took(
    repository: Path, seconds: float, cpu_s: float, load: tuple[float, float], usual: float
) -> None:
    records.place().mkdir()
    one = found(row(), seconds=seconds, cpu_s=cpu_s, load=load)
    records.write(record(good=one), records.place() / "x.json")
    assert run.usual() == {"good": usual}


def test_what_takes_longer_than_is_left_is_left_out(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records.place().mkdir()
    kept = record(good=found(row(), seconds=1.0), lacks=found(row(), seconds=90.0))
    records.write(kept, records.place() / "x.json")
    assert list(run.run(["lacks", "good"], within_s=60).measured) == ["retain bench good"]
    assert "Left out, for want of time: lacks" in capsys.readouterr().err


def test_a_benchmark_that_does_not_end_is_stopped(repository: Path) -> None:
    text = "import time\ndef measure(quick=False):\n    time.sleep(600)"
    (repository / "benchmarks" / "slow.py").write_text(text)
    assert run.measured("slow", False, 1.0).failed == "it was stopped after 1 s"


def test_a_run_does_not_go_on_in_the_record_of_another_commit(repository: Path) -> None:
    records.write(record(good=found(row())), repository / "x.json")
    with pytest.raises(UsageError, match="commit abc1234 on Abacus"):
        run.run(["good"], path=repository / "x.json")


def test_a_quick_run_is_no_record_and_resuming_needs_one(repository: Path) -> None:
    with pytest.raises(UsageError, match="no record"):
        command.measure(command.Options(names=("good",), quick=True, record=True))
    with pytest.raises(UsageError, match="resume"):
        command.measure(command.Options(names=("good",), resume=True))


def test_a_folder_that_is_not_there_costs_no_measurement(repository: Path) -> None:
    path = repository / "no" / "folder" / "x.json"
    assert command.measure(command.Options(names=("good",), json=path)) == 0
    assert records.read(path).measured["retain bench good"].rows


def test_what_was_left_out_is_not_said_to_be_kept(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = repository / "x.json"
    assert command.measure(command.Options(names=("good",), json=path, minutes=0)) == 0
    said = capsys.readouterr().err
    assert "Left out, for want of time: good" in said
    assert "Kept in" not in said
    command.measure(command.Options(names=("good",), json=path))
    assert f"Kept in {path}" in capsys.readouterr().err


def test_a_recorded_run_writes_its_file_and_the_page(repository: Path) -> None:
    assert command.measure(command.Options(names=("good",), record=True)) == 0
    (path,) = (repository / "benchmarks" / "records").iterdir()
    kept = records.read(path)
    assert path.name == kept.file
    assert kept.versions["numpy"]
    assert kept.machine.cores == len(os.sched_getaffinity(0))
    assert "| ones | 1 |" in (repository / page.FILE).read_text()
    assert msgspec.json.decode(path.read_bytes())["commit"] == "unknown"
    times = run.usual()
    assert list(times) == ["good"]
    order = run.chosen((), {**times, "raises": 1e4})
    assert order[:2] == ["good", "raises"]
    assert sorted(order) == sorted(["good", *BAD])
