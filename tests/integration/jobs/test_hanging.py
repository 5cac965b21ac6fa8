"""A Postgres that hangs (accepts, never answers): nothing is lost or paid for twice, and nobody waits for long."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import psycopg
import pytest
import sqlalchemy as sa

from deskterior.jobs.database import Database, DatabaseAway
from deskterior.makeover.register import Origin
from deskterior.makeover.tables import tasks
from deskterior.schemas import GenerateRequest
from tests.integration.jobs.accounts import check_totals
from tests.integration.jobs.house import open_house
from tests.integration.jobs.stand_ins import DESK, until

REQUEST = GenerateRequest(image_url=DESK)
IMPATIENT = {
    "deskterior.jobs.database.ANSWER_WITHIN_S": 0.3,
    "deskterior.jobs.database.ANSWER_AGAIN_WITHIN_S": 0.1,
    "deskterior.jobs.engine.START_WITHIN_S": 0.3,
    "deskterior.makeover.makeovers.HANG_UP_S": 0.2,
}


class Stopped:
    """All processes of a Postgres, stopped and continued. Nobody is patient with it meanwhile."""

    def __init__(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patience = monkeypatch
        with psycopg.connect(url) as connection:
            postmaster = psutil.Process(connection.info.backend_pid).parent()
        assert postmaster is not None
        self._postmaster = postmaster

    def hang(self) -> None:
        self._signal(signal.SIGSTOP)
        for name, seconds in IMPATIENT.items():
            self._patience.setattr(name, seconds)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)
        self._patience.undo()

    def _signal(self, number: signal.Signals) -> None:
        for process in (self._postmaster, *self._postmaster.children(recursive=True)):
            with suppress(ProcessLookupError):  # a session that has just ended
                os.kill(process.pid, number)


@pytest.fixture
def server(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stopped]:
    """The server of `postgres_url`."""
    monkeypatch.setattr("deskterior.makeover.workshop.MEND_S", 0.05)
    monkeypatch.setattr("deskterior.makeover.register.STUCK_S", 0.0)
    with pytest.MonkeyPatch.context() as patience:
        found = Stopped(postgres_url, patience)
        yield found
        found.go_on()


async def test_who_orders_is_told_and_what_was_given_up_is_not_done_afterwards(
    server: Stopped, postgres_url: str, tmp_path: Path
) -> None:
    async with open_house(tmp_path, url=postgres_url) as house:
        task = await house.made()
        server.hang()
        for _ in range(12):  # more than there are connections
            with pytest.raises(DatabaseAway) as raised:
                await house.makeovers.start(REQUEST)
            assert raised.value.retry_after
        with pytest.raises(DatabaseAway):
            await house.makeovers.get(task.id)
        server.go_on()

        async def answers() -> bool:
            try:
                return bool(await house.makeovers.check())
            except DatabaseAway:
                return False

        await until(answers)
        assert (await house.made(origin=Origin(idempotency_key="again"))).status == "succeeded"
        assert len((await house.makeovers.page()).tasks) == 2
        assert house.count("render") == 2
        check_totals(house.database)


async def test_what_is_paid_for_meanwhile_is_written_down_when_it_goes_on(
    server: Stopped, postgres_url: str, tmp_path: Path
) -> None:
    async with open_house(tmp_path, url=postgres_url) as house:
        drawn = asyncio.Event()
        house.faults.before["render"] = drawn.wait  # type: ignore[assignment]
        task = await house.makeovers.start(REQUEST)
        await until(lambda: house.count("render"))
        server.hang()
        drawn.set()
        await until(lambda: house.ledger.count("render answered"))
        with pytest.raises(DatabaseAway):
            await house.makeovers.wait(task.id, 20)
        server.go_on()

        ended = await house.ended(task.id)
        assert (ended.status, ended.warnings) == ("succeeded", [])
        assert house.count("describe") == house.count("render") == 1
        check_totals(house.database)


@pytest.mark.parametrize("runs_jobs", [True, False])
async def test_a_stop_comes_to_an_end_and_the_next_start_loses_nothing(
    server: Stopped, postgres_url: str, tmp_path: Path, *, runs_jobs: bool
) -> None:
    async with asyncio.timeout(40), open_house(tmp_path, url=postgres_url, drain_s=0, runs_jobs=runs_jobs) as house:
        house.faults.before["render"] = asyncio.Event().wait  # type: ignore[assignment]
        task = await house.makeovers.start(REQUEST)
        if runs_jobs:
            await until(lambda: house.count("render"))
        server.hang()
        with pytest.raises(DatabaseAway):
            await house.makeovers.get(task.id)
    server.go_on()

    async with open_house(tmp_path, url=postgres_url) as house:
        ended = await house.ended(task.id)
        assert ended.status == "succeeded"
        assert house.count("describe") == 1
        assert len((await house.makeovers.page()).tasks) == 1
        check_totals(house.database)


async def test_what_was_cut_off_is_away_and_stays_so(server: Stopped, postgres_url: str) -> None:
    database = Database(postgres_url)
    server.hang()
    looking = asyncio.create_task(database.write(lambda c: c.execute(sa.select(tasks)).all(), patiently=True))
    with pytest.raises(DatabaseAway):
        await database.check()
    database.cut()
    with pytest.raises(DatabaseAway):
        await looking
    server.go_on()
    with pytest.raises(DatabaseAway):
        await database.check()
    database.close()
