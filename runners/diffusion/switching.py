"""Which version is loaded, and how another takes its place while the runner runs: the folder is looked at every second.

A version that cannot be used is refused with its reason, and the one before goes on. Drawing is left to whoever holds
`turn`; between two batches it is free for a moment, and that is when versions change.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import structlog

from runners.diffusion import engine
from runners.diffusion.engine import DrawingModel
from runners.diffusion.layout import Options
from runners.diffusion.versions import Fingerprint, ModelFolder, NoRoom, Version, VersionUnusable, fingerprint

T = TypeVar("T")

log = structlog.get_logger(__name__)

ROOM_AFTER_S = 30.0
"""Where nothing draws for want of memory, it is tried again after this: what had taken it may have gone by then."""


class Switching:
    """`model` draws; None while none can. Unless `settled`, that may change soon, so a request may wait for it."""

    def __init__(self, folder: ModelFolder, options: Options, poll_s: float) -> None:
        self.model: DrawingModel | None = None
        self.loaded: Fingerprint = ()
        """Of the files that `model` was made of."""
        self.problem = ""
        """Why what the folder asks for is not what draws."""
        self.refused: dict[str, str] = {}
        """Versions that could not be loaded, and why."""
        self.settled = asyncio.Event()
        self.turn = asyncio.Lock()
        self._folder = folder
        self._options = options
        self._poll_s = poll_s
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="drawing-model-loader")
        self._seen: object = None
        self._handled: object = None
        self._looking = asyncio.Lock()
        self._again_at = math.inf

    async def watch(self) -> None:
        """Follow the folder until cancelled."""
        while True:
            try:
                await self.look()
            except Exception:
                log.exception("drawing_model.watch_failed")
                self.settled.set()
            await asyncio.sleep(self._poll_s)

    async def notice(self) -> None:
        """See now whether there is something to follow, so that a request for it waits. `watch` then follows it."""
        if await asyncio.to_thread(self._folder.fingerprint) != self._handled:
            self.settled.clear()

    async def look(self, *, at_once: bool = False) -> None:
        """Follow what has changed in the folder and then lay still for one look: half a copy is no version yet."""
        async with self._looking:
            seen = await asyncio.to_thread(self._folder.fingerprint)
            first, still = self._handled is None, seen == self._seen
            self._seen = seen
            if seen != self._handled:
                self.settled.clear()
                if not (still or first or at_once):
                    return
            elif self.model is not None or asyncio.get_running_loop().time() < self._again_at:
                self.settled.set()
                return
            await self._follow()
            self._handled = seen

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)
        if self.model is not None:
            self.model.close()
            self.model = None

    async def _follow(self) -> None:
        self._again_at = math.inf
        try:
            version = await asyncio.to_thread(self._folder.active)
            if version is None:
                # What is loaded needs no files: it draws until another comes.
                self.problem = "Its files were deleted; it draws on until the runner stops" if self.model else ""
                return
            files = await asyncio.to_thread(fingerprint, version.path)
            if self.model is not None and self.model.version == version and self.loaded == files:
                self.problem = ""
                return
            await self._switch(version, files)
        except VersionUnusable as error:
            self._refuse(error)
        finally:
            self.settled.set()

    async def _switch(self, version: Version, files: Fingerprint) -> None:
        self.refused.pop(version.name, None)
        old = self.model
        try:
            if old is not None:
                fits = await self._on_thread(version, lambda: engine.fits_beside(version, self._options, old))
                if isinstance(fits, VersionUnusable):
                    raise fits
                if fits:
                    outcome = await self._load(version)
                    if isinstance(outcome, DrawingModel):
                        async with self.turn:
                            self._install(outcome, files)
                            await asyncio.to_thread(old.close)
                        return
                    if not isinstance(outcome, NoRoom):
                        raise outcome
                log.warning("drawing_model.no_room_for_two", loaded=old.version.name, next=version.name)
            async with self.turn:
                await self._replace(version, files)
        except VersionUnusable as error:
            self.refused[version.name] = error.detail
            raise

    async def _replace(self, version: Version, files: Fingerprint) -> None:
        """Unload, then load; what was there before comes back if the new one cannot be loaded."""
        old, before = self.model, self.loaded
        self.model = None
        if old is not None:
            await asyncio.to_thread(old.close)
        outcome = await self._load(version)
        if isinstance(outcome, DrawingModel):
            self._install(outcome, files)
            return
        if old is not None:
            again = await self._load(old.version)
            if isinstance(again, DrawingModel):
                self._install(again, before)
            else:
                outcome = type(outcome)(f"{outcome.detail}. And {old.version.name} did not come back: {again.detail}")
        raise outcome

    def _install(self, model: DrawingModel, files: Fingerprint) -> None:
        self.model, self.loaded, self.problem = model, files, ""

    def _refuse(self, error: VersionUnusable) -> None:
        self.problem = error.detail
        log.error("drawing_model.refused", problem=error.detail, draws=self.model.version.name if self.model else None)
        if isinstance(error, NoRoom):
            self._again_at = asyncio.get_running_loop().time() + ROOM_AFTER_S

    async def _load(self, version: Version) -> DrawingModel | VersionUnusable:
        return await self._on_thread(version, lambda: DrawingModel.load(version, self._options))

    async def _on_thread(self, version: Version, work: Callable[[], T]) -> T | VersionUnusable:
        return await asyncio.get_running_loop().run_in_executor(self._thread, _caught, version, work)


def _caught(version: Version, work: Callable[[], T]) -> T | VersionUnusable:
    """Errors come back without their frames, which would hold the weights of what failed."""
    try:
        return work()
    except VersionUnusable as error:
        failed = type(error)(error.detail, internal=error.internal)
    except Exception as error:  # noqa: BLE001 - whatever a library raises, the old version goes on
        failed = VersionUnusable(f"It cannot be loaded: {type(error).__name__}", internal=repr(error)[:1000])
    if failed.internal:
        log.warning("drawing_model.not_loaded", version=version.name, internal=failed.internal)
    engine.free_memory()
    return failed
