"""A process of its own that runs makeovers, and is killed at a chosen moment. Tests start it through `start`."""

from __future__ import annotations

import asyncio
import json
import logging
import multiprocessing
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa
import structlog

from deskterior.jobs.database import Database
from deskterior.makeover.journal import Run
from deskterior.makeover.makeovers import Makeovers
from deskterior.makeover.outfit import Kind
from deskterior.makeover.register import Origin
from deskterior.makeover.tables import UNFINISHED, callbacks, tasks
from deskterior.makeover.workflow import Makeover
from deskterior.schemas import GenerateRequest
from tests.integration.jobs.stand_ins import DESK, Faults, Ledger, make_outfit, make_settings
from tests.painters import Painter

T = TypeVar("T")

# Started from a server that has imported everything: a process begins in 0.1 s instead of 2.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["tests.integration.jobs.process"])


@dataclass(frozen=True)
class Orders:
    """What the process does. `die_at` is a line of the ledger or a write to the database, as `Killer` has it."""

    database_url: str
    folder: Path
    begin: int = 0
    """Makeovers to begin; afterwards, whatever is unfinished is waited for."""
    die_at: str = ""
    dwell_s: float = 0.0
    """How long a render takes."""
    forever: bool = False
    """Stay, and run what comes, until killed."""
    kind: Kind = "v1"
    runs_jobs: bool = True
    """Otherwise it is an API whose jobs others run."""
    upgraded: bool = False
    """Be a later release, with one more stage before all others."""
    settings: dict[str, object] = field(default_factory=dict)


class Killer:
    """Ends the process, as `kill -9` does, when it reaches a point for the time given: `render sent`, `before claim`,
    `after begin#2`."""

    def __init__(self, die_at: str, record: Path) -> None:
        self._die_at = die_at if "#" in die_at or not die_at else f"{die_at}#1"
        self._seen: Counter[str] = Counter()
        self._record = record

    def reached(self, point: str) -> None:
        self._seen[point] += 1
        name = f"{point}#{self._seen[point]}"
        with self._record.open("a") as file:
            file.write(name + "\n")
        if name == self._die_at:
            os.kill(os.getpid(), signal.SIGKILL)


class MortalDatabase(Database):
    """A job store that dies before or after a chosen write."""

    killer: Killer

    def write_now(
        self, work: Callable[[sa.Connection], T], *, durable: bool = False, given_up: threading.Event | None = None
    ) -> T:
        name = work.__qualname__.split(".<locals>")[0].rsplit(".", 1)[-1]
        name = work.__qualname__.rsplit(".", 1)[-1] if "<lambda>" not in work.__qualname__ else name
        self.killer.reached(f"before {name}")
        result = super().write_now(work, durable=durable, given_up=given_up)
        self.killer.reached(f"after {name}")
        return result


def run(orders: Orders) -> None:
    logging.basicConfig(level=logging.ERROR, filename=orders.folder / "log")
    structlog.configure(
        logger_factory=structlog.WriteLoggerFactory((orders.folder / "log").open("a")),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    )
    asyncio.run(_run(orders))


async def _run(orders: Orders) -> None:
    if orders.upgraded:
        _upgrade()
    killer = Killer(orders.die_at, orders.folder / "points")
    settings = make_settings(orders.database_url, orders.folder, **orders.settings)
    database = MortalDatabase(orders.database_url)
    database.killer = killer
    faults = Faults()
    if orders.dwell_s:
        faults.before["render"] = lambda: asyncio.sleep(orders.dwell_s)
    ledger = Ledger(orders.folder / "ledger", killer.reached)
    painter = Painter() if orders.kind == "v2" else None
    outfit, _ = make_outfit(settings, ledger, faults, drawing=painter)
    makeovers = Makeovers(settings, database, outfit, runs_jobs=orders.runs_jobs)
    await makeovers.launch()
    (orders.folder / f"up-{os.getpid()}").touch()
    for number in range(orders.begin):
        await makeovers.start(GenerateRequest(image_url=DESK), orders.kind, Origin(idempotency_key=f"key-{number}"))
    # Another process may be the one that ends them, so it is asked again and again.
    while orders.forever or await _unfinished(database):  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    seen = await makeovers.page(limit=100)
    (orders.folder / "tasks").write_text(json.dumps([task.model_dump(mode="json") for task in seen.tasks]))
    # No tidy end: it takes a second, and has tests of its own.
    os._exit(0)


async def _unfinished(database: Database) -> bool:
    task = sa.exists().where(tasks.c.status.in_(UNFINISHED))
    callback = sa.exists().where(callbacks.c.status == "pending")
    return bool(await database.read(lambda c: c.execute(sa.select(sa.or_(task, callback))).scalar()))


def _upgrade() -> None:
    before = Makeover._run

    async def run(self: Makeover, run: Run) -> None:
        if "measure" not in run.done:
            number = await self._journal.begin(run, "measure")
            await self._journal.done(run, "measure", number, "{}")
        await before(self, run)

    Makeover._run = run  # type: ignore[method-assign]


def start(orders: Orders) -> BaseProcess:
    process = processes.Process(target=run, args=(orders,), daemon=True)
    process.start()
    return process


def finish(process: BaseProcess, timeout_s: float = 30) -> int:
    """Wait for the process and return its exit code, negative for a signal."""
    process.join(timeout_s)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise AssertionError("the process did not come to an end")
    return process.exitcode
