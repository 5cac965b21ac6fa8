"""Photos for the rest of the service: fetched, decoded and scaled without holding up the event loop.

Where they may come from is `deskterior.egress`'s, how they come `deskterior.download`'s, what they may be
`deskterior.decoding`'s. Here is how many at once, which bounds the memory: PHOTO_CONCURRENCY x PHOTO_MAX_BYTES for
files (64 x 20 MiB = 1.3 GB if all are as large as allowed; 64 phone photos of 4 MB took 330 MB), and for pixels
256 MiB for each core and once the largest photo there may be (1.2 GB for a WebP of 64 megapixels).
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TypeVar
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from deskterior.config import Settings
from deskterior.decoding import SIZE, PhotoInfo, PhotoType, decode, inspect, memory_needed, scaled_jpeg
from deskterior.download import PhotoDownloader
from deskterior.egress import PhotoHosts
from deskterior.errors import PhotoError, PhotoTooLarge, PhotoUrlForbidden
from deskterior.telemetry import metrics, traces

__all__ = ["SIZE", "PhotoInfo", "PhotoType", "Photos", "decode", "inspect", "scaled_jpeg"]

LARGE = 256 * 1024 * 1024
"""Bytes of pixels above which photos are decoded one at a time: 12 megapixels of any type stay under it."""

Own = Callable[[str], Awaitable[bytes | None]]
"""The bytes at an address of our own storage, None for any other address."""

_Result = TypeVar("_Result")


@contextmanager
def _measured(step: str) -> Iterator[None]:
    """A step of a photo, with a span that does not tell where it comes from."""
    started = time.perf_counter()
    try:
        with traces.span(f"photo {step}"):
            yield
    except PhotoError as error:
        metrics.PHOTOS_REFUSED.labels(error.slug).inc()
        raise
    finally:
        metrics.PHOTO_SECONDS.labels(step).observe(time.perf_counter() - started)


class Photos:
    """Everything that is done with a photo before a model or a provider sees it. One for each process.

    Args:
        settings: the photo settings, and `env`.
        own: asked first, so that links to our own storage need no trip through the network and its rules.
        downloader: for all other addresses; built from the settings by default.
        large: bytes of pixels above which photos are decoded one at a time.

    Raises:
        SettingsError: `PHOTO_ALLOWED_HOSTS` holds something that is no host.
    """

    def __init__(
        self,
        settings: Settings,
        own: Own | None = None,
        *,
        downloader: PhotoDownloader | None = None,
        large: int = LARGE,
    ) -> None:
        self._max_bytes = settings.photo_max_bytes
        self._max_pixels = settings.photo_max_pixels
        self._own = own
        self._downloader = downloader or PhotoDownloader(
            PhotoHosts(settings.photo_allowed_hosts, development=settings.env == "development"),
            max_bytes=settings.photo_max_bytes,
            timeout_s=settings.photo_timeout_s,
            connections=settings.photo_concurrency,
        )
        self._slots = asyncio.Semaphore(settings.photo_concurrency)
        self._share = settings.photo_concurrency - settings.photo_concurrency // 4
        self._hosts: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        # Pillow frees the GIL; more threads than cores would only make more pixels wait at once.
        self._threads = ThreadPoolExecutor(os.cpu_count() or 1, "photo")
        self._large_bytes = large
        self._large = asyncio.Semaphore(1)

    async def fetch(self, url: str) -> bytes:
        """The photo's bytes, not looked into yet. Waits for a slot; the time allowed starts after it.

        Raises:
            PhotoUrlForbidden, PhotoUnreachable, PhotoTooLarge: as `PhotoDownloader.fetch` says.
        """
        async with self._share_of(url), self._slots:
            return await self._fetched(url)

    async def fetch_square(self, url: str) -> NDArray[np.uint8]:
        """`fetch` and `square` in one slot, so that fetched photos do not pile up in front of the decoder."""
        async with self._share_of(url), self._slots:
            return await self.square(await self._fetched(url))

    async def square(self, data: bytes) -> NDArray[np.uint8]:
        """What the classifier sees, ``(224, 224, 3)`` uint8. Raises as `deskterior.decoding.decode` does."""
        with _measured("decode"):
            return await self._decoded(data, SIZE, lambda: decode(data, SIZE, self._max_pixels))

    async def scaled(self, data: bytes, longest: int) -> bytes:
        """What outside services see: a JPEG of at most `longest` pixels a side, without metadata. Raises likewise."""
        with _measured("decode"):
            return await self._decoded(data, longest, lambda: scaled_jpeg(data, longest, self._max_pixels))

    async def inspect(self, data: bytes) -> PhotoInfo:
        """Type and size by the header. Raises likewise, but does not see damage in the pixels."""
        return await self._threaded(lambda: inspect(data, self._max_pixels))

    async def aclose(self) -> None:
        await self._downloader.aclose()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _share_of(self, url: str) -> asyncio.Semaphore:
        """Three quarters of the slots for each host, so that a slow one leaves some to the others."""
        try:
            host = urlsplit(url).netloc.lower()
        except ValueError:
            host = ""
        return self._hosts.setdefault(host, asyncio.Semaphore(self._share))

    async def _fetched(self, url: str) -> bytes:
        with _measured("download"):
            data = await self._bytes(url)
        metrics.PHOTO_BYTES.observe(len(data))
        return data

    async def _bytes(self, url: str) -> bytes:
        if any("\ud800" <= letter <= "\udfff" for letter in url):
            raise PhotoUrlForbidden("The photo's address holds half a Unicode character")
        data = await self._own(url) if self._own else None
        if data is None:
            return await self._downloader.fetch(url)
        if len(data) > self._max_bytes:
            raise PhotoTooLarge(f"The photo is over the limit of {self._max_bytes} bytes: scale it down")
        return data

    async def _decoded(self, data: bytes, side: int, work: Callable[[], _Result]) -> _Result:
        def unless_large() -> _Result | None:
            return None if memory_needed(data, side, self._max_pixels) > self._large_bytes else work()

        if (done := await self._threaded(unless_large)) is not None:
            return done
        await self._large.acquire()
        loop, future = asyncio.get_running_loop(), self._threads.submit(work)
        # Released by the thread: a caller who gives up does not end the decoding, nor free its memory.
        future.add_done_callback(lambda _: self._release_large(loop))
        return await asyncio.wrap_future(future)

    def _release_large(self, loop: asyncio.AbstractEventLoop) -> None:
        with suppress(RuntimeError):  # the loop is closed, and nobody waits
            loop.call_soon_threadsafe(self._large.release)

    async def _threaded(self, work: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)
