"""ONNX graphs that are no YOLOX, or not the one they seem to be."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from shared_data import shared_data
from yolox_parts import NANO, official

from retain.models.mamba.hosts import yolox_weights
from retain.models.mamba.hosts.yolox_weights import from_state, load
from retain.pipeline.errors import SourceError, UsageError

ONNX = "yolox_nano_416x416.onnx"


def message(*fields: tuple[int, bytes | int]) -> bytes:
    """A protocol buffer of numbered fields."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
        else:
            out += varint(number << 3 | 2) + varint(len(value)) + value
    return out


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def tensor(name: str, values: np.ndarray) -> bytes:
    dims = [(1, n) for n in values.shape]
    raw = values.astype("<f4").tobytes()
    return message(*dims, (2, 1), (8, name.encode()), (9, raw))


def value(name: str, *shape: int) -> bytes:
    dims = message(*((1, message((1, n))) for n in shape))
    return message((1, name.encode()), (2, message((1, message((1, 1), (2, dims))))))


def convolutions(count: int, bias: bool = True) -> bytes:
    """A graph of ``count`` 1x1 convolutions of three channels."""
    fields: list[tuple[int, bytes | int]] = []
    for k in range(count):
        inputs = [f"x{k}", f"w{k}"] + [f"b{k}"] * bias
        fields += [(5, tensor(f"w{k}", np.ones((3, 3, 1, 1))))]
        fields += [(5, tensor(f"b{k}", np.ones(3)))] * bias
        names = [(1, name.encode()) for name in inputs]
        fields.append((1, message(*names, (2, f"x{k + 1}".encode()), (4, b"Conv"))))
    fields += [(2, b"g"), (11, value("x0", 1, 3, 8, 8)), (12, value(f"x{count}", 1, 3, 8, 8))]
    opset = message((1, b""), (2, 12))
    return message((1, 7), (7, message(*fields)), (8, opset))


@pytest.mark.parametrize(
    ("graph", "says"),
    [
        (convolutions(1), "it does not begin like one"),
        (convolutions(60), "it does not begin like one"),
        (convolutions(2, bias=False), "no bias of its own"),
    ],
)
def test_graphs_of_something_else_are_refused(graph: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / "other.onnx").write_bytes(graph)
    with pytest.raises(UsageError, match=f"other.onnx is not a YOLOX: .*{says}"):
        load(tmp_path / "other.onnx")


def test_shapes_that_fit_no_size_are_refused() -> None:
    shapes = [(16, 12, 3, 3), *[(16, 16, 1, 1)] * 112]
    with pytest.raises(UsageError, match="its 113 convolutions are not those of any size"):
        yolox_weights._plan_of(shapes, "a.onnx")


def test_a_graph_that_computes_something_else_is_refused() -> None:
    graph = cv2.dnn.readNetFromONNX(str(shared_data(ONNX)))
    with pytest.raises(UsageError, match="computes something else"):
        yolox_weights._checked(from_state(official(NANO)), graph, "a.onnx")


def test_a_real_export_is_read() -> None:
    network = load(shared_data(ONNX))
    assert network.plan == NANO
    assert network.plan.kind == "nano"


def test_an_export_cut_short_is_refused(tmp_path: Path) -> None:
    whole = shared_data(ONNX).read_bytes()
    path = tmp_path / "a.onnx"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SourceError, match="cannot read a.onnx"):
        load(path)
