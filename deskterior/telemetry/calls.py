"""A call to an outside service or a runner, measured: how long, what came of it, and a span of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from opentelemetry.trace import SpanKind

from deskterior.errors import DeskteriorError
from deskterior.schemas import CostItem
from deskterior.telemetry import metrics, traces

OK = "ok"
OPENAI = "openai"
_TOLD = frozenset({400, 401, 403, 404, 408, 413, 429, 500, 502, 503, 504})


@dataclass
class Call:
    """`outcome` is set by a caller whose failure is no exception."""

    outcome: str = OK

    def answered(self, status: int) -> None:
        """The call's HTTP status; of those that nobody needs to tell apart, the class."""
        if not 200 <= status < 300:
            known = f"http-{status // 100}xx" if 100 <= status < 600 else "http-other"
            self.outcome = f"http-{status}" if status in _TOLD else known


@contextmanager
def outside_call(provider: str, model: str) -> Iterator[Call]:
    """Measure the block. `provider` and `model` (or operation) are names of the code or the settings."""
    call = Call()
    started = time.perf_counter()
    about = {"peer.service": provider, "deskterior.model": model}
    with traces.span(f"{provider} {model}", SpanKind.CLIENT, attributes=about) as span:
        try:
            yield call
        except BaseException as error:
            call.outcome = _outcome(error)
            raise
        finally:
            metrics.PROVIDER_CALLS.labels(provider, model, call.outcome).inc()
            metrics.PROVIDER_SECONDS.labels(provider, model).observe(time.perf_counter() - started)
            if call.outcome != OK:
                traces.failed(span, call.outcome)


def _outcome(error: BaseException) -> str:
    if isinstance(error, DeskteriorError):
        return error.slug
    return "cancelled" if isinstance(error, asyncio.CancelledError | GeneratorExit) else "failed"


def count_cost(cost: CostItem | None) -> None:
    """Count what a call has cost; all that is paid for goes to OpenAI."""
    if cost is not None and cost.usd > 0:
        metrics.PROVIDER_USD.labels(OPENAI, cost.model).inc(cost.usd)
