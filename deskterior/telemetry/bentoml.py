"""BentoML's own families, kept bounded, and its scrapes, kept few.

Its middleware stands before all of ours and labels by the raw path: each path that a stranger makes up would be a dozen
series for ever. Through this client it labels by the route's template instead.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import prometheus_client
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml._internal.server.metrics.prometheus import PrometheusClient
from prometheus_client.metrics import MetricWrapperBase
from typing_extensions import override

from deskterior.telemetry import folder

M = TypeVar("M", bound=MetricWrapperBase)
PATH_LABEL = "endpoint"
ELSEWHERE = "other"
_EVERYWHERE = frozenset({"/", "/livez", "/readyz", "/healthz", "/metrics", "/schema.json", "/docs.json"})


def label_by_route(route_of: Callable[[str], str]) -> None:
    """For a module that BentoML serves, as it is loaded. `route_of` gives the template of any path."""
    BentoMLContainer.metrics_client.set(_BoundedClient(route_of))


def label_by_path(*paths: str) -> None:
    """The same for a service whose own paths are these, without templates."""
    known = frozenset(paths) | _EVERYWHERE
    label_by_route(lambda path: path if path in known else ELSEWHERE)


class _BoundedClient(PrometheusClient):
    def __init__(self, route_of: Callable[[str], str]) -> None:
        super().__init__()
        self._route_of = route_of
        self._telling = threading.Lock()
        self._told = (-1.0, b"")

    @override
    def generate_latest(self) -> bytes:
        """The figures of all processes; of a crowd that asks at once, all but the first get what the second does."""
        asked_at = time.monotonic()
        with self._telling:
            began, text = self._told
            if began < asked_at:
                began = time.monotonic()
                with folder.looked_at():
                    text = super().generate_latest()  # type: ignore[no-untyped-call]
                self._told = began, text
            return text

    def __del__(self) -> None:
        """Nothing: BentoML's forgets this process's gauges here, in whatever order an interpreter ends."""

    @property
    @override
    def Histogram(self) -> Any:
        return partial(_bounded(prometheus_client.Histogram, self._route_of), registry=self.registry)

    @property
    @override
    def Counter(self) -> Any:
        return partial(_bounded(prometheus_client.Counter, self._route_of), registry=self.registry)

    @property
    @override
    def Summary(self) -> Any:
        return partial(_bounded(prometheus_client.Summary, self._route_of), registry=self.registry)

    @property
    @override
    def Gauge(self) -> Any:
        # Its one gauge without a mode is a time; by default there would be a series for each process that ever was.
        kind = _bounded(prometheus_client.Gauge, self._route_of)
        return partial(kind, registry=self.registry, multiprocess_mode="mostrecent")


def _bounded(kind: type[M], route_of: Callable[[str], str]) -> type[M]:
    class Bounded(kind):  # type: ignore[valid-type, misc]
        def labels(self, *values: Any, **named: Any) -> Any:
            if PATH_LABEL in named:
                named[PATH_LABEL] = route_of(named[PATH_LABEL])
            return super().labels(*values, **named)

    return Bounded
