"""One process that asks a limit in Postgres many times at once, and says how often it was let in."""

from __future__ import annotations

import asyncio
import sys

import sqlalchemy as sa
from limits import RateLimitItemPerYear
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from deskterior.gateway.limits_storage import OnPostgres

LIMIT = RateLimitItemPerYear(50)
"""By the year, so that no window ends during a test."""


async def count(url: str, times: int) -> int:
    counts = OnPostgres(sa.make_url(url))
    window = SlidingWindowCounterRateLimiter(counts)
    passed = await asyncio.gather(*(window.hit(LIMIT, "backend") for _ in range(times)))
    await counts.aclose()
    return sum(passed)


if __name__ == "__main__":
    print(asyncio.run(count(sys.argv[1], int(sys.argv[2]))))
