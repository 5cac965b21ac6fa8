"""An API that runs no jobs, and job workers in processes of their own: on SQLite and on Postgres."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from dbos import DBOSClient

from deskterior.errors import Overloaded
from deskterior.jobs import executors
from deskterior.jobs.database import Database
from deskterior.jobs.executors import Executors
from deskterior.makeover.events import StageEvent
from deskterior.makeover.register import Origin
from deskterior.schemas import GenerateRequest, Task
from tests.integration.jobs.house import House, open_house
from tests.integration.jobs.process import Orders, finish, start
from tests.integration.jobs.stand_ins import DESK, until

REQUEST = GenerateRequest(image_url=DESK)


@asynccontextmanager
async def api(url: str, folder: Path) -> AsyncIterator[House]:
    async with open_house(folder, url=url, runs_jobs=False) as house:
        yield house


@contextmanager
def job_worker(url: str, folder: Path, *, dwell_s: float = 0) -> Iterator[BaseProcess]:
    process = start(Orders(url, folder, forever=True, dwell_s=dwell_s))
    try:
        yield process
    finally:
        process.kill()
        process.join()


async def is_up(process: BaseProcess, folder: Path) -> None:
    await until(lambda: (folder / f"up-{process.pid}").exists())


def kill(process: BaseProcess) -> None:
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()


async def test_tasks_wait_for_a_job_worker_and_the_api_says_that_there_is_none(
    database_url: str, tmp_path: Path
) -> None:
    async with api(database_url, tmp_path) as house:
        task = await house.makeovers.start(REQUEST, "v1", Origin(idempotency_key="once"))
        assert task.status == "queued"
        assert await house.makeovers.check() == "ok", "it takes tasks all the same"
        assert "no job worker is alive" in await house.makeovers.check_workers()
        assert (await house.makeovers.wait(task.id, 0.3)).status == "queued"

        with job_worker(database_url, tmp_path):
            seen = [event async for event in house.makeovers.events(task.id)]

            assert isinstance(seen[-1], Task)
            assert seen[-1].status == "succeeded"
            done = {event.stage for event in seen if isinstance(event, StageEvent) and event.state == "done"}
            assert {"describe", "render", "shop", "publish"} <= done
            assert await house.makeovers.check_workers() == "ok (1 job worker)"
            again = await house.makeovers.start(REQUEST, "v1", Origin(idempotency_key="once"))
            assert again.id == task.id
            await until(lambda: house.count("notify"))
        assert [house.count(stage) for stage in ("describe", "render", "notify")] == [1, 1, 1]


async def test_a_killed_job_workers_tasks_are_ended_by_another(database_url: str, tmp_path: Path) -> None:
    async with api(database_url, tmp_path) as house:
        with job_worker(database_url, tmp_path, dwell_s=60) as doomed:
            tasks = [await house.makeovers.start(REQUEST) for _ in range(3)]
            await until(lambda: house.count("render") == 3)
            with job_worker(database_url, tmp_path) as survivor:
                await is_up(survivor, tmp_path)
                kill(doomed)
                ended = [await house.makeovers.wait(task.id, 30) for task in tasks]
        assert [task.status for task in ended] == ["succeeded"] * 3
        assert house.count("describe") == 3, "what was paid for and finished is not bought again"
        assert house.count("render") == 6


@pytest.mark.parametrize("point", ["before create", "after create"])
async def test_an_api_killed_as_it_takes_a_task_loses_none_that_it_wrote_down(
    point: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deskterior.makeover.workshop.MEND_S", 0.05)
    monkeypatch.setattr("deskterior.makeover.register.STUCK_S", 0.0)
    url = f"sqlite:///{tmp_path}/jobs.sqlite"
    # The tables are made in a transaction that the killer does not know by the name of `create`.
    doomed = start(Orders(url, tmp_path, begin=1, runs_jobs=False, die_at=point))
    assert finish(doomed) == -signal.SIGKILL

    async with open_house(tmp_path, url=url) as house:

        async def ended() -> bool:
            return all(task.status == "succeeded" for task in (await house.makeovers.page()).tasks)

        await until(ended)
        assert len((await house.makeovers.page()).tasks) == (point == "after create")


async def test_a_cancelled_task_never_runs_and_a_running_one_stops_before_its_next_stage(
    database_url: str, tmp_path: Path
) -> None:
    async with api(database_url, tmp_path) as house:
        waiting = await house.makeovers.start(REQUEST)
        assert (await house.makeovers.cancel(waiting.id)).status == "cancelled"
        with job_worker(database_url, tmp_path, dwell_s=1) as process:
            await is_up(process, tmp_path)
            running = await house.makeovers.start(REQUEST)
            await until(lambda: house.count("render") == 1)
            assert (await house.makeovers.cancel(running.id)).status == "cancelled"
            await until(lambda: house.ledger.count("render answered") == 1)
            after = await house.makeovers.start(REQUEST)  # in the queue behind the other two
            assert (await house.makeovers.wait(after.id, 20)).status == "succeeded"
        assert (await house.makeovers.get(waiting.id)).status == "cancelled"
        assert (await house.makeovers.get(running.id)).status == "cancelled"
        assert house.count("describe") == 2, "the one that was cancelled while it waited has begun nothing"
        assert house.ledger.count("notify sent") == 1, "of those cancelled the backend is not told"


async def test_a_task_is_taken_while_the_queue_is_away_and_made_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path}/jobs.sqlite"
    async with api(url, tmp_path) as house:
        create = house.database.write

        async def write(*args: object, **more: object) -> object:
            made: object = await create(*args, **more)  # type: ignore[arg-type]
            house.database.away = 1  # right after the task was written down
            return made

        monkeypatch.setattr(house.database, "write", write)
        task = await house.makeovers.start(REQUEST)
        assert task.status == "queued"
        assert house.database.away == 0, "the queue was asked"
    monkeypatch.setattr("deskterior.makeover.workshop.MEND_S", 0.05)
    monkeypatch.setattr("deskterior.makeover.register.STUCK_S", 0.0)
    async with open_house(tmp_path, url=url) as house:
        assert (await house.ended(task.id)).status == "succeeded"


async def test_what_an_api_of_any_release_queues_is_run(database_url: str, tmp_path: Path) -> None:
    """Job workers and APIs are rolled out one after the other: these words may never change."""
    async with api(database_url, tmp_path) as house:
        whole = await house.makeovers._register.create(REQUEST, "v1", Origin(), 0.0)
        client = DBOSClient(system_database_engine=house.database.engine, application_name="deskterior")
        await client.enqueue_async(
            {
                "queue_name": "makeover",
                "workflow_name": "makeover",
                "workflow_id": whole.task.job_id,
                "app_version": "deskterior-jobs-1",
            },
            whole.task.id,
            whole.task.job_id,
        )
        with job_worker(database_url, tmp_path):
            assert (await house.makeovers.wait(whole.task.id, 20)).status == "succeeded"
            queues = {queue.name for queue in await client.list_queues_async()}
            assert {"makeover", "deliver"} <= queues
        client.destroy()


async def test_an_api_that_runs_jobs_and_job_workers_work_side_by_side(tmp_path: Path) -> None:
    """So does a service while `JOB_WORKERS` is changed: some of its processes are of the old way, some of the new."""
    url = f"sqlite:///{tmp_path}/jobs.sqlite"
    async with api(url, tmp_path) as house:
        with job_worker(url, tmp_path), job_worker(url, tmp_path):
            tasks = [await house.makeovers.start(REQUEST) for _ in range(10)]
            embedded = start(Orders(url, tmp_path, begin=5))
            ended = [await house.makeovers.wait(task.id, 20) for task in tasks]
            assert finish(embedded) == 0
            await until(lambda: house.count("notify") == 15)
    assert {task.status for task in ended} == {"succeeded"}
    assert [house.count(stage) for stage in ("describe", "render", "notify")] == [15, 15, 15]


async def test_a_deleted_task_leaves_nothing_in_the_queue(database_url: str, tmp_path: Path) -> None:
    async with api(database_url, tmp_path) as house:
        task = await house.makeovers.start(REQUEST)
        await house.makeovers.cancel(task.id)
        await house.makeovers.delete(task.id)
        client = DBOSClient(system_database_engine=house.database.engine, application_name="deskterior")
        assert await client.list_workflows_async() == []
        client.destroy()


async def test_a_stopped_api_takes_no_tasks(tmp_path: Path) -> None:
    async with api(f"sqlite:///{tmp_path}/jobs.sqlite", tmp_path) as house:
        await house.makeovers.close()
        with pytest.raises(Overloaded, match="stopping"):
            await house.makeovers.start(REQUEST)
        with pytest.raises(Overloaded, match="stopping"):
            await house.makeovers.check()


def test_those_who_speak_live_and_those_who_left_or_fell_silent_do_not(database_url: str) -> None:
    database = Database(database_url)
    made = [Executors(database, ttl_s=10) for _ in range(3)]
    for executor in made:
        executor.register()

    def living() -> int:
        return database.read_now(lambda connection: executors.living(connection, 10))

    assert living() == 3
    made[0].leave()
    assert living() == 2
    silent = executors.table.update().where(executors.table.c.executor_id == made[1].id)
    database.execute_now(silent.values(last_seen=executors.table.c.last_seen - 11))
    assert living() == 1
    made[2].leave()
    assert living() == 0, "also when nobody is left to compare with"
    made[1].leave()
    database.close()


async def test_tasks_begun_at_once_are_each_made_once_by_several_workers(database_url: str, tmp_path: Path) -> None:
    async with api(database_url, tmp_path) as house:
        with job_worker(database_url, tmp_path) as one, job_worker(database_url, tmp_path) as other:
            await is_up(one, tmp_path)
            await is_up(other, tmp_path)
            tasks = await asyncio.gather(*(house.makeovers.start(REQUEST) for _ in range(30)))
            ended = await asyncio.gather(*(house.makeovers.wait(task.id, 30) for task in tasks))
            await until(lambda: house.count("notify") == 30)
        assert {task.status for task in ended} == {"succeeded"}
        assert [house.count(stage) for stage in ("describe", "render", "notify")] == [30, 30, 30]
