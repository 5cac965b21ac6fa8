"""What the GPU benchmarks share: the command line, the card's own limits, timing on a device, and their results.

Everything is made on the spot, with random weights of real sizes: nothing is downloaded and no service runs. Without a
GPU each says so and exits with 2; `--tiny --device cpu` runs every line in seconds and leaves the kept results alone.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks import report

PRECISIONS = {"fp32": torch.float32, "tf32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Given:
    """What a run was asked for. `folder` is where its results go."""

    tiny: bool
    device: torch.device
    folder: Path

    @property
    def cuda(self) -> bool:
        return self.device.type == "cuda"


def asked(name: str, purpose: str, arguments: list[str] | None = None) -> Given:
    """Read the command line. Exits with 2, and a sentence, where there is no GPU and a tiny run was not asked for."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=purpose)
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, to see that everything runs")
    parser.add_argument("--device", default="cuda", help="cuda, or with --tiny also cpu")
    parser.add_argument(
        "--out", type=Path, help="for the results (default: benchmarks/results; of a tiny run, a new folder)"
    )
    given = parser.parse_args(arguments)
    device = torch.device(given.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.stderr.write("There is no GPU that torch can use here; `--tiny --device cpu` tries the code without one.\n")
        raise SystemExit(2)
    if device.type != "cuda" and not given.tiny:
        sys.stderr.write("On a CPU only a tiny run makes sense: add --tiny.\n")
        raise SystemExit(2)
    folder = given.out or (Path(tempfile.mkdtemp(prefix="gpu-tiny-")) if given.tiny else report.RESULTS)
    if given.tiny and folder.resolve() == report.RESULTS:
        sys.stderr.write("A tiny run measures nothing: its results do not go where the real ones are kept.\n")
        raise SystemExit(2)
    return Given(given.tiny, device, folder)


def machine(given: Given) -> dict[str, Any]:
    """The processor's side as in every benchmark, and the card, its driver and torch's CUDA."""
    host = report.machine()
    if given.cuda:
        import pynvml

        pynvml.nvmlInit()
        card = torch.cuda.get_device_properties(given.device)
        host["gpu"] = f"{card.name}, {card.total_memory / 2**30:.0f} GiB, {card.multi_processor_count} multiprocessors"
        host["driver"] = str(pynvml.nvmlSystemGetDriverVersion())
        host["cuda"] = f"{torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"  # type: ignore[no-untyped-call]
        pynvml.nvmlShutdown()
    return host


def seconds(given: Given, call: Callable[[], object], repeats: int, warm: int = 3) -> float:
    """Median seconds of one call, the device waited for."""
    for _ in range(warm):
        call()
    taken = []
    for _ in range(repeats):
        wait(given)
        began = time.perf_counter()
        call()
        wait(given)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def wait(given: Given) -> None:
    if given.cuda:
        torch.cuda.synchronize(given.device)


def free(given: Given) -> None:
    """Give back what torch keeps, and begin to count the peak anew."""
    if given.cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(given.device)


def peak_gib(given: Given) -> float:
    return torch.cuda.max_memory_allocated(given.device) / 2**30 if given.cuda else 0.0


def set_precision(name: str) -> torch.dtype:
    """torch's type for it; tf32 is float32 whose products are rounded."""
    torch.set_float32_matmul_precision("high" if name == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = name == "tf32"
    return PRECISIONS[name]


def limits(given: Given) -> dict[str, float]:
    """The card as it does in this very run: TFLOP/s of a large product by precision, GB/s of a large copy."""
    found = {name: _products(given, name) for name in PRECISIONS} | {"GB/s": _copies(given)}
    free(given)
    return found


def _products(given: Given, precision: str) -> float:
    side = 256 if given.tiny else 8192
    left = torch.randn(side, side, device=given.device, dtype=set_precision(precision))
    right = torch.randn_like(left)
    return 2 * side**3 / seconds(given, lambda: left @ right, 10) / 1e12


def _copies(given: Given) -> float:
    source = torch.empty(1 << 20 if given.tiny else 1 << 29, device=given.device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / seconds(given, lambda: target.copy_(source), 10) / 1e9


def limits_table(found: dict[str, float]) -> report.Table:
    rows = [
        [name, f"{value:.4g}", "GB/s read and written" if name == "GB/s" else "TFLOP/s"]
        for name, value in found.items()
    ]
    return "The card's own limits, in this run", ["", "", ""], rows


def attempted(call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `call` found, or the error that it ended with: one cell that fails does not cost the others."""
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - compilers and drivers raise anything
        return {"error": f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:160]}"}


def shown(found: dict[str, Any], key: str, form: str) -> str:
    """A cell of a table."""
    return format(found[key], form) if key in found else "not here" if "skipped" in found else "failed"


def finish(given: Given, name: str, title: str, results: dict[str, Any], tables: list[report.Table]) -> None:
    path = report.write(name, title, results, tables, given.folder)
    sys.stdout.write(f"{path.read_text(encoding='utf-8')}\n{path}\n")
