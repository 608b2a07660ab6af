"""From what a frame costs to what a million hours cost: a calculation, no measurement.

CPU s an hour of video = 3.6 [25 decode + fps (convert + encode + remember)] + item_s / item_h
hours on the clock     = video hours * max(CPU s / cores / efficiency,
                                           GPU s / GPUs, bits / link) / machines,
                             and at least parent_ms a clip: one process hands them out
dollars                = machine hours * cores * core_hour_usd + GPU hours * gpu_hour_usd
                         + results GB * months * gb_month_usd + GB read * egress_gb_usd
"""

from __future__ import annotations

import msgspec
from _scale_measure import FPS, Costs


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done, with what, at which prices. All prices, ``efficiency`` and ``gpu_fps``
    are assumptions: replace them by your own."""

    hours: float = 1e6
    """Of video."""
    height: int = 480
    fps: float = 1.0
    """Frames sampled a second."""
    model: str = "mobilenetv2"
    item_h: float = 0.1
    """Length of a clip, hours."""
    machines: int = 100
    cores: int = 16
    efficiency: float = 0.85
    """Of a core when all are busy, over one that is alone."""
    link_gbit: float = 10.0
    """Of a machine, for reading."""
    gpus: int = 0
    gpu_fps: float = 3000.0
    """Frames a second that a GPU encodes, when there are any."""
    core_hour_usd: float = 0.04
    gpu_hour_usd: float = 2.0
    gb_month_usd: float = 0.023
    months: float = 12.0
    egress_gb_usd: float = 0.0


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """For one hour of video, but for ``wall_h`` and ``core_h``: those of the whole."""

    parts: dict[str, float]
    """CPU seconds by part."""
    gpu_s: float
    read_gb: float
    written_gb: float
    wall_h: float
    core_h: float
    """Core hours that are paid for, idle ones too."""
    bottleneck: str
    usd: float
    stored_usd: float
    """What of that keeping the results costs."""

    @property
    def cpu_s(self) -> float:
        return sum(self.parts.values())


def predict(costs: Costs, plan: Plan) -> Prediction:
    parts = cpu_parts(costs, plan)
    gpu_s = 0.0
    if plan.gpus:
        gpu_s = 3600 * plan.fps / plan.gpu_fps
        parts["encode"] = 0.0
    read_gb = costs.mbit_s[str(plan.height)] * 3600 / 8e3
    written_gb = 1e-9 * (
        3600 * plan.fps * costs.frame_bytes + costs.item_bytes[str(plan.height)] / plan.item_h
    )
    cpu_s = sum(parts.values())
    seconds = {
        "cores": cpu_s / (plan.cores * plan.efficiency),
        "GPU": gpu_s / plan.gpus if plan.gpus else 0.0,
        "network": 8 * (read_gb + written_gb) / plan.link_gbit,
        "parent": 1e-3 * costs.parent_ms / plan.item_h * plan.machines,
    }
    slowest = max(seconds, key=lambda name: seconds[name])
    machine_h = seconds[slowest] / 3600
    stored_usd = written_gb * plan.months * plan.gb_month_usd
    usd = (
        machine_h * (plan.cores * plan.core_hour_usd + plan.gpus * plan.gpu_hour_usd)
        + stored_usd
        + read_gb * plan.egress_gb_usd
    )
    return Prediction(
        parts=parts,
        gpu_s=gpu_s,
        read_gb=read_gb,
        written_gb=written_gb,
        wall_h=plan.hours * machine_h / plan.machines,
        core_h=plan.hours * machine_h * plan.cores,
        bottleneck=max(parts, key=lambda n: parts[n]) if slowest == "cores" else slowest,
        usd=usd,
        stored_usd=stored_usd,
    )


def cpu_parts(costs: Costs, plan: Plan) -> dict[str, float]:
    """CPU seconds for an hour of video, by part."""
    height, sampled = str(plan.height), 3.6 * plan.fps
    stages = {"segment": costs.segment, "detect": costs.detect}
    if plan.model in stages:
        work = {"encode": sampled * stages[plan.model], "remember": 0.0}
    else:
        work = {
            "encode": sampled * costs.encode[plan.model][height],
            "remember": sampled * costs.remember[height],
        }
    return {
        "decode": 3.6 * FPS * costs.decode[height],
        "convert": sampled * costs.convert[height],
        **work,
        "report": costs.item_s[height] / plan.item_h,
    }


def link_gbit(costs: Costs, plan: Plan) -> float:
    """Gbit/s of a machine at which its cores just wait for nothing."""
    found = predict(costs, plan)
    return 8 * (found.read_gb + found.written_gb) * plan.cores * plan.efficiency / found.cpu_s


def parent_machines(costs: Costs, plan: Plan) -> float:
    """Machines that the one parent process can just keep busy."""
    clip_s = predict(costs, plan).cpu_s * plan.item_h / (plan.cores * plan.efficiency)
    return 1e3 * clip_s / costs.parent_ms
