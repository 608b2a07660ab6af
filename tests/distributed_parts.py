"""Small runs of every network, and how to do one on several processes.

As a script with torchrun's variables, ``distributed_parts.py FOLDER CASE …`` trains each case in a
folder of its name, where the first process leaves ``losses.json`` too. ``CASE=part`` ends after the
second step, ``CASE=wait`` waits for a signal after the first, ``CASE=die`` kills the second process
there.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import mamba_parts
import torch
from gdkvm_parts import random_cache, tiny_config
from torch import Tensor, nn

from retain.models import distributed
from retain.models.distributed_norm import share_norms
from retain.models.ditmem import train as imagine
from retain.models.ditmem.backbone import VideoDit
from retain.models.ditmem.config import DitConfig, EncoderConfig
from retain.models.ditmem.guided import GuideConfig
from retain.models.gdkvm import train as gdkvm
from retain.models.mamba import distil
from retain.models.mamba import train as mamba
from retain.models.mamba.small import train as detector
from retain.models.training import Progress, Run
from retain.pipeline.errors import RetainError

STEPS = 3
ROOT = Path(__file__).parents[1]


def echo(out: Path, **changes: Any) -> Run:
    values: dict[str, Any] = {"model": tiny_config(), "steps": STEPS, "batch": 4, "length": 3}
    cache = random_cache()
    cache.masks[0, ::2, :9] = 255  # so that parts of a batch count differently
    return gdkvm.Trainer(gdkvm.Recipe(**(values | changes)), cache, out, "cpu")


DIT = DitConfig(side=12, frames=8, dim=24, depth=1, heads=2)
WORLDS = imagine.Recipe(DIT, steps=STEPS, batch=4)


def imagined(out: Path, **changes: Any) -> Run:
    encoder = EncoderConfig(wide=(8, 8), references=2)
    guide = GuideConfig(**({"dit": DIT, "encoder": encoder, "params": 4, "rank": 2} | changes))
    recipe = imagine.MemoryRecipe(guide, WORLDS, shuffled=0.3, absent=0.3)
    torch.manual_seed(5)
    dit = VideoDit(DIT)
    for weight in dit.parameters():  # a fresh one answers nothing, and passes no gradient on
        weight.data.add_(0.05 * torch.randn(weight.shape))
    return imagine.MemoryRun(recipe, dit, out)


class Normed(Run):
    """Two convolutions with a batch norm between them, in float64: nothing hides behind rounding.
    Rows count differently; the last weight gets its gradient from the first row alone."""

    def __init__(self, out: Path) -> None:
        torch.manual_seed(3)
        model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Conv2d(3, 2, 3)).double()
        model.register_parameter("rare", nn.Parameter(torch.ones(2, dtype=torch.float64)))
        if distributed.here().world > 1:
            share_norms(model)
        groups = [{"params": list(model.parameters())}]
        super().__init__(
            model, groups, {}, out,
            steps=STEPS, seed=1, rate=lambda step: 0.1, average=0.9, clip_norm=1e9, batch=4,
        )  # fmt: skip

    def loss(self, step: int) -> Tensor:
        drawn = torch.rand(4, 1, 7, 7, dtype=torch.float64) + torch.arange(4)[:, None, None, None]
        x, share = self.share.own(drawn), self.share
        counted = (x < 1.5).double()[:, :, 2:5, 2:5] + 0.1
        found = ((self.model(x) - 1).square().sum(1, keepdim=True) * counted).sum()
        found = found / share.total(counted.sum())
        return found + self.model.rare.square().sum() if share.first else found


CASES: dict[str, Callable[[Path], Run]] = {
    "backbone": lambda out: imagine.BackboneRun(WORLDS, out),
    "imagine": imagined,
    "oracle": lambda out: imagined(out, source="oracle", training="frozen"),
    "normed": Normed,
    "detector": lambda out: detector.Trainer(detector.Recipe(steps=STEPS, batch=4, lr=1e-4), out),
    "echo": echo,
    "echo-points": lambda out: echo(out, labels="ends", points=200),
    "echo-last": lambda out: echo(out, model=tiny_config(aux_last_only=True)),
}


def train(
    case: str,
    out: Path,
    last: int = STEPS,
    after: Callable[[int], None] = lambda step: None,
) -> list[float]:
    """The losses of ``case`` in ``out``, on from the checkpoint there, up to step ``last``."""
    out.mkdir(parents=True, exist_ok=True)
    run = CASES[case](out)
    run.load()
    losses: list[float] = []

    def tell(progress: Progress) -> None:
        losses.append(progress.loss)
        after(progress.step)
        if progress.step == last < run.steps:
            raise KeyboardInterrupt

    try:
        run.train(tell)
    except KeyboardInterrupt:
        if len(losses) < last or last == run.steps:
            raise
    if run.share.first:
        (out / "losses.json").write_text(json.dumps(losses))
    return losses


def read_out(out: Path) -> list[float]:
    """The losses of three rounds of a read-out, in ``out`` with the first process's result."""
    share = distributed.here()
    with (
        mock.patch.object(distil, "of_objects", mamba_parts.windows),
        mock.patch.object(distil, "degrade", lambda image, *rest: mamba_parts.dulled(image)),
    ):
        material, cache = distil.Material(episodes=8, seed=3), out / "cache"
        recipe = mamba.Recipe(rounds=STEPS, batch=4, judge_every=2, spoilt=0.5, lr=1e-6)
        losses: list[float] = []
        mamba.run(
            {"gated": recipe}, mamba_parts.HOST, material, out, cache,
            tell=lambda told: losses.append(told.loss),
        )  # fmt: skip
    if share.first:
        (out / "losses.json").write_text(json.dumps(losses))
    return losses


def environment() -> dict[str, str]:
    """Of processes that are to find each other on this host, on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    path = os.pathsep.join((str(ROOT / ".src"), str(ROOT / "tests")))
    own = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    return {**os.environ, **own, "PYTHONPATH": path}


def start(*words: str, world: int = 2) -> list[subprocess.Popen[str]]:
    """This script with ``words`` on ``world`` processes, as torchrun would start them."""
    common = {**environment(), "WORLD_SIZE": str(world)}
    return [
        subprocess.Popen(
            [sys.executable, __file__, *words],
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(world)
    ]


def torchrun(*words: str, world: int = 2) -> subprocess.Popen[str]:
    """torchrun, which starts ``words`` on ``world`` processes of this host."""
    common = environment()
    port = f"--master-port={common['MASTER_PORT']}"
    command = [sys.executable, "-m", "torch.distributed.run", "--master-addr=127.0.0.1", port]
    return subprocess.Popen(
        [*command, f"--nproc-per-node={world}", *words],
        env=common,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    """Exit codes and what was said, by rank. Kills what hangs."""
    try:
        said = [process.communicate(timeout=250)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, text) for process, text in zip(processes, said, strict=True)]


def _die(step: int) -> None:
    if distributed.here().rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def _main(folder: Path, *wishes: str) -> None:
    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as the command line does
    with distributed.session("cpu"):
        for wish in wishes:
            case, _, how = wish.partition("=")

            def wait(step: int) -> None:
                if step == 1:
                    (folder / f"ready-{distributed.here().rank}").touch()
                    time.sleep(1)

            if case == "mamba":
                read_out(folder / case)
            elif how == "die":
                train(case, folder / how, after=_die)
            elif how == "wait":
                train(case, folder / how, after=wait)
            else:
                train(case, folder / (how or case), last=2 if how else STEPS)


if __name__ == "__main__":
    try:
        _main(Path(sys.argv[1]), *sys.argv[2:])
    except RetainError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
