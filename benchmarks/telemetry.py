"""Shows what a run tells of itself: `python -m benchmarks.telemetry`.

Runs the service with the sandbox, whose providers take some time and sometimes fail, under a small load, with a
collector of traces and a real Prometheus (`make prometheus`) with our rules. Then draws a trace and the dashboard's own
queries: docs/telemetry-trace.png and docs/telemetry-dashboard.png.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import matplotlib
import psutil
import yaml
from PIL import Image

from benchmarks.collector import Collector, Span, collector
from demo.running import ROOT, free_port, photo_server, service
from sandbox import serving

matplotlib.use("Agg")
from matplotlib import pyplot

DOCS = ROOT / "docs"
DASHBOARD = ROOT / "deploy" / "grafana" / "dashboards" / "deskterior.json"
RULES = [ROOT / "deploy" / "prometheus" / name for name in ("rules.yml", "alerts.yml")]
BINARY = ROOT / ".venv" / "prometheus" / "usr" / "bin" / "prometheus"
WORKERS = 4
SCRAPE_S = 1
COLUMNS = 3


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.telemetry", description=__doc__)
    parser.add_argument("--seconds", type=float, default=90.0, help="of load")
    parser.add_argument("--output", type=Path, default=DOCS)
    given = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        to = stack.enter_context(collector())
        arguments = ["--latency", "1.0", "--callback-format", "nested"]
        sandbox, _ = stack.enter_context(serving.in_process(*arguments))
        photos = list(stack.enter_context(photo_server(sorted((ROOT / "samples").glob("*.jpg")))).values())
        base = stack.enter_context(
            service(
                folder / "service.log",
                ENV="development",
                PHOTO_ALLOWED_HOSTS="127.0.0.1",
                STORAGE_DIR=str(folder / "storage"),
                DATABASE_URL=f"sqlite:///{folder / 'jobs.sqlite'}",
                WORKERS=str(WORKERS),
                RUNNERS="process",
                SANDBOX_URL=sandbox,
                CALLBACK_URL=f"{sandbox}/backend/callback",
                OTEL_EXPORTER_OTLP_ENDPOINT=to.url,
                OTEL_BSP_SCHEDULE_DELAY="200",
            )
        )
        prometheus = stack.enter_context(scraping(base, folder))
        began = time.time()
        load(base, photos, given.seconds)
        time.sleep(3 * SCRAPE_S)
        passed, used = scrape_ms(base)
        print(f"a scrape of {WORKERS} workers and a runner: {passed:.0f} ms passed, {used:.0f} ms of processor time")
        draw_trace(to, given.output / "telemetry-trace.png")
        draw_dashboard(prometheus, began, time.time(), given.output / "telemetry-dashboard.png")


@contextmanager
def scraping(base: str, folder: Path) -> Iterator[str]:
    """A Prometheus that scrapes the service, with our rules; its address."""
    port = free_port()
    config = {
        "global": {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": f"{SCRAPE_S}s"},
        "rule_files": [str(path) for path in _quickened(folder)],
        "scrape_configs": [{"job_name": "deskterior", "static_configs": [{"targets": [base.removeprefix("http://")]}]}],
    }
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(config))
    command = [str(BINARY), f"--config.file={file}", f"--storage.tsdb.path={folder / 'tsdb'}"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
    with subprocess.Popen(command, cwd=folder) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            _ready(url)
            yield url
        finally:
            process.terminate()


def _quickened(folder: Path) -> Iterator[Path]:
    """The rules, each group as often as a scrape: a run is short."""
    for path in RULES:
        rules = yaml.safe_load(path.read_text())
        for group in rules["groups"]:
            group.pop("interval", None)
        (folder / path.name).write_text(yaml.safe_dump(rules))
        yield folder / path.name


def _ready(url: str) -> None:
    for _ in range(200):
        try:
            if httpx.get(f"{url}/-/ready", timeout=1, trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise SystemExit("Prometheus did not start; is it there? `make prometheus` unpacks it")


def load(base: str, photos: list[str], seconds: float) -> None:
    """Four clients that classify, two that make over, and a stranger who looks for what is not there."""
    end = time.monotonic() + seconds

    def until_the_end(path: str, body: dict[str, str], pause_s: float) -> None:
        with httpx.Client(base_url=base, timeout=60, trust_env=False) as client:
            while time.monotonic() < end:
                client.post(path, json=body)
                time.sleep(pause_s)

    jobs = [("/classify", {"initial_image_url": photo}, 0.3) for photo in photos]
    jobs += [("/v1/generate", {"image_url": photos[0], "concept": concept}, 0.5) for concept in ("BASIC", "OIL")]
    jobs += [("/classify", {"initial_image_url": f"{photos[0]}.missing"}, 2.0), ("/nowhere", {}, 1.0)]
    threads = [threading.Thread(target=until_the_end, args=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def scrape_ms(base: str, times: int = 20) -> tuple[float, float]:
    """Milliseconds of a scrape: the median that passed, and the mean of processor time in all processes together."""
    processes = [each for each in psutil.Process().children(recursive=True) if "prometheus" not in each.name()]

    def used() -> float:
        return sum(sum(each.cpu_times()[:2]) for each in processes)

    took, before = [], used()
    for _ in range(times):
        began = time.perf_counter()
        httpx.get(f"{base}/metrics", trust_env=False).raise_for_status()
        took.append(time.perf_counter() - began)
    asked = used() - before
    time.sleep(sum(took))  # as long again, with nobody asking
    idle = used() - before - asked
    return median(took) * 1000, max(0.0, asked - idle) / times * 1000


# The trace

COLOURS = {1: "#4c78a8", 2: "#2b4c7e", 3: "#f58518"}
"""By OTLP's kind of span: internal, server, client."""


