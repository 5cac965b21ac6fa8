"""Where the limits' counts are kept: in this process, or in Postgres for all processes of all machines.

Both are storages for the sliding window strategy of `limits`: for each key the hits of this window and of the one
before, which the strategy weighs by the part of it that still counts.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import floor
from typing import Any, TypeVar

import sqlalchemy as sa
import structlog
from limits.aio.storage.base import SlidingWindowCounterSupport, Storage

from deskterior.jobs.connections import Connections

T = TypeVar("T")

log = structlog.get_logger(__name__)

MOST_KEYS = 100_000
"""Counted at once in one process, some 20 MB; beyond it the one that was hit longest ago is forgotten."""
TABLE_LOCK = 77_004
"""Advisory lock: one process makes the table, the others wait."""
CONNECTIONS = 2
"""For each process, beside those of the jobs: a burst of requests must not keep the jobs waiting."""
ANSWER_WITHIN_S = 1.0
AWAY_S = 10.0
"""How long a database that has not answered is left alone."""
SWEEP_S = 60.0


@dataclass(frozen=True)
class Count:
    """Hits in the window `number` (time divided by the window's length, whole) and in the one before."""

    number: int
    previous: int
    current: int

    def at(self, number: int) -> Count:
        """The same hits, seen from a later window."""
        if number <= self.number:
            return self
        return Count(number, self.current if number == self.number + 1 else 0, 0)


class SlidingWindows(Storage, SlidingWindowCounterSupport):
    """What is left to say of a storage that serves the sliding window strategy alone."""

    STORAGE_SCHEME = None

    @property
    def base_exceptions(self) -> type[Exception] | tuple[type[Exception], ...]:
        return sa.exc.SQLAlchemyError

    async def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        raise NotImplementedError

    async def get(self, key: str) -> int:
        raise NotImplementedError

    async def get_expiry(self, key: str) -> float:
        raise NotImplementedError

    async def check(self) -> bool:
        return True

    async def reset(self) -> int | None:
        raise NotImplementedError

    async def clear(self, key: str) -> None:
        raise NotImplementedError

    async def clear_sliding_window(self, key: str, expiry: int) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        """Let go of what is open."""


class InProcess(SlidingWindows):
    """Counts of this process. The library's own such storage looks through all keys at every hit, and has no end.

    `clock` is seconds that only grow: were it set back, the counts would stand until it had caught up.
    """

    def __init__(self, most: int = MOST_KEYS, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._most = most
        self._clock = clock
        self._counts: dict[str, Count] = {}  # the one hit longest ago first

    async def acquire_sliding_window_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        count, left = self._look(key, expiry)
        if floor(count.previous * left + count.current) + amount > limit:
            return False
        self._counts.pop(key, None)
        self._counts[key] = Count(count.number, count.previous, count.current + amount)
        if len(self._counts) > self._most:
            del self._counts[next(iter(self._counts))]
        return True

    async def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        count, left = self._look(key, expiry)
        return _as_the_strategy_reads(count, left, expiry)

    def _look(self, key: str, expiry: int) -> tuple[Count, float]:
        """The count as of now, and the part of the window before that still counts."""
        position = self._clock() / expiry
        number = floor(position)
        count = self._counts.get(key, Count(number, 0, 0)).at(number)
        return count, 1 - min(max(position - count.number, 0.0), 1.0)


_MAKE = """
create unlogged table if not exists deskterior_rate_limits (
    key text primary key, at double precision not null, previous integer not null, current integer not null,
    forget_at double precision not null
) with (fillfactor = 50)
"""
# `at` is the time in windows: its whole part is the number of a window. A hit that waited for another's lock may come
# with an older time than that of the row; the later of the two counts.
_SINCE = "floor(excluded.at) - floor(kept.at)"
_PREVIOUS = f"(case when {_SINCE} <= 0 then kept.previous when {_SINCE} = 1 then kept.current else 0 end)"
_CURRENT = f"(case when {_SINCE} <= 0 then kept.current else 0 end)"
_HIT = """
insert into deskterior_rate_limits as kept (key, at, previous, current, forget_at)
select cast(:key as text), now / :expiry, 0, cast(:amount as integer), now + 2 * :expiry
from (select extract(epoch from clock_timestamp())::double precision as now) as clock
on conflict (key) do update set
    at = greatest(kept.at, excluded.at),
    previous = PREVIOUS,
    current = CURRENT + excluded.current,
    forget_at = greatest(kept.forget_at, excluded.forget_at)
where floor(PREVIOUS * (1 + floor(greatest(kept.at, excluded.at)) - greatest(kept.at, excluded.at)) + CURRENT)
    + excluded.current <= :limit
returning at, previous, current
"""
_HIT = _HIT.replace("PREVIOUS", _PREVIOUS).replace("CURRENT", _CURRENT)
_LOOK = """
select at, previous, current, extract(epoch from clock_timestamp())::double precision / :expiry as now
from deskterior_rate_limits where key = :key
"""
_SWEEP = "delete from deskterior_rate_limits where forget_at < extract(epoch from clock_timestamp())"


class OnPostgres(SlidingWindows):
    """Counts of all processes: one statement for each hit, by the database's clock, in threads of its own.

    What a crash of the database loses is a minute of counting, so the table is not logged.
    """

    def __init__(self, url: sa.URL) -> None:
        super().__init__()
        self._engine = sa.create_engine(
            url.set(drivername="postgresql+psycopg"),
            pool_size=CONNECTIONS,
            max_overflow=0,
            pool_timeout=ANSWER_WITHIN_S,
            isolation_level="AUTOCOMMIT",
            connect_args={"connect_timeout": 2, "tcp_user_timeout": 2000},
        )
        sa.event.listen(self._engine, "connect", _give_up_early)
        self._connections = Connections(self._engine)
        self._threads = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="rate-limits")
        self._made = False
        self._sweep_at = 0.0
        self._told: dict[str, tuple[Count, float]] = {}  # what a hit has brought, for the look that comes after it

    async def acquire_sliding_window_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        values = {"key": key, "limit": limit, "expiry": float(expiry), "amount": amount}
        if (found := await self._run(self._hit, values)) is None:
            return False
        self._told[key] = found
        return True

    async def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        if (found := self._told.pop(key, None)) is None:
            found = await self._run(self._look, {"key": key, "expiry": float(expiry)})
        count, left = found
        return _as_the_strategy_reads(count, left, expiry)

    async def aclose(self) -> None:
        self._connections.cut()  # nobody is counted any more, and a database that hangs would hold our end up
        await asyncio.to_thread(self._threads.shutdown)
        self._engine.dispose()

    async def _run(self, work: Callable[[sa.Connection, dict[str, Any]], T], values: dict[str, Any]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._connected, work, values)

    def _connected(self, work: Callable[[sa.Connection, dict[str, Any]], T], values: dict[str, Any]) -> T:
        with self._engine.connect() as connection:
            if not self._made:
                with connection.execution_options(isolation_level="READ COMMITTED").begin():
                    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(TABLE_LOCK)))
                    connection.execute(sa.text(_MAKE))
                connection.execution_options(isolation_level="AUTOCOMMIT")
                self._made = True
            if (now := time.monotonic()) > self._sweep_at:
                self._sweep_at = now + SWEEP_S
                connection.execute(sa.text(_SWEEP))
            try:
                return work(connection, values)
            except sa.exc.ProgrammingError:  # somebody has dropped the table: the next one makes it again
                self._made = False
                raise

    @staticmethod
    def _hit(connection: sa.Connection, values: dict[str, Any]) -> tuple[Count, float] | None:
        row = connection.execute(sa.text(_HIT), values).one_or_none()
        return None if row is None else _seen(row, row.at)

    @staticmethod
    def _look(connection: sa.Connection, values: dict[str, Any]) -> tuple[Count, float]:
        row = connection.execute(sa.text(_LOOK), values).one_or_none()
        if row is None:
            return Count(0, 0, 0), 0.0
        return _seen(row, max(row.at, row.now))


