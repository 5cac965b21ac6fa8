"""What a scrape of /metrics adds to what was counted: the state of the job store, the GPU, the limits and the model.

They are the same from whatever process is asked, so several machines with one job store tell the same: take the `max`
of them, not the `sum`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Self

import structlog
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from deskterior import version
from deskterior.config import Settings
from deskterior.gpu import GpuState, gpu_states
from deskterior.gpu_figures import gpu_families
from deskterior.jobs.database import DatabaseAway
from deskterior.makeover.figures import StoreFigures
from deskterior.makeover.tables import UNFINISHED
from deskterior.services import Workplace
from deskterior.telemetry.metrics import SCORES
from runners.desk_engine import ModelInfo

log = structlog.get_logger(__name__)

FRESH_S = 5.0
"""A job store is asked so often at most, however many scrape."""
STORE_WITHIN_S = 2.0
KINDS = ("v1", "v2")


@dataclass(frozen=True)
class State:
    """What was found out for one scrape. `store` is None while the job store does not answer."""

    settings: Settings
    store: StoreFigures | None
    gpus: list[GpuState]
    model: ModelInfo
    threshold: float


class Figures:
    """`store` reads the job store's figures; `desk` tells of the model that answers now, and its threshold."""

    def __init__(
        self,
        settings: Settings,
        store: Callable[[], Awaitable[StoreFigures]],
        desk: Callable[[], tuple[ModelInfo, float]],
    ) -> None:
        self._settings = settings
        self._store = store
        self._desk = desk
        self._asking = asyncio.Lock()
        self._found: tuple[float, StoreFigures | None, list[GpuState]] | None = None

    @classmethod
    def of(cls, work: Workplace) -> Self:
        return cls(work.settings, work.makeovers.figures, lambda: (work.desk.info, work.desk_threshold))

    async def text(self) -> str:
        """In Prometheus' text format."""
        async with self._asking:
            if self._found is None or time.monotonic() - self._found[0] > FRESH_S:
                store, gpus = await asyncio.gather(self._read(), asyncio.to_thread(gpu_states))
                self._found = time.monotonic(), store, gpus
        _, store, gpus = self._found
        return exposition(State(self._settings, store, gpus, *self._desk()))

    async def _read(self) -> StoreFigures | None:
        try:
            async with asyncio.timeout(STORE_WITHIN_S):
                return await self._store()
        except (DatabaseAway, TimeoutError) as error:
            log.warning("figures.no_job_store", error=type(error).__name__)
            return None


def exposition(state: State) -> str:
    registry = CollectorRegistry()
    registry.register(_Families(state))
    return generate_latest(registry).decode()


class _Families(Collector):
    def __init__(self, state: State) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        yield from families(self._state)


def families(state: State) -> Iterator[Metric]:
    """Every family, also those of which there is nothing to tell."""
    yield from _about(state)
    yield from _store(state)
    yield from gpu_families(state.gpus)
    yield from _reference(state.model)


def _about(state: State) -> Iterator[Metric]:
    built = GaugeMetricFamily("deskterior_build_info", "Always 1.", labels=["version", "model", "device"])
    built.add_metric([version(), state.model.label, state.model.device], 1)
    yield built
    settings = state.settings
    cap = "Most USD that may be spent in a day (UTC); 0 is no cap."
    yield GaugeMetricFamily("deskterior_spend_cap_usd", cap, settings.spend_cap_usd_per_day)
    most = "Most makeovers that may wait for a place; 0 is no limit."
    yield GaugeMetricFamily("deskterior_tasks_waiting_limit", most, settings.tasks_waiting)
    most = "Most requests of a kind at once in one process."
    yield GaugeMetricFamily("deskterior_requests_in_flight_limit", most, settings.max_concurrency)
    score = "Score from which a photo is a desk."
    yield GaugeMetricFamily("deskterior_score_threshold", score, state.threshold)


def _store(state: State) -> Iterator[Metric]:
    found = state.store
    yield GaugeMetricFamily("deskterior_job_store_up", "Whether the job store answers.", int(found is not None))
    tasks = GaugeMetricFamily("deskterior_tasks", "Makeovers that have not ended.", labels=["kind", "status"])
    oldest = GaugeMetricFamily(
        "deskterior_oldest_task_seconds", "How long ago the oldest of them was queued, or began.", labels=["status"]
    )
    waiting = GaugeMetricFamily("deskterior_callbacks_waiting", "Callbacks that the backend has not taken yet.")
    untold = GaugeMetricFamily("deskterior_oldest_callback_seconds", "The age of the oldest of them.")
    executors = GaugeMetricFamily("deskterior_executors", "Processes that run jobs.")
    spent = GaugeMetricFamily("deskterior_spent_today_usd", "What the day's calls (UTC) have cost, or may yet.")
    held = GaugeMetricFamily("deskterior_held_today_usd", "What the makeovers under way may cost besides.")
    if found:
        for kind in KINDS:
            for status in UNFINISHED:
                tasks.add_metric([kind, status], found.tasks.get((kind, status), 0))
        for status in UNFINISHED:
            oldest.add_metric([status], found.oldest_s.get(status, 0.0))
        for family, value in (
            (waiting, found.callbacks_waiting),
            (untold, found.callbacks_oldest_s),
            (executors, found.executors),
            (spent, found.spent_usd),
            (held, found.held_usd),
        ):
            family.add_metric([], value)
    yield from (tasks, oldest, waiting, untold, executors, spent, held)


def _reference(model: ModelInfo) -> Iterator[Metric]:
    """How scores were distributed in training, for each class apart: how common desks are is no property of a model."""
    family = GaugeMetricFamily(
        "deskterior_reference_score_cdf",
        "Share of the training photos of a class with a score up to le, out of fold.",
        labels=["model", "class", "le"],
    )
    if (seen := model.score_histogram) is not None:
        for name, counts in (("desk", seen.desk), ("not_desk", seen.not_desk)):
            for index, edge in enumerate(seen.edges[1:]):
                if edge in SCORES:
                    share = sum(counts[: index + 1]) / sum(counts)
                    family.add_metric([model.label, name, f"{edge:g}"], share)
    yield family
