"""Results as JSON to compare by machine and as a table to read, with the machine they are from and no name of it."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
Table = tuple[str, list[str], list[list[str]]]
"""A heading, the columns and the rows."""
PACKAGES = ("bentoml", "diffusers", "fastapi", "litserve", "numpy", "onnxruntime", "pillow", "torch", "uvicorn")


def machine() -> dict[str, Any]:
    """Processor, cores, memory and versions. Nothing that tells whose machine it is."""
    cpu = next((line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "")
    memory = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    return {
        "cpu": cpu or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(memory / 1e6),
        "load_before": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "packages": {name: number for name in PACKAGES if (number := _version(name))},
    }


def write(name: str, title: str, results: dict[str, Any], tables: list[Table], folder: Path = RESULTS) -> Path:
    """Write NAME.json and NAME.md into the folder. Returns the latter."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n")
    host = results["machine"]
    packages = ", ".join(f"{package} {number}" for package, number in host["packages"].items())
    lines = [
        f"# {title}",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, {host['cores']} cores of {host['cpu']}, {host['memory_gb']} GB, "
        f"Python {host['python']}, {packages}. Load of the machine before the run: {host['load_before']}.",
    ]
    if "gpu" in host:
        lines += ["", f"{host['gpu']}; driver {host['driver']}, CUDA {host['cuda']}."]
    for heading, columns, rows in tables:
        lines += ["", f"## {heading}", "", f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
        lines += [f"| {' | '.join(row)} |" for row in rows]
    path = folder / f"{name}.md"
    path.write_text("\n".join(lines) + "\n")
    return path


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
