"""Jobs on DBOS: started at once where there is room, queued where there is none, run again after a crash.

DBOS decides where and when a job runs. It is one per process, by its own design, and so is a launched `Engine`. A job
is an async function of plain values (ids, never data) that may be run again from its beginning at any time: what it has
done already it must find out for itself.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from dbos import DBOS, DBOSConfig, SetEnqueueOptions, SetWorkflowID

from deskterior.background import finish
from deskterior.errors import Overloaded
from deskterior.jobs.database import Database, DatabaseAway
from deskterior.jobs.executors import Executors
from deskterior.jobs.queueing import APPLICATION, VERSION, Argument, quieten
from deskterior.jobs.takeover import Takeover

log = structlog.get_logger(__name__)

POLL_S = 0.25
"""How often a queue is looked at. It holds what found no room, and what processes that run no jobs have queued."""
START_WITHIN_S = 5.0
"""A job store that hangs: whoever orders a job is not kept waiting for DBOS, which waits without end."""
TIDY_S = 10.0
"""For DBOS to end its threads. They are no obstacle to the end of the process."""
THREADS = 32
"""DBOS's threads, which become those of `asyncio.to_thread` too. Async jobs hold none while they wait."""


@dataclass(frozen=True)
class Job:
    """A kind of job. `concurrency` is how many of them run at once in one process."""

    name: str
    run: Callable[..., Awaitable[None]]
    concurrency: int


