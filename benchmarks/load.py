"""The client: asks a server many times, so many at once, and keeps what each request took."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import httpx

Ask = Callable[[], Awaitable[None]]


@dataclass
class Figures:
    """What one load run gave."""

    seconds: float = 0.0
    cpu_s: float = 0.0
    """Processor time of the server meanwhile."""
    latencies: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        return len(self.latencies) / self.seconds if self.seconds else float("nan")

    @property
    def cpu_ms(self) -> float:
        """The server's processor time for one photo. It holds on a busy machine, where photos per second do not."""
        return self.cpu_s / len(self.latencies) * 1000 if self.latencies else float("nan")

    @property
    def p50_ms(self) -> float:
        return statistics.median(self.latencies) * 1000 if self.latencies else float("nan")

    @property
    def p99_ms(self) -> float:
        return sorted(self.latencies)[int(len(self.latencies) * 0.99)] * 1000 if self.latencies else float("nan")


async def run(ask: Ask, total: int, at_once: int) -> Figures:
    """`total` calls of `ask`, `at_once` at a time. A call that raises is an error, and its time is not kept."""
    figures = Figures()
    numbers = iter(range(total))

    async def one() -> None:
        for _ in numbers:
            began = time.perf_counter()
            try:
                await ask()
            except Exception as error:  # noqa: BLE001 - whatever it is, it counts
                figures.errors.append(f"{type(error).__name__}: {error}"[:200])
            else:
                figures.latencies.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(at_once)))
    figures.seconds = time.perf_counter() - began
    return figures


def asking(client: httpx.AsyncClient, url: str, photos: list[str]) -> Ask:
    """POST the photos' addresses in turn, as our API wants them."""
    turn = itertools.cycle(photos)

    async def ask() -> None:
        answer = await client.post(url, json={"initial_image_url": next(turn)})
        if answer.status_code != 200 or not isinstance(answer.json()["classify"], bool):
            raise RuntimeError(f"{answer.status_code} {answer.text[:100]}")

    return ask
