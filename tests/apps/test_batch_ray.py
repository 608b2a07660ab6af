"""The engine ``ray``: the results of ``local``, and its behaviour when things go wrong."""

from __future__ import annotations

import importlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import batch_parts
import media
import psutil
import pytest
import typer
import yaml

from retain.apps.batch import fingerprint, ray_cluster, ray_engine
from retain.apps.batch.engine import Job, Spec
from retain.apps.batch.ray_cluster import connected
from retain.apps.batch.ray_engine import RayEngine
from retain.apps.batch.ray_worker import Place
from retain.apps.batch.run import BatchOptions, batch, choose, work_off
from retain.apps.cli import app
from retain.pipeline.errors import MissingExtra, RetainError, UsageError

TESTS = Path(__file__).parents[1]
CODE = """
import sys
from pathlib import Path
import batch_parts
from retain.apps.batch.engine import Spec
from retain.apps.batch.ray_engine import RayEngine
from retain.apps.batch.run import BatchOptions, work_off
options = BatchOptions(given="clips", task="watch", out=Path("out"))
spec = Spec(batch_parts.TARGET, {"until": "go"})
sys.exit(work_off(options, RayEngine(spec, jobs=2, address=sys.argv[1]), "a"))
"""
TIMES = {"took_s", "times_real_time", "command"}


@pytest.fixture(scope="module")
def ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One Ray for all tests; an engine uses the connection that its process has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(TESTS))
        with connected("", 2) as ray:
            yield ray


@pytest.fixture(autouse=True)
def _code_as_it_is_now() -> None:
    """A worker's code is compared with that of its command, here a process of many tests."""
    fingerprint.code.cache_clear()


def clips(folder: Path) -> None:
    folder.mkdir()
    media.write_video(folder / "a.mp4", 12)
    media.write_video(folder / "b.mp4", 20)
    whole = media.write_video(folder.parent / "whole.mp4", 12).read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 2])


def tree(out: Path) -> dict[str, bytes]:
    """Every file of the results byte for byte, without the times that summaries and tables tell;
    of a page, which is full of them, that it is there."""
    found = {}
    for path in sorted((out / "items").rglob("*")):
        if path.is_file():
            found[str(path.relative_to(out))] = path.read_bytes()
            if path.name == "report.html":
                found[str(path.relative_to(out))] = b""
            if path.name == "summary.json":
                told = json.loads(path.read_bytes())
                plain = {name: value for name, value in told.items() if name not in TIMES}
                found[str(path.relative_to(out))] = json.dumps(plain).encode()
    for line in (out / "items.jsonl").read_text().splitlines():
        row = json.loads(line)
        del row["seconds"]
        found[f"row {row['id']}"] = json.dumps(row).encode()
    return found


