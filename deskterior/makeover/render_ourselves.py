"""Render by our own model: free, so it may be asked again; told of by steps; and stopped when the task is cancelled.

What is drawn at once is up to the model's queue. That it is full, or restarting, is waited out for a while.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import structlog

from deskterior.errors import Overloaded, RunnerFailed
from deskterior.jobs.database import DatabaseAway
from deskterior.makeover.journal import Journal, Run, Superseded
from deskterior.makeover.pictures import Picture, Pictures
from deskterior.makeover.prompts.own import OwnPrompts
from deskterior.providers.custom import OwnModel
from deskterior.schemas import Concept, Description
from runners.drawing import DrawnPicture, OnStep

log = structlog.get_logger(__name__)

PATIENCE_S = 600.0
"""How long a picture is tried for, before a model that is busy, or fails, fails the task."""
BUSY_PAUSE_S = (1.0, 30.0)
"""The least and the longest wait for a busy model; in between, as long as it says."""
FAILED_PAUSES_S = (1.0, 5.0)
"""Before the second and the third try of a drawing that failed. There is no fourth."""
STEP_PAUSE_S = 0.5
"""Between two steps of a picture that are written down."""


class RenderOurselves:
    """At most `places` pictures are with the model at once. `ended` returns when a run may go no further."""

    def __init__(
        self,
        model: OwnModel,
        pictures: Pictures,
        prompts: OwnPrompts,
        *,
        places: asyncio.Semaphore,
        ended: Callable[[Run], Awaitable[None]],
    ) -> None:
        self._model = model
        self._pictures = pictures
        self._prompts = prompts
        self._places = places
        self._ended = ended

    async def __call__(self, run: Run, journal: Journal, photo: bytes, description: Description) -> Picture:
        """Draw the desk restyled.

        Raises:
            CustomModelMissing: there is no model any more.
            Overloaded, RunnerFailed: it was too busy for too long, or failed too often.
            PhotoUnreadable: the model cannot decode the photo.
            Superseded: the task was cancelled, or another run has it.
        """
        done = run.done.get("render") or await self._pictures.kept_before_the_end(run, journal, None)
        if done is None:
            concept = Concept(run.task.concept)
            prompt = self._prompts.render(concept, description)
            async with self._places:
                number = await journal.begin(run, "render")
                steps = _Steps(run, journal, number)
                try:
                    drawing = self._patiently(journal, prompt, photo, concept, steps)
                    drawn = await self._unless_ended(run, steps, drawing)
                    key = await self._pictures.keep(run, number, drawn.content_type, drawn.image)
                except Exception:
                    await journal.failed(run, "render", number)
                    raise
                done = Picture(key=key).model_dump_json()
                await journal.done(run, "render", number, done)
        return Picture.model_validate_json(done)

    async def _patiently(
        self, journal: Journal, prompt: str, photo: bytes, concept: Concept, on_step: OnStep
    ) -> DrawnPicture:
        loop = asyncio.get_running_loop()
        until = loop.time() + PATIENCE_S
        failed = iter(FAILED_PAUSES_S)
        while True:
            journal.checkpoint()
            try:
                return await self._model.draw(prompt, photo, concept, on_step)
            except (Overloaded, RunnerFailed) as error:
                pause = _busy_pause(error) if isinstance(error, Overloaded) else next(failed, None)
                if pause is None or loop.time() + pause > until:
                    raise
                log.warning("render.again", slug=error.slug, internal=error.internal or error.detail, in_s=pause)
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))

    async def _unless_ended(self, run: Run, steps: _Steps, drawing: Coroutine[Any, Any, DrawnPicture]) -> DrawnPicture:
        """`drawing`, given up as soon as the task is not this run's any more."""
        working = asyncio.create_task(drawing, name="render")
        others = {asyncio.ensure_future(self._ended(run)), asyncio.create_task(steps.write(), name="render-steps")}
        try:
            await asyncio.wait({working, *others}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                for other in others:
                    if other.done():
                        other.result()  # had the watching itself failed, that is what is to be told
                raise Superseded
            return await working
        finally:
            for task in (working, *others):
                task.cancel()
            await asyncio.gather(working, *others, return_exceptions=True)


def _busy_pause(error: Overloaded) -> float:
    least, longest = BUSY_PAUSE_S
    return min(longest, max(least, error.retry_after or 0.0))


class _Steps:
    """The steps of a drawing on their way into the journal: the furthest, and not too often. One that is begun anew
    tells of its own only once it has come further than the one before."""

    def __init__(self, run: Run, journal: Journal, number: int) -> None:
        self._run = run
        self._journal = journal
        self._number = number
        self._furthest = (0, 1)
        self._news = asyncio.Event()

    def __call__(self, step: int, of: int) -> None:
        if step * self._furthest[1] > self._furthest[0] * of:
            self._furthest = (step, of)
            self._news.set()

    async def write(self) -> None:
        """Until cancelled; returns when the run may write no more."""
        while True:
            await self._news.wait()
            self._news.clear()
            step, of = self._furthest
            try:
                await self._journal.step(self._run, self._number, step, of)
            except Superseded:
                return
            except DatabaseAway as error:
                log.warning("render.step_untold", internal=error.internal)
            await asyncio.sleep(STEP_PAUSE_S)
