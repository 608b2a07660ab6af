"""What a batch is given, as items; and the manifest's plan for them."""

from __future__ import annotations

import csv
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from retain.apps.batch.engine import Job, Outcome
from retain.apps.batch.fingerprint import fingerprint
from retain.apps.batch.items import ABSENT, Item, identity, list_items, look
from retain.apps.batch.manifest import Manifest
from retain.apps.batch.progress import Progress, shown
from retain.apps.batch.results import write_tables
from retain.apps.batch.tasks import check, run_task
from retain.apps.batch.work import do
from retain.pipeline.errors import StateError, UsageError

LISTS = {
    "list.txt": "# clips\n\na.avi\nsub/b.avi\n",
    "list.csv": "FileName,EF\na.avi,55\nsub/b.avi,40\n",
    "list.tsv": "n\tpath\n1\ta.avi\n2\tsub/b.avi\n",
    "list.jsonl": '"a.avi"\n{"path": "sub/b.avi", "label": 3}\n',
}


@pytest.mark.parametrize("name", LISTS)
def test_lists_of_every_kind_name_the_same_items(name: str, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/b.avi").write_bytes(b"12345")
    (tmp_path / name).write_text(LISTS[name])
    items, twice = list_items(str(tmp_path / name))
    assert [item.key for item in items] == ["a.avi", "sub/b.avi"]
    assert [item.size for item in items] == [ABSENT, 5]
    assert items[1].path == str(tmp_path / "sub/b.avi")
    assert twice == 0


def test_what_is_named_twice_is_one_item(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("b\na\nb\nobjects://?seed=1\n")
    items, twice = list_items(str(tmp_path / "list.txt"))
    assert [item.key for item in items] == ["b", "a", "objects://?seed=1"]
    assert items[2].path == "objects://?seed=1"
    assert twice == 1
    (tmp_path / "list.txt").write_text(f"a.mp4\n./a.mp4\n{tmp_path}//a.mp4\nc/../a.mp4\n")
    assert [item.key for item in list_items(str(tmp_path / "list.txt"))[0]] == [
        "a.mp4", "c/../a.mp4",
    ]  # fmt: skip


def test_a_folder_holds_videos_and_folders_of_pictures(tmp_path: Path) -> None:
    for name in ("z.mp4", "a/x.dcm", "seq/0.png", "seq/1.png", "notes.txt", ".hidden/y.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [item.key for item in list_items(str(tmp_path))[0]] == ["z.mp4", "a/x.dcm", "seq"]
    scenes = list_items(str(tmp_path), scenes=True)[0]
    assert [item.key for item in scenes] == ["z.mp4", "a", "seq"]


def test_a_pattern_and_its_folder_give_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("b.mp4", "a.mp4", "c.avi"):
        Path(name).touch()
    assert [item.key for item in list_items("*.mp4")[0]] == ["a.mp4", "b.mp4"]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("l.csv", "a,b\n1,2\n", "no column of paths"),
        ("l.jsonl", "{", "Line 1"),
        ("l.jsonl", '"a"\n{"x": 1}\n', "Line 2"),
        ("l.txt", "# nothing\n", "nothing to work on"),
        ("l.mp4", "", "no list, folder or pattern"),
    ],
)
def test_bad_lists_are_refused_with_a_reason(
    name: str, text: str, words: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=words):
        list_items(str(tmp_path / name))


def test_identities_differ_and_are_file_names() -> None:
    keys = ["a/x.mp4", "b/x.mp4", "x", "../x y?.avi", "objects://?seed=1", "objects://?seed=2", "/"]
    found = {identity(key) for key in keys}
    assert len(found) == len(keys)
    assert all(os.sep not in name and not name.startswith(".") for name in found)


def test_links_are_followed_once_and_results_are_left_out(tmp_path: Path) -> None:
    clips, elsewhere = tmp_path / "clips", tmp_path / "elsewhere"
    for folder in (clips / "sub", elsewhere, clips / "out/items/a", clips / "single"):
        folder.mkdir(parents=True)
    for path in ("sub/a.mp4", "out/items/a/film.mp4", "single/film.mp4"):
        (clips / path).touch()
    for path in ("out/manifest.sqlite", "single/summary.json", "single/report.html"):
        (clips / path).touch()
    (elsewhere / "b.mp4").touch()
    (clips / "linked").symlink_to(elsewhere)
    (clips / "again").symlink_to(elsewhere)
    (clips / "sub/up").symlink_to(clips)
    (clips / "loop.mp4").symlink_to("loop.mp4")
    items, _ = list_items(str(clips))
    assert [item.key for item in items] == ["loop.mp4", "sub/a.mp4", "again/b.mp4"]
    assert items[0].size == ABSENT
    matched, _ = list_items(f"{clips}/**/*.mp4")
    assert not any("film" in item.key for item in matched)


def test_a_folder_that_may_not_be_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "a.mp4").touch()
    scandir = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    items, _ = list_items(str(tmp_path))
    assert [(item.key, item.size) for item in items] == [("a.mp4", 0), ("closed", ABSENT)]


