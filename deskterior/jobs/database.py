"""The database behind the jobs: one SQLite file for one machine, or Postgres for several.

Every read and write here is a short transaction in a thread of its own pool, so that the event loop never waits for a
disk. Which tables there are is left to those who use them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from deskterior.config import SettingsError
from deskterior.errors import Overloaded

T = TypeVar("T")

SCHEMA_VERSION = 2
"""Raised with every change of our own tables; a newer one in the database than here is a downgrade."""
SCHEMA_LOCK = 77_001
"""Advisory lock on Postgres: one process makes the tables, the others wait."""
BUSY_MS = 30_000
READ_WITHIN_S = 15.0
"""A database that hangs is as good as none: who reads a task is told so."""
_GONE = {
    "connect_timeout": "10",
    "tcp_user_timeout": "20000",
    "keepalives_idle": "20",
    "keepalives_interval": "5",
    "keepalives_count": "3",
}
"""For libpq: a machine that is gone says no goodbye, and by itself TCP waits for it for a quarter of an hour."""
POOL = 8
"""Connections to Postgres: so many for us, and as many for DBOS, in each process."""


class DatabaseError(SettingsError):
    """The job store cannot be used; the text says why and how to mend it."""


class DatabaseAway(Overloaded):
    """The job store does not answer, for now. What was to be written is not, or cannot be known to be."""

    title = "The job store does not answer"

    def __init__(self, internal: str = "") -> None:
        super().__init__("The job store does not answer; try again shortly", retry_after=5, internal=internal)


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
            self.url = self.url.set(drivername="postgresql+psycopg", query={**_GONE, **self.url.query})
            self.engine = sa.create_engine(self.url, pool_size=POOL, max_overflow=4, pool_pre_ping=True)
        else:
            self.engine = _sqlite(self.url)
        self._file = self._identity()
        self._readers = ThreadPoolExecutor(POOL, thread_name_prefix="job-store-read")
        # SQLite has one writer at a time. Queueing for it in one thread of ours is fair and quick; its own waiting is
        # a sleep of up to 100 ms.
        self._writers = ThreadPoolExecutor(POOL if self.postgres else 1, thread_name_prefix="job-store-write")

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
        try:
            async with asyncio.timeout(READ_WITHIN_S):
                return await asyncio.get_running_loop().run_in_executor(self._readers, self.read_now, work)
        except TimeoutError:
            raise DatabaseAway(f"no answer within {READ_WITHIN_S:g} s") from None

    async def write(self, work: Callable[[sa.Connection], T], *, durable: bool = False) -> T:
        """Run `work` in a transaction that writes: all of it or nothing. A cancelled caller does not undo it.

        Raises:
            DatabaseAway
        """
        loop = asyncio.get_running_loop()
        return await asyncio.shield(loop.run_in_executor(self._writers, lambda: self.write_now(work, durable=durable)))

    async def in_turn(self, work: Callable[[], T]) -> T:
        """Run what writes by itself, on connections of `engine`, in turn with our own writers. As `write` otherwise."""

        def run() -> T:
            with _away():
                return work()

        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._writers, run))

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

    def write_now(self, work: Callable[[sa.Connection], T], *, durable: bool = False) -> T:
        """`write` for a caller that has a thread of its own."""
        with _away(), self.engine.connect() as connection:
            if self.postgres:
                with connection.begin():
                    return work(connection)
            raw = connection.connection.dbapi_connection
            assert raw is not None
            if durable:
                raw.execute("PRAGMA synchronous=FULL")
            try:
                # What is read here decides what is written, so the lock comes first.
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                result = work(connection)
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

    def close(self) -> None:
        """Finish what is queued and hang up."""
        self._writers.shutdown()
        self._readers.shutdown()
        self.engine.dispose()


@contextmanager
def _away() -> Iterator[None]:
    try:
        yield
    except (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.TimeoutError) as error:
        raise DatabaseAway(first_line(error)) from error


def first_line(error: sa.exc.SQLAlchemyError) -> str:
    """What the driver says, without the statement and its values."""
    said = str(error.orig if isinstance(error, sa.exc.DBAPIError) else error).strip().splitlines()
    return said[0] if said else type(error).__name__


def _sqlite(url: sa.URL) -> sa.Engine:
    if not url.database or url.database == ":memory:":
        raise DatabaseError("DATABASE_URL: jobs need a SQLite file that outlives the process, sqlite:///path")
    try:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatabaseError(f"DATABASE_URL: the folder of {url.database} cannot be made ({error.strerror})") from None
    engine = sa.create_engine(url, pool_size=POOL + 16, max_overflow=16)

    @sa.event.listens_for(engine, "connect")
    def _configure(connection: Any, _: object) -> None:
        connection.isolation_level = "IMMEDIATE"
        connection.execute(f"PRAGMA busy_timeout={BUSY_MS}")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA foreign_keys=ON")

    _use_wal(engine)
    return engine


def _use_wal(engine: sa.Engine) -> None:
    """Write-ahead logging is a property of the file. Changing it does not wait for a lock as other statements do."""
    deadline = time.monotonic() + BUSY_MS / 1000
    while True:
        try:
            with engine.connect() as connection:
                if connection.exec_driver_sql("PRAGMA journal_mode=WAL").scalar() == "wal":
                    return
                raise DatabaseError("DATABASE_URL: SQLite needs a local disk that allows write-ahead logging")
        except sa.exc.DBAPIError as error:
            if time.monotonic() > deadline or "locked" not in str(error.orig):
                engine.dispose()
                raise DatabaseError(f"DATABASE_URL: the SQLite file cannot be used ({error.orig})") from None
            time.sleep(0.05)
