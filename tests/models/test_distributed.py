"""Processes that share a batch do what one does, stop together, and do not outlive each other."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import distributed_parts as parts
import pytest
import torch
from distributed_parts import CASES, finish, read_out, start, torchrun, train
from safetensors.torch import load_file

from retain.apps import training, training_ditmem
from retain.models import distributed
from retain.models.distributed import ALONE, Share, session
from retain.models.gdkvm import weights
from retain.models.training import CHECKPOINT, Run, patience
from retain.pipeline.errors import UsageError

pytestmark = pytest.mark.timeout(300)  # processes start slowly on a busy machine


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every case on two processes in one go; then one up to step 2; then one ended by a signal that
    comes twice, as torchrun does it."""
    folder = tmp_path_factory.mktemp("shared")
    began = start(str(folder), *CASES, "mamba", "echo=part", "echo=wait")
    ready = [folder / f"ready-{rank}" for rank in range(2)]
    while not all(path.exists() for path in ready):
        assert all(process.poll() is None for process in began), finish(began)
        time.sleep(0.05)
    for number in (signal.SIGINT, signal.SIGTERM):
        began[0].send_signal(number)
    for code, said in finish(began):
        assert (code, said) == (130, "")
    return folder


def kept(folder: Path) -> dict[str, torch.Tensor]:
    """Weights and their average in a checkpoint."""
    found = load_file(folder / CHECKPOINT)
    return {k: v for k, v in found.items() if not k.startswith("adam/")}


def assert_near(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> None:
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, two[name], rtol=0, atol=1e-4, msg=name)


@pytest.mark.parametrize("name", list(CASES))
def test_two_processes_do_what_one_does(name: str, shared: Path, tmp_path: Path) -> None:
    one = train(name, tmp_path / name)
    two = json.loads((shared / name / "losses.json").read_text())
    assert len(two) == parts.STEPS
    assert two == pytest.approx(one, rel=0, abs=1e-5)
    assert_near(kept(tmp_path / name), kept(shared / name))


def test_gradients_are_summed_once_and_nothing_else(shared: Path, tmp_path: Path) -> None:
    """Adam hides the scale of a gradient, but not from its own state."""
    train("normed", tmp_path / "normed")
    one, two = (load_file(folder / "normed" / CHECKPOINT) for folder in (tmp_path, shared))
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, two[name], rtol=1e-6, atol=1e-8, msg=name)


def test_rounds_over_streams_are_shared_too(shared: Path, tmp_path: Path) -> None:
    one = read_out(tmp_path)
    two = json.loads((shared / "mamba" / "losses.json").read_text())
    assert two == pytest.approx(one, rel=0, abs=1e-5)
    assert_near(*(load_file(f / "weights.safetensors") for f in (tmp_path, shared / "mamba")))
    one_mean, two_mean = (
        torch.cat([v.flatten() for k, v in sorted(found.items()) if k.endswith("/exp_avg")])
        for f in (tmp_path, shared / "mamba")
        for found in [load_file(f / "checkpoint-gated.safetensors")]
    )
    assert (one_mean - two_mean).norm() < 1e-3 * one_mean.norm()  # of the gradients


def test_one_process_goes_on_from_what_two_left(shared: Path) -> None:
    begun = json.loads((shared / "part" / "losses.json").read_text())
    whole = json.loads((shared / "echo" / "losses.json").read_text())
    assert begun == whole[:2]
    assert train("echo", shared / "part") == pytest.approx(whole[2:], rel=0, abs=1e-5)
    assert_near(kept(shared / "part"), kept(shared / "echo"))


def test_a_signal_to_one_stops_all_after_their_step(shared: Path) -> None:
    head = weights.read(shared / "wait" / CHECKPOINT)[1]
    assert head["step"] == 2  # it came after the first
    assert not (shared / "wait" / "losses.json").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_does_not_wait_unless_torchrun_sends_it(number: signal.Signals) -> None:
    before = signal.signal(number, signal.default_int_handler)
    try:
        with patience(launched=True) as heard:
            signal.raise_signal(number)
            signal.raise_signal(number)
        assert heard == [number, number]
        with patience() as heard:
            signal.raise_signal(number)
            assert heard == [number]
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(number)
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)


def test_nobody_outlives_a_process_that_died(tmp_path: Path) -> None:
    (code, said), (died, _) = finish(start(str(tmp_path), "echo=die"))
    assert died == -signal.SIGKILL
    assert code == 1
    assert said.count("Another process of this training run has ended") == 1
    assert not (tmp_path / "die" / CHECKPOINT).exists()  # the step was half done


def test_a_batch_is_shared_evenly_or_not_at_all() -> None:
    assert [Share(rank, 3).rows(6) for rank in range(3)] == [slice(0, 2), slice(2, 4), slice(4, 6)]
    assert ALONE.rows(5) == slice(0, 5)
    with pytest.raises(UsageError, match="batch of 4 cannot be shared evenly by 3"):
        Share(1, 3).rows(4)


def test_without_torchrun_nothing_is_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    with session("cpu") as device:
        assert device == "cpu"
        assert distributed.here() is ALONE
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="trains with one"):
        distributed.here()
    with pytest.raises(UsageError, match="rank 2 of 2"), session("cpu"):
        pass


def test_of_several_that_fail_one_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    store = torch.distributed.HashStore()
    monkeypatch.setattr(distributed, "_join", lambda device: Share(launched=True, store=store))
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    with pytest.raises(UsageError, match="first"), session("cpu"):
        raise UsageError("first")
    with pytest.raises(SystemExit) as silent, session("cpu"):
        raise UsageError("second")
    assert silent.value.code == UsageError.exit_code
    with pytest.raises(distributed.Lost):
        Share(0, 2, store=store).wait()  # nobody waits for who failed
    assert distributed.here() is ALONE


def test_the_command_runs_under_torchrun_unchanged(tmp_path: Path) -> None:
    words = ["train", "ditmem", "--steps", "2", "--memory-steps", "2", "--threads", "1"]
    code, said = finish([torchrun("-m", "retain", *words, str(tmp_path / "two"))])[0]
    assert code == 0, said
    assert said.count("weights.safetensors") == 1  # one of them talks
    options = training_ditmem.TrainOptions(
        out=tmp_path / "one", steps=2, memory_steps=2, threads=1, device="cpu"
    )
    assert training_ditmem.train(options) == 0
    one, two = (load_file(tmp_path / name / training.WEIGHTS) for name in ("one", "two"))
    assert_near(one, two)


def test_a_network_that_cannot_be_shared_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Whole(Run):
        def loss(self, step: int) -> torch.Tensor:
            raise AssertionError

    monkeypatch.setattr(distributed, "_here", Share(1, 2))
    with pytest.raises(UsageError, match="one process only"):
        Whole(
            torch.nn.Linear(1, 1), [], {}, tmp_path,
            steps=1, seed=0, rate=float, average=0.0, clip_norm=1.0,
        )  # fmt: skip