class Engine:
    """Runs `jobs` until closed (a `Jobs`). They run on the event loop that `launch` is called on."""

    def __init__(self, database: Database, jobs: list[Job], *, executor_ttl_s: float) -> None:
        self._database = database
        self._jobs = {job.name: job for job in jobs}
        self._ttl_s = executor_ttl_s
        self._running: dict[str, set[asyncio.Task[None]]] = {name: set() for name in self._jobs}
        self._starting = dict.fromkeys(self._jobs, 0)
        self._backlog = dict.fromkeys(self._jobs, False)
        self._room = {job.name: asyncio.Semaphore(job.concurrency) for job in jobs}
        self._stopping = True
        self._executors: Executors | None = None
        self._takeover: Takeover | None = None
        self._rebirth: asyncio.Task[None] | None = None
        self._functions: dict[str, Callable[..., Coroutine[Any, Any, None]]] = {}

    async def launch(self) -> None:
        """Begin to run jobs, those that a dead process left behind first.

        Raises:
            DatabaseError: the job store cannot be used.
        """
        loop = asyncio.get_running_loop()
        self._executors = Executors(self._database, self._ttl_s)
        await asyncio.to_thread(self._executors.register)
        self._stopping = False  # before DBOS looks into its queues: what it starts then shall run
        self._launch_dbos(self._executors.id)
        for job in self._jobs.values():
            await DBOS.register_queue_async(
                job.name, worker_concurrency=job.concurrency, polling_interval_sec=POLL_S, on_conflict="always_update"
            )

        def fenced() -> None:
            loop.call_soon_threadsafe(self._fenced)

        self._takeover = Takeover(self._executors, self._ttl_s, resume=_resume, on_fenced=fenced)
        self._takeover.start()

    def _launch_dbos(self, executor_id: str) -> None:
        quieten()
        config = DBOSConfig(
            name=APPLICATION,
            system_database_url=self._database.url.render_as_string(hide_password=False),
            executor_id=executor_id,
            application_version=VERSION,
            max_executor_threads=THREADS,
            log_level="WARNING",
            run_migrations=True,
        )
        # On SQLite the same file, with the same pragmas; on Postgres connections of its own, which we can cut off.
        config["system_database_engine"] = self._database.engine_of_jobs
        DBOS(config=config)
        for job in self._jobs.values():
            self._functions[job.name] = DBOS.workflow(name=job.name, max_recovery_attempts=None)(self._entry(job))
        # On this thread, so that DBOS adopts this loop for async jobs; it blocks for the time of the migrations.
        DBOS.launch()

    def _entry(self, job: Job) -> Callable[..., Coroutine[Any, Any, None]]:
        async def run(*args: Argument) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._running[job.name].add(task)
            try:
                async with self._room[job.name]:
                    self.checkpoint()
                    await job.run(*args)
            finally:
                self._running[job.name].discard(task)

        return run

    def checkpoint(self) -> None:
        """Between two things that a job does: stop here, to go on elsewhere, if this process is to run no more jobs.

        Raises:
            asyncio.CancelledError: DBOS records no outcome for it, so the job stays unfinished and is taken over.
        """
        if self._stopping:
            raise asyncio.CancelledError("this process runs no more jobs")

    def admit(self) -> None:
        """Raises Overloaded when this process is stopping and takes no new jobs."""
        if self._stopping:
            raise Overloaded("The service is stopping and takes no new jobs", retry_after=5)

    async def submit(self, name: str, job_id: str, *args: Argument, delay_s: float = 0) -> None:
        """Have a job run once, `delay_s` seconds from now. The same `job_id` again is the same job.

        Raises:
            Overloaded: this process is stopping.
            DatabaseAway: nobody knows whether the job will be run.
        """
        self.admit()
        # In a context of its own: begun from within a job, DBOS would count it as a step of that job.
        start = asyncio.get_running_loop().create_task(
            self._submit(self._jobs[name], job_id, args, delay_s), context=contextvars.Context()
        )
        start.add_done_callback(_unheard)
        try:
            async with asyncio.timeout(START_WITHIN_S):
                await asyncio.shield(start)
        except TimeoutError:
            raise DatabaseAway(f"a job was not begun within {START_WITHIN_S:g} s") from None

    async def _submit(self, job: Job, job_id: str, args: tuple[Argument, ...], delay_s: float) -> None:
        function = self._functions[job.name]
        if delay_s > 0:
            with SetWorkflowID(job_id), SetEnqueueOptions(delay_seconds=delay_s):
                await DBOS.enqueue_workflow_async(job.name, function, *args)
        elif await self._has_room(job):
            self._starting[job.name] += 1
            try:
                with SetWorkflowID(job_id):
                    await DBOS.start_workflow_async(function, *args)
            finally:
                self._starting[job.name] -= 1
        else:
            self._backlog[job.name] = True
            with SetWorkflowID(job_id):
                await DBOS.enqueue_workflow_async(job.name, function, *args)

    async def _has_room(self, job: Job) -> bool:
        """Whether a new job may start at once: a free place, and nobody who has waited for one longer."""
        if len(self._running[job.name]) + self._starting[job.name] >= job.concurrency:
            return False
        if self._backlog[job.name]:
            queued = await DBOS.list_workflows_async(
                queue_name=job.name, status="ENQUEUED", limit=1, load_input=False, load_output=False
            )
            self._backlog[job.name] = bool(queued)
        return not self._backlog[job.name]

    async def finished(self, job_ids: list[str]) -> set[str]:
        """Those of `job_ids` that DBOS will not run any more, or has never heard of."""
        known = await DBOS.list_workflows_async(workflow_ids=job_ids, load_input=False, load_output=False)
        return set(job_ids) - {job.workflow_id for job in known if job.status in {"PENDING", "ENQUEUED", "DELAYED"}}

    async def forget(self, job_ids: list[str]) -> None:
        """Delete DBOS's records of finished jobs. Raises DatabaseAway."""
        try:
            async with asyncio.timeout(START_WITHIN_S):
                await DBOS.delete_workflows_async(job_ids)
        except TimeoutError:
            raise DatabaseAway(f"jobs were not forgotten within {START_WITHIN_S:g} s") from None

    async def forget_old(self, before: datetime) -> int:
        """Delete DBOS's records of jobs that ended before `before`, a thousand at most; how many they were."""
        old = await DBOS.list_workflows_async(
            completed_before=before.isoformat(), limit=1000, load_input=False, load_output=False
        )
        if old:
            await DBOS.delete_workflows_async([job.workflow_id for job in old])
        return len(old)

    async def check(self) -> str:
        """Whether jobs can run here, for the health check.

        Raises:
            Overloaded, DatabaseAway: they cannot; the text says why.
        """
        if self._stopping:
            raise Overloaded("jobs are not running")
        await self._database.check()
        return "ok"

    async def close(self, drain_s: float = 0) -> None:
        """Stop. Jobs go on to their next `checkpoint` for at most `drain_s` seconds; others take over what is left."""
        if self._rebirth is not None:
            self._rebirth.cancel()
            await asyncio.gather(self._rebirth, return_exceptions=True)
        await self._close(drain_s, TIDY_S)

    async def _close(self, drain_s: float, tidy_s: float | None) -> None:
        if self._executors is None:
            return
        executors, self._executors = self._executors, None
        self._stopping = True
        running = {task for tasks in self._running.values() for task in tasks}
        if running and drain_s > 0:
            log.info("jobs.draining", jobs=len(running), seconds=drain_s)
            await asyncio.wait(running, timeout=drain_s)
        # Also what DBOS's queue threads have started meanwhile.
        for task in (left := [task for tasks in self._running.values() for task in tasks]):
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        if self._takeover is not None:
            await asyncio.to_thread(self._takeover.close)
        # DBOS made its threads those of this loop, and is about to end them.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))
        await self._destroy_dbos(tidy_s)
        try:
            await asyncio.to_thread(executors.leave)
        except DatabaseAway as error:  # our lock is free now, and our heart beats no more: that tells as much
            log.warning("jobs.left_without_a_word", internal=error.internal)

    async def _destroy_dbos(self, within_s: float | None) -> None:
        """DBOS waits ten seconds for each of its threads, and these for a job store that is away up to a minute. Only
        who ends need not wait for that (None is for as long as it takes): it would take the next DBOS with it."""
        if not await finish(lambda: DBOS.destroy(destroy_registry=True), name="dbos-destroy", within_s=within_s):
            log.warning("jobs.left_behind", seconds=within_s)

    def _fenced(self) -> None:
        if not self._stopping:
            self._rebirth = asyncio.get_running_loop().create_task(self._be_reborn())

    async def _be_reborn(self) -> None:
        """Declared dead, we must pay for nothing more under this name; under a new one, we go on."""
        assert self._executors is not None
        fenced = self._executors.id
        while True:
            try:
                await self._close(drain_s=0, tidy_s=None)
                await self.launch()
                # What we began after our death was noticed, nobody else has looked for.
                await asyncio.to_thread(_resume, fenced)
                return
            except Exception:
                log.exception("jobs.rebirth_failed")
            await asyncio.sleep(self._ttl_s)


def _unheard(task: asyncio.Task[None]) -> None:
    """Take note of an error that nobody may have waited for."""
    if not task.cancelled():
        task.exception()


def _resume(executor_id: str) -> int:
    """Put the unfinished jobs of a dead executor back into their queues; how many they were."""
    left = DBOS.list_workflows(status="PENDING", executor_id=executor_id, load_input=False, load_output=False)
    by_job = defaultdict(list)
    for job in left:
        by_job[job.name].append(job.workflow_id)
    for name, job_ids in by_job.items():
        DBOS.resume_workflows(job_ids, queue_name=name)
    return len(left)
