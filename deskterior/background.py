"""Work that blocks, and may never end, at the end of a process that shall."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future


async def finish(work: Callable[[], object], *, name: str, within_s: float | None) -> bool:
    """Whether `work` ended in time (None: it is waited for), in a thread that the end of the process does not wait for.

    Raises what `work` raises in that time.
    """
    ended: Future[None] = Future()
    ended.set_running_or_notify_cancel()  # who waits no longer does not undo it

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - told to whoever waits
            ended.set_exception(error)
        else:
            ended.set_result(None)

    threading.Thread(target=run, name=name, daemon=True).start()
    waiting = asyncio.wrap_future(ended)
    try:
        async with asyncio.timeout(within_s):
            await waiting
    except TimeoutError:
        if not waiting.cancelled():
            raise  # its own
        return False
    return True
