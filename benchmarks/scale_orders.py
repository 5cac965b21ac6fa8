"""How many makeovers can be ordered in a second, by how many the day has had: `python -m benchmarks.scale_orders`.

Orders come one after the other (`CREATE_LOCK`), because each looks at what the day has cost. So what one transaction
takes is the end of how many all processes together take. What the day has had is not to matter.
"""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from typing import Any

import sqlalchemy as sa

from benchmarks import report
from benchmarks.load import Figures, run
from benchmarks.postgres import postgres
from deskterior.jobs.database import Database
from deskterior.makeover.register import Origin, Register
from deskterior.makeover.spending import SpendingCap
from deskterior.makeover.tables import metadata, stages, tasks
from deskterior.makeover.totals import recount
from deskterior.makeover.waiting import WaitingLimit
from deskterior.schemas import GenerateRequest

DAYS = (0, 1_000, 10_000, 100_000)
"""Makeovers that the day has had."""
STAGES = ("describe", "render", "shop", "publish")
ORDERS, AT_ONCE = 64, 8
CHUNK = 5_000


def main() -> None:
    host = report.machine()
    measured: dict[int, Figures] = {}
    with postgres() as databases:
        for had in DAYS:
            database = Database(databases(f"day_{had}"))
            database.create(metadata)
            for start in range(0, had, CHUNK):
                rows = _ended(min(CHUNK, had - start))
                database.write_now(
                    lambda connection, rows=rows: [  # type: ignore[misc]
                        connection.execute(table.insert(), values) for table, values in rows
                    ]
                )
            database.write_now(recount)
            database.write_now(lambda connection: connection.execute(sa.text("analyze")))
            measured[had] = asyncio.run(_order(database))
            database.close()
            print(f"{had}: {measured[had].per_second:.0f} a second", flush=True)
    lines = [
        [f"{had:,}", f"{seen.per_second:.0f}", f"{1000 / seen.per_second:.1f}", f"{seen.p99_ms:.0f}"]
        for had, seen in measured.items()
    ]
    columns = ["makeovers that the day has had", "orders a second", "ms each", "p99 ms, 8 at once"]
    results = {"machine": host, "orders_per_second": {str(had): one.per_second for had, one in measured.items()}}
    print(report.write("scale-orders", "Orders", results, [("On Postgres", columns, lines)]).read_text())


async def _order(database: Database) -> Figures:
    register = Register(database, SpendingCap(1e9), WaitingLimit(1_000_000))
    numbers = itertools.count()

    async def ask() -> None:
        request = GenerateRequest(image_url=f"https://photos.example/{next(numbers)}.jpg")
        await register.create(request, "v1", Origin(owner="backend", idempotency_key=uuid.uuid4().hex), 0.1)

    await run(ask, 8, AT_ONCE)
    return await run(ask, ORDERS, AT_ONCE)


def _ended(number: int) -> list[tuple[sa.Table, list[dict[str, Any]]]]:
    """Rows of makeovers that have ended just now."""
    now = time.time()
    ids = [uuid.uuid4().hex for _ in range(number)]
    task = {
        "kind": "v1", "status": "succeeded", "initial_image_url": "https://photos.example/1.jpg", "concept": "BASIC",
        "created_at": now, "started_at": now, "finished_at": now, "attempts": 1, "owner": "backend",
        "request_hash": "0" * 64, "link_base": "", "reserved": 0.1, "queued_at": now, "claims": 1, "version": 9,
    }  # fmt: skip
    stage = {"number": 1, "attempt": 1, "state": "done", "started_at": now, "ended_at": now, "result": "{}"}
    return [
        (tasks, [{**task, "id": one, "job_id": f"{one}.1"} for one in ids]),
        (stages, [{**stage, "task_id": one, "stage": name, "usd": 0.02} for one in ids for name in STAGES]),
    ]


if __name__ == "__main__":
    main()
