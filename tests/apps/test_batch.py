"""A batch as a whole, with workers that do what the test wants: states, causes, resuming, kills."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import batch_parts
import pytest

from retain.apps.batch.engine import Spec
from retain.apps.batch.local import LocalEngine
from retain.apps.batch.run import BatchOptions, work_off
from retain.pipeline.errors import RetainError, UsageError

TESTS = Path(__file__).parents[1]
CODE = """
import sys
from pathlib import Path
import batch_parts
from retain.apps.batch.engine import Spec
from retain.apps.batch.local import LocalEngine
from retain.apps.batch.run import BatchOptions, work_off
options = BatchOptions(given="clips", task="watch", out=Path("out"))
spec = Spec(batch_parts.TARGET, {"sleep_s": SLEEP_S})
sys.exit(work_off(options, LocalEngine(spec, jobs=2), "a"))
"""
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join((str(TESTS.parent / ".src"), str(TESTS)))}
Work = Callable[..., int]


def wait(until: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not until():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Work:
    """Work off ``clips`` into ``out`` of an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(TESTS))

    def run(mark: str = "a", retry: bool = False, out: str = "out", **more: Any) -> int:
        timeout_s = more.pop("timeout_s", 0.0)
        options = BatchOptions(
            given="clips", task="watch", out=Path(out), retry_failed=retry, jobs=2
        )
        spec = Spec(batch_parts.TARGET, {"log": str(tmp_path / "log"), **more})
        return work_off(options, LocalEngine(spec, jobs=2, timeout_s=timeout_s), mark)

    return run


def fill(*names: str, folder: str = "clips") -> None:
    Path(folder).mkdir(exist_ok=True)
    for name in names:
        Path(folder, f"{name}.mp4").write_bytes(b"x" * 10)