def test_results_are_those_of_local_bit_for_bit(
    ray: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    clips(tmp_path / "clips")
    for engine in ("local", "ray"):
        options = BatchOptions(
            given="clips", task="watch", settings={"encoder": "pixels"}, out=Path(engine),
            engine=engine, jobs=1 if engine == "local" else 2,
        )  # fmt: skip
        assert batch(options) == 3
    local, there = tree(Path("local")), tree(Path("ray"))
    assert there == local
    lasting = {"results.jsonl", "memory.safetensors", "summary.mp4", "summary.json", "report.html"}
    assert sum(Path(name).name in lasting for name in local) == 2 * len(lasting)


BAD = {
    "kill-1": ("failed", "died"),
    "exit-1": ("failed", "died"),
    "hang-1": ("failed", "timeout"),
    "bug-1": ("failed", "defect"),
    "broken-1": ("quarantined", "broken"),
}


def fill(*names: str) -> None:
    Path("clips").mkdir(exist_ok=True)
    for name in names:
        Path("clips", f"{name}.mp4").write_bytes(b"x" * 10)


def rows() -> dict[str, dict[str, Any]]:
    lines = Path("out", "items.jsonl").read_text().splitlines()
    return {row["key"].removesuffix(".mp4"): row for row in map(json.loads, lines)}


def work(
    jobs: int = 2, timeout_s: float = 0.0, engine: RayEngine | None = None, **more: Any
) -> int:
    options = BatchOptions(given="clips", task="watch", out=Path("out"))
    spec = Spec(batch_parts.TARGET, {"log": str(Path("log").absolute()), **more})
    return work_off(options, engine or RayEngine(spec, jobs=jobs, timeout_s=timeout_s), "a")


def test_a_worker_that_dies_or_hangs_costs_its_own_item(
    ray: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fill("good-1", "good-2", "good-3", *BAD)
    assert work(timeout_s=3.0) == 3
    found = rows()
    assert {name: (found[name]["state"], found[name]["cause"]) for name in BAD} == BAD
    assert all(found[f"good-{n}"]["state"] == "done" for n in (1, 2, 3))
    assert "worker of Ray" in found["kill-1"]["message"]
    log = Path("out/logs", f"{found['bug-1']['id']}.log").read_text()
    assert "ValueError: a bug" in log
    assert not Path("out/.work").exists()
    assert work() == 3
    assert len(Path("log").read_text().split()) == 3, "what is done is not done again"


def wait(until: Callable[[], bool]) -> None:
    end = time.monotonic() + 90
    while not until():
        assert time.monotonic() < end
        time.sleep(0.05)


def command(address: str, said: Any = None) -> subprocess.Popen[bytes]:
    """A batch in a process of its own, whose items wait for the file ``go``."""
    paths = os.pathsep.join((str(TESTS.parent / ".src"), str(TESTS)))
    return subprocess.Popen(
        [sys.executable, "-P", "-c", CODE, address],
        env=os.environ | {"PYTHONPATH": paths},
        stderr=said,
        start_new_session=True,
    )


def two_under_way() -> bool:
    return len(list(Path("out/logs").glob("*.log"))) == 2


def test_ctrl_c_twice_drops_what_is_under_way(
    ray: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fill(*(f"good-{n}" for n in range(6)))
    address = ray.get_runtime_context().gcs_address
    with Path("said").open("w") as said, command(address, said) as running:
        wait(two_under_way)
        os.killpg(running.pid, signal.SIGINT)
        wait(lambda: "finishing what is under way" in Path("said").read_text())
        assert running.poll() is None
        os.killpg(running.pid, signal.SIGINT)
    assert running.returncode == 130
    assert not list(Path("out/items").iterdir())
    assert not Path("out/.work").exists()


def test_a_ray_of_its_own_is_on_loopback_dies_with_the_command_and_the_next_goes_on(
    ray: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fill(*(f"good-{n}" for n in range(4)))
    with command("") as running:
        wait(two_under_way)
        family = [psutil.Process(running.pid), *psutil.Process(running.pid).children(True)]
        ends = [end for one in family for end in one.net_connections("inet")]
        hosts = {end.ip.removeprefix("::ffff:") for c in ends for end in (c.laddr, c.raddr) if end}
        workers = [one for one in family if one.name().startswith("ray::RayWorker")]
        running.kill()
    wait(lambda: not any(one.is_running() and one.status() != "zombie" for one in workers))
    assert len(workers) == 2
    assert hosts == {"127.0.0.1"}
    assert not list(Path("out/items").iterdir())
    assert work() == 0
    assert {row["state"] for row in rows().values()} == {"done"}
    assert len(list(Path("out/items").iterdir())) == 4


def test_jobs_are_taken_as_workers_are_free_and_all_that_began_end_after_a_stop(
    ray: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    taken = begun = ended = 0
    give = RayEngine._give

    def begin(engine: RayEngine, *work: Any) -> None:
        nonlocal begun
        begun += 1
        give(engine, *work)

    monkeypatch.setattr(RayEngine, "_give", begin)

    def jobs() -> Iterator[Job]:
        nonlocal taken
        for n in range(1000):
            taken += 1
            assert taken - ended <= 4, "two at work, and two ended that nobody has looked at"
            yield Job(str(n), f"{n}", -1, 0, f"{n}", f"{n}.log")

    engine = RayEngine(Spec(batch_parts.TARGET, {}), jobs=2)
    for outcome in engine.run(jobs()):
        assert outcome.state == "done"
        assert outcome.peak_bytes > 0
        ended += 1
        if ended == 9:
            engine.stop(drain=True)
            under_way = taken
    assert 9 <= ended == begun
    assert taken == under_way, "one that waits for a worker to start is left for another run"
    assert engine.workers == 0


@pytest.mark.parametrize(
    ("place", "match"),
    [
        (lambda cwd, token, *rest: Place(cwd, f"{token}-elsewhere", *rest), "not the same on"),
        (lambda cwd, token, version, mark: Place(cwd, token, "0.0", mark), "that are not those"),
    ],
)
def test_workers_with_other_files_or_other_code_are_refused(
    ray: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: Callable[..., Place],
    match: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ray_engine, "Place", place)
    fill("good-1")
    with pytest.raises(UsageError, match=match):
        work(jobs=1)
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert not list(Path("out/items").iterdir())


def test_workers_that_cannot_begin_end_the_batch_not_the_items(
    ray: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fill("good-1", "good-2")
    with pytest.raises(RetainError, match="before they could begin: AttributeError"):
        work(engine=RayEngine(Spec("batch_parts:absent", {}), jobs=2))
    Path("here").mkdir()
    code = "class Here:\n def __init__(self, *a): ...\n def begin(self, *a): ...\n"
    Path("here/retain_here.py").write_text(code)
    monkeypatch.syspath_prepend("here")
    monkeypatch.setattr(ray_engine, "RayWorker", importlib.import_module("retain_here").Here)
    with pytest.raises(UsageError, match="has no retain"):
        work()
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert work(jobs=1) == 0


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere", "ray://127.0.0.1:1", "x:99999"])
def test_an_address_without_a_ray_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster, "_ray", lambda: SimpleNamespace(is_initialized=bool))
    with pytest.raises(UsageError, match="--address"), ray_cluster.connected(address, 1):
        pass


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"retain\[ray\]"), ray_cluster.connected("", 1):
        pass


def test_options_of_another_engine_are_refused() -> None:
    spec = Spec(batch_parts.TARGET, {})
    for more in ({"address": "auto"}, {"gpus": 0.5}, {"engine": "none"}):
        with pytest.raises(UsageError):
            choose(BatchOptions(given="clips", task="watch", **more), spec)


class Nodes:
    """Ray, as far as it knows what its nodes have."""

    def __init__(self, *resources: dict[str, float]) -> None:
        self._resources = resources

    def nodes(self) -> list[dict[str, Any]]:
        gone = {"Alive": False, "Resources": {"CPU": 99.0, "memory": 1e12, "GPU": 9.0}}
        return [gone, *({"Alive": True, "Resources": has} for has in self._resources)]


def test_room_is_counted_node_by_node() -> None:
    small = {"CPU": 4.0, "memory": 10.0, "GPU": 1.0}
    large = {"CPU": 64.0, "memory": 1000.0}
    head = {"memory": 1000.0}
    ray = Nodes(small, large, head)
    assert ray_cluster.room(ray, 1, 0.0) == 68
    assert ray_cluster.room(ray, 5, 0.0) == 66
    assert ray_cluster.room(ray, 1, 0.5) == 2
    assert ray_cluster.room(Nodes({"CPU": 64.0, "memory": 64.0, "GPU": 2.0}), 1, 0.6) == 2
    assert ray_cluster.room(Nodes({"CPU": 64.0, "memory": 64.0, "GPU": 2.0}), 1, 0.1) == 20
    with pytest.raises(RetainError, match="last host"):
        ray_cluster.room(Nodes(), 1, 0.0)
    assert ray_cluster.request(ray, 2000, 0.5)["memory"] == 1000


def test_gpus_that_are_not_there_are_not_waited_for(
    ray: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_engine, "room", lambda ray, need, gpus: 0)
    with pytest.raises(UsageError, match="No GPU"):
        next(RayEngine(Spec(batch_parts.TARGET, {}), gpus=0.5).run(iter([])))


def test_the_example_of_a_job_is_whole_and_its_command_is_one() -> None:
    job = yaml.safe_load((TESTS.parent / "docs/examples/ray-job.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    pins = (TESTS.parent / "constraints.txt").read_text()
    assert f"ray=={cluster['rayVersion']}\n" in pins
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    images, mounts = set(), []
    for group in groups:
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        images.add(container["image"])
        mounts.append((container["volumeMounts"], pod["volumes"]))
        assert container["resources"]["limits"]["memory"]
    assert len(images) == 1, "head and workers are of one image"
    assert all(mount == mounts[0] for mount in mounts), "all see the same storage"
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    retain, batch, *words = shlex.split(job["spec"]["entrypoint"])
    group = typer.main.get_command(app)
    context = group.commands[batch].make_context(batch, words)  # type: ignore[attr-defined]
    assert (retain, context.params["engine"], context.params["address"]) == (
        "retain",
        "ray",
        "auto",
    )
    (mount,) = mounts[0][0]
    assert str(context.params["out"]).startswith(mount["mountPath"])
    assert "nvidia.com/gpu" in groups[1]["template"]["spec"]["containers"][0]["resources"]["limits"]
