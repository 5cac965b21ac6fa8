"""How fast `/classify` is, beside the machine's limit and beside others: `python -m benchmarks.classify [--quick]`.

The limit is the same decoding and the same model on the same cores with no HTTP, no download and no queue. It is taken
right before and right after each server, and that server is held against the mean of the two: what else the machine
does then falls on both.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from benchmarks import photographs, report
from benchmarks.load import Ask, Figures, asking, run
from benchmarks.processes import ROOT, Server, free_port, serving
from deskterior.config import settings
from deskterior.decoding import decode
from runners import desk_engine

OURS = "Deskterior"
COLUMNS = ["", "photos/s", "of the limit", "CPU ms a photo", "p50 ms", "p99 ms", "errors", "most memory MB"]
Limits = dict[str, "Limit"]


@dataclass(frozen=True)
class Size:
    """How much is asked. Enough for figures that hold within a few per cent, and no more than six minutes."""

    hd: int = 240
    large: int = 128
    alone: int = 15


@dataclass
class Measured:
    """One server's figures."""

    ready_s: float
    hd: Figures = field(default_factory=Figures)
    large: Figures = field(default_factory=Figures)
    before: Figures = field(default_factory=Figures)
    after: Figures = field(default_factory=Figures)
    memory_mb: float = 0.0

    @property
    def burst_ratio(self) -> float:
        return self.after.p50_ms / self.before.p50_ms


@dataclass(frozen=True)
class Limit:
    """What the cores can do."""

    per_second: float
    cpu_ms: float

    def mean(self, other: Limit) -> Limit:
        return Limit((self.per_second + other.per_second) / 2, (self.cpu_ms + other.cpu_ms) / 2)


Contestant = Callable[[Path], tuple[list[str], int, dict[str, str]]]


def ours(runners: str) -> Contestant:
    def start(folder: Path) -> tuple[list[str], int, dict[str, str]]:
        port = free_port()
        env = {
            "RUNNERS": runners,
            "DESK_RUNNER": "",
            "ENV": "development",
            "PORT": str(port),
            "PHOTO_ALLOWED_HOSTS": "127.0.0.1",
            "ON_DESK": "none",
            "DATABASE_URL": f"sqlite:///{folder / f'jobs-{runners}.sqlite'}",
            "STORAGE_DIR": str(folder / "storage"),
            "SANDBOX_URL": "http://127.0.0.1:9",  # nothing is drawn, so it need not run
            "BENTOML_HOME": str(folder / f"bentoml-{runners}"),
        }
        return ["-m", "bentoml", "serve", "service:Deskterior", "--host", "127.0.0.1", "--port", str(port)], port, env

    return start


def other(name: str) -> Contestant:
    def start(_: Path) -> tuple[list[str], int, dict[str, str]]:
        port = free_port()
        return ["-m", f"benchmarks.others.{name}", str(port)], port, {}

    return start


def batchable(folder: Path) -> tuple[list[str], int, dict[str, str]]:
    port = free_port()
    target = "benchmarks.others.bentoml_batchable:Batchable"
    env = {"BENTOML_HOME": str(folder / "bentoml-batchable")}
    return ["-m", "bentoml", "serve", target, "--host", "127.0.0.1", "--port", str(port)], port, env


CONTESTANTS: dict[str, tuple[Contestant, str]] = {
    OURS: (ours("embedded"), "/readyz"),
    f"{OURS}, RUNNERS=process": (ours("process"), "/readyz"),
    "LitServe": (other("litserve_batching"), "/ready"),
    "BentoML batchable": (batchable, "/readyz"),
    "naive FastAPI": (other("naive_fastapi"), "/ready"),
}


def limit(photos: list[Path], seconds: float) -> Limit:
    """Every core decodes and runs the model, and does nothing else."""
    engine, _ = desk_engine.load(settings().desk_model_dir)
    data = [photo.read_bytes() for photo in photos]
    cores = len(os.sched_getaffinity(0))
    until = time.perf_counter() + seconds

    def work() -> int:
        done = 0
        for photo in itertools.cycle(data):
            engine.logits(decode(photo)[None])
            done += 1
            if time.perf_counter() > until:
                break
        return done

    began, cpu = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(cores) as pool:
        done = sum(task.result() for task in [pool.submit(work) for _ in range(cores)])
    return Limit(done / (time.perf_counter() - began), (time.process_time() - cpu) / done * 1000)


async def measure(server: Server, port: int, photos: dict[str, list[str]], size: Size) -> Measured:
    measured = Measured(ready_s=server.ready_s)
    # Idle connections are dropped before any of the servers hangs up on them (5 s).
    limits = httpx.Limits(max_connections=256, max_keepalive_connections=256, keepalive_expiry=2)
    async with httpx.AsyncClient(trust_env=False, timeout=120, limits=limits) as client:
        hd, large = (asking(client, f"http://127.0.0.1:{port}/classify", photos[name]) for name in ("1080p", "12mp"))
        await run(hd, 16, 8)
        measured.before = await run(hd, size.alone, 1)
        await run(hd, 64, 64)
        measured.after = await run(hd, size.alone, 1)
        measured.hd = await _counted(server, hd, size.hd, 8)
        measured.large = await _counted(server, large, size.large, 64)
    measured.memory_mb = server.peak_mb
    return measured