def rows(out: str = "out") -> dict[str, dict[str, Any]]:
    lines = Path(out, "items.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    assert len({row["id"] for row in found}) == len(found)
    return {row["key"].removesuffix(".mp4"): row for row in found}


def worked() -> list[str]:
    """Ids in the order in which somebody worked on them."""
    log = Path("log")
    return log.read_text().split() if log.exists() else []


def files(out: str = "out") -> dict[str, bytes]:
    """Everything under items, and what the tables say, without times."""
    found = {
        str(path.relative_to(out)): path.read_bytes()
        for path in Path(out, "items").rglob("*")
        if path.is_file()
    }
    for row in rows(out).values():
        facts = {name: row[name] for name in ("key", "state", "cause", "out", "facts")}
        found[f"row {row['id']}"] = json.dumps(facts).encode()
    return found


BAD = {
    "kill-1": ("failed", "died"),
    "segfault-1": ("failed", "died"),
    "exit-1": ("failed", "died"),
    "bug-1": ("failed", "defect"),
    "refuse-1": ("failed", "no_result"),
    "grow-1": ("failed", "changed"),
    "wrong-1": ("quarantined", "usage"),
    "broken-1": ("quarantined", "broken"),
    "denied-1": ("quarantined", "denied"),
    "stalled-1": ("failed", "stalled"),
    "vanish-1": ("quarantined", "vanished"),
}


def test_each_item_ends_in_a_state_with_a_cause_and_harms_no_other(work: Work) -> None:
    fill("good-1", "good-2", "good-3", *BAD)
    assert work() == 3
    found = rows()
    assert {name: (found[name]["state"], found[name]["cause"]) for name in BAD} == BAD
    assert all(found[f"good-{n}"]["state"] == "done" for n in (1, 2, 3))
    assert {path.name for path in Path("out/items").iterdir()} == {
        found[f"good-{n}"]["id"] for n in (1, 2, 3)
    }
    log = Path("out/logs", f"{found['bug-1']['id']}.log").read_text()
    assert "ValueError: a bug" in log
    assert "in obey" in log
    assert "SIGKILL" in found["kill-1"]["message"]
    assert not Path("out/.work").exists()
    listed = Path("out/quarantine.csv").read_text().splitlines()
    assert len(listed) == 1 + len(BAD)


def test_where_every_item_is_refused_the_options_are_named(
    work: Work, capsys: pytest.CaptureFixture[str]
) -> None:
    fill("wrong-1")
    assert work() == 3
    assert "options (--set) first" in capsys.readouterr().out


def test_an_item_that_hangs_ends_at_its_timeout(work: Work) -> None:
    fill("hang-1", "good-1")
    assert work(timeout_s=3.0) == 3
    assert rows()["hang-1"]["cause"] == "timeout"
    assert rows()["good-1"]["state"] == "done"


def test_what_is_done_is_not_done_again(work: Work) -> None:
    fill("a", "b", "bug-1")
    assert work() == 3
    before = files()
    assert work() == 3
    assert sorted(Counter(worked()).values()) == [1, 1]
    assert rows()["bug-1"]["attempts"] == 1
    assert files() == before
    assert work(retry=True) == 3
    assert rows()["bug-1"]["attempts"] == 2
    assert sorted(Counter(worked()).values()) == [1, 1]


def test_what_has_changed_is_done_again(work: Work) -> None:
    fill("a", "b", "c")
    assert work() == 0
    done = {name: row["id"] for name, row in rows().items()}
    Path("clips/a.mp4").write_bytes(b"another")
    assert work() == 0
    assert Counter(worked()) == {done["a"]: 2, done["b"]: 1, done["c"]: 1}
    (Path("out/items") / done["b"] / "part0").unlink()
    os.rename(Path("out/items") / done["b"], "elsewhere")
    assert work() == 0
    assert Counter(worked())[done["b"]] == 2
    assert work(mark="b", salt="other") == 0
    assert Counter(worked()) == {done["a"]: 3, done["b"]: 3, done["c"]: 2}
    digest = rows()["c"]["facts"]["digest"]
    assert (Path("out/items") / done["c"] / "part0").read_text() == digest


def test_the_results_tell_of_what_is_listed_now(work: Work) -> None:
    fill("a", "bug-1")
    assert work() == 3
    Path("clips/bug-1.mp4").unlink()
    assert work() == 0
    assert set(rows()) == {"a"}
    fill("bug-1")
    os.utime("clips/bug-1.mp4", ns=(1, 1))
    assert work() == 3


def test_a_batch_killed_at_random_ends_as_one_left_alone(work: Work, tmp_path: Path) -> None:
    fill(*(f"good-{n:02d}" for n in range(24)), "bug-1", "broken-1")
    assert work(out="whole") == 3
    chance = random.Random(5)
    for _ in range(3):
        items = Path("out/items")
        there = len(list(items.iterdir())) if items.exists() else 0
        with subprocess.Popen(
            [sys.executable, "-c", CODE.replace("SLEEP_S", "0.04")], env=ENVIRONMENT
        ) as running:
            while running.poll() is None and len(list(items.glob("*"))) < there + 3:
                time.sleep(0.005)
            time.sleep(chance.uniform(0, 0.1))
            running.send_signal(signal.SIGKILL)
    assert 0 < len(list(Path("out/items").iterdir())) < 24
    assert work() == 3
    assert files("out") == files("whole")
    assert not list(Path("out").rglob(".good*"))


@pytest.mark.parametrize("moment", ["before", "between", "after"])
def test_a_batch_that_ends_while_results_are_put_in_place_ends_as_one_left_alone(
    work: Work, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Before the earlier results are moved away, after that, and before it is written down."""
    from retain.apps.batch import run

    fill("a", "b")
    assert work(out="whole") == 0
    assert work() == 0
    publish, rename = run._publish, Path.rename

    def stop(out: Path, outcome: Any) -> str:
        if moment == "after":
            publish(out, outcome)
        if moment != "between":
            raise KeyboardInterrupt
        monkeypatch.setattr(Path, "rename", once)
        return publish(out, outcome)

    def once(path: Path, to: Path) -> Path:
        monkeypatch.setattr(Path, "rename", cut)
        return rename(path, to)

    def cut(path: Path, to: Path) -> Path:
        raise KeyboardInterrupt

    for name in ("a", "b"):
        os.utime(f"clips/{name}.mp4", ns=(7, 7))
    with monkeypatch.context() as patched:
        patched.setattr(run, "_publish", stop)
        with pytest.raises(KeyboardInterrupt):
            work()
    monkeypatch.setattr(Path, "rename", rename)
    assert work() == 0
    assert files("out") == files("whole")
    assert {path.name for path in Path("out/items").iterdir()} == {r["id"] for r in rows().values()}


@pytest.mark.parametrize("signals", [1, 2])
def test_ctrl_c_lets_what_is_under_way_end_and_the_second_drops_it(
    work: Work, tmp_path: Path, signals: int
) -> None:
    fill(*(f"good-{n}" for n in range(8)))
    code = CODE.replace('"sleep_s": SLEEP_S', '"until": "go"')
    with (
        Path("said").open("w") as said,
        subprocess.Popen([sys.executable, "-c", code], env=ENVIRONMENT, stderr=said) as running,
    ):
        wait(lambda: len(list(Path("out/logs").glob("*.log"))) == 2)
        running.send_signal(signal.SIGINT)
        wait(lambda: "finishing what is under way" in Path("said").read_text())
        if signals == 2:
            running.send_signal(signal.SIGINT)
        else:
            Path("go").touch()
    assert running.returncode == 130
    states = Counter(row["state"] for row in rows().values())
    assert states["done"] == (2 if signals == 1 else 0)
    assert not Path("out/.work").exists()
    assert work() == 0
    assert len(list(Path("out/items").iterdir())) == 8


def test_two_batches_do_not_share_a_folder(work: Work) -> None:
    fill("good-1")
    code = CODE.replace("SLEEP_S", "3600")
    with subprocess.Popen([sys.executable, "-c", code], env=ENVIRONMENT) as running:
        wait(lambda: bool(list(Path("out/logs").glob("*.log"))))
        with pytest.raises(UsageError, match="Another batch"):
            work()
        running.kill()
    assert work() == 0


def test_workers_that_cannot_begin_end_the_batch_not_the_items(work: Work) -> None:
    fill(*(f"good-{n}" for n in range(9)))
    options = BatchOptions(given="clips", task="watch", out=Path("out"))
    with pytest.raises(RetainError, match="before they could begin"):
        work_off(options, LocalEngine(Spec("batch_parts:absent", {}), jobs=1), "a")
    assert not Path("out/.work").exists()
    assert work(retry=True) == 0
    assert len(worked()) == 9


def test_a_full_disk_ends_the_batch_and_charges_no_item(work: Work) -> None:
    fill("a", "full-1", "z")
    with pytest.raises(RetainError, match="Make room"):
        work()
    assert not Path("out/.work").exists()
    os.rename("clips/full-1.mp4", "clips/b.mp4")
    assert work() == 0
    assert {row["state"] for row in rows().values()} == {"done"}


def test_a_worker_lost_before_it_began_costs_no_item(work: Work, tmp_path: Path) -> None:
    fill("a", "b")
    code = "import os\nfrom batch_parts import obey\n"
    code += "if not os.path.exists('lost'):\n    open('lost', 'w').close()\n    os._exit(1)\n"
    (tmp_path / "late_parts.py").write_text(code)
    os.environ["PYTHONPATH"] += os.pathsep + str(tmp_path)  # the fixture puts it back
    options = BatchOptions(given="clips", task="watch", out=Path("out"))
    assert work_off(options, LocalEngine(Spec("late_parts:obey", {}), jobs=1), "a") == 0
    assert Path("lost").exists()


def test_an_end_that_is_sent_to_everybody_is_the_parents_to_obey(work: Work) -> None:
    fill("ended-1", "good-1")
    assert work() == 0


def test_what_an_item_leaves_in_cycles_is_gone_when_the_next_begins(work: Work) -> None:
    fill(*(f"loop-{n}" for n in range(6)))
    assert work() == 0
    assert [row["facts"]["alive"] for row in rows().values()] == [0] * 6


def test_a_folder_for_results_is_one_lists_unless_it_is_named(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    for ward in ("a", "b"):
        Path(ward).mkdir()
        fill("clip", folder=f"{ward}/clips")

    def go(given: str, out: Path | None = None) -> int:
        options = BatchOptions(given=given, task="watch", out=out)
        return work_off(options, LocalEngine(Spec(batch_parts.TARGET, {}), jobs=1), "a")

    assert go("a/clips") == 0
    assert Path("retain-out/batch-clips-watch/report.html").is_file()
    with pytest.raises(UsageError, match="'.*/b/clips' holds those of '.*/a/clips'"):
        go("b/clips")
    os.rename("a", "moved")
    assert go("moved/clips", Path("retain-out/batch-clips-watch")) == 0
    row = rows("retain-out/batch-clips-watch")["clip"]
    assert (row["attempts"], row["path"]) == (1, str(Path("moved/clips/clip.mp4").absolute()))
    assert BatchOptions(given="ward/*.avi", task="watch").place.name == "batch-ward-watch"


def test_results_in_the_folder_of_the_clips_are_no_clips(work: Work) -> None:
    fill("a", "b")
    assert work(out="clips/out") == 0
    item = next(Path("clips/out/items").iterdir())
    (item / "film.mp4").write_bytes(b"film")
    assert work(out="clips/out") == 0
    assert set(rows("clips/out")) == {"a", "b"}


def test_names_that_are_no_names_reach_the_results_harmless(work: Work) -> None:
    odd = ["=1+1", "<img src=x onerror=alert(1)>", "[bold]x[", "esc\x1b[2J", "new\nline", '"q"']
    fill(*odd, *(f"bug-{name}" for name in odd))
    assert work() == 3
    assert set(rows()) == {*odd, *(f"bug-{name}" for name in odd)}
    page = Path("out/report.html").read_text()
    assert "<img src=x" not in page
    assert "\x1b" not in page
    assert "Stages" not in page


def test_memory_bounds_the_pool(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    from retain.apps.batch import local

    monkeypatch.setattr(local, "memory", lambda: (1 << 20, 1 << 30))
    fill("good-1", "good-2", "good-3")
    most = 0
    options = BatchOptions(given="clips", task="watch", out=Path("out"))

    class Counting(LocalEngine):
        def _start(self, selector: Any) -> Any:
            nonlocal most
            most += 1
            return super()._start(selector)

    engine = Counting(Spec(batch_parts.TARGET, {}), jobs=3)
    assert work_off(options, engine, "a") == 0
    assert most == 1
