"""`retain batch`: what the engine costs, how soon it goes on, what a kill costs, and memory.

Clips of 10 s, 320x240 at 25 fps, watched with the encoder ``pixels`` at 5 fps on one worker, from
the end of the first item to that of the last, against a plain loop over the same clips in this
process. A worker starts once in a batch, and is not part of it.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import chdir, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import psutil
from _clips import make_clip

from retain.apps.batch.engine import Job, Outcome, Spec
from retain.apps.batch.items import list_items
from retain.apps.batch.local import LocalEngine
from retain.apps.batch.manifest import Manifest
from retain.apps.batch.ray_cluster import connected
from retain.apps.batch.ray_engine import RayEngine
from retain.apps.batch.results import write_tables
from retain.apps.batch.run import BatchOptions, batch, work_off
from retain.apps.batch.tasks import TARGET, run_task
from retain.apps.bench import Row, script

AREA = "apps"
ROWS = 100_000
KILLS = 10
SET = {"encoder": "pixels", "fps": "5"}
OPTIONS = {"task": "watch", "set": {"encoder": "pixels", "fps": 5.0}}
_LOADED = "import retain.apps.cli, retain.apps.batch.run as r; r.fingerprint('watch', {})"
"""What a command does before it looks at its manifest."""


class Timed(LocalEngine):
    """Knows when its first and its last item ended, and how much the worker takes by then."""

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec, jobs=1)
        self.ends: list[float] = []
        self.rss: list[int] = []
        self.cpu: list[float] = []
        """CPU seconds of worker and parent together."""

    def run(self, jobs: Iterator[Job]) -> Iterator[Outcome]:
        for outcome in super().run(jobs):
            self.ends.append(time.perf_counter())
            worker = psutil.Process(self._pool[0].process.pid)
            self.rss.append(worker.memory_info().rss)
            spent = worker.cpu_times()
            self.cpu.append(spent.user + spent.system + time.process_time())
            yield outcome


def tiny(job: Job, options: dict[str, Any]) -> dict[str, Any]:
    """A Target that does next to nothing."""
    Path(job.folder).mkdir()
    Path(job.folder, "name").write_text(job.id)
    return {"frames": 1, "routed": {"clear": 1, "blurred": 0}}


def measure(quick: bool = False) -> list[Row]:
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder, chdir(folder), redirect_stdout(StringIO()):
        return [*_overhead(quick), *_ray(quick), *_resume(quick), *_kills(quick), *_memory(quick)]


def _overhead(quick: bool) -> Iterator[Row]:
    count = 4 if quick else 8
    Path("clips").mkdir()
    make_clip(Path("clips/00.mp4"), width=320, height=240, frames=250)
    for number in range(1, count):
        os.link("clips/00.mp4", f"clips/{number:02d}.mp4")
    items, _ = list_items("clips")
    Path("plain").mkdir()
    plain: list[float] = []
    pool: list[float] = []
    plain_cpu: list[float] = []
    pool_cpu: list[float] = []
    for attempt in range(2 if quick else 3):  # interleaved: the machine's speed drifts
        jobs = [
            Job(str(n), item.path, item.size, item.mtime_ns, f"plain/{attempt}-{n}", "")
            for n, item in enumerate(items)
        ]
        run_task(jobs[0], OPTIONS)
        start, spent = time.perf_counter(), time.process_time()
        for job in jobs[1:]:
            run_task(job, OPTIONS)
        plain.append((time.perf_counter() - start) / (count - 1))
        plain_cpu.append((time.process_time() - spent) / (count - 1))
        engine = Timed(Spec(TARGET, OPTIONS))
        options = BatchOptions(given="clips", task="watch", out=Path(f"pool{attempt}"))
        assert work_off(options, engine, "a") == 0
        pool.append((engine.ends[-1] - engine.ends[0]) / (count - 1))
        pool_cpu.append((engine.cpu[-1] - engine.cpu[0]) / (count - 1))
    yield Row(
        name="a clip of 10 s, in a batch", value=1e3 * min(pool), unit="ms", peer="plain loop",
        peer_value=1e3 * min(plain), ratio=min(plain) / min(pool),
    )  # fmt: skip
    yield Row(
        name="its CPU time, parent and worker", value=1e3 * min(pool_cpu), unit="CPU ms",
        peer="plain loop", peer_value=1e3 * min(plain_cpu), bar="<= 5 % more",
        ratio=min(plain_cpu) / min(pool_cpu), met=min(pool_cpu) <= 1.05 * min(plain_cpu),
    )  # fmt: skip


class TimedRay(RayEngine):
    """Knows when items ended, and what CPU time Ray, its worker and this process took by then."""

    def run(self, jobs: Iterator[Job]) -> Iterator[Outcome]:
        self.ends: list[float] = []
        self.cpu: list[float] = []
        for outcome in super().run(jobs):
            self.ends.append(time.perf_counter())
            spent = [one.cpu_times() for one in psutil.Process().children(recursive=True)]
            self.cpu.append(sum(one.user + one.system for one in spent) + time.process_time())
            yield outcome


def _ray(quick: bool) -> Iterator[Row]:
    """The clips of ``_overhead`` on one worker of a Ray of its own, against one of ``local``."""
    start = time.perf_counter()
    with connected("", 1):
        took = time.perf_counter() - start
        held = sum(one.memory_full_info().uss for one in psutil.Process().children(recursive=True))
        ms: dict[str, list[float]] = {"ray": [], "local": []}
        cpu: dict[str, list[float]] = {"ray": [], "local": []}
        for attempt in range(1 if quick else 3):
            engines = {
                "ray": TimedRay(Spec(TARGET, OPTIONS), jobs=1),
                "local": Timed(Spec(TARGET, OPTIONS)),
            }
            for name, engine in engines.items():
                options = BatchOptions(given="clips", task="watch", out=Path(f"{name}{attempt}"))
                assert work_off(options, engine, "a") == 0
                count = len(engine.ends) - 1
                ms[name].append(1e3 * (engine.ends[-1] - engine.ends[0]) / count)
                cpu[name].append(1e3 * (engine.cpu[-1] - engine.cpu[0]) / count)
    for what, unit, of in (("a clip", "ms", ms), ("its CPU time", "CPU ms", cpu)):
        value, peer = min(of["ray"]), min(of["local"])
        yield Row(
            name=f"{what}, through Ray", value=value, unit=unit, peer="local", peer_value=peer,
            ratio=peer / value,
        )  # fmt: skip
    yield Row(name="starting Ray", value=took, unit="s")
    yield Row(name="memory of Ray's processes, no worker", value=held / 2**20, unit="MiB")


def _resume(quick: bool) -> Iterator[Row]:
    rows = ROWS // 10 if quick else ROWS
    Path("many").mkdir()
    Path("seed").touch()
    for number in range(rows):
        os.mkdir(f"many/{number // 1000}") if number % 1000 == 0 else None
        Path(f"many/{number // 1000}/{number}.mp4").touch()
    Path("many.txt").write_text("".join(f"many/{n // 1000}/{n}.mp4\n" for n in range(rows)))
    items, _ = list_items("many.txt")
    Path("resumed").mkdir()
    manifest = Manifest(Path("resumed/manifest.sqlite"), "watch")
    manifest.plan(items, "a", set(), False)
    ids = [job.id for job in manifest.jobs(Path(), Path())]
    manifest.close()
    import sqlite3

    with sqlite3.connect("resumed/manifest.sqlite") as db:
        db.execute("UPDATE items SET state = 'done', out = 'x' WHERE place % 10")
    db.close()
    there = set(ids)
    best = cpu = float("inf")
    for _ in range(3):
        start, spent = time.perf_counter(), _cpu_s()
        subprocess.run([sys.executable, "-c", _LOADED], check=True)
        again, _ = list_items("many.txt")
        manifest = Manifest(Path("resumed/manifest.sqlite"), "watch")
        manifest.plan(again, "a", there, False)
        manifest.counts()
        next(manifest.jobs(Path(), Path()))
        best = min(best, time.perf_counter() - start)
        cpu = min(cpu, _cpu_s() - spent)
        manifest.close()
    spent = _cpu_s()
    manifest = Manifest(Path("resumed/manifest.sqlite"), "watch")
    write_tables(Path("resumed"), manifest)
    manifest.close()
    wrote = _cpu_s() - spent
    yield Row(
        name=f"going on with {rows:,} rows, to the first job", value=cpu, unit="CPU s",
        bar="<= 2 s", met=cpu <= 2, peer="on the clock, other load and all", peer_value=best,
    )  # fmt: skip
    yield Row(name="their tables at the end", value=wrote, unit="CPU s")


def _cpu_s() -> float:
    """Seconds of processor this process and those it has waited for have taken."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def _kills(quick: bool) -> Iterator[Row]:
    """Ten SIGKILLs at random moments, against a batch left alone."""
    alone = BatchOptions(given="clips", task="watch", settings=SET, out=Path("alone"))
    batch(alone)
    command = [sys.executable, "-m", "retain.apps.cli", "batch", "clips", "--task", "watch"]
    command += ["--out", "killed", "--jobs", "1", *(f"--set={k}={v}" for k, v in SET.items())]
    chance, kills, done = random.Random(1), 0, 0
    for _ in range(3 if quick else KILLS):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as one:
            there = len(list(Path("killed/items").glob("*")))
            until = time.monotonic() + 60
            while one.poll() is None and time.monotonic() < until:
                time.sleep(0.01)
                if len(list(Path("killed/logs").glob("*.log"))) and chance.random() < 0.05:
                    break
            if one.poll() is None:
                one.send_signal(signal.SIGKILL)
                kills += 1
            done = max(done, there)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    same = _lasting(Path("killed")) == _lasting(Path("alone"))
    yield Row(
        name=f"files that differ after {kills} kills", value=float(not same), unit="", bar="0",
        met=same and kills > 0,
    )  # fmt: skip


