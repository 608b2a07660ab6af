"""Traces go to the one address that was named, and to none where none was."""

from __future__ import annotations

import gzip
import http.server
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
from runtime_parts import Recorder

from retain.pipeline import tracing
from retain.pipeline.errors import UsageError
from retain.pipeline.graph import Graph
from retain.pipeline.run import start

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the extra otel")


@pytest.fixture
def collector() -> Iterator[tuple[str, list[Any]]]:
    """An OTLP/HTTP collector: its address, and the spans that came."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    spans: list[Any] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                data = gzip.decompress(data)
            assert self.path == "/v1/traces"
            for resource in ExportTraceServiceRequest.FromString(data).resource_spans:
                for scope in resource.scope_spans:
                    spans.extend(scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", spans
    server.shutdown()
    server.server_close()


def run(runner: Any) -> None:
    graph = Graph(promise="finite")
    graph.source("cam", "runtime_parts:Clip", frames=20)
    graph.stage("mean", "runtime_parts:Mean")
    graph.sink("out")
    graph.connect("cam", "mean", "out")
    report = start(graph, runner=runner, sinks={"out": Recorder()}).wait(60)
    assert report.ok, report.errors


@pytest.mark.parametrize("runner", ["inline", "local"])
def test_every_nth_frame_is_one_trace_through_all_nodes(
    collector: tuple[str, list[Any]], monkeypatch: pytest.MonkeyPatch, runner: str
) -> None:
    address, spans = collector
    monkeypatch.setenv(tracing.ENDPOINT, address)
    monkeypatch.setenv(tracing.EVERY, "5")
    began = time.time_ns()
    run(runner)
    traces = defaultdict(dict)
    for span in spans:
        about = {a.key: a.value for a in span.attributes}
        traces[span.trace_id][span.name] = (about["seq"].int_value, span)
    assert len(traces) == 4, "20 frames, every fifth"
    for nodes in traces.values():
        assert set(nodes) == {"cam", "mean", "out"}
        assert len({seq for seq, _ in nodes.values()}) == 1
        assert len({span.parent_span_id for _, span in nodes.values()}) == 1
        times = [nodes[name][1].start_time_unix_nano for name in ("cam", "mean", "out")]
        assert times == sorted(times)
        assert began <= times[0] <= time.time_ns()
    assert {seq for nodes in traces.values() for seq, _ in nodes.values()} == {0, 5, 10, 15}


def test_nothing_is_sent_unasked(
    collector: tuple[str, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even where OpenTelemetry's own variable names a collector for other programs."""
    address, spans = collector
    monkeypatch.delenv(tracing.ENDPOINT, raising=False)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
    run("local")
    assert spans == []


def test_a_collector_that_is_not_there_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv(tracing.ENDPOINT, f"http://127.0.0.1:{port}")
    run("local")


@pytest.mark.parametrize("endpoint", ["localhost:4318", "file:///tmp/x", "grpc://h:1"])
def test_what_is_no_address(endpoint: str) -> None:
    with pytest.raises(UsageError, match="no address for traces"):
        tracing.check(endpoint)


def test_a_wrong_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(tracing.ENDPOINT, "http://127.0.0.1:4318")
    monkeypatch.setenv(tracing.EVERY, "0")
    with pytest.raises(UsageError, match="whole number from 1"):
        tracing.tracer("run", "node")
