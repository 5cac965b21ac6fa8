"""What a dead executor leaves, the living take; what only looks dead pays for nothing more."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import cast

import pytest
from dbos import DBOS

from deskterior.jobs.database import Database
from deskterior.jobs.executors import Dead, Executors, table
from deskterior.jobs.takeover import Takeover
from deskterior.schemas import Task
from tests.integration.jobs.house import open_house
from tests.integration.jobs.process import Orders, finish, start
from tests.integration.jobs.stand_ins import Ledger


def until(true: Callable[[], bool], *, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.02)


@pytest.mark.parametrize("hangs", [True, False])
def test_after_a_job_store_that_hung_silence_tells_nothing_of_others(*, hangs: bool) -> None:
    ttl_s = 0.06
    trusted: list[bool] = []

    class Register:
        """Of executors, as far as `Takeover` needs it."""

        id = "me"

        def beat(self) -> bool:
            time.sleep(ttl_s * 2 if hangs else 0)
            return True

        def claim_dead(self, *, trust_heartbeats: bool) -> list[Dead]:
            trusted.append(trust_heartbeats)
            return []

    takeover = Takeover(cast(Executors, Register()), ttl_s, resume=lambda _: 0, on_fenced=lambda: None)
    takeover.start()
    until(lambda: len(trusted) >= 4 if hangs else any(trusted))
    takeover.close()
    assert any(trusted) != hangs


def kill(process: BaseProcess) -> None:
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()


def test_of_two_executors_the_one_that_lives_ends_the_jobs_of_the_one_killed(database_url: str, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    doomed = start(Orders(database_url, tmp_path, begin=3, dwell_s=60, forever=True))
    until(lambda: ledger.count("render sent") == 3)
    survivor = start(Orders(database_url, tmp_path))
    until(lambda: (tmp_path / f"up-{survivor.pid}").exists())

    kill(doomed)

    assert finish(survivor) == 0
    tasks = [Task.model_validate(one) for one in json.loads((tmp_path / "tasks").read_text())]
    assert [task.status for task in tasks] == ["succeeded"] * 3
    assert ledger.count("describe sent") == 3
    assert ledger.count("render sent") == 6
    assert all(task.cost.total > 0.04 + 0.01 for task in tasks)
    assert all("interrupted" in task.warnings[0] or "died" in task.warnings[0] for task in tasks)


def test_a_living_executor_is_not_robbed(database_url: str, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    busy = start(Orders(database_url, tmp_path, begin=1, dwell_s=2.5, settings={"executor_ttl_s": 0.3}))
    until(lambda: ledger.count("render sent") == 1)

    other = start(Orders(database_url, tmp_path, settings={"executor_ttl_s": 0.3}))

    assert finish(busy) == 0
    assert finish(other) == 0
    assert ledger.count("render sent") == 1


@pytest.mark.parametrize("point", ["after claim", "describe sent", "after end", "render sent", "after end#3"])
def test_an_upgrade_that_adds_a_stage_goes_on_with_the_job_in_flight(point: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/jobs.sqlite"
    assert finish(start(Orders(url, tmp_path, begin=1, die_at=point))) == -signal.SIGKILL

    assert finish(start(Orders(url, tmp_path, upgraded=True))) == 0

    [task] = [Task.model_validate(one) for one in json.loads((tmp_path / "tasks").read_text())]
    assert task.status == "succeeded"
    bought = [Ledger(tmp_path / "ledger").count(f"{stage} sent") for stage in ("describe", "render")]
    assert bought == [1 + (point == "describe sent"), 1 + (point == "render sent")]


async def test_the_version_that_jobs_are_bound_to_never_changes(tmp_path: Path) -> None:
    """DBOS would leave the jobs of any other version where they are; its own default is a digest of the code."""
    async with open_house(tmp_path):
        assert DBOS.application_version == "deskterior-jobs-1"


@pytest.fixture
def executors(database_url: str) -> Iterator[tuple[Database, list[Executors]]]:
    """Three executors of one job store."""
    database = Database(database_url)
    made = [Executors(database, ttl_s=10) for _ in range(3)]
    for executor in made:
        executor.register()
    yield database, made
    for executor in made:
        executor.leave()
    database.close()


Three = tuple[Database, list[Executors]]


def test_without_a_lock_to_see_the_heartbeat_decides(executors: Three) -> None:
    database, [ours, theirs, _] = executors
    database.execute_now(table.update().where(table.c.executor_id == theirs.id).values(host="elsewhere"))

    assert ours.claim_dead(trust_heartbeats=True) == []

    silent = table.update().where(table.c.executor_id == theirs.id).values(last_seen=table.c.last_seen - 11)
    database.execute_now(silent)
    assert ours.claim_dead(trust_heartbeats=False) == [], "after an outage everybody has been silent"
    assert [dead.executor_id for dead in ours.claim_dead(trust_heartbeats=True)] == [theirs.id]
    assert ours.claim_dead(trust_heartbeats=True) == [], "it is claimed"
    assert theirs.beat() is False, "it must learn that it was declared dead"


def test_a_lock_that_is_held_beats_silence(executors: Three) -> None:
    database, [ours, theirs, _] = executors
    silent = table.update().where(table.c.executor_id == theirs.id).values(last_seen=0)
    database.execute_now(silent)

    assert ours.claim_dead(trust_heartbeats=True) == []


def test_a_lock_file_that_is_gone_leaves_it_to_the_heartbeat(executors: Three) -> None:
    database, [ours, theirs, _] = executors
    row = database.read_now(lambda c: c.execute(table.select().where(table.c.executor_id == theirs.id)).one())
    Path(row.lock_file).unlink()

    assert ours.claim_dead(trust_heartbeats=True) == []


def test_of_two_sweepers_one_has_the_dead(executors: Three) -> None:
    _, [first, second, dead] = executors
    dead.leave()

    claims = [first.claim_dead(trust_heartbeats=True), second.claim_dead(trust_heartbeats=True)]

    assert [len(claim) for claim in claims] == [1, 0]
    first.forget(claims[0][0])
    assert second.claim_dead(trust_heartbeats=True) == []


def test_a_sweeper_that_dies_with_a_claim_leaves_it_to_another(executors: Three) -> None:
    database, [first, second, dead] = executors
    dead.leave()
    assert len(first.claim_dead(trust_heartbeats=True)) == 1

    database.execute_now(table.update().values(claimed_at=table.c.claimed_at - 41))

    assert len(second.claim_dead(trust_heartbeats=True)) == 1
