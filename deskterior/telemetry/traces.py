"""OpenTelemetry traces: off until `start`, and then of what this project does, not of its libraries.

A span's parent is given by name (W3C `traceparent`) wherever it comes from outside this process: a client, the job
store, an API that calls its runner. Spans hold no address, no text of a user and no message of an error.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import structlog
from opentelemetry import context, trace
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from deskterior.background import finish
from deskterior.telemetry.settings import TelemetrySettings

log = structlog.get_logger(__name__)

TRACEPARENT = "traceparent"
FLUSH_WITHIN_S = 5.0
"""What a stop waits for a collector."""
TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
DISABLED = "OTEL_SDK_DISABLED"
Attribute = str | int | float | bool

_propagator = TraceContextTextMapPropagator()
_provider: TracerProvider | None = None
_tracer: trace.Tracer | None = None


def start(settings: TelemetrySettings, version: str, part: str = "") -> None:
    """Trace this process from now on, if there is somewhere to send traces.

    `part` is the runner that this process is. Spans wait in memory, 2048 at most, and go out from a thread of their
    own: a collector that is away loses them and holds up nothing. Which are kept is `OTEL_TRACES_SAMPLER`'s.
    """
    endpoint = os.environ.get(TRACES_ENDPOINT) or (
        f"{settings.otel_exporter_otlp_endpoint}/v1/traces" if settings.otel_exporter_otlp_endpoint else ""
    )
    if not endpoint or os.environ.get(DISABLED, "").strip().lower() == "true":
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    name = f"{settings.otel_service_name}-{part}" if part else settings.otel_service_name
    record_with(BatchSpanProcessor(OTLPSpanExporter(endpoint)), name, version)


def record_with(processor: SpanProcessor, name: str, version: str) -> None:
    """Give spans to `processor`."""
    global _provider, _tracer
    resource = Resource.create({SERVICE_NAME: name, SERVICE_VERSION: version, SERVICE_INSTANCE_ID: str(os.getpid())})
    # Not OpenTelemetry's global one: libraries that find it there would add spans with addresses of their own.
    _provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    _provider.add_span_processor(processor)
    _tracer = _provider.get_tracer("deskterior", version)


def forget() -> TracerProvider | None:
    """Trace no more; what held the spans, if there was any."""
    global _provider, _tracer
    provider, _provider, _tracer = _provider, None, None
    return provider


async def stop() -> None:
    """Send what is waiting, for some seconds at most, and trace no more."""
    if (provider := forget()) is None:
        return
    if not await finish(provider.shutdown, name="traces-flush", within_s=FLUSH_WITHIN_S):
        log.warning("traces.lost", reason="the collector did not answer in time")


def on() -> bool:
    return _tracer is not None


@contextmanager
def span(
    name: str,
    kind: SpanKind = SpanKind.INTERNAL,
    *,
    parent: str | None = None,
    attributes: Mapping[str, Attribute] | None = None,
) -> Iterator[Span]:
    """A span around the block, under `parent` (a `traceparent`) or else under the span that is open here.

    An error that leaves the block marks it with its slug, or its type's name.
    """
    if _tracer is None:
        yield INVALID_SPAN
        return
    under = None if parent is None else read(parent)
    with _tracer.start_as_current_span(
        name, under, kind, attributes, record_exception=False, set_status_on_exception=False
    ) as made:
        try:
            yield made
        except BaseException as error:
            failed(made, getattr(error, "slug", type(error).__name__))
            raise


def failed(made: Span, what: str) -> None:
    """Mark a span as one of something that failed."""
    made.set_attribute("error.type", what)
    made.set_status(Status(StatusCode.ERROR))


def read(traceparent: str | None) -> context.Context:
    """What a `traceparent` says, or a trace of its own: whatever else is open here does not count."""
    return _propagator.extract({TRACEPARENT: traceparent} if traceparent else {}, context.Context())


def current() -> str | None:
    """The `traceparent` of the open span, to be kept or sent; None while there are no traces."""
    if _tracer is None:
        return None
    carrier: dict[str, str] = {}
    _propagator.inject(carrier)
    return carrier.get(TRACEPARENT)


def headers() -> Mapping[str, str]:
    """What to send to our own: the backend and the runners. Nobody else hears of a trace."""
    return {TRACEPARENT: now} if (now := current()) else {}


def ids() -> dict[str, str]:
    """`trace_id` and `span_id` of the open span, for a log line."""
    if _tracer is None:
        return {}
    now = trace.get_current_span().get_span_context()
    return {"trace_id": f"{now.trace_id:032x}", "span_id": f"{now.span_id:016x}"} if now.is_valid else {}
