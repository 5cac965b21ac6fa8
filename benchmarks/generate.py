"""What the service adds to the providers' time, with 200 makeovers running at once: `python -m benchmarks.generate`.

The providers wait for a fixed time and do no work, so whatever a makeover takes beyond that is ours: the photo, the
jobs' store, the pictures' store. Makeovers arrive evenly, as many a second as keeps 200 under way.
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

AT_ONCE = 200


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
    parser.add_argument("--quick", action="store_true", help="20 at once, for a look")
    given = parser.parse_args()
    at_once = 20 if given.quick else AT_ONCE
    per_second = at_once / MAKEOVER_S
    host = report.machine()
    with tempfile.TemporaryDirectory(prefix="deskterior-bench-") as temporary:
        folder = Path(temporary)
        photographs.make(folder / "photos")
        providers, port = free_port(), free_port()
        outside = f"http://127.0.0.1:{providers}"
        stub = serving(
            ["-m", "benchmarks.others.slow_providers", str(providers)], f"{outside}/ready", folder / "providers.log"
        )
        settings = {
            "PHOTO_ALLOWED_HOSTS": "127.0.0.1",
            "REQUIRE_DESK": "false",  # the photos are noise
            "OPENAI_API_KEY": "benchmark",
            "OPENAI_BASE_URL": f"{outside}/openai/v1",
            "NAVER_BASE_URL": f"{outside}/naver",
            "NAVER_CLIENT_ID": "benchmark",
            "NAVER_CLIENT_SECRET": "benchmark",
            "RENDER_CONCURRENCY": str(at_once),
            "SPEND_CAP_USD_PER_DAY": "0",
            "MAX_CONCURRENCY": str(at_once * 2),
            "DATABASE_URL": f"sqlite:///{folder / 'jobs.sqlite'}",
            "STORAGE_DIR": str(folder / "storage"),
        }
        argv = ["-m", "bentoml", "serve", "service:Deskterior", "--host", "127.0.0.1", "--port", str(port)]
        base = f"http://127.0.0.1:{port}"
        with stub, served(folder / "photos") as photos:
            with serving(argv, f"{base}/readyz", folder / "server.log", **settings) as server:
                urls = [f"{photos}/1080p-{variant}.jpg" for variant in range(photographs.VARIANTS)]
                asyncio.run(arrive(f"{base}/v1/generate", urls, 4, per_second))
                cpu = server.cpu_s()
                figures = asyncio.run(arrive(f"{base}/v1/generate", urls, at_once * 4, per_second))
                figures.cpu_s = server.cpu_s() - cpu
            _tell(host, figures, server.peak_mb, at_once, "generate-quick" if given.quick else "generate")


def _tell(host: dict[str, object], figures: Figures, memory_mb: float, at_once: int, name: str) -> None:
    results = {
        "machine": host,
        "at_once": at_once,
        "providers_s": MAKEOVER_S,
        "makeovers": len(figures.latencies),
        "added_p50_ms": round(figures.p50_ms, 1),
        "added_p99_ms": round(figures.p99_ms, 1),
        "added_of_the_whole_p50": round(figures.p50_ms / 1000 / MAKEOVER_S, 4),
        "cpu_ms": round(figures.cpu_ms, 1),
        "most_memory_mb": round(memory_mb),
        "errors": figures.errors,
    }
    row = [
        str(at_once),
        f"{figures.p50_ms:.0f}",
        f"{figures.p99_ms:.0f}",
        f"{results['added_of_the_whole_p50']:.2%}",
        f"{figures.cpu_ms:.0f}",
        f"{memory_mb:.0f}",
        str(len(figures.errors)),
    ]
    columns = ["at once", "added p50 ms", "added p99 ms", "of the whole", "CPU ms", "most memory MB", "errors"]
    heading = f"{len(figures.latencies)} makeovers; providers take {MAKEOVER_S:.0f} s of each"
    print(report.write(name, "/v1/generate", results, [(heading, columns, [row])]).read_text())


if __name__ == "__main__":
    main()
