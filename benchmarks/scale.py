"""How the service grows with its processes, 1, 2 and 4 of a kind, in one run: `python -m benchmarks.scale [--quick]`.

API processes answer `/classify`; job workers make makeovers, for providers that answer at once and for providers that
take 16 s. Everything is on the same cores, the photos, the providers, Postgres and the clients too: on few cores what
a second brings stops growing when they are used up, and "CPU ms", what one piece of work costs, tells how far more
cores would carry. Ratios are to the first line of each table.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import sqlalchemy as sa

from benchmarks import photographs, report, scale_orders
from benchmarks.classify import served
from benchmarks.generate import arrive
from benchmarks.load import Figures, asking, run
from benchmarks.others.slow_providers import MAKEOVER_S
from benchmarks.postgres import postgres
from benchmarks.processes import Server, free_port, serving

PROCESSES = (1, 2, 4)
EMBEDDED = "embedded"
ROLES = {
    "deskterior.job_worker:JobWorker": "job worker",
    "runners.desk_classifier:DeskClassifier": "classifier",
    "_bentoml_impl.worker": "API",
}


@dataclass(frozen=True)
class Size:
    photos: int = 240
    at_once: int = 16
    makeovers: int = 120
    makeovers_at_once: int = 32
    waiting: int = 64
    """Makeovers under way while the providers take their time."""


QUICK = Size(photos=48, makeovers=24, waiting=8)


@dataclass
class Measured:
    figures: Figures
    memory_mb: dict[str, float] = field(default_factory=dict)
    """Of one process of each role, what no other shares (USS), after the load."""
    connections: int = 0
    """To Postgres, of all processes together, under load."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.scale", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a fifth of the requests, for a look")
    size = QUICK if parser.parse_args().quick else Size()
    host = report.machine()
    with tempfile.TemporaryDirectory(prefix="deskterior-bench-") as temporary, postgres() as database:
        folder = Path(temporary)
        photographs.make(folder / "photos")
        with served(folder / "photos") as photos:
            urls = [f"{photos}/1080p-{variant}.jpg" for variant in range(photographs.VARIANTS)]
            classify = {
                count: _classify(_folder(folder, f"classify-{count}"), urls, size, count) for count in PROCESSES
            }
            workers = [EMBEDDED, *map(str, PROCESSES)]
            at_once: dict[str, dict[str, Measured]] = {}
            for store in ("Postgres", "SQLite"):
                at_once[store] = {}
                for count in workers:
                    place = _folder(folder, f"{store}-{count}")
                    url = database(f"at_once_{count}") if store == "Postgres" else f"sqlite:///{place}/jobs.sqlite"
                    at_once[store][count] = _makeovers(place, urls, size, count, url, pace=0)
            slowly = {
                count: _makeovers(
                    _folder(folder, f"slow-{count}"), urls, size, count, database(f"slow_{count}"), pace=1
                )
                for count in workers
            }
    name = "scale-quick" if size is QUICK else "scale"
    host["load_after"] = round(os.getloadavg()[0], 1)
    print(_tell(host, size, classify, at_once, slowly, name).read_text())
    if size is not QUICK:
        scale_orders.main()


def _folder(parent: Path, name: str) -> Path:
    made = parent / name
    made.mkdir()
    return made


@contextmanager
def _service(folder: Path, **more: str) -> Iterator[tuple[Server, str]]:
    port = free_port()
    settings = {
        "ENV": "development",
        "PHOTO_ALLOWED_HOSTS": "127.0.0.1",
        "REQUIRE_DESK": "false",  # the photos are noise
        "RUNNERS": "process",
        "SANDBOX_URL": "http://127.0.0.1:9",  # the providers are others
        "SPEND_CAP_USD_PER_DAY": "0",
        "DATABASE_URL": f"sqlite:///{folder / 'jobs.sqlite'}",
        "STORAGE_DIR": str(folder / "storage"),
        "BENTOML_HOME": str(folder / "bentoml"),
        **more,
    }
    base = f"http://127.0.0.1:{port}"
    argv = ["-m", "bentoml", "serve", "service:Deskterior", "--host", "127.0.0.1", "--port", str(port)]
    with serving(argv, f"{base}/readyz", folder / "server.log", **settings) as server:
        print(f"{folder.name}: ready after {server.ready_s:.1f} s", flush=True)
        yield server, base


def _classify(folder: Path, photos: list[str], size: Size, workers: int) -> Measured:
    async def load(base: str, total: int) -> Figures:
        limits = httpx.Limits(max_connections=256, max_keepalive_connections=256, keepalive_expiry=2)
        async with httpx.AsyncClient(trust_env=False, timeout=120, limits=limits) as client:
            return await run(asking(client, f"{base}/classify", photos), total, size.at_once)

    with _service(folder, WORKERS=str(workers)) as (server, base):
        asyncio.run(load(base, 16))
        before = server.cpu_s()
        figures = asyncio.run(load(base, size.photos))
        figures.cpu_s = server.cpu_s() - before
        return Measured(figures, _memory(server))


