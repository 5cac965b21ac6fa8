"""A collector of traces on loopback: what OTLP over HTTP brings is kept, for tests and for a picture of a trace."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Span:
    """Times are Unix seconds; `parent_id` is empty for the first of a trace, and ids are in hexadecimal."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: int
    start: float
    end: float
    failed: bool
    attributes: dict[str, str] = field(default_factory=dict)


class Collector:
    """`refuse` is the status to answer with instead of taking spans, 0 for none."""

    def __init__(self) -> None:
        self.url = ""
        self.refuse = 0
        self.asked = 0
        self._spans: list[Span] = []
        self._news = threading.Condition()

    def spans(self, trace_id: str = "") -> list[Span]:
        with self._news:
            return [span for span in self._spans if trace_id in {"", span.trace_id}]

    def wait_for(self, found: Callable[[list[Span]], object], within_s: float = 30) -> list[Span]:
        """All spans, once they are what is waited for. Raises TimeoutError."""
        with self._news:
            if not self._news.wait_for(lambda: found(self._spans), within_s):
                raise TimeoutError(f"only these came: {sorted(span.name for span in self._spans)}")
            return list(self._spans)

    def ask(self) -> None:
        with self._news:
            self.asked += 1
            self._news.notify_all()

    def wait_to_be_asked(self, within_s: float = 30) -> None:
        with self._news:
            if not self._news.wait_for(lambda: self.asked, within_s):
                raise TimeoutError("nobody has sent a trace")

    def take(self, body: bytes) -> None:
        """An `ExportTraceServiceRequest`; protobuf raises for what is none."""
        given = ExportTraceServiceRequest.FromString(body)
        with self._news:
            for resource in given.resource_spans:
                service = {one.key: one.value.string_value for one in resource.resource.attributes}["service.name"]
                for scope in resource.scope_spans:
                    self._spans.extend(_span(service, span) for span in scope.spans)
            self._news.notify_all()


def _span(service: str, span: Any) -> Span:
    return Span(
        service=service,
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        kind=span.kind,
        start=span.start_time_unix_nano / 1e9,
        end=span.end_time_unix_nano / 1e9,
        failed=span.status.code == 2,
        attributes={one.key: _value(one.value) for one in span.attributes},
    )


def _value(value: Any) -> str:
    return str(getattr(value, value.WhichOneof("value")))


@contextmanager
def collector() -> Iterator[Collector]:
    """Listens on a free port until the block ends."""
    made = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            made.ask()
            status = made.refuse or (200 if self.path == "/v1/traces" else 404)
            if status == 200:
                try:
                    made.take(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
                except Exception:  # noqa: BLE001 - whatever protobuf says of it, it is no export
                    status = 400
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
