"""How engines connect to the database, and how connections to Postgres are cut off.

A server that hangs accepts, and never answers; TCP sees nothing wrong with it. A thread that waits for it waits for
ever, and a process with such a thread never ends. The only way to wake it is to shut its socket.
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from weakref import WeakSet

import psycopg
import sqlalchemy as sa

from deskterior.config import SettingsError

BUSY_MS = 30_000
_GONE = {
    "connect_timeout": "5",
    "tcp_user_timeout": "20000",
    "keepalives_idle": "20",
    "keepalives_interval": "5",
    "keepalives_count": "3",
}
"""For libpq: a machine that is gone says no goodbye, and by itself TCP waits for it for a quarter of an hour."""
POOL = 8
"""Connections to Postgres: so many for us, and as many for DBOS, in each process."""
IDLE_MS = 60_000
"""A session of DBOS that is idle within a transaction for so long (its process was frozen, say) loses its locks."""


class DatabaseError(SettingsError):
    """The job store cannot be used; the text says why and how to mend it."""


class CutOff(Exception):
    """This process has hung up, and calls no more. No error of the database's, so nobody tries again."""


class Connections:
    """The open connections of one engine to Postgres. Watches it from the first one on."""

    def __init__(self, engine: sa.Engine) -> None:
        self._open: WeakSet[psycopg.Connection[Any]] = WeakSet()
        self._lock = threading.Lock()
        self._cut = False
        sa.event.listen(engine, "connect", self._remember)
        sa.event.listen(engine, "do_connect", self._refuse)

    def cut(self) -> None:
        """End whatever waits for an answer, with the error of a lost connection, and open none any more."""
        with self._lock:
            self._cut = True
            left = list(self._open)
        for connection in left:
            _shut(connection)

    def _remember(self, connection: psycopg.Connection[Any], _: object) -> None:
        with self._lock:
            self._open.add(connection)
            cut = self._cut
        if cut:
            _shut(connection)

    def _refuse(self, *_: object) -> None:
        if self._cut:
            raise CutOff("this process has hung up on the database")


def _shut(connection: psycopg.Connection[Any]) -> None:
    with suppress(psycopg.Error, OSError):  # it has been closed
        shared = socket.socket(fileno=socket.dup(connection.fileno()))
        with shared:
            shared.shutdown(socket.SHUT_RDWR)


def patient(url: sa.URL) -> sa.URL:
    """The address of a Postgres with what libpq must know of machines that are gone; `url`'s own words go first."""
    return url.set(drivername="postgresql+psycopg", query={**_GONE, **url.query})


def of_jobs(url: sa.URL) -> sa.Engine:
    """What DBOS would make for itself, but that its connections can be cut off."""
    engine = sa.create_engine(
        url,
        pool_size=POOL,
        max_overflow=0,
        pool_pre_ping=True,
        connect_args={"application_name": "dbos_transact"},
    )

    @sa.event.listens_for(engine, "connect")
    def _configure(connection: Any, _: object) -> None:
        connection.execute(f"set idle_in_transaction_session_timeout = {IDLE_MS}")
        connection.commit()  # or the pool undoes it

    return engine


def sqlite(url: sa.URL) -> sa.Engine:
    """An engine for a file in WAL mode, whose folder is made. Raises DatabaseError."""
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
