"""The engine ``ray``: the results of ``local``, and its behaviour when things go wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import batch_parts
import media
import pytest

from retain.apps.batch.engine import Spec
from retain.apps.batch.ray_cluster import connected
from retain.apps.batch.ray_engine import RayEngine
from retain.apps.batch.run import BatchOptions, batch, work_off

TESTS = Path(__file__).parents[1]
TIMES = {"took_s", "times_real_time", "command"}


@pytest.fixture(scope="module")
def ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One Ray for all tests; an engine uses the connection that its process has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(TESTS))
        with connected("", 2) as ray:
            yield ray


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
            engine=engine, jobs=2,
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
