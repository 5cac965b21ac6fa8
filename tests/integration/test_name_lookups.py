"""Slow name servers hold up the look-up of their own names alone. No clock is looked at, only who gets through."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from deskterior.egress import SystemResolver
from deskterior.errors import PhotoUnreachable
from tests.downloads import SOON, downloader


class SlowZone:
    """Blocks, as the C library does, on every name whose ending is `.slow.test`, until it is told to go on."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.began = threading.Semaphore(0)
        self.asked: Counter[str] = Counter()

    def __call__(self, host: str, port: int) -> list[str]:
        self.asked[host] += 1
        if host.endswith(".slow.test"):
            self.began.release()
            self.go_on.wait(60)
        if host.startswith("none."):
            raise OSError(-2, "Name or service not known")
        return ["8.8.4.4"]


@contextmanager
def resolver(threads: int) -> Iterator[tuple[SystemResolver, SlowZone]]:
    zone = SlowZone()
    made = SystemResolver(threads, zone)
    try:
        yield made, zone
    finally:
        zone.go_on.set()
        made.close()


async def begun(zone: SlowZone, look_ups: int) -> None:
    for _ in range(look_ups):
        assert await asyncio.to_thread(zone.began.acquire, timeout=30)


async def test_slow_names_of_one_zone_leave_threads_to_all_others() -> None:
    with resolver(threads=8) as (resolve, zone):
        slow = [asyncio.create_task(resolve(f"{n}.slow.test", 80)) for n in range(50)]
        await begun(zone, 2)
        for n in range(20):
            assert await resolve(f"photos.{n}.test", 80) == ["8.8.4.4"]
        assert sum(name.endswith(".slow.test") for name in zone.asked) == 2  # a quarter of the threads
        zone.go_on.set()
        assert await asyncio.gather(*slow) == [["8.8.4.4"]] * 50


async def test_all_who_ask_for_one_name_at_one_time_share_a_thread() -> None:
    with resolver(threads=8) as (resolve, zone):
        slow = [asyncio.create_task(resolve("a.slow.test", 80)) for _ in range(50)]
        await begun(zone, 1)
        zone.go_on.set()
        assert await asyncio.gather(*slow) == [["8.8.4.4"]] * 50
        assert zone.asked == {"a.slow.test": 1}
        await resolve("a.slow.test", 80)
        assert zone.asked == {"a.slow.test": 2}  # an answer is never kept: it may have changed


async def test_who_gives_up_takes_nothing_from_those_who_wait_on() -> None:
    with resolver(threads=4) as (resolve, zone):
        first, second = (asyncio.create_task(resolve("a.slow.test", 80)) for _ in range(2))
        waiting = asyncio.create_task(resolve("b.slow.test", 80))
        await begun(zone, 1)
        first.cancel()
        waiting.cancel()
        await asyncio.gather(first, waiting, return_exceptions=True)
        zone.go_on.set()
        assert await second == ["8.8.4.4"]
        assert await resolve("b.slow.test", 80) == ["8.8.4.4"]
        assert not resolve._pending


async def test_a_name_that_is_not_there_is_told_to_everybody_and_forgotten() -> None:
    with resolver(threads=4) as (resolve, zone):
        asked = [asyncio.create_task(resolve("none.slow.test", 80)) for _ in range(5)]
        await begun(zone, 1)
        asked[0].cancel()
        zone.go_on.set()
        told = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(one, OSError) for one in told[1:])
        with pytest.raises(OSError, match="not known"):
            await resolve("none.fast.test", 80)


async def test_a_look_up_that_nobody_waits_for_ends_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    with resolver(threads=1) as (resolve, zone):
        asked = asyncio.create_task(resolve("none.slow.test", 80))
        await begun(zone, 1)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        zone.go_on.set()
        await resolve("photos.test", 80)  # behind it, in the one thread
    assert caplog.text == ""


async def test_a_download_from_a_slow_name_ends_at_its_deadline() -> None:
    with resolver(threads=4) as (resolve, _):
        async with downloader(timeout_s=SOON, resolve=resolve) as photos:
            for n in range(3):  # more than the zone's share
                with pytest.raises(PhotoUnreachable, match="within 0"):
                    await photos.fetch(f"http://{n}.slow.test/desk.jpg")
