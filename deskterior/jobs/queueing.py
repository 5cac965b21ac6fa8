"""Jobs as those see them who have them done: `Jobs`, whoever runs them; and `Queueing`, for a process that runs none.

It writes a job into the database, where the engine of another process finds it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

import sqlalchemy as sa
from dbos import DBOS, DBOSClient, EnqueueOptions

from deskterior.errors import Overloaded
from deskterior.jobs import executors
from deskterior.jobs.database import Database, DatabaseError, first_line

APPLICATION = "deskterior"
VERSION = "deskterior-jobs-1"
"""DBOS runs a job only under the version that began it; pinned, so that an upgrade goes on with jobs in flight, and
that an API and job workers of different releases work together."""

Argument = str | int | float


class Jobs(Protocol):
    """`launch` before use, `close` after, both on the event loop of those who submit."""

    async def launch(self) -> None:
        """Raises DatabaseError: the job store cannot be used."""
        ...

    def admit(self) -> None:
        """Raises Overloaded when this process is stopping and takes no new jobs."""
        ...

    async def submit(self, name: str, job_id: str, *args: Argument, delay_s: float = 0) -> None:
        """Have a job run once, `delay_s` seconds from now. The same `job_id` again is the same job.

        Raises:
            Overloaded: this process is stopping.
            DatabaseAway: nobody knows whether the job was queued.
        """
        ...

    async def forget(self, job_ids: list[str]) -> None:
        """Delete the engine's records of finished jobs. Raises Overloaded, DatabaseAway."""
        ...

    async def check(self) -> str:
        """Whether jobs are taken here, for the health check.

        Raises:
            Overloaded, DatabaseAway: they are not; the text says why.
        """
        ...

    async def close(self, drain_s: float = 0) -> None:
        """Stop; what runs here has `drain_s` seconds."""
        ...


class Queueing:
    """Queues jobs for the engines of other processes (a `Jobs`). It shares the database's connections."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._client: DBOSClient | None = None

    async def launch(self) -> None:
        await asyncio.to_thread(self._launch)

    def _launch(self) -> None:
        quieten()
        self._database.create(executors.metadata)
        try:
            # The first process to come makes DBOS's tables too; job workers may come later.
            DBOS.migrate(self._database.url.render_as_string(hide_password=False))
            self._client = DBOSClient(
                system_database_engine=self._database.engine,
                application_name=APPLICATION,
                retry_connection_errors=False,  # it would hold a request for as long as the database is away
            )
        except sa.exc.SQLAlchemyError as error:
            raise DatabaseError(f"DATABASE_URL: the job store cannot be used: {first_line(error)}") from None

    def admit(self) -> None:
        if self._client is None:
            raise Overloaded("The service is stopping and takes no new jobs", retry_after=5)

    async def submit(self, name: str, job_id: str, *args: Argument, delay_s: float = 0) -> None:
        self.admit()
        client = self._client
        assert client is not None
        options: EnqueueOptions = {
            "queue_name": name,
            "workflow_name": name,
            "workflow_id": job_id,
            "app_version": VERSION,
        }
        if delay_s > 0:
            options["delay_seconds"] = delay_s

        await self._database.in_turn(lambda: client.enqueue(options, *args))

    async def forget(self, job_ids: list[str]) -> None:
        self.admit()
        client = self._client
        assert client is not None
        await self._database.in_turn(lambda: client.delete_workflows(job_ids))

    async def check(self) -> str:
        self.admit()
        await self._database.check()
        return "ok"

    async def close(self, drain_s: float = 0) -> None:  # noqa: ARG002 - nothing runs here
        client, self._client = self._client, None
        if client is not None:
            await asyncio.to_thread(client.destroy)


def quieten() -> None:
    """DBOS prints to the console unless its logger has a handler; its lines go the way of all others."""
    logger = logging.getLogger("dbos")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    logger.setLevel(logging.WARNING)
