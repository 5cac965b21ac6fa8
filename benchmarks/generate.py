"""What the service adds to the providers' time, with up to 200 under way: `python -m benchmarks.generate`.

The providers wait for a fixed time and do no work, so whatever a makeover takes beyond that is ours: the photo, the
jobs' store, the pictures' store. Makeovers arrive evenly, as many a second as keep so many under way.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import tempfile
import time
from pathlib import Path

import httpx

from benchmarks import photographs, report
from benchmarks.classify import served
from benchmarks.load import Figures
from benchmarks.others.slow_providers import MAKEOVER_S
from benchmarks.processes import free_port, serving

AT_ONCE = (20, 60, 200)
"""Makeovers under way. The last is more than two cores carry beside the providers and the clients."""


async def arrive(url: str, photos: list[str], total: int, per_second: float) -> Figures:
    """`total` makeovers, `per_second` of them started each second; the time of each beyond `MAKEOVER_S`."""
    figures = Figures()
    turn = itertools.cycle(photos)

    async def one(client: httpx.AsyncClient, photo: str, at: float) -> None:
        await asyncio.sleep(max(0.0, at - time.perf_counter()))
        began = time.perf_counter()
        try:
            answer = await client.post(url, json={"image_url": photo})
            answer.raise_for_status()
        except httpx.HTTPError as error:
            figures.errors.append(f"{type(error).__name__}: {error}"[:200])
        else:
            figures.latencies.append(time.perf_counter() - began - MAKEOVER_S)

    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(trust_env=False, timeout=300, limits=limits) as client:
        began = time.perf_counter()
        await asyncio.gather(*(one(client, next(turn), began + number / per_second) for number in range(total)))
        figures.seconds = time.perf_counter() - began
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.generate", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the lighter load alone, for a look")
    given = parser.parse_args()
    loads = AT_ONCE[:1] if given.quick else AT_ONCE
    host = report.machine()
    measured: dict[int, tuple[Figures, float]] = {}
    with tempfile.TemporaryDirectory(prefix="deskterior-bench-") as temporary:
        folder = Path(temporary)
        photographs.make(folder / "photos")
        providers = free_port()
        outside = f"http://127.0.0.1:{providers}"
        stub = serving(
            ["-m", "benchmarks.others.slow_providers", str(providers)], f"{outside}/ready", folder / "providers.log"
        )
        with stub, served(folder / "photos") as photos:
            urls = [f"{photos}/1080p-{variant}.jpg" for variant in range(photographs.VARIANTS)]
            for at_once in loads:
                measured[at_once] = _measure(folder / str(at_once), outside, urls, at_once)
    _tell(host, measured, "generate-quick" if given.quick else "generate")


def _measure(folder: Path, outside: str, photos: list[str], at_once: int) -> tuple[Figures, float]:
    """Figures and most memory (MB) of a service of its own that has `at_once` makeovers under way."""
    folder.mkdir()
    port = free_port()
    settings = {
        "PHOTO_ALLOWED_HOSTS": "127.0.0.1",
        "REQUIRE_DESK": "false",  # the photos are noise
        "OPENAI_API_KEY": "benchmark",
        "OPENAI_BASE_URL": f"{outside}/openai/v1",
        "NAVER_BASE_URL": f"{outside}/naver",
        "NAVER_CLIENT_ID": "benchmark",
        "NAVER_CLIENT_SECRET": "benchmark",
        "RENDER_CONCURRENCY": str(at_once * 2),
        "JOBS_CONCURRENCY": str(at_once * 2),
        "SPEND_CAP_USD_PER_DAY": "0",
        "MAX_CONCURRENCY": str(at_once * 4),
        "DATABASE_URL": f"sqlite:///{folder / 'jobs.sqlite'}",
        "STORAGE_DIR": str(folder / "storage"),
    }
    argv = ["-m", "bentoml", "serve", "service:Deskterior", "--host", "127.0.0.1", "--port", str(port)]
    base = f"http://127.0.0.1:{port}"
    per_second = at_once / MAKEOVER_S
    with serving(argv, f"{base}/readyz", folder / "server.log", **settings) as server:
        asyncio.run(arrive(f"{base}/v1/generate", photos, 4, per_second))
        cpu = server.cpu_s()
        figures = asyncio.run(arrive(f"{base}/v1/generate", photos, at_once * 3, per_second))
        figures.cpu_s = server.cpu_s() - cpu
        return figures, server.peak_mb


def _tell(host: dict[str, object], measured: dict[int, tuple[Figures, float]], name: str) -> None:
    loads = {
        at_once: {
            "makeovers": len(figures.latencies),
            "added_p50_ms": round(figures.p50_ms, 1),
            "added_p99_ms": round(figures.p99_ms, 1),
            "added_of_the_whole_p50": round(figures.p50_ms / 1000 / MAKEOVER_S, 4),
            "cpu_ms": round(figures.cpu_ms, 1),
            "most_memory_mb": round(memory_mb),
            "errors": figures.errors,
        }
        for at_once, (figures, memory_mb) in measured.items()
    }
    rows = [
        [
            str(at_once),
            f"{at_once / MAKEOVER_S:.1f}",
            f"{figures.p50_ms:.0f}",
            f"{figures.p99_ms:.0f}",
            f"{figures.p50_ms / 1000 / MAKEOVER_S:.1%}",
            f"{figures.cpu_ms:.0f}",
            f"{memory_mb:.0f}",
            str(len(figures.errors)),
        ]
        for at_once, (figures, memory_mb) in measured.items()
    ]
    columns = ["at once", "a second", "added p50 ms", "added p99 ms", "of the whole", "CPU ms", "most MB", "errors"]
    heading = f"1080p photos; the providers take {MAKEOVER_S:.0f} s of each makeover"
    results = {"machine": host, "providers_s": MAKEOVER_S, "loads": loads}
    print(report.write(name, "/v1/generate", results, [(heading, columns, rows)]).read_text())


if __name__ == "__main__":
    main()
