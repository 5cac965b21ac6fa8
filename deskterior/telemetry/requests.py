"""A request that is answered, measured: how many, how long, and a span of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from opentelemetry.trace import SpanKind

from deskterior.telemetry import metrics, traces

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"})
HUNG_UP = 499
"""The status where the client went before there was one."""


@contextmanager
def counted(route: str, method: str, status: Callable[[], int]) -> Iterator[None]:
    """Around the answer to a request. `status` tells how it was answered, 0 if it was not."""
    method = method if method in METHODS else "other"
    started = time.perf_counter()
    try:
        yield
    finally:
        metrics.REQUESTS.labels(route, method, status() or HUNG_UP).inc()
        metrics.REQUEST_SECONDS.labels(route, method).observe(time.perf_counter() - started)


@contextmanager
def traced(
    route: str, method: str, status: Callable[[], int], request_id: str, traceparent: str | None
) -> Iterator[None]:
    """Likewise. `traceparent` is the client's, whose trace is gone on with.

    Whether the client's word on sampling counts is for the sampler that the settings choose.
    """
    if not traces.on():
        yield
        return
    known = method in METHODS
    name = f"{method} {route}" if known else route
    about = {
        "http.request.method": method if known else "other",
        "http.route": route,
        "deskterior.request_id": request_id,
    }
    with traces.span(name, SpanKind.SERVER, parent=traceparent or "", attributes=about) as span:
        try:
            yield
        finally:
            span.set_attribute("http.response.status_code", status() or HUNG_UP)
            if status() >= 500:
                traces.failed(span, str(status()))