class SharedWhileItAnswers(SlidingWindows):
    """Counts in `shared` and, while that is away, in this process: no limiter may take the service down.

    A limit then holds for each process by itself, and the log says so.
    """

    def __init__(self, shared: SlidingWindows, own: SlidingWindows | None = None) -> None:
        super().__init__()
        self._shared = shared
        self._own = own or InProcess()
        self._away = False
        self._look_again_at = 0.0
        self._turn = asyncio.Semaphore(CONNECTIONS)  # a crowd that waits is no sign of a database that is away

    async def acquire_sliding_window_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        return await self._ask(lambda counts: counts.acquire_sliding_window_entry(key, limit, expiry, amount))

    async def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        return await self._ask(lambda counts: counts.get_sliding_window(key, expiry))

    async def aclose(self) -> None:
        await self._shared.aclose()
        await self._own.aclose()

    async def _ask(self, question: Callable[[SlidingWindows], Awaitable[T]]) -> T:
        try:
            async with self._turn:
                if self._away and time.monotonic() < self._look_again_at:
                    return await question(self._own)
                self._look_again_at = time.monotonic() + AWAY_S  # while it is away, one in so many seconds tries
                async with asyncio.timeout(ANSWER_WITHIN_S):
                    answer = await question(self._shared)
        except (sa.exc.SQLAlchemyError, TimeoutError) as error:
            if not self._away:
                log.warning("limits.database_away", error=type(error).__name__, counting="each process by itself")
            self._away = True
            return await question(self._own)
        if self._away:
            log.info("limits.database_back")
        self._away = False
        return answer


def _seen(row: sa.Row[Any], now: float) -> tuple[Count, float]:
    """The count of a row as of `now` (in windows), and the part of the window before that still counts."""
    return Count(floor(row.at), row.previous, row.current).at(floor(now)), 1 - (now - floor(now))


def _give_up_early(connection: Any, _: object) -> None:
    """A statement that waits for a lock, say, must not hold a thread for ever."""
    autocommit, connection.autocommit = connection.autocommit, True
    connection.execute("set statement_timeout = 1000")
    connection.autocommit = autocommit


def _as_the_strategy_reads(count: Count, left: float, expiry: int) -> tuple[int, float, int, float]:
    """Hits of the window before and for how many seconds they count yet; hits of this one and the same of them."""
    return count.previous, left * expiry, count.current, (1 + left) * expiry
