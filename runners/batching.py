"""Adaptive micro-batching: whenever the model is free, everything queued goes in together. There is no timer, so a
photo alone never waits and a burst forms batches by itself. What the model is, and its threads, is the caller's.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from deskterior.errors import DeskteriorError, Overloaded, RunnerFailed

In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True)
class _Queued(Generic[In]):
    item: In
    since: float = field(default_factory=time.perf_counter)


class MicroBatcher(Generic[In, Out]):
    """Joins single items of many callers into batches for one model, on one thread of its own.

    `run` takes 1 to `max_batch` items and answers as many results in the same order; it may block and may raise.
    A batch that raises is halved until the items at fault stand alone, so an item fails only by its own doing.
    A caller that is cancelled takes its item along: unstarted it is never computed, and its batch is not disturbed.

    `sizes` counts the batches that were run by their size. For metrics, `on_batch` is told each size as well, and
    `on_timed`, after a batch that went well, how long each of its items had waited and how long it took, in seconds.
    All callers must be on one event loop at a time.
    """

    def __init__(
        self,
        run: Callable[[Sequence[In]], Sequence[Out]],
        *,
        max_batch: int,
        max_queue: int = 1024,
        on_batch: Callable[[int], None] | None = None,
        on_timed: Callable[[Sequence[float], float], None] | None = None,
        name: str = "model",
    ) -> None:
        if max_batch < 1 or max_queue < 1:
            raise ValueError("max_batch and max_queue are at least 1")
        self.sizes: Counter[int] = Counter()
        self._run = run
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._on_batch = on_batch
        self._on_timed = on_timed
        self._name = name
        # One thread: a model on one device gains nothing from two callers, and CUDA graphs forbid it.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        # Ordered by arrival; a cancelled caller leaves from the middle in O(1), so the dead do not fill the queue.
        self._waiting: OrderedDict[asyncio.Future[Out], _Queued[In]] = OrderedDict()
        self._drain: asyncio.Task[None] | None = None
        self._closed = False
        self._seconds_per_item = 0.01
        self.answered_at = -math.inf

    @property
    def waiting(self) -> int:
        """Items queued and not yet in a batch."""
        return len(self._waiting)

    async def __call__(self, item: In) -> Out:
        """The model's result for `item`.

        Raises:
            Overloaded: at once, when `max_queue` items wait or the batcher is closed; `retry_after` in seconds.
            RunnerFailed: the model failed on this very item. Errors of our own tree pass as they are.
        """
        if self._closed:
            raise Overloaded(f"The {self._name} is stopping. Try again in a moment.", retry_after=2)
        if len(self._waiting) >= self._max_queue:
            raise Overloaded(
                f"The {self._name} has {len(self._waiting)} photos waiting. Try again later.",
                retry_after=max(1, math.ceil(len(self._waiting) * self._seconds_per_item)),
            )
        loop = asyncio.get_running_loop()
        self._adopt(loop)
        answer: asyncio.Future[Out] = loop.create_future()
        self._waiting[answer] = _Queued(item)
        if self._drain is None:
            self._drain = loop.create_task(self._work(), name=f"{self._name}-batches")
        try:
            return await answer
        finally:
            self._waiting.pop(answer, None)
            if answer.done() and not answer.cancelled():
                answer.exception()  # cancelled just as its error came: it is nobody's now, and no news for the log

    async def close(self) -> None:
        """Refuse new items, answer all that wait, then let the thread go. Safe to call twice."""
        self._closed = True
        if self._drain is not None and self._drain.get_loop() is asyncio.get_running_loop():
            await asyncio.wait({self._drain})
        self._thread.shutdown(wait=False)

    def _adopt(self, loop: asyncio.AbstractEventLoop) -> None:
        """Forget work that died with its event loop; refuse a second loop beside a living one."""
        if self._drain is None or self._drain.get_loop() is loop:
            return
        if not self._drain.get_loop().is_closed():
            raise RuntimeError(f"the {self._name}'s batcher is in use by another event loop")
        self._waiting.clear()
        self._drain = None

    async def _work(self) -> None:
        batch: list[tuple[asyncio.Future[Out], _Queued[In]]] = []
        try:
            while self._waiting:
                count = min(self._max_batch, len(self._waiting))
                batch = [self._waiting.popitem(last=False) for _ in range(count)]
                await self._answer(batch)
        except (Exception, asyncio.CancelledError) as error:  # nobody may be left waiting for ever
            for answer in [*(answer for answer, _ in batch), *self._waiting]:
                if not answer.done():
                    answer.set_exception(RunnerFailed(internal=f"{self._name}: the batcher ended by {error!r}"))
            self._waiting.clear()
            raise
        finally:
            # No await between the last look at the queue and here, so no item can slip in unseen.
            self._drain = None

    async def _answer(self, batch: list[tuple[asyncio.Future[Out], _Queued[In]]]) -> None:
        batch = [(answer, item) for answer, item in batch if not answer.done()]
        if not batch:
            return
        queued = [item for _, item in batch]
        outcome = await asyncio.get_running_loop().run_in_executor(self._thread, self._attempt, queued)
        if isinstance(outcome, DeskteriorError):
            if len(batch) == 1:
                if not batch[0][0].done():
                    batch[0][0].set_exception(outcome)
                return
            middle = len(batch) // 2
            await self._answer(batch[:middle])
            await self._answer(batch[middle:])
            return
        for (answer, _), result in zip(batch, outcome, strict=True):
            if not answer.done():
                answer.set_result(result)

    def _attempt(self, queued: list[_Queued[In]]) -> Sequence[Out] | DeskteriorError:
        """Run one batch on the model's thread. Errors come back as values: a future cannot carry every exception
        (`StopIteration` hangs it, `SystemExit` would end the event loop)."""
        items = [each.item for each in queued]
        self.sizes[len(items)] += 1
        started = time.perf_counter()
        try:
            if self._on_batch is not None:
                self._on_batch(len(items))
            results = self._run(items)
        except DeskteriorError as error:
            return error
        except BaseException as error:  # noqa: BLE001 - whatever a model raises must reach its caller, not the loop
            failed = RunnerFailed(internal=f"{self._name}: {error!r}")
            failed.__cause__ = error
            return failed
        if len(results) != len(items):
            return RunnerFailed(internal=f"{self._name} answered {len(results)} results for {len(items)} items")
        seconds = time.perf_counter() - started
        self._seconds_per_item = seconds / len(items)
        if self._on_timed is not None:
            self._on_timed([started - each.since for each in queued], seconds)
        self.answered_at = time.monotonic()
        return results