def _makeovers(folder: Path, photos: list[str], size: Size, workers: str, database: str, pace: int) -> Measured:
    """`pace` 0: as many as go; 1: providers take their time, and as many arrive as keep so many under way."""
    providers = free_port()
    outside = f"http://127.0.0.1:{providers}"
    settings = {
        "OPENAI_API_KEY": "benchmark",
        "OPENAI_BASE_URL": f"{outside}/openai/v1",
        "NAVER_BASE_URL": f"{outside}/naver",
        "NAVER_CLIENT_ID": "benchmark",
        "NAVER_CLIENT_SECRET": "benchmark",
        "NAVER_PER_SECOND": "1000",
        "RENDER_CONCURRENCY": "200",
        "MAX_CONCURRENCY": "1000",
        "DATABASE_URL": database,
        "JOB_WORKERS": workers,
    }
    argv = ["-m", "benchmarks.others.slow_providers", str(providers), str(pace)]
    stub = serving(argv, f"{outside}/ready", folder / "providers.log")
    with stub, _service(folder, **settings) as (server, base):
        _wait_for_workers(base)
        asyncio.run(_ordered(base, photos, 4, 4))
        before = server.cpu_s()
        if pace:
            figures = asyncio.run(arrive(f"{base}/v1/generate", photos, size.waiting * 2, size.waiting / MAKEOVER_S))
        else:
            figures = asyncio.run(_ordered(base, photos, size.makeovers, size.makeovers_at_once))
        figures.cpu_s = server.cpu_s() - before
        return Measured(figures, _memory(server), _connections(database))


async def _ordered(base: str, photos: list[str], total: int, at_once: int) -> Figures:
    limits = httpx.Limits(max_connections=None)
    numbers = iter(range(total + at_once))
    async with httpx.AsyncClient(trust_env=False, timeout=300, limits=limits) as client:

        async def ask() -> None:
            photo = photos[next(numbers) % len(photos)]
            (await client.post(f"{base}/v1/generate", json={"image_url": photo})).raise_for_status()

        return await run(ask, total, at_once)


def _wait_for_workers(base: str) -> None:
    """The API is ready before job workers beside it are."""
    with httpx.Client(trust_env=False, timeout=5) as client:
        for _ in range(240):
            if client.get(f"{base}/health").json()["checks"]["job_workers"].startswith("ok"):
                return
            time.sleep(0.25)
    raise RuntimeError("no job worker came up")


def _memory(server: Server) -> dict[str, float]:
    found: dict[str, list[float]] = defaultdict(list)
    for process in server.family():
        with suppress(psutil.Error):
            command = " ".join(process.cmdline())
            role = next((role for mark, role in ROLES.items() if mark in command), "main")
            found[role].append(process.memory_full_info().uss / 1e6)
    return {role: round(max(sizes), 1) for role, sizes in found.items()}


def _connections(database: str) -> int:
    url = sa.make_url(database)
    if url.get_backend_name() != "postgresql":
        return 0
    engine = sa.create_engine(url.set(drivername="postgresql+psycopg"), poolclass=sa.NullPool)
    others = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
    with engine.connect() as connection:
        return int(connection.execute(sa.text(others)).scalar_one())


def _tell(
    host: dict[str, Any],
    size: Size,
    classify: dict[int, Measured],
    at_once: dict[str, dict[str, Measured]],
    slowly: dict[str, Measured],
    name: str,
) -> Path:
    def per_second(seen: dict[Any, Measured]) -> list[list[str]]:
        first = next(iter(seen.values())).figures
        return [
            [
                str(key),
                f"{one.figures.per_second:.1f}",
                f"{one.figures.per_second / first.per_second:.2f}",
                f"{one.figures.cpu_ms:.0f}",
                f"{one.figures.cpu_ms / first.cpu_ms:.2f}",
                f"{one.figures.p50_ms:.0f}",
                f"{one.figures.p99_ms:.0f}",
                ", ".join(f"{role} {mb:.0f}" for role, mb in sorted(one.memory_mb.items())),
                str(one.connections or ""),
                str(len(one.figures.errors)),
            ]
            for key, one in seen.items()
        ]

    columns = [
        "",
        "a second",
        "ratio",
        "CPU ms each",
        "ratio",
        "p50 ms",
        "p99 ms",
        "MB of one process",
        "connections",
        "errors",
    ]
    added = [*columns[:5], "added p50 ms", "added p99 ms", *columns[7:]]
    waiting = f"{size.waiting} under way; the providers take {MAKEOVER_S:.0f} s of each"
    tables: list[report.Table] = [
        (f"/classify by API processes, 1080p photos, {size.at_once} at once", columns, per_second(classify)),
        *(
            (
                f"/v1/generate by job workers, {size.makeovers_at_once} at once, on {store}; providers answer at once",
                columns,
                per_second(seen),
            )
            for store, seen in at_once.items()
        ),
        (f"/v1/generate by job workers, on Postgres, {waiting}", added, per_second(slowly)),
    ]
    results = {
        "machine": host,
        "classify": {str(count): _plain(one) for count, one in classify.items()},
        "makeovers_at_once": {
            store: {count: _plain(one) for count, one in seen.items()} for store, seen in at_once.items()
        },
        "makeovers_slowly": {count: _plain(one) for count, one in slowly.items()},
    }
    return report.write(name, "Processes", results, tables)


def _plain(one: Measured) -> dict[str, object]:
    return {
        "per_second": round(one.figures.per_second, 2),
        "cpu_ms": round(one.figures.cpu_ms, 1),
        "p50_ms": round(one.figures.p50_ms, 1),
        "p99_ms": round(one.figures.p99_ms, 1),
        "errors": one.figures.errors[:3],
        "memory_mb": one.memory_mb,
        "connections": one.connections,
    }


if __name__ == "__main__":
    main()
