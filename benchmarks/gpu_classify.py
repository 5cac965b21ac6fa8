"""The desk classifier on a GPU: photos a second by batch, precision and mode, beside what the card can do.

`python -m benchmarks.gpu_classify`. Last, the engine that serves does the same, with photos from main memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import gpu_card, report
from benchmarks.gpu_card import Given
from deskterior.decoding import SIZE
from runners.desk_engine import TorchEngine
from runners.desk_model import DeskModel

BACKBONE = "tf_efficientnet_lite0"
MODES = ("eager", "channels_last", "compiled", "graphs")
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
COMPILED = {1, 8, 64, 256}
"""Compiling takes half a minute a shape."""
MODEL = Path(__file__).resolve().parent.parent / "models/desk_classifier"


def main(arguments: list[str] | None = None) -> None:
    given = gpu_card.asked("gpu_classify", __doc__ or "", arguments)
    results: dict[str, Any] = {"machine": gpu_card.machine(given), "limits": gpu_card.limits(given)}
    batches = (1, 2) if given.tiny else BATCHES
    precisions = ("fp32", "bf16") if given.tiny else tuple(gpu_card.PRECISIONS)
    results["gflop_a_photo"] = _gflop()
    results["cells"] = [
        {"precision": precision, "mode": mode, "batch": batch}
        | gpu_card.attempted(lambda: _cell(given, precision, mode, batch))  # noqa: B023
        for precision in precisions
        for mode in MODES
        for batch in batches
    ]
    for cell in results["cells"]:
        if "photos_s" in cell:
            done = cell["photos_s"] * results["gflop_a_photo"] / 1e3
            cell["of_the_limit"] = done / results["limits"][cell["precision"]]
    results["engine"] = gpu_card.attempted(lambda: _engine(given))
    gpu_card.finish(given, "gpu_classify", "Classifying on a GPU", results, _tables(results, batches))


def _gflop() -> float:
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), counter:
        _model()(torch.zeros(1, SIZE, SIZE, 3, dtype=torch.uint8))
    return counter.get_total_flops() / 1e9


def _model() -> DeskModel:
    torch.manual_seed(0)
    return DeskModel(BACKBONE, (127.0, 127.0, 127.0), (128.0, 128.0, 128.0)).eval()


def _cell(given: Given, precision: str, mode: str, batch: int) -> dict[str, Any]:
    if mode == "graphs" and not given.cuda:
        return {"skipped": "CUDA graphs want a GPU"}
    if mode == "compiled" and batch not in COMPILED:
        return {"skipped": "not compiled for this batch"}
    gpu_card.free(given)
    model: torch.nn.Module = _model().to(given.device, gpu_card.set_precision(precision))
    if mode != "eager":
        model = model.to(memory_format=torch.channels_last)
    photos = torch.randint(256, (batch, SIZE, SIZE, 3), dtype=torch.uint8, device=given.device)
    began = time.perf_counter()
    with torch.inference_mode():
        call: Callable[[], object] = lambda: model(photos)  # noqa: E731
        if mode == "compiled":
            torch.compiler.reset()
            compiled = torch.compile(model, dynamic=False, backend="eager" if given.tiny else "inductor")
            call = lambda: compiled(photos)  # noqa: E731
        elif mode == "graphs":
            call = _graph(given, model, photos).replay
        call()
        gpu_card.wait(given)
        ready = time.perf_counter() - began
        taken = gpu_card.seconds(given, call, 2 if given.tiny else 30)
    return {"photos_s": batch / taken, "ms": taken * 1e3, "ready_s": ready, "peak_gib": gpu_card.peak_gib(given)}


def _graph(given: Given, model: torch.nn.Module, photos: torch.Tensor) -> torch.cuda.CUDAGraph:
    aside = torch.cuda.Stream(given.device)  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream(given.device))
    with torch.cuda.stream(aside):
        for _ in range(3):
            model(photos)
    torch.cuda.current_stream(given.device).wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        model(photos)
    return graph


def _engine(given: Given) -> dict[str, Any]:
    """The engine that serves: how far from float32 on the CPU its logits are, odd batches too, and how fast it is."""
    gpu_card.free(given)
    gpu_card.set_precision("fp32")
    random = np.random.default_rng(0)
    counts = (1, 3) if given.tiny else (1, 2, 3, 5, 8, 17, 32, 64)
    photos = random.integers(0, 256, (max(counts), SIZE, SIZE, 3), np.uint8)
    plain = TorchEngine(MODEL, SIZE, "cpu").logits(photos)
    began = time.perf_counter()
    engine = TorchEngine(MODEL, SIZE, given.device.type)
    ready = time.perf_counter() - began
    # Down and up again: what an earlier batch left in a static buffer would show.
    apart = [np.abs(engine.logits(photos[:count]) - plain[:count]).max() for count in (*reversed(counts), *counts)]
    repeats = 2 if given.tiny else 30
    speed = {
        count: count / gpu_card.seconds(given, lambda: engine.logits(photos[:count]), repeats)  # noqa: B023
        for count in counts
    }
    return {"device": engine.device, "ready_s": ready, "logits_apart": float(max(apart)), "photos_s": speed}


def _tables(results: dict[str, Any], batches: tuple[int, ...]) -> list[report.Table]:
    cells = {(cell["precision"], cell["mode"], cell["batch"]): cell for cell in results["cells"]}
    kinds = dict.fromkeys((precision, mode) for precision, mode, _ in cells)
    columns = ["precision", "mode", *map(str, batches)]

    def table(heading: str, key: str, form: str) -> report.Table:
        rows = [[*kind, *(gpu_card.shown(cells[(*kind, batch)], key, form) for batch in batches)] for kind in kinds]
        return heading, columns, rows

    engine = results["engine"]
    served = engine.get("photos_s", {})
    return [
        gpu_card.limits_table(results["limits"]),
        table("Photos a second by batch, photos on the card", "photos_s", ",.0f"),
        table(
            f"Share of the card's products in that precision ({results['gflop_a_photo']:.2f} GFLOP a photo)",
            "of_the_limit",
            ".1%",
        ),
        (
            f"The engine that serves, photos from main memory: {engine.get('device', engine.get('error'))}, logits "
            f"within {engine.get('logits_apart', float('nan')):.1e} of float32",
            ["batch", *map(str, served)],
            [["photos/s", *(f"{value:,.0f}" for value in served.values())]],
        ),
    ]


if __name__ == "__main__":
    main()
