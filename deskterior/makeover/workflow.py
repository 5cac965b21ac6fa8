"""The makeover of one desk, from its task's id to its result: the order of the stages, and how it ends.

Each stage asks the journal first, so a run after a crash, or a retry, does only what is not done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

import structlog

from deskterior.errors import CustomModelMissing, DeskteriorError, InternalError
from deskterior.jobs.database import DatabaseAway
from deskterior.makeover.delivery import Delivery
from deskterior.makeover.describe import Describe
from deskterior.makeover.journal import MAX_CLAIMS, Journal, Run, Superseded
from deskterior.makeover.photo import TakePhoto
from deskterior.makeover.pictures import Picture
from deskterior.makeover.publish import Publish
from deskterior.makeover.shop import Shop
from deskterior.schemas import Description
from deskterior.telemetry import traces

log = structlog.get_logger(__name__)

T = TypeVar("T")


class RenderStage(Protocol):
    async def __call__(self, run: Run, journal: Journal, photo: bytes, description: Description) -> Picture: ...


@dataclass(frozen=True)
class Stages:
    """`render` has one for each kind of task that can be made here."""

    photo: TakePhoto
    describe: Describe
    render: Mapping[str, RenderStage]
    shop: Shop
    publish: Publish


class Makeover:
    """`prompt_versions` is by the kind of task."""

    def __init__(
        self, journal: Journal, stages: Stages, delivery: Delivery, prompt_versions: Mapping[str, str]
    ) -> None:
        self._journal = journal
        self._stages = stages
        self._delivery = delivery
        self._prompt_versions = prompt_versions

    async def run(self, task_id: str, job_id: str) -> None:
        """The job. It may be run again from here at any time, by this process or another."""
        with structlog.contextvars.bound_contextvars(task_id=task_id):
            run = await self._journal.claim(task_id, job_id, self._prompt_versions)
            if run is None:
                await self._delivery.resume(task_id)  # had the last run died between the end and the telling
                return
            task = run.task
            about = {"deskterior.task_id": task_id, "deskterior.kind": task.kind, "deskterior.run": str(task.claims)}
            with (
                structlog.contextvars.bound_contextvars(request_id=task.request_id),
                traces.span("makeover", parent=run.traceparent, attributes=about) as span,
            ):
                try:
                    error = await self._outcome(run)
                    if error:
                        traces.failed(span, error.slug)
                    await self._finish(run, error)
                except Superseded:
                    log.info("makeover.superseded")

    async def _outcome(self, run: Run) -> DeskteriorError | None:
        """Run the stages; None, or what they failed of."""
        try:
            await self._run(run)
        except (Superseded, DatabaseAway):
            # Without the database nothing can be said about the task; it is queued anew when the database is back.
            raise
        except DeskteriorError as error:
            log.warning("makeover.failed", slug=error.slug, detail=error.detail, internal=error.internal or None)
            return error
        except Exception:
            log.exception("makeover.crashed")
            return InternalError()
        log.info("makeover.succeeded")
        return None

    async def _run(self, run: Run) -> None:
        if run.task.claims > MAX_CLAIMS:
            raise InternalError(f"The service stopped or died {MAX_CLAIMS} times while it ran this task; retry it")
        render = self._stages.render.get(run.task.kind)
        if render is None:
            raise CustomModelMissing
        photo = await _traced("photo", self._stages.photo(run, self._journal))
        description = await _traced("describe", self._stages.describe(run, self._journal, photo))
        # Neither is cut short by the other's failure: what is being paid for is waited for.
        picture, basket = await asyncio.gather(
            _traced("render", render(run, self._journal, photo, description)),
            _traced("shop", self._stages.shop(run, self._journal, description)),
            return_exceptions=True,
        )
        if isinstance(picture, BaseException):
            raise picture
        if isinstance(basket, BaseException):
            raise basket
        await _traced("publish", self._stages.publish(run, self._journal, picture, basket))

    async def _finish(self, run: Run, error: DeskteriorError | None) -> None:
        callback_id = await self._journal.finish(run, error, tell=self._delivery.enabled)
        if callback_id is not None:
            self._journal.checkpoint()
            await self._delivery.start(callback_id)


async def _traced(stage: str, work: Awaitable[T]) -> T:
    with traces.span(stage):
        return await work
