"""Photos as the rest of the service has them: own storage first, bounded in number, never an error without a name."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest
from PIL import Image

from deskterior.config import Settings, SettingsError
from deskterior.errors import PhotoTooLarge, PhotoTypeUnsupported, PhotoUnreadable, PhotoUrlForbidden
from deskterior.photos import LARGE, Own, Photos, decode
from tests.photographs import encoded, many_scans, noise, png, scene
from tests.websites import Visit, site

PHOTO = encoded(scene())


@asynccontextmanager
async def photos(own: Own | None = None, large: int = LARGE, **settings: object) -> AsyncIterator[Photos]:
    chosen = {"photo_allowed_hosts": frozenset({"127.0.0.1"}), **settings}
    room = Photos(Settings.model_validate(chosen), own, large=large)
    try:
        yield room
    finally:
        await room.aclose()


async def photo(visit: Visit) -> None:
    await visit.answer(PHOTO)


async def test_a_photo_becomes_what_the_classifier_sees() -> None:
    async with site(photo) as web, photos() as room:
        assert await room.fetch(web.url()) == PHOTO
        assert np.array_equal(await room.fetch_square(web.url()), decode(PHOTO))


async def test_our_own_storage_is_read_without_the_network() -> None:
    async def own(url: str) -> bytes | None:
        return PHOTO if url == "https://deskterior.test/files/a?signature=x" else None

    async with site(photo) as web, photos(own, photo_allowed_hosts=frozenset()) as room:
        assert await room.fetch("https://deskterior.test/files/a?signature=x") == PHOTO
        with pytest.raises(PhotoUrlForbidden):
            await room.fetch(web.url())
        assert web.connections == 0


async def test_half_a_unicode_character_does_not_reach_our_storage() -> None:
    async def own(url: str) -> bytes | None:
        return url.encode()

    async with photos(own) as room:
        with pytest.raises(PhotoUrlForbidden):
            await room.fetch("https://deskterior.test/files/\ud800")


async def test_our_own_photos_keep_the_byte_limit_too() -> None:
    async def own(url: str) -> bytes | None:
        return bytes(2001)

    async with photos(own, photo_max_bytes=2000) as room:
        with pytest.raises(PhotoTooLarge, match="2000"):
            await room.fetch("https://deskterior.test/files/a")


async def test_the_limits_of_the_settings_are_kept() -> None:
    async with site(photo) as web:
        async with photos(photo_max_bytes=1024) as room:
            with pytest.raises(PhotoTooLarge):
                await room.fetch(web.url())
        async with photos(photo_max_pixels=10_000) as room:
            for refuse in (
                room.square(PHOTO),
                room.scaled(PHOTO, 100),
                room.inspect(PHOTO),
                room.fetch_square(web.url()),
            ):
                with pytest.raises(PhotoTooLarge):
                    await refuse


async def test_no_more_photos_are_in_flight_than_the_setting_says() -> None:
    inside = most = 0
    full, go_on = asyncio.Event(), asyncio.Event()

    async def own(url: str) -> bytes:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        if inside == 3:
            full.set()
        await go_on.wait()
        inside -= 1
        return PHOTO

    async with photos(own, photo_concurrency=3) as room, asyncio.TaskGroup() as group:
        squares = [group.create_task(room.fetch_square(f"https://deskterior.test/files/{n}")) for n in range(12)]
        await full.wait()
        go_on.set()
        for square in squares:
            assert (await square).shape == (224, 224, 3)
        assert most == 3


async def test_a_host_that_hangs_leaves_slots_to_the_others() -> None:
    async def hang(visit: Visit) -> None:
        full.release()
        await visit.gone()
        visit.writer.close()

    full = asyncio.Semaphore(0)
    async with site(hang) as slow, site(photo) as quick, photos(photo_concurrency=4) as room:
        stuck = [asyncio.create_task(room.fetch_square(slow.url(f"/{n}"))) for n in range(20)]
        for _ in range(3):
            await full.acquire()
        for _ in range(3):
            assert (await room.fetch_square(quick.url())).shape == (224, 224, 3)
        assert len(slow.visits) == 3
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)
        assert (await room.fetch_square(quick.url())).shape == (224, 224, 3)


async def test_a_caller_who_gives_up_frees_the_slot() -> None:
    async def answer(visit: Visit) -> None:
        if visit.target == "/slow":
            await visit.gone()
            visit.writer.close()
        else:
            await visit.answer(PHOTO)

    async with site(answer) as web, photos(photo_concurrency=1) as room:
        slow = asyncio.create_task(room.fetch_square(web.url("/slow")))
        await web.asked.wait()
        slow.cancel()
        assert (await room.fetch_square(web.url())).shape == (224, 224, 3)
        assert slow.cancelled()


async def test_bad_photos_among_good_ones_fail_alone() -> None:
    bad = {"/cut": PHOTO[:-500], "/gif": encoded(scene(), "GIF"), "/empty": b"", "/bomb": png(100_000, 100_000)}

    async def answer(visit: Visit) -> None:
        await visit.answer(bad.get(visit.target, PHOTO))

    async with site(answer) as web, photos() as room:
        paths = [*bad, "/a", "/b", *bad, "/c"]
        ended = await asyncio.gather(*(room.fetch_square(web.url(path)) for path in paths), return_exceptions=True)
        expected = [PhotoUnreadable, PhotoTypeUnsupported, PhotoUnreadable, PhotoTooLarge]
        kinds = [*expected, np.ndarray, np.ndarray, *expected, np.ndarray]
        assert [type(one) for one in ended] == kinds


@pytest.mark.parametrize("large", [0, LARGE])
async def test_large_photos_are_decoded_one_after_another_to_the_same_end(large: int) -> None:
    kinds = ["JPEG", "PNG", "WEBP", "HEIF"]
    async with photos(large=large) as room:
        data = [encoded(noise(160, 120), kind) for kind in kinds]
        squares = await asyncio.gather(*(room.square(one) for one in data * 3))
        for square, one in zip(squares, data * 3, strict=True):
            assert np.array_equal(square, decode(one))
        with pytest.raises(PhotoUnreadable):
            await room.square(PHOTO[:-500])
        assert Image.open(io.BytesIO(await room.scaled(data[1], 80))).size == (80, 60)


async def test_a_large_photo_given_up_leaves_the_way_free() -> None:
    async with photos(large=0) as room:
        waiting = [asyncio.create_task(room.square(PHOTO)) for _ in range(20)]
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert (await room.square(PHOTO)).shape == (224, 224, 3)


async def test_a_scaled_photo_and_its_type_are_told() -> None:
    async with photos() as room:
        small = await room.scaled(encoded(scene(600, 400), "PNG"), 300)
        assert Image.open(io.BytesIO(small)).size == (300, 200)
        assert (await room.inspect(small)).type == "image/jpeg"
        with pytest.raises(PhotoUnreadable):
            await room.inspect(many_scans(100))


def test_a_host_setting_that_is_no_host_stops_the_start() -> None:
    with pytest.raises(SettingsError, match="PHOTO_ALLOWED_HOSTS: http://a"):
        Photos(Settings.model_validate({"photo_allowed_hosts": "http://a/b"}))
