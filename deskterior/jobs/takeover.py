"""A thread that keeps this executor alive in the register and takes over the jobs of those that died.

It is a thread because a blocked event loop must not look dead. What it does not know is what a job is: `resume` gives
the jobs of a dead executor back to the queue.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog

from deskterior.jobs.executors import Executors
from deskterior.telemetry import metrics

log = structlog.get_logger(__name__)

BEATS_PER_TTL = 3


class Takeover:
    """Beat, and sweep for the dead, until closed.

    `resume(executor_id)` makes the jobs of a dead executor run again and says how many; it must be safe to call again.
    `on_fenced` is called, once and in this thread, when others have declared us dead.
    """

    def __init__(
        self, executors: Executors, ttl_s: float, *, resume: Callable[[str], int], on_fenced: Callable[[], None]
    ) -> None:
        self._executors = executors
        self._ttl_s = ttl_s
        self._resume = resume
        self._on_fenced = on_fenced
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="job-takeover")

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Stop beating and sweeping."""
        self._stop.set()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout=5)

    def _run(self) -> None:
        healthy_since = time.monotonic()
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                if not self._executors.beat():
                    metrics.FENCED.inc()
                    log.error("jobs.fenced", executor=self._executors.id)
                    self._on_fenced()
                    return
                # After an outage of the database every executor looks silent until it has had the time to beat again;
                # so too after it has hung, or we have been frozen.
                if time.monotonic() - began > self._ttl_s / BEATS_PER_TTL:
                    healthy_since = time.monotonic()
                self.sweep(trust_heartbeats=time.monotonic() - healthy_since >= self._ttl_s)
            except Exception as error:  # noqa: BLE001 - whatever the database dies of, the next beat tries again
                healthy_since = time.monotonic()
                log.warning("jobs.takeover_failed", error=type(error).__name__)
            self._stop.wait(self._ttl_s / BEATS_PER_TTL)

    def sweep(self, *, trust_heartbeats: bool) -> None:
        """Take over what the dead have left."""
        for dead in self._executors.claim_dead(trust_heartbeats=trust_heartbeats):
            moved = self._resume(dead.executor_id)
            metrics.TAKEOVERS.inc()
            metrics.JOBS_TAKEN_OVER.inc(moved)
            log.info("jobs.taken_over", of=dead.executor_id, jobs=moved)
            # Had we died before this line, another one would sweep again when our claim runs out.
            self._executors.forget(dead)