async def _counted(server: Server, ask: Ask, total: int, at_once: int) -> Figures:
    before = server.cpu_s()
    figures = await run(ask, total, at_once)
    figures.cpu_s = server.cpu_s() - before
    return figures


@contextmanager
def served(folder: Path) -> Iterator[str]:
    argv = [sys.executable, "-m", "benchmarks.photographs", str(folder)]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        try:
            port = server.stdout.readline().strip() if server.stdout else ""
            yield f"http://127.0.0.1:{port}"
        finally:
            server.kill()


def _table(heading: str, size: str, most: dict[str, Limits], loads: dict[str, tuple[Figures, float]]) -> report.Table:
    rows = []
    for name, (seen, memory_mb) in loads.items():
        top = most[name][size]
        figures = [f"{seen.per_second:.1f}", f"{seen.per_second / top.per_second:.2f}", f"{seen.cpu_ms:.1f}"]
        rows.append(
            [name, *figures, f"{seen.p50_ms:.0f}", f"{seen.p99_ms:.0f}", str(len(seen.errors)), f"{memory_mb:.0f}"]
        )
    means = [statistics.mean(getattr(top[size], what) for top in most.values()) for what in ("per_second", "cpu_ms")]
    return heading, COLUMNS, [["the limit (mean)", f"{means[0]:.1f}", "1.00", f"{means[1]:.1f}", "", "", "", ""], *rows]


def _plain(figures: Figures, most: Limit | None = None) -> dict[str, object]:
    return {
        "per_second": round(figures.per_second, 2),
        "of_limit": None if most is None else round(figures.per_second / most.per_second, 3),
        "limit_per_second": None if most is None else round(most.per_second, 2),
        "cpu_ms": round(figures.cpu_ms, 2),
        "p50_ms": round(figures.p50_ms, 1),
        "p99_ms": round(figures.p99_ms, 1),
        "errors": len(figures.errors),
        "first_error": figures.errors[0] if figures.errors else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.classify", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a third of the requests, for a look")
    parser.add_argument("--only", nargs="*", default=list(CONTESTANTS), choices=list(CONTESTANTS), metavar="NAME")
    given = parser.parse_args()
    size = Size(hd=80, large=64, alone=7) if given.quick else Size()
    host = report.machine()
    measured: dict[str, Measured] = {}
    with tempfile.TemporaryDirectory(prefix="deskterior-bench-") as temporary:
        folder = Path(temporary)
        print("making photos", flush=True)
        made = photographs.make(folder / "photos")
        seconds = 1.5 if given.quick else 3
        most: dict[str, Limits] = {}
        before = {name: limit(paths, seconds) for name, paths in made.items()}
        with served(folder / "photos") as base:
            urls = {name: [f"{base}/{path.name}" for path in paths] for name, paths in made.items()}
            for name in given.only:
                contestant, ready = CONTESTANTS[name]
                argv, port, env = contestant(folder)
                with serving(argv, f"http://127.0.0.1:{port}{ready}", folder / "server.log", **env) as server:
                    print(f"{name}: ready after {server.ready_s:.1f} s", flush=True)
                    measured[name] = asyncio.run(measure(server, port, urls, size))
                after = {name: limit(paths, seconds) for name, paths in made.items()}
                most[name] = {photo: before[photo].mean(after[photo]) for photo in made}
                before = after
    _tell(host, most, measured, "classify-quick" if given.quick else "classify")


def _tell(host: dict[str, object], most: dict[str, Limits], measured: dict[str, Measured], name: str) -> None:
    results = {
        "machine": host,
        "servers": {
            server: {
                "ready_s": round(seen.ready_s, 2),
                "most_memory_mb": round(seen.memory_mb),
                "1080p_8_at_once": _plain(seen.hd, most[server]["1080p"]),
                "12mp_64_at_once": _plain(seen.large, most[server]["12mp"]),
                "alone_before_burst": _plain(seen.before),
                "alone_after_burst": _plain(seen.after),
                "burst_ratio": round(seen.burst_ratio, 2),
            }
            for server, seen in measured.items()
        },
    }
    hd = {server: (seen.hd, seen.memory_mb) for server, seen in measured.items()}
    large = {server: (seen.large, seen.memory_mb) for server, seen in measured.items()}
    alone = [
        [
            server,
            f"{seen.before.p50_ms:.0f}",
            f"{seen.after.p50_ms:.0f}",
            f"{seen.burst_ratio:.2f}",
            f"{seen.ready_s:.1f}",
        ]
        for server, seen in measured.items()
    ]
    tables: list[report.Table] = [
        _table("1080p photos, 8 at once", "1080p", most, hd),
        _table("12-megapixel photos, 64 at once", "12mp", most, large),
        (
            "One 1080p photo at a time, before and right after a burst of 64; and the start",
            ["", "p50 ms before", "p50 ms after", "after / before", "ready after s"],
            alone,
        ),
    ]
    print(report.write(name, "/classify", results, tables).read_text())


if __name__ == "__main__":
    main()
