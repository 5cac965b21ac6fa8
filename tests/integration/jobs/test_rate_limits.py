"""Limits that all processes of all machines share through Postgres, and what becomes of them without it."""

from __future__ import annotations

import asyncio
import sys

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from limits import RateLimitItemPerMinute
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from deskterior.errors import RateLimited
from deskterior.gateway.caller import Caller
from deskterior.gateway.limits import Limits
from deskterior.gateway.limits_settings import LimitSettings
from deskterior.gateway.limits_storage import _HIT, _MAKE, _SWEEP, InProcess, OnPostgres, SharedWhileItAnswers
from tests.integration.jobs.counting import LIMIT


async def test_two_processes_let_in_no_more_than_one(postgres_url: str) -> None:
    command = [sys.executable, "-m", "tests.integration.jobs.counting", postgres_url, "40"]
    processes = [await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE) for _ in range(2)]
    said = [(await process.communicate())[0] for process in processes]

    assert [process.returncode for process in processes] == [0, 0]
    assert sum(int(text) for text in said) == LIMIT.amount


async def test_two_services_count_one_key_together(postgres_url: str) -> None:
    here, there = (Limits.open(LimitSettings(key_requests_per_minute=1000), postgres_url) for _ in range(2))
    left = []
    for limits in (here, there, here):
        headers = dict(await limits.count(Caller("backend"), "8.8.8.8", "GET", "/tasks"))
        left.append(int(headers[b"ratelimit-remaining"]))
    await here.aclose()
    await there.aclose()
    assert left == [999, 998, 997]


async def test_a_refused_one_is_refused_everywhere(postgres_url: str) -> None:
    here, there = (Limits.open(LimitSettings(key_requests_per_minute=1), postgres_url) for _ in range(2))
    await here.count(Caller("backend"), "8.8.8.8", "GET", "/tasks")
    with pytest.raises(RateLimited) as raised:
        await there.count(Caller("backend"), "9.9.9.9", "GET", "/tasks")
    assert 0 < (raised.value.retry_after or 0) <= 60
    await here.aclose()
    await there.aclose()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.sampled_from([0.0, 7.0, 31.0, 61.0, 130.0]), min_size=1, max_size=12), limit=st.integers(1, 4))
def test_postgres_counts_as_a_process_does(postgres_url: str, steps: list[float], limit: int) -> None:
    """The same rule in SQL and in Python, for hits at any times: a row is made older in place of waiting."""

    async def both() -> None:
        shared, now = OnPostgres(sa.make_url(postgres_url)), 60.0 * 29_000_000
        own = InProcess(clock=lambda: now)
        item = RateLimitItemPerMinute(limit)
        ours, theirs = [], []
        with shared._engine.connect() as connection:
            connection.execute(sa.text(_MAKE))
            connection.execute(sa.text("truncate deskterior_rate_limits"))
            for step in steps:
                now += step
                statement = _HIT.replace("extract(epoch from clock_timestamp())", "cast(:now as double precision)")
                values = {"key": "x", "limit": limit, "expiry": 60.0, "amount": 1, "now": now}
                theirs.append(connection.execute(sa.text(statement), values).first() is not None)
                ours.append(await SlidingWindowCounterRateLimiter(own).hit(item, "x"))
        await shared.aclose()
        assert theirs == ours

    asyncio.run(both())


async def test_old_counts_are_thrown_away(postgres_url: str) -> None:
    counts = OnPostgres(sa.make_url(postgres_url))
    for key in ("old", "new"):
        await counts.acquire_sliding_window_entry(key, 5, 60)
    with counts._engine.connect() as connection:
        connection.execute(sa.text("update deskterior_rate_limits set forget_at = 0 where key = 'old'"))
        connection.execute(sa.text(_SWEEP))
        kept = connection.execute(sa.text("select key from deskterior_rate_limits")).scalars().all()
    await counts.aclose()
    assert kept == ["new"]


async def test_a_database_that_is_not_there_takes_nothing_down() -> None:
    away = "postgresql://nobody:nothing@127.0.0.1:1/none"
    limits = Limits.open(LimitSettings(key_requests_per_minute=2), away)
    for _ in range(2):
        await limits.count(Caller("backend"), "8.8.8.8", "GET", "/tasks")
    with pytest.raises(RateLimited):
        await limits.count(Caller("backend"), "8.8.8.8", "GET", "/tasks")
    await limits.aclose()


async def test_a_table_that_was_dropped_is_made_again(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deskterior.gateway.limits_storage.AWAY_S", 0.0)
    counts = OnPostgres(sa.make_url(postgres_url))
    both = SharedWhileItAnswers(counts)
    assert await both.acquire_sliding_window_entry("x", 1, 60)
    with counts._engine.connect() as connection:
        connection.execute(sa.text("drop table deskterior_rate_limits"))
    await both.acquire_sliding_window_entry("x", 1, 60)  # in this process
    assert await both.acquire_sliding_window_entry("x", 1, 60)
    assert not await counts.acquire_sliding_window_entry("x", 1, 60)
    await both.aclose()
