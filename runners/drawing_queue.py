"""Pictures that wait to be drawn: bounded, the oldest first, joined by what fits into one batch.

Who draws, and when, is left to `drawing_engine`. Everything here happens on the event loop.
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

import structlog
from PIL import Image

from deskterior.errors import DeskteriorError, Overloaded
from runners.drawing import DrawnPicture, DrawRequest, OnStep

log = structlog.get_logger(__name__)

SECONDS_UNTIL_MEASURED = 5.0
LONGEST_WAIT_S = 600


@dataclass(eq=False)
class Job:
    """One request, with its photo decoded. `answer` is done when it was drawn, failed, or nobody wants it any more."""

    request: DrawRequest
    picture: Image.Image
    seed: int
    answer: asyncio.Future[DrawnPicture]
    on_step: OnStep | None = None
    steps: int = field(default=0, init=False)

    @property
    def gone(self) -> bool:
        """May be read on any thread."""
        return self.answer.done()

    def step(self, done: int, total: int) -> None:
        """Tell the caller of a step. What is drawn again after its batch failed does not go back in its steps."""
        if self.gone or self.on_step is None or done <= self.steps:
            return
        self.steps = done
        try:
            self.on_step(done, total)
        except Exception as error:  # noqa: BLE001 - those who watch do not spoil the picture
            log.warning("drawing_model.watcher_failed", error=repr(error))

    def fail(self, error: DeskteriorError) -> None:
        if not self.gone:
            self.answer.set_exception(error)


class DrawQueue:
    """At most `most` requests at a time, those counted that are still being decoded."""

    def __init__(self, most: int) -> None:
        if most < 1:
            raise ValueError("a queue has room for one at least")
        self._most = most
        self._waiting: OrderedDict[int, Job] = OrderedDict()
        self._entering = 0
        self.seconds_per_picture = 0.0
        """Measured; 0 before the first."""

    def __len__(self) -> int:
        return len(self._waiting)

    def enter(self) -> None:
        """Take a place, to be given up by `leave` or `put`.

        Raises:
            Overloaded: none is free; `retry_after` is the time in which half of those who wait will have been drawn.
        """
        taken = len(self._waiting) + self._entering
        if taken >= self._most:
            seconds = taken / 2 * (self.seconds_per_picture or SECONDS_UNTIL_MEASURED)
            raise Overloaded(
                f"The drawing model has {taken} pictures waiting. Try again later.",
                retry_after=min(LONGEST_WAIT_S, max(1, math.ceil(seconds))),
            )
        self._entering += 1

    def leave(self) -> None:
        self._entering -= 1

    def put(self, job: Job) -> None:
        self._entering -= 1
        self._waiting[id(job)] = job

    def drop(self, job: Job) -> None:
        """The caller has gone. Nothing happens to a job that is not waiting any more."""
        self._waiting.pop(id(job), None)

    def take(self, alike: Callable[[Job], Hashable], most: int) -> list[Job]:
        """The oldest job, and by age those that are `alike` to it, `most` in all.

        Whoever waits longest is always served next, so nothing rare waits for ever behind what is common.
        """
        batch: list[Job] = []
        kind: Hashable = None
        for job in self._waiting.values():
            if not batch:
                kind = alike(job)
            if alike(job) == kind:
                batch.append(job)
            if len(batch) >= most:
                break
        for job in batch:
            del self._waiting[id(job)]
        return batch

    def measured(self, seconds: float, pictures: int) -> None:
        """A batch took so long."""
        each = seconds / pictures
        self.seconds_per_picture = 0.7 * self.seconds_per_picture + 0.3 * each if self.seconds_per_picture else each

    def fail_all(self, error: Callable[[], DeskteriorError]) -> None:
        while self._waiting:
            self._waiting.popitem(last=False)[1].fail(error())
