"""Where makeovers are made: the stages, the jobs that run them, and a mender for what has lost its job.

A process that only takes orders (`JOB_WORKERS` other than `embedded`) has none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import structlog

from deskterior.config import Settings
from deskterior.errors import NotFound, Overloaded
from deskterior.jobs.database import Database, DatabaseAway
from deskterior.jobs.engine import Engine, Job
from deskterior.makeover.delivery import Delivery
from deskterior.makeover.describe import Describe
from deskterior.makeover.drafts import Drafts
from deskterior.makeover.journal import Journal, Run
from deskterior.makeover.outfit import Outfit
from deskterior.makeover.photo import TakePhoto
from deskterior.makeover.pictures import Pictures
from deskterior.makeover.prompts.own import OwnPrompts
from deskterior.makeover.publish import Publish
from deskterior.makeover.register import Register
from deskterior.makeover.removal import Removal
from deskterior.makeover.render import Render
from deskterior.makeover.render_ourselves import RenderOurselves
from deskterior.makeover.shop import Shop
from deskterior.makeover.spending import Expected
from deskterior.makeover.watch import Watch
from deskterior.makeover.workflow import Makeover, RenderStage, Stages

log = structlog.get_logger(__name__)

DELIVERIES = 32
"""Callbacks under way at once in one process."""
MEND_S = 10.0
"""How often tasks and callbacks without a job are looked for."""
KEEP = timedelta(days=7)
"""How long the engine's own records of ended jobs are kept, for whoever looks into a fault."""
SWEEP = timedelta(hours=1)
REMOVE_S = 60.0
"""How often it is looked for what is to be removed."""
BREATH_S = 0.5
"""Between two rounds that find something: who orders goes first."""
QUIET_S = 15.0
"""A drawing looks again after so long without a change."""


class Workshop:
    """`launch` before use, `close` after; both on the event loop that the makeovers run on. One per process."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        outfit: Outfit,
        *,
        register: Register,
        watch: Watch,
        delivery: Delivery,
        removal: Removal,
        expected: Expected,
        photo: TakePhoto,
    ) -> None:
        self._register = register
        self._watch = watch
        self._delivery = delivery
        self._removal = removal
        self._keep = min(KEEP, timedelta(days=settings.task_retention_days) or KEEP)
        journal = Journal(
            database,
            checkpoint=lambda: self.engine.checkpoint(),
            changed=watch.changed,
            renders_per_minute=settings.render_per_minute,
        )
        drafts = Drafts(database)
        own_prompts = OwnPrompts.load()
        stages = Stages(
            photo=photo,
            describe=Describe(outfit.vision, expected.describe),
            render=_render(settings, outfit, Pictures(outfit.storage, drafts), own_prompts, expected, self._ended),
            shop=Shop(outfit.search),
            publish=Publish(outfit.storage, drafts),
        )
        versions = {"v1": outfit.prompts.version, "v2": f"{outfit.prompts.version}+{own_prompts.version}"}
        makeover = Makeover(journal, stages, delivery, versions)
        jobs = [
            Job("makeover", makeover.run, settings.jobs_concurrency),
            Job("deliver", delivery.deliver, DELIVERIES),
        ]
        self.engine = Engine(database, jobs, executor_ttl_s=settings.executor_ttl_s)
        self._chores: list[asyncio.Task[None]] = []

    async def launch(self) -> None:
        """Begin to run what is in the job store. Raises DatabaseError."""
        await self.engine.launch()
        self._chores = [
            asyncio.create_task(self._mend(), name="makeovers-mend"),
            asyncio.create_task(self._remove(), name="makeovers-remove"),
        ]

    async def close(self, drain_s: float) -> None:
        """Stop; calls under way have `drain_s` seconds."""
        for chore in self._chores:
            chore.cancel()
        await asyncio.gather(*self._chores, return_exceptions=True)
        await self.engine.close(drain_s)

    async def _ended(self, run: Run) -> None:
        """Returns when a run may go no further: its task was cancelled or deleted, or another run has it."""
        while True:
            await self._watch.wait(run.task.id, run.task.version, QUIET_S, for_end=True)
            try:
                if (await self._register.row(run.task.id)).token != run.token:
                    return
            except NotFound:
                return
            except DatabaseAway as error:
                log.warning("makeover.unwatched", internal=error.internal)
                await asyncio.sleep(1.0)

    async def _mend(self) -> None:
        """Give a job to what has none: a process may die between writing a task down and queueing its job."""
        swept = datetime.min.replace(tzinfo=UTC)
        while True:
            await asyncio.sleep(MEND_S)
            try:
                if (now := datetime.now(UTC)) - swept > SWEEP and not await self.engine.forget_old(now - self._keep):
                    swept = now
                stale = {task.job_id: task for task in await self._register.unfinished()}
                for job_id in await self.engine.finished(list(stale)) if stale else ():
                    if task := await self._register.requeue(stale[job_id]):
                        log.warning("makeover.requeued", task_id=task.id)
                        with suppress(Overloaded):  # it is written down, and the next round is in ten seconds
                            await self.engine.submit("makeover", task.job_id, task.id, task.job_id)
                await self._delivery.find_lost()
            except Exception as error:  # noqa: BLE001 - stopping, no database, no DBOS just now: the next round will do
                log.warning("makeovers.mend_failed", error=type(error).__name__)

    async def _remove(self) -> None:
        """Round after round: what clients have deleted, and what is older than it is kept."""
        pause = REMOVE_S
        while True:
            await asyncio.sleep(pause)
            try:
                pause = BREATH_S if await self._removal.round() else REMOVE_S
            except Exception as error:  # noqa: BLE001 - as above
                pause = REMOVE_S
                log.warning("makeovers.removal_failed", error=type(error).__name__)


def _render(
    settings: Settings,
    outfit: Outfit,
    pictures: Pictures,
    own_prompts: OwnPrompts,
    expected: Expected,
    ended: Callable[[Run], Awaitable[None]],
) -> dict[str, RenderStage]:
    """The stage that draws, for each kind that can be made."""
    places = {kind: asyncio.Semaphore(settings.render_concurrency) for kind in ("v1", "v2")}
    render: dict[str, RenderStage] = {
        kind: Render(
            model,
            pictures,
            outfit.prompts,
            expected=expected.render,
            allowed=settings.image_attempts,
            places=places[kind],
        )
        for kind, model in outfit.images.items()
    }
    if outfit.own_model is not None:
        render["v2"] = RenderOurselves(outfit.own_model, pictures, own_prompts, places=places["v2"], ended=ended)
    return render
