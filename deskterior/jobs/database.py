"""The database behind the jobs: one SQLite file for one machine, or Postgres for several.

Every read and write here is a short transaction in a thread of its own pool, so that the event loop never waits for a
disk. Which tables there are is left to those who use them.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa

from deskterior.errors import Overloaded
from deskterior.jobs.connections import POOL, Connections, CutOff, DatabaseError, of_jobs, patient, sqlite

__all__ = ["POOL", "Database", "DatabaseAway", "DatabaseError", "clock_of", "first_line"]

T = TypeVar("T")

SCHEMA_VERSION = 2
"""Raised with every change of our own tables; a newer one in the database than here is a downgrade."""
SCHEMA_LOCK = 77_001
"""Advisory lock on Postgres: one process makes the tables, the others wait."""
ANSWER_WITHIN_S = 8.0
"""A database that answers nobody for so long hangs, and is as good as none: who waits for it is told so."""
ANSWER_AGAIN_WITHIN_S = 2.0
"""The same while nobody has had an answer since: a crowd that waits would only fill the service."""
BUSY_WITHIN_S = 30.0
"""One that answers others is waited for, in their midst: a burst of orders on a slow disk takes its time."""
CLOSE_WITHIN_S = 3.0
"""For what is still under way when the database is closed."""


class DatabaseAway(Overloaded):
    """The job store does not answer, for now. What was to be written is not, or cannot be known to be."""

    title = "The job store does not answer"

    def __init__(self, internal: str = "") -> None:
        super().__init__("The job store does not answer; try again shortly", retry_after=5, internal=internal)


class GivenUp(Exception):
    """Nobody waits for this transaction any more. Never leaves its thread."""


class Database:
    """Transactions on the job store. Raises DatabaseError for an address or a file that cannot be one.

    `url` is `sqlite:///path` or `postgresql://...`; parents of a SQLite file are made.

    SQLite runs in WAL mode with `synchronous=NORMAL`: a killed process loses nothing, and a commit takes 0.01 ms, not
    5. What must also outlive a power cut (a result that was paid for) is written with `durable=True`.
    """

    def __init__(self, url: str) -> None:
        try:
            self.url = sa.make_url(url)
        except (sa.exc.ArgumentError, ValueError):
            raise DatabaseError(
                "DATABASE_URL is not an address; within a password, anything but letters and digits is written %XX"
            ) from None
        self.postgres = self.url.get_backend_name() == "postgresql"
        if self.postgres:
            self.url = patient(self.url)
            self.engine = sa.create_engine(self.url, pool_size=POOL, max_overflow=4, pool_pre_ping=True)
            self.engine_of_jobs = of_jobs(self.url)
            self._connections = [Connections(self.engine), Connections(self.engine_of_jobs)]
        else:
            self.engine = self.engine_of_jobs = sqlite(self.url)
            self._connections = []
        self._file = self._identity()
        self._readers = ThreadPoolExecutor(POOL, thread_name_prefix="job-store-read")
        # SQLite has one writer at a time. Queueing for it in one thread of ours is fair and quick; its own waiting is
        # a sleep of up to 100 ms.
        self._writers = ThreadPoolExecutor(POOL if self.postgres else 1, thread_name_prefix="job-store-write")
        self._silent = False  # somebody has given up, and nobody has had an answer since
        self._answered_at: dict[Executor, float] = {}

    async def check(self) -> None:
        """Reach the job store.

        Raises:
            DatabaseAway: it does not answer, or the SQLite file has been deleted or replaced under this process: what
                is written then is gone with the process.
        """
        await self.read(self._look)

    def _look(self, connection: sa.Connection) -> None:
        connection.execute(sa.select(1))
        if self._identity() != self._file:
            raise DatabaseAway("the SQLite file is not the one that was opened")

    def _identity(self) -> tuple[int, int] | None:
        """Which file the SQLite path leads to; None on Postgres, and where there is no file."""
        if self.postgres or not self.url.database:
            return None
        try:
            found = Path(self.url.database).stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    async def read(self, work: Callable[[sa.Connection], T]) -> T:
        """Run `work` in a transaction that only reads. Raises DatabaseAway, also where it does not come to an end."""
        return await self._soon(self._readers, lambda: self.read_now(work))

    async def write(self, work: Callable[[sa.Connection], T], *, durable: bool = False, patiently: bool = False) -> T:
        """Run `work` in a transaction that writes: all of it or nothing. A cancelled caller does not undo it.

        A database that hangs is waited for `patiently`, for as long as it takes; or for a few seconds, and then nothing
        is written, also when it goes on (unless it hung in the commit itself).

        Raises:
            DatabaseAway
        """
        if patiently:
            return await asyncio.shield(self._begin(self._writers, lambda: self.write_now(work, durable=durable)))
        given_up = threading.Event()
        return await self._soon(
            self._writers, lambda: self.write_now(work, durable=durable, given_up=given_up), given_up
        )

    async def in_turn(self, work: Callable[[], T]) -> T:
        """Run what writes by itself, on connections of `engine`, in turn with our own writers. As `write` otherwise,
        but what was given up may be done all the same."""

        def run() -> T:
            with _away():
                return work()

        return await self._soon(self._writers, run)

    async def _soon(self, threads: Executor, work: Callable[[], T], given_up: threading.Event | None = None) -> T:
        """What comes of it: within a few seconds of silence, or half a minute in a queue that moves.

        Raises:
            DatabaseAway
        """
        within_s = ANSWER_AGAIN_WITHIN_S if self._silent else ANSWER_WITHIN_S
        working = self._begin(threads, work)
        began = time.monotonic()
        until = began + within_s
        while (left_s := until - time.monotonic()) > 0:
            try:
                async with asyncio.timeout(left_s):
                    return await asyncio.shield(working)
            except TimeoutError:
                until = min(self._answered_at.get(threads, began) + within_s, began + BUSY_WITHIN_S)
        if given_up is not None:
            given_up.set()
        working.cancel()
        self._silent = True
        raise DatabaseAway(f"no answer within {time.monotonic() - began:.1f} s")

    def _begin(self, threads: Executor, work: Callable[[], T]) -> asyncio.Future[T]:
        working = asyncio.wrap_future(threads.submit(self._listening, threads, work))
        working.add_done_callback(_take_note)
        return working

    def _listening(self, threads: Executor, work: Callable[[], T]) -> T:
        """Remember whether the database answered; a caller's error is an answer too."""
        answered = True
        try:
            return work()
        except DatabaseAway:
            answered = False
            raise
        finally:
            self._silent = not answered
            if answered:
                self._answered_at[threads] = time.monotonic()

    async def execute(self, statement: sa.UpdateBase) -> int:
        """One statement that writes, as a transaction of its own; how many rows it changed."""
        return await self.write(lambda connection: connection.execute(statement).rowcount)

    def execute_now(self, statement: sa.UpdateBase) -> int:
        """`execute` for a caller that has a thread of its own."""
        return self.write_now(lambda connection: connection.execute(statement).rowcount)

    def read_now(self, work: Callable[[sa.Connection], T]) -> T:
        """`read` for a caller that has a thread of its own."""
        with _away(), self.engine.connect() as connection:
            return work(connection)

    def write_now(
        self, work: Callable[[sa.Connection], T], *, durable: bool = False, given_up: threading.Event | None = None
    ) -> T:
        """`write` for a caller that has a thread of its own, and may set `given_up` to undo what is not committed."""
        with _away(), self.engine.connect() as connection:
            if self.postgres:
                with connection.begin():
                    _check(given_up)
                    result = work(connection)
                    _check(given_up)
                    return result
            raw = connection.connection.dbapi_connection
            assert raw is not None
            if durable:
                raw.execute("PRAGMA synchronous=FULL")
            try:
                # What is read here decides what is written, so the lock comes first.
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                _check(given_up)
                result = work(connection)
                _check(given_up)
                connection.commit()
            except BaseException:
                connection.rollback()
                raise
            finally:
                if durable:
                    raw.execute("PRAGMA synchronous=NORMAL")
            return result

    def lock(self, connection: sa.Connection, key: int) -> None:
        """Let one transaction at a time past this line. SQLite's writers are alone already."""
        if self.postgres:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(key)))

    def create(self, metadata: sa.MetaData) -> None:
        """Make the tables that are missing.

        Raises:
            DatabaseError: the database was made by a newer version of this service.
        """
        versions = sa.Table("deskterior_schema", sa.MetaData(), sa.Column("version", sa.Integer, primary_key=True))

        def make(connection: sa.Connection) -> None:
            self.lock(connection, SCHEMA_LOCK)
            versions.create(connection, checkfirst=True)
            found = connection.execute(sa.select(sa.func.max(versions.c.version))).scalar()
            if found is not None and found > SCHEMA_VERSION:
                raise DatabaseError(
                    f"DATABASE_URL was made by a newer version of this service (schema {found}, this one knows "
                    f"{SCHEMA_VERSION}): start that version, or use another database"
                )
            metadata.create_all(connection)
            if found is None or found < SCHEMA_VERSION:
                connection.execute(versions.insert().values(version=SCHEMA_VERSION))

        try:
            self.write_now(make)
        except DatabaseAway as error:
            raise DatabaseError(f"DATABASE_URL: the database cannot be used: {error.internal}") from None
        except sa.exc.DBAPIError as error:
            raise DatabaseError(f"DATABASE_URL: the tables cannot be made: {first_line(error)}") from None

    def cut(self) -> None:
        """Hang up on Postgres, whatever is under way: what waits for it ends as DatabaseAway, here and in DBOS."""
        for connections in self._connections:
            connections.cut()

    def close(self) -> None:
        """Finish what is queued and hang up. A database that hangs is cut off."""
        patience = threading.Timer(CLOSE_WITHIN_S, self.cut)
        patience.start()
        self._writers.shutdown()
        self._readers.shutdown()
        patience.cancel()
        self.engine.dispose()
        self.engine_of_jobs.dispose()


def clock_of(database: sa.Connection | sa.Engine) -> sa.ColumnElement[float]:
    """The database's own time as Unix seconds: one for all machines."""
    if database.dialect.name == "postgresql":
        return sa.extract("epoch", sa.func.clock_timestamp()).cast(sa.Double)
    return (sa.func.julianday("now") - 2440587.5) * 86400.0


@contextmanager
def _away() -> Iterator[None]:
    try:
        yield
    except CutOff as error:
        raise DatabaseAway(str(error)) from error
    except (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.TimeoutError) as error:
        raise DatabaseAway(first_line(error)) from error


def _take_note(future: asyncio.Future[T]) -> None:
    """Of an error that nobody waits for any more."""
    if not future.cancelled():
        future.exception()


def _check(given_up: threading.Event | None) -> None:
    """Raises GivenUp, to nobody: it undoes what was to be written."""
    if given_up is not None and given_up.is_set():
        raise GivenUp


def first_line(error: sa.exc.SQLAlchemyError) -> str:
    """What the driver says, without the statement and its values."""
    said = str(error.orig if isinstance(error, sa.exc.DBAPIError) else error).strip().splitlines()
    return said[0] if said else type(error).__name__