def draw_trace(to: Collector, file: Path) -> None:
    """The trace with the most spans of those whose callback was delivered, as a waterfall."""
    told = {span.trace_id for span in to.spans() if span.name == "notify"}
    spans = max((to.spans(trace_id) for trace_id in told), key=len)
    rows = list(_tree(spans))
    start, end = min(span.start for span in spans), max(span.end for span in spans)
    left = -0.42 * (end - start)
    figure, axes = pyplot.subplots(figsize=(11, 0.28 * len(rows) + 1.1), layout="constrained")
    for number, (depth, span) in enumerate(rows):
        seconds = span.end - span.start
        colour = "#c0392b" if span.failed else COLOURS.get(span.kind, "#888888")
        axes.barh(number, max(seconds, 0.004), left=span.start - start, color=colour, height=0.62)
        label = f"{seconds * 1000:.0f} ms" + ("  (runner)" if span.service != "deskterior" else "")
        axes.text(span.end - start, number, f" {label}", va="center", fontsize=7)
        axes.text(left, number, "  " * depth + span.name, va="center", fontsize=8, fontfamily="monospace")
    ticks = range(int(end - start) + 1)
    title = "A makeover with the sandbox, from the request to the callback"
    axes.set(yticks=[], xticks=ticks, xlabel="seconds", title=title)
    axes.set_xlim(left, 1.1 * (end - start))
    axes.invert_yaxis()
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.savefig(file, dpi=90)
    print(f"{file.name}: {len(spans)} spans of trace {spans[0].trace_id}")


def _tree(spans: list[Span]) -> Iterator[tuple[int, Span]]:
    """Each span below its parent, with how deep it lies, by the time of their beginnings."""
    ids = {span.span_id for span in spans}

    def below(parent: str, depth: int) -> Iterator[tuple[int, Span]]:
        for span in sorted(spans, key=lambda span: span.start):
            if (span.parent_id if span.parent_id in ids else "") == parent:
                yield depth, span
                yield from below(span.span_id, depth + 1)

    return below("", 0)


# The dashboard


@dataclass(frozen=True)
class Drawn:
    title: str
    unit: str
    lines: list[tuple[str, list[float], list[float]]]


def draw_dashboard(prometheus: str, began: float, ended: float, file: Path) -> None:
    """The curves of the dashboard, as Prometheus answers its queries; limits are left out, and what stayed at 0 is
    named."""
    board = json.loads(DASHBOARD.read_text())
    panels = [panel for panel in board["panels"] if panel["type"] in {"timeseries", "barchart"}]
    drawn = [_panel(prometheus, panel, began, ended) for panel in panels]
    empty = [panel.title for panel in drawn if not panel.lines]
    full = [panel for panel in drawn if panel.lines]
    rows = -(-len(full) // COLUMNS)
    figure, grid = pyplot.subplots(rows, COLUMNS, figsize=(15, 2.0 * rows), layout="constrained")
    for axes, panel in zip(grid.flat, full, strict=False):
        for name, along, values in panel.lines[:8]:
            axes.plot(along, values, label=name, linewidth=1.2)
        axes.set_title(f"{panel.title} ({panel.unit})", fontsize=9)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.25)
        axes.set_ylim(bottom=0)
        if any(name for name, _, _ in panel.lines):
            axes.legend(fontsize=6, loc="best", framealpha=0.6)
    for axes in list(grid.flat)[len(full) :]:
        axes.set_visible(False)
    figure.supxlabel("seconds of the run; of the scores, the score", fontsize=8)
    picture = io.BytesIO()
    figure.savefig(picture, dpi=72)
    Image.open(picture).convert("RGB").quantize(64).save(file, optimize=True)
    print(f"{file.name}: {len(full)} panels; nothing to show in {', '.join(empty) or 'none'}")


def _panel(prometheus: str, panel: dict[str, Any], began: float, ended: float) -> Drawn:
    bars = panel["type"] == "barchart"
    lines = []
    for target in panel["targets"]:
        asked = {"query": target["expr"], "start": str(began), "end": str(ended), "step": "1"}
        answer = httpx.get(f"{prometheus}/api/v1/query_range", params=asked, timeout=30, trust_env=False)
        found = answer.raise_for_status().json()["data"]["result"]
        if bars:  # the last value of each series, by its score
            last = sorted((float(one["metric"]["le"]), float(one["values"][-1][1])) for one in found)
            lines.append((target["legendFormat"], [at for at, _ in last], [value for _, value in last]))
            continue
        for one in found:
            points = [(float(at) - began, float(value)) for at, value in one["values"] if value != "NaN"]
            is_limit = "limit" in target["legendFormat"] or target["legendFormat"] == "cap"
            if any(value for _, value in points) and not is_limit:
                name = _legend(target["legendFormat"], one["metric"])
                lines.append((name, [at for at, _ in points], [value for _, value in points]))
    return Drawn(panel["title"], panel["fieldConfig"]["defaults"]["unit"], lines)


def _legend(form: str, labels: dict[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), form).strip()


if __name__ == "__main__":
    os.nice(10)
    main()
