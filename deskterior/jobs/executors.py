"""Who runs jobs, and who of them is dead.

Each start of a process is an executor with an id of its own and a row in `job_executors`. Two signs tell that it lives:
a lock on a file, which the kernel lets go the moment the process dies, for all who can see that file; and a heartbeat
in its row, for those on other machines. Moving the jobs of the dead is left to `takeover`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import sqlalchemy as sa

from deskterior.jobs.database import Database, clock_of

metadata = sa.MetaData()
table = sa.Table(
    "job_executors",
    metadata,
    sa.Column("executor_id", sa.String(64), primary_key=True),
    sa.Column("host", sa.String(200), nullable=False),
    sa.Column("lock_file", sa.String(500), nullable=False),
    sa.Column("last_seen", sa.Double, nullable=False),
    sa.Column("claimed_by", sa.String(64)),
    sa.Column("claimed_at", sa.Double),
)
CLAIM_TTLS = 4
"""A sweeper that has not finished with a dead executor after so many lifetimes is dead itself: another one may try."""


@dataclass(frozen=True)
class Dead:
    executor_id: str
    lock_file: Path


class Executors:
    """The register of executors, as seen from one of them.

    `ttl_s`: an executor silent for so long is dead, where its lock file cannot be seen. All times are the database's.
    """

    def __init__(self, database: Database, ttl_s: float) -> None:
        self.id = f"{os.getpid()}-{uuid.uuid4().hex[:12]}"
        self._database = database
        self._ttl_s = ttl_s
        self._lock: TextIO | None = None
        self._now = clock_of(database.engine)
        self._host, folder = _neighbourhood(database)
        self._lock_file = folder / f"{self.id}.lock"

    def register(self) -> None:
        """Take the lock, then the row. Before any job is run under this id."""
        self._database.create(metadata)
        try:
            self._lock_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if self._lock_file.parent.stat().st_uid != os.getuid():
                raise PermissionError("the folder of lock files is somebody else's")
            self._lock = self._lock_file.open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        except OSError:
            self._host = _nowhere()  # nobody can see our lock: the heartbeat alone tells
        row = {"executor_id": self.id, "host": self._host, "lock_file": str(self._lock_file)}
        self._database.execute_now(table.insert().values(last_seen=self._now, **row))

    def beat(self) -> bool:
        """Say that we live. False: others have declared us dead and own our jobs now."""
        alive = table.update().values(last_seen=self._now)
        alive = alive.where(table.c.executor_id == self.id, table.c.claimed_by.is_(None))
        return self._database.execute_now(alive) == 1

    def claim_dead(self, *, trust_heartbeats: bool) -> list[Dead]:
        """Find the dead and claim them, so that no other sweeper has the same.

        `trust_heartbeats=False`, right after an outage of the database, leaves out those known by their silence alone:
        then everybody has been silent.
        """
        silent = table.c.last_seen < self._now - self._ttl_s
        unclaimed = sa.or_(table.c.claimed_at.is_(None), table.c.claimed_at < self._now - CLAIM_TTLS * self._ttl_s)
        others = sa.select(table.c.executor_id, table.c.host, table.c.lock_file, silent.label("silent"))
        rows = self._database.read_now(
            lambda c: c.execute(others.where(table.c.executor_id != self.id, unclaimed)).all()
        )
        dead = []
        for row in rows:
            lock_file = Path(row.lock_file)
            by_lock = row.host == self._host and (free := _is_free(lock_file)) is not None
            if not (free if by_lock else row.silent and trust_heartbeats):
                continue
            claim = table.update().values(claimed_by=self.id, claimed_at=self._now)
            claim = claim.where(table.c.executor_id == row.executor_id, unclaimed)
            if not by_lock:
                claim = claim.where(silent)  # it may have spoken since
            if self._database.execute_now(claim) == 1:
                dead.append(Dead(row.executor_id, lock_file))
        return dead

    def forget(self, dead: Dead) -> None:
        """All of its jobs are with others now."""
        row = table.delete().where(table.c.executor_id == dead.executor_id)
        self._database.execute_now(row)
        if dead.lock_file.parent == self._lock_file.parent:
            dead.lock_file.unlink(missing_ok=True)

    def leave(self) -> None:
        """Let others have, at once, what we did not finish. Nothing may run under this id any more."""
        try:
            gone = table.update().values(last_seen=0).where(table.c.executor_id == self.id)
            self._database.execute_now(gone)
        finally:
            if self._lock is not None:
                self._lock.close()
                self._lock = None


def living(connection: sa.Connection, ttl_s: float) -> int:
    """How many processes run jobs, as far as their heartbeats tell."""
    spoke = table.c.last_seen >= clock_of(connection) - ttl_s
    count = sa.select(sa.func.count()).select_from(table).where(spoke, table.c.claimed_by.is_(None))
    return connection.execute(count).scalar_one()


def _neighbourhood(database: Database) -> tuple[str, Path]:
    """A name for those who see the same lock files, and the folder of these files.

    SQLite: all who share the database file, in whatever container, run on one kernel. Postgres: the processes of one
    boot of one machine that see the same files; not so a restarted container, which then waits for the heartbeat.
    """
    if not database.postgres:
        assert database.url.database is not None
        path = Path(database.url.database).resolve()
        return "sqlite", path.with_name(path.name + ".executors")
    store = hashlib.sha256(f"{database.url.host}:{database.url.port}/{database.url.database}".encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"deskterior-executors-{os.getuid()}" / store
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        mounts = Path("/proc/self/ns/mnt").stat().st_ino
    except OSError:
        return _nowhere(), folder
    return f"{boot}-{mounts}", folder


def _nowhere() -> str:
    return f"nowhere-{uuid.uuid4().hex}"


def _is_free(lock_file: Path) -> bool | None:
    """Whether nobody holds the lock; None when the file is not there to tell."""
    try:
        with lock_file.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    except BlockingIOError:
        return False
    except OSError:
        return None
