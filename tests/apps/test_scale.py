"""The calculation behind docs/scale.md, against numbers worked out by hand."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from retain.apps import bench

model: Any = bench.load("_scale_model")
COSTS = bench.load("_scale_measure").Costs(
    decode={"480": 1.0}, convert={"480": 0.5}, encode={"pixels": {"480": 2.0}},
    remember={"480": 1.5}, segment=10.0, detect=20.0, mbit_s={"480": 2.0}, item_s={"480": 3.0},
    item_bytes={"480": 6e6}, frame_bytes=1000.0, parent_ms=1.0, machine="none",
)  # fmt: skip
PLAN = model.Plan(
    hours=1000, height=480, fps=2.0, model="pixels", item_h=0.5, machines=10, cores=4,
    efficiency=0.5, link_gbit=10.0, core_hour_usd=0.1, gb_month_usd=0.02, months=10,
    egress_gb_usd=0.01,
)  # fmt: skip


def predict(**changes: Any) -> Any:
    return model.predict(COSTS, msgspec.structs.replace(PLAN, **changes))


def test_an_hour_of_video_by_hand() -> None:
    found = predict()
    assert found.parts == pytest.approx(
        {"decode": 90, "convert": 3.6, "encode": 14.4, "remember": 10.8, "report": 6}
    )
    assert found.cpu_s == pytest.approx(124.8)
    assert found.bottleneck == "decode"
    assert found.core_h == pytest.approx(1000 * 124.8 / 0.5 / 3600)
    assert found.wall_h == pytest.approx(found.core_h / 40)
    assert found.read_gb == pytest.approx(0.9)
    assert found.written_gb == pytest.approx(0.0072 + 0.012)
    assert found.stored_usd == pytest.approx(0.0192 * 10 * 0.02)
    paid = 124.8 / 0.5 / 3600 * 0.1
    assert found.usd == pytest.approx(paid + found.stored_usd + 0.009)


@pytest.mark.parametrize(
    ("changes", "bottleneck"),
    [
        ({"fps": 25.0}, "encode"),
        ({"item_h": 0.01}, "report"),
        ({"link_gbit": 0.01}, "network"),
        ({"machines": 100_000}, "parent"),
        ({"gpus": 1, "gpu_fps": 10.0, "fps": 25.0}, "GPU"),
        ({"model": "segment"}, "decode"),
        ({"model": "detect", "fps": 5.0}, "encode"),
    ],
)
def test_the_bottleneck_moves(changes: dict[str, Any], bottleneck: str) -> None:
    assert predict(**changes).bottleneck == bottleneck


def test_time_falls_with_machines_until_something_shared_is_full() -> None:
    one = predict()
    assert predict(machines=20).wall_h == pytest.approx(one.wall_h / 2)
    assert predict(machines=20).usd == pytest.approx(one.usd)
    full = predict(machines=10**6)
    assert (
        full.wall_h
        == pytest.approx(predict(machines=10**7).wall_h)
        == pytest.approx(2000 * 1e-3 / 3600)
    )
    assert full.usd > one.usd, "machines that wait are paid for"


def test_a_gpu_takes_the_encoding_and_nothing_else() -> None:
    before, after = predict(), predict(gpus=2, gpu_fps=1000.0)
    assert after.gpu_s == pytest.approx(7.2)
    assert after.parts == before.parts | {"encode": 0.0}


def test_where_what_is_shared_begins_to_decide() -> None:
    link, machines = model.link_gbit(COSTS, PLAN), model.parent_machines(COSTS, PLAN)
    assert predict(link_gbit=1.01 * link).bottleneck == "decode"
    assert predict(link_gbit=0.99 * link).bottleneck == "network"
    assert predict(machines=int(0.99 * machines)).bottleneck == "decode"
    assert predict(machines=int(1.01 * machines)).bottleneck == "parent"