def test_names_that_are_no_text_are_items_without_a_path(tmp_path: Path) -> None:
    try:
        (tmp_path / os.fsdecode(b"lat\xe4in.mp4")).touch()
    except OSError:
        pytest.skip("this file system takes text alone")
    (item,) = list_items(str(tmp_path))[0]
    assert (item.key, item.path, item.size) == ("lat\\udce4in.mp4", "", ABSENT)
    assert identity(item.key).startswith("lat-udce4in-")
    with pytest.raises(UsageError, match="Rename"):
        run_task(Job("i", "", ABSENT, 0, "", ""), {"task": "watch", "set": {}})


def test_lines_of_lists_that_can_be_no_file_are_absent_and_new_lines_in_cells_stay(
    tmp_path: Path,
) -> None:
    (tmp_path / "l.jsonl").write_text('"a\\u0000b"\n"' + "y" * 300 + '"\n')
    assert [item.size for item in list_items(str(tmp_path / "l.jsonl"))[0]] == [ABSENT, ABSENT]
    (tmp_path / "l.csv").write_text('\ufeff"n","path"\r\n1,"two\nlines, ""x"".mp4"\r\n')
    assert [i.key for i in list_items(str(tmp_path / "l.csv"))[0]] == ['two\nlines, "x".mp4']
    for given in ("z" * 300, "a\0b"):
        with pytest.raises(UsageError, match="nothing is there"):
            list_items(given)


def test_a_folder_is_as_large_as_its_files_and_as_new(tmp_path: Path) -> None:
    (tmp_path / "scene/depth").mkdir(parents=True)
    (tmp_path / "scene/depth/0.png").write_bytes(b"123")
    (tmp_path / "scene/0.png").write_bytes(b"45")
    before = look(str(tmp_path / "scene"))
    assert before[0] == 5
    later = before[1] + 10**9
    os.utime(tmp_path / "scene/depth/0.png", ns=(later, later))
    assert look(str(tmp_path / "scene")) == (5, later)
    out = tmp_path / "scene/retain-out/batch"
    (out / "items").mkdir(parents=True)
    (out / "manifest.sqlite").write_bytes(b"grows while the batch runs")
    assert look(str(tmp_path / "scene")) == (5, later)


@pytest.mark.parametrize("source", ["fifo", "name\0less", "/" + "y" * 300])
def test_what_no_task_could_ever_be_done_with_is_no_good(source: str, tmp_path: Path) -> None:
    if source == "fifo":
        source = str(tmp_path / "fifo.mp4")
        os.mkfifo(source)
    job = Job("i", source, ABSENT, 0, str(tmp_path / "f"), "")
    outcome = do(run_task, job, {"task": "watch", "set": {}})
    assert outcome.state == "quarantined"
    assert outcome.cause == ("usage" if "fifo" in source else "not_found")


