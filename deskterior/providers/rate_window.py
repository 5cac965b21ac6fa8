"""A provider's rate limit, kept on our side: no more than so many calls start within any one second."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable

# Calls that leave evenly may arrive bunched: the window is a little longer than the provider's.
_MARGIN = 1.05


class RateWindow:
    """Lets `per_second` calls start in any second, in the order in which they came; a fraction spaces them out.

    It counts this process alone: several processes with one key share its rate, so each is set to its part.
    """

    def __init__(
        self,
        per_second: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._calls = max(1, int(per_second))
        self._window_s = self._calls / per_second * _MARGIN
        self._started: deque[float] = deque(maxlen=self._calls)
        self._clock = clock
        self._sleep = sleep
        self._turn = asyncio.Lock()

    async def wait(self) -> None:
        """Return when a call may start; cancelled while waiting, none is counted."""
        async with self._turn:
            if len(self._started) == self._calls:
                left = self._started[0] + self._window_s - self._clock()
                if left > 0:
                    await self._sleep(left)
            self._started.append(self._clock())
