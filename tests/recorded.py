"""Traces and figures of the test's own process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import REGISTRY

from deskterior.telemetry import traces


class Recorded:
    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self._exporter = exporter

    def all(self, name: str = "") -> list[ReadableSpan]:
        """Spans that have ended, in the order in which they did."""
        return [span for span in self._exporter.get_finished_spans() if name in {"", span.name}]

    def one(self, name: str) -> ReadableSpan:
        (found,) = self.all(name)
        return found


@contextmanager
def recorded() -> Iterator[Recorded]:
    """Trace while the block runs."""
    exporter = InMemorySpanExporter()
    traces.record_with(SimpleSpanProcessor(exporter), "test", "0")
    try:
        yield Recorded(exporter)
    finally:
        traces.forget()


def trace_id(span: ReadableSpan) -> str:
    return f"{span.context.trace_id:032x}"


def span_id(span: ReadableSpan) -> str:
    return f"{span.context.span_id:016x}"


def parent_id(span: ReadableSpan) -> str:
    return f"{span.parent.span_id:016x}" if span.parent else ""


class Counting:
    """How much a figure of this process has grown since this was made."""

    def __init__(self, name: str, **labels: str) -> None:
        self._name, self._labels = name, labels
        self._before = self._now()

    def _now(self) -> float:
        return REGISTRY.get_sample_value(self._name, self._labels) or 0.0

    @property
    def grown(self) -> float:
        return self._now() - self._before