Plan = Callable[..., list[str]]


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Plan for items named by letters; returns what is to be done."""
    manifest = Manifest(tmp_path / "m.sqlite", "watch")

    def run(
        letters: str, mark: str = "f", retry: bool = False, there: str = "abc", size: int = 1
    ) -> list[str]:
        items = [Item(letter, f"/{letter}", size, 0) for letter in letters]
        manifest.plan(items, mark, {identity(letter) for letter in there}, retry)
        left = [job.path[1:] for job in manifest.jobs(tmp_path, tmp_path)]
        for letter in left:
            bad = letter in "xy"
            outcome = Outcome(identity(letter), "failed" if bad else "done", "died" if bad else "")
            manifest.record(outcome, "")
        return left

    return run


def test_the_plan_holds_what_is_not_done_and_nothing_else(plan: Plan) -> None:
    assert plan("axb") == ["a", "x", "b"]
    assert plan("axb") == []
    assert plan("axbc") == ["c"]
    assert plan("axb", retry=True) == ["x"]
    assert plan("axbc") == []
    assert plan("axb", there="a") == ["b"]
    assert plan("ax", mark="g") == ["a", "x"]
    assert plan("b") == []
    assert plan("b", size=2) == ["b"]
    assert plan("c") == []


def test_a_manifest_of_another_task_or_none_is_refused(tmp_path: Path) -> None:
    Manifest(tmp_path / "m.sqlite", "watch").close()
    with pytest.raises(UsageError, match="'watch', not of 'detect'"):
        Manifest(tmp_path / "m.sqlite", "detect")
    (tmp_path / "n.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(StateError, match="no manifest"):
        Manifest(tmp_path / "n.sqlite", "watch")


def test_a_manifest_with_other_columns_or_of_another_version_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "m.sqlite") as db:
        db.execute("CREATE TABLE items (state, place, listed, id)")
    db.close()
    with pytest.raises(StateError, match="no such column"):
        Manifest(tmp_path / "m.sqlite", "watch")
    Manifest(tmp_path / "n.sqlite", "watch").close()
    with sqlite3.connect(tmp_path / "n.sqlite") as db:
        db.execute("UPDATE about SET value = '99' WHERE name = 'version'")
        db.execute("DROP TABLE items")
    db.close()
    with pytest.raises(StateError, match="another version"):
        Manifest(tmp_path / "n.sqlite", "watch")


def test_tables_hold_no_formulas_and_no_credentials(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path / "m.sqlite", "watch")
    keys = ["=1+1.mp4", "https://me:secret@host/a.mp4?token=abc", "-x.mp4", "plain.mp4"]
    manifest.plan([Item(k, k if "://" in k else f"/{k}", 1, 0) for k in keys], "f", set(), False)
    for job in manifest.jobs(tmp_path, tmp_path):
        manifest.record(Outcome(job.id, "failed", "died", f"{job.path!r} is gone."), "")
    write_tables(tmp_path, manifest)
    rows = list(csv.DictReader((tmp_path / "quarantine.csv").read_text().splitlines()))
    assert [row["key"] for row in rows][::2] == ["'=1+1.mp4", "'-x.mp4"]
    assert rows[3] == {
        **{"key": "plain.mp4", "state": "failed", "cause": "died", "attempts": "1"},
        **{"message": "'/plain.mp4' is gone.", "path": "/plain.mp4"},
    }
    for path in tmp_path.glob("*.[cjp]*"):
        assert b"secret" not in path.read_bytes()
        assert b"token=abc" not in path.read_bytes()
    assert shown("https://me:secret@host/\x1b[2J") == "https://***@host/\\x1b[2J"


def test_the_fingerprint_follows_options_and_the_files_they_name(tmp_path: Path) -> None:
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"1")
    one = fingerprint("detect", {"host": str(weights)})
    assert one == fingerprint("detect", {"host": str(weights)})
    assert one != fingerprint("detect", {"host": str(weights), "track": "none"})
    named = fingerprint("detect", {"host": f"rcnn:{weights}"})
    weights.write_bytes(b"2")
    assert one != fingerprint("detect", {"host": str(weights)})
    assert named != fingerprint("detect", {"host": f"rcnn:{weights}"})
    folder = fingerprint("imagine", {"references": str(tmp_path)})
    (tmp_path / "more.mp4").touch()
    assert folder != fingerprint("imagine", {"references": str(tmp_path)})
    several = fingerprint("reconstruct", {"exports": (str(weights),)})
    weights.write_bytes(b"3")
    assert several != fingerprint("reconstruct", {"exports": (str(weights),)})
    (tmp_path / "dangling").symlink_to("nowhere")
    for words in (str(tmp_path), str(tmp_path / "dangling"), "a word " * 100, "a\0b"):
        assert fingerprint("imagine", {"references": words})


def test_options_are_read_by_the_type_of_their_field() -> None:
    assert check("detect", {"fps": "5", "coco": "false", "track": "none"}) == {
        "fps": 5.0,
        "coco": False,
        "track": "none",
    }
    assert check("reconstruct", {"exports": "ply,spz"}) == {"exports": ("ply", "spz")}
    for task, words, said in (
        ("watch", {"encodr": "x"}, "'encoder'"),
        ("watch", {"fps": "many"}, "cannot be 'many'"),
        ("watch", {"seconds": "nan"}, "cannot be 'nan'"),
        ("watch", {"limit": "-3"}, "cannot be '-3'"),
        ("watch", {"resume": "x"}, "no option 'resume'"),
        ("reconstruct", {"exports": "stl"}, "no export 'stl'"),
    ):
        with pytest.raises(UsageError, match=said):
            check(task, words)


class Idle:
    workers = 0

    def run(self, jobs: Iterator[Job]) -> Iterator[Outcome]:
        yield from ()

    def stop(self, drain: bool) -> None: ...


def test_the_guess_goes_by_bytes_and_never_by_what_was_skipped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr("retain.apps.batch.progress.time.monotonic", lambda: now)
    progress = Progress({"done": (900, 9000), "pending": (10, 1000)}, Idle())
    for number, size in enumerate((10, 10, 80)):
        assert progress.left_s() is None
        now += 10
        progress.ended(Outcome(str(number), "done"), size)
    assert progress.left_s() == pytest.approx(30 * 9)
    assert "3 done" in progress.line()
    assert "900 skipped" in progress.line()
    assert "7 to go" in progress.line()
    assert "no guess" in Progress({}, Idle()).line()
    bare = Progress({"pending": (6, 0)}, Idle())
    for number in range(3):
        now += 1
        bare.ended(Outcome(str(number), "failed", "died"), 0)
    assert bare.left_s() == pytest.approx(3)
