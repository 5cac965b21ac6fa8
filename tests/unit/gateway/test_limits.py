"""Counting requests, and what is said of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from limits import RateLimitItemPerMinute
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from deskterior.errors import RateLimited
from deskterior.gateway.caller import EVERYONE, Caller, KeyLimits
from deskterior.gateway.limits import Limits, allowance
from deskterior.gateway.limits_settings import LimitSettings
from deskterior.gateway.limits_storage import InProcess, SharedWhileItAnswers, SlidingWindows
from deskterior.makeover.spending import Allowance

BACKEND = Caller("backend")
HERE, THERE = "8.8.8.8", "9.9.9.9"


class Clock:
    """Stands until it is moved; begins with a window, give or take what no real clock would hit."""

    def __init__(self) -> None:
        self.now = 60.0 * 29_000_000 + 0.5

    def __call__(self) -> float:
        return self.now


def limits(clock: Callable[[], float] | None = None, **settings: int) -> Limits:
    clock = clock or Clock()
    return Limits(LimitSettings(**settings), InProcess(clock=clock), clock)  # type: ignore[arg-type]


async def ask(of: Limits, caller: Caller = BACKEND, address: str = HERE, path: str = "/tasks") -> dict[str, int]:
    headers = await of.count(caller, address, "POST" if path.startswith("/v") or "/retry" in path else "GET", path)
    return {name.decode(): int(value) for name, value in headers}


async def refused(of: Limits, caller: Caller = BACKEND, address: str = HERE, path: str = "/tasks") -> RateLimited:
    with pytest.raises(RateLimited) as raised:
        await ask(of, caller, address, path)
    return raised.value


async def test_an_answer_tells_how_much_is_left() -> None:
    of = limits(key_requests_per_minute=3)
    assert [(await ask(of))["ratelimit-remaining"] for _ in range(3)] == [2, 1, 0]
    assert (await refused(of)).headers[:2] == ((b"ratelimit-limit", b"3"), (b"ratelimit-remaining", b"0"))


async def test_who_waits_as_long_as_was_said_is_let_in() -> None:
    clock = Clock()
    of = limits(clock, key_requests_per_minute=2)
    for _ in range(2):
        await ask(of)
    error = await refused(of)
    assert error.retry_after
    assert error.retry_after <= 60
    assert f"Wait {error.retry_after:.0f} s" in error.detail
    assert "The key backend may make 2 requests a minute" in error.detail
    clock.now += error.retry_after
    await ask(of)


async def test_a_makeover_that_another_request_starts_counts_as_one_that_was_asked_for() -> None:
    of = limits(key_generates_per_minute=2)
    await ask(of, path="/v1/generate")
    await of.count_order(BACKEND, HERE)
    with pytest.raises(RateLimited, match="2 makeovers, prompts and retries"):
        await of.count_order(BACKEND, THERE)
    await refused(of, path="/v1/generate")
    await ask(of, path="/classify")
    await of.count_order(Caller("other"), HERE)
    nameless = limits(key_generates_per_minute=1)
    await nameless.count_order(EVERYONE, HERE)
    await nameless.count_order(EVERYONE, THERE)
    with pytest.raises(RateLimited):
        await nameless.count_order(EVERYONE, HERE)


async def test_a_clock_that_is_set_back_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    at_first = time.time()
    clock = Clock()
    of = limits(clock, key_requests_per_minute=2)
    for _ in range(2):
        await ask(of)
    await refused(of)
    monkeypatch.setattr(time, "time", lambda: at_first - 3600)
    assert (await refused(of)).retry_after <= 60  # type: ignore[operator]
    clock.now += 60
    await ask(of)


async def test_a_key_counts_for_itself_wherever_it_is_used() -> None:
    of = limits(key_requests_per_minute=1, address_requests_per_minute=1)
    await ask(of, BACKEND, HERE)
    await refused(of, BACKEND, THERE)
    await ask(of, Caller("other"), HERE)
    await ask(of, EVERYONE, HERE)
    assert "show a key" in (await refused(of, EVERYONE, HERE)).detail


async def test_a_key_that_is_called_like_an_address_is_none() -> None:
    of = limits(key_requests_per_minute=1, address_requests_per_minute=1)
    await ask(of, Caller(HERE))
    await ask(of, EVERYONE, HERE)


async def test_a_key_s_own_limit_stands_in_for_the_common_one() -> None:
    of = limits(key_requests_per_minute=1)
    own = Caller("own", limits=KeyLimits(requests_per_minute=2))
    free = Caller("free", limits=KeyLimits(requests_per_minute=0))
    await ask(of, own)
    await ask(of, own)
    await refused(of, own)
    assert [await ask(of, free) for _ in range(3)] == [{}, {}, {}]


@pytest.mark.parametrize("path", ["/v1/prompt", "/v1/generate", "/v2/generate", "/tasks/1/retry"])
async def test_what_costs_money_has_a_limit_of_its_own(path: str) -> None:
    of = limits(key_requests_per_minute=100, key_generates_per_minute=2)
    assert (await ask(of, path=path))["ratelimit-limit"] == 2, "the tightest is told"
    await ask(of, path=path)
    assert "makeovers" in (await refused(of, path=path)).detail
    await ask(of, path="/tasks")


async def test_pictures_are_counted_by_address_alone() -> None:
    of = limits(key_requests_per_minute=1, address_requests_per_minute=1, address_files_per_minute=2)
    await ask(of, EVERYONE, HERE, "/files/1.png")
    await ask(of, BACKEND, HERE, "/files/2.png")
    await refused(of, Caller("other"), HERE, "/files/2.png")
    await ask(of, EVERYONE, HERE)


async def test_no_limit_is_no_header() -> None:
    assert await ask(limits(key_requests_per_minute=0, key_generates_per_minute=0), path="/v1/generate") == {}


async def test_an_address_that_shows_wrong_keys_is_told_to_wait() -> None:
    clock = Clock()
    of = limits(clock, address_failures_per_minute=2)
    for _ in range(2):
        await of.wrong_key(HERE)
    for _ in range(2):
        with pytest.raises(RateLimited, match="wrong keys") as raised:
            await of.wrong_key(HERE)
    await of.wrong_key(THERE)
    clock.now += raised.value.retry_after or 0
    await of.wrong_key(HERE)


async def test_a_key_may_have_any_name() -> None:
    of = limits(key_requests_per_minute=1)
    odd = Caller("{0} %s {name}/책상")
    await ask(of, odd)
    assert odd.name in (await refused(of, odd)).detail


@given(steps=st.lists(st.floats(0, 90), min_size=1, max_size=60), limit=st.integers(1, 12))
async def test_no_minute_has_many_more_than_the_limit(steps: list[float], limit: int) -> None:
    """The window of the library weighs the minute before as if it had been even: at worst twice the limit passes."""
    clock = Clock()
    window = SlidingWindowCounterRateLimiter(InProcess(clock=clock))
    item = RateLimitItemPerMinute(limit)
    passed: list[float] = []
    for step in steps:
        clock.now += step
        if await window.hit(item, "x"):
            passed.append(clock.now)
        elif not [at for at in passed if at > clock.now - 120]:
            raise AssertionError("refused though nobody had asked")
    for at in passed:
        assert len([other for other in passed if at <= other < at + 60]) < 2 * limit + 1


async def test_keys_without_end_take_memory_with_an_end() -> None:
    counts = InProcess(most=100, clock=Clock())
    for number in range(1000):
        await counts.acquire_sliding_window_entry(f"key {number}", 1, 60)
        await counts.acquire_sliding_window_entry("in use", 10_000, 60)
    assert len(counts._counts) == 100
    assert (await counts.get_sliding_window("in use", 60))[2] == 1000, "the one in use is not the one forgotten"


class Flighty(InProcess):
    """A shared storage that is away when told to be."""

    away = False
    asked = 0

    async def acquire_sliding_window_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        self.asked += 1
        if self.away:
            raise TimeoutError
        return await super().acquire_sliding_window_entry(key, limit, expiry, amount)


async def test_while_the_database_is_away_each_process_counts_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = Flighty()
    counts: SlidingWindows = SharedWhileItAnswers(shared)

    async def hit() -> bool:
        return await counts.acquire_sliding_window_entry("x", 2, 60)

    assert await hit()
    shared.away = True
    assert [await hit() for _ in range(4)] == [True, True, False, False]
    assert shared.asked == 2, "it is left alone for a while"

    shared.away = False
    monkeypatch.setattr("deskterior.gateway.limits_storage.AWAY_S", 0.0)
    counts._look_again_at = 0.0  # type: ignore[attr-defined]
    assert [await hit() for _ in range(2)] == [True, False]


@pytest.mark.parametrize(
    ("caller", "allowed"),
    [
        (Caller("key"), Allowance(5.0, 7)),
        (Caller("key", limits=KeyLimits(usd_per_day=2.0)), Allowance(2.0, 7)),
        (Caller("key", limits=KeyLimits(usd_per_day=0.0, tasks_waiting=0)), Allowance(0.0, 0)),
        (EVERYONE, Allowance(None, None)),
    ],
)
def test_a_key_s_own_zero_is_nothing_at_all(caller: Caller, allowed: Allowance) -> None:
    assert allowance(caller, LimitSettings(key_usd_per_day=5.0, key_tasks_waiting=7)) == allowed


def test_a_setting_of_zero_is_no_limit() -> None:
    assert allowance(Caller("key"), LimitSettings(key_usd_per_day=0.0, key_tasks_waiting=0)) == Allowance(None, None)


async def test_a_flood_of_refused_ones_asks_nobody() -> None:
    shared, clock = Flighty(), Clock()
    shared._clock = clock
    of = Limits(LimitSettings(key_requests_per_minute=2), shared, clock)
    for _ in range(2):
        await ask(of)
    error = await refused(of)
    asked = shared.asked
    for _ in range(5):
        again = await refused(of)
    assert shared.asked == asked
    assert (again.retry_after, again.headers) == (error.retry_after, error.headers)
    clock.now += error.retry_after or 0
    await ask(of)


class Slow(InProcess):
    """A shared storage that answers each in a while."""

    async def acquire_sliding_window_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        await asyncio.sleep(0.001)
        return await super().acquire_sliding_window_entry(key, limit, expiry, amount)


async def test_a_crowd_that_waits_for_the_database_does_not_make_it_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deskterior.gateway.limits_storage.ANSWER_WITHIN_S", 0.2)
    counts = SharedWhileItAnswers(Slow())
    passed = await asyncio.gather(*(counts.acquire_sliding_window_entry("x", 50, 10**9) for _ in range(600)))
    assert sum(passed) == 50
