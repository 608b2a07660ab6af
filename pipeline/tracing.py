"""OpenTelemetry traces, where they are asked for: one for every so-manieth frame of a stream, in it
a span for each node that worked on the frame. They go to one address and nowhere else.

Which frames, and the ids of their traces, follow from the run, the stream and the frame's number:
nodes agree without telling each other, and nothing travels with a frame.
"""

from __future__ import annotations

import os
import time
from hashlib import blake2b
from importlib.util import find_spec
from typing import TYPE_CHECKING

from retain.pipeline.errors import UsageError

if TYPE_CHECKING:
    from retain.pipeline.frame import Frame

ENDPOINT, EVERY = "RETAIN_TRACES", "RETAIN_TRACES_EVERY"
"""Variables of the environment, which the processes of a run inherit: an OTLP/HTTP collector, such
as http://127.0.0.1:4318, and how many frames there are to one trace (25)."""
TIMEOUT_S = 2


class Tracer:
    """Spans of one node. ``run`` tells runs apart. Raises UsageError."""

    def __init__(self, run: str, node: str, endpoint: str, every: int) -> None:
        check(endpoint)
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        self._run, self._node, self._every = run, node, every
        exporter = OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces", timeout=TIMEOUT_S)
        provider = TracerProvider(resource=Resource({"service.name": "retain"}))
        provider.add_span_processor(BatchSpanProcessor(exporter))
        self._provider = provider
        self._tracer = provider.get_tracer("retain")

    def span(self, frame: Frame, began_ns: int, ended_ns: int) -> None:
        """The node worked on ``frame`` in this time (``time.monotonic_ns``), if it is traced."""
        if frame.seq % self._every:
            return
        from opentelemetry.trace import (
            NonRecordingSpan,
            SpanContext,
            TraceFlags,
            set_span_in_context,
        )

        name = f"{self._run}\0{frame.stream}\0{frame.seq}"
        digest = blake2b(name.encode(), digest_size=24).digest()
        ids = int.from_bytes(digest[:16], "big"), int.from_bytes(digest[16:], "big")
        above = SpanContext(*ids, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
        wall = time.time_ns() - time.monotonic_ns()
        about = {"stream": frame.stream, "seq": frame.seq, "pts_s": float(frame.seconds)}
        span = self._tracer.start_span(
            self._node,
            set_span_in_context(NonRecordingSpan(above)),
            attributes=about,
            start_time=wall + began_ns,
        )
        span.set_attribute("age_ms", (ended_ns - frame.t_arrival_ns) / 1e6)
        span.end(wall + ended_ns)

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()


def tracer(run: str, node: str) -> Tracer | None:
    """The node's tracer, where the environment asks for traces. Raises UsageError."""
    endpoint = os.environ.get(ENDPOINT, "")
    every = os.environ.get(EVERY, "") or "25"
    if not endpoint:
        return None
    if not every.isdecimal() or not int(every):
        raise UsageError(f"{EVERY} is a whole number from 1 on, not {every!r}.")
    return Tracer(run, node, endpoint, int(every))


def check(endpoint: str) -> None:
    """Raises UsageError when no traces can go to ``endpoint``."""
    if not endpoint.startswith(("http://", "https://")):
        raise UsageError(
            f"{endpoint!r} is no address for traces.",
            hint="Write that of an OTLP/HTTP collector, such as http://127.0.0.1:4318.",
        )
    try:
        found = find_spec("opentelemetry.exporter.otlp.proto.http")
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise UsageError(
            "Traces need OpenTelemetry, which is not installed.",
            hint="Install it: pip install 'retain[otel]'",
        )