def _lasting(out: Path) -> dict[str, bytes]:
    """What does not tell times: results.jsonl, memory and film of every item."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in (out / "items").rglob("*")
        if path.name not in ("summary.json", "report.html") and path.is_file()
    }


def _memory(quick: bool) -> Iterator[Row]:
    """Tiny items, so that what the engine keeps of each would show."""
    count = 1000 if quick else 5000
    Path("tiny.txt").write_text("".join(f"many/0/{n}.mp4?\n" for n in range(count)))
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    engine = Timed(Spec("batch:tiny", {}))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    options = BatchOptions(given="tiny.txt", task="watch", out=Path("tiny"))
    assert work_off(options, engine, "a") == 0
    took = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    grown = _grown(engine.rss)
    clips = 200 if quick else 1000
    Path("small").mkdir()
    make_clip(Path("small/0000.mp4"), width=64, height=48, frames=4)
    for number in range(1, clips):
        os.link("small/0000.mp4", f"small/{number:04d}.mp4")
    watching = Timed(Spec(TARGET, OPTIONS))
    options = BatchOptions(given="small", task="watch", out=Path("watched"))
    assert work_off(options, watching, "a") == 0
    watched = _grown(watching.rss)
    yield Row(
        name=f"worker grown over {count:,} tiny items", value=grown, unit="MiB", bar="<= 5 MiB",
        met=grown <= 5,
    )  # fmt: skip
    yield Row(
        name=f"worker grown over {clips:,} watched clips of 4 frames", value=watched, unit="MiB",
        bar="<= 5 MiB", met=watched <= 5,
    )  # fmt: skip
    yield Row(name="parent's peak grown meanwhile", value=(after - before) / 1024, unit="MiB")
    yield Row(name="a tiny item, all in all", value=1e3 * took / count, unit="ms")


def _grown(rss: list[int]) -> float:
    """MiB that the second half of the items took more than the first tenth."""
    count = len(rss)
    return (max(rss[count // 2 :]) - max(rss[: count // 10])) / 2**20


if __name__ == "__main__":
    script(measure, "batch")
