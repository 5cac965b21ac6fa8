"""Decoding JPEGs on a GPU (nvJPEG) beside the service's own way on the CPU: `python -m benchmarks.gpu_decode`.

Both begin with the file's bytes in main memory and end with 224 by 224 pixels; the GPU's stay on the card.
"""

from __future__ import annotations

import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from torchvision.io import ImageReadMode, decode_jpeg

from benchmarks import gpu_card, photographs, report
from benchmarks.gpu_card import Given
from deskterior.decoding import SIZE, decode

BATCHES = (1, 8, 32)


def main(arguments: list[str] | None = None) -> None:
    given = gpu_card.asked("gpu_decode", __doc__ or "", arguments)
    results: dict[str, Any] = {"machine": gpu_card.machine(given)}
    with tempfile.TemporaryDirectory() as folder:
        photos = {name: [path.read_bytes() for path in paths] for name, paths in photographs.make(Path(folder)).items()}
    if given.tiny:
        photos = {"1080p": photos["1080p"][:1]}
    batches = (1, 2) if given.tiny else BATCHES
    repeats = 1 if given.tiny else 10
    results["sizes"] = {name: _measure(given, files, batches, repeats) for name, files in photos.items()}
    gpu_card.finish(given, "gpu_decode", "Decoding on a GPU", results, [_table(results["sizes"], batches)])


def _measure(given: Given, files: list[bytes], batches: tuple[int, ...], repeats: int) -> dict[str, Any]:
    found: dict[str, Any] = {"cpu_photos_s": _on_cpu(files, repeats)}
    tensors = [torch.frombuffer(bytearray(data), dtype=torch.uint8) for data in files]
    for batch in batches:
        asked = [tensors[number % len(tensors)] for number in range(batch)]
        found[str(batch)] = gpu_card.attempted(
            lambda: {"photos_s": batch / gpu_card.seconds(given, lambda: _small(given, asked), repeats, 1)}  # noqa: B023
        )
    found["pixels"] = gpu_card.attempted(lambda: {"apart": _apart(given, files[0], tensors[0])})
    return found


def _on_cpu(files: list[bytes], repeats: int) -> float:
    """Photos a second on all cores, as the service decodes."""
    cores = len(os.sched_getaffinity(0))
    work = files * max(1, repeats * cores // len(files))
    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(decode, files))
        began = time.perf_counter()
        list(pool.map(decode, work))
        return len(work) / (time.perf_counter() - began)


def _small(given: Given, files: list[torch.Tensor]) -> torch.Tensor:
    """`(n, 3, 224, 224)` float on the device."""
    pictures = decode_jpeg(files, mode=ImageReadMode.RGB, device=given.device)
    return torch.stack([_scaled(picture) for picture in pictures])


def _scaled(picture: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(picture[None].float(), (SIZE, SIZE), mode="bilinear", antialias=True)[0]


def _apart(given: Given, data: bytes, tensor: torch.Tensor) -> float:
    """Mean difference of a pixel between the two ways, of 255."""
    ours = decode(data).astype(np.float32)
    theirs = _small(given, [tensor])[0].permute(1, 2, 0).cpu().numpy()
    return float(np.abs(ours - theirs).mean())


def _table(sizes: dict[str, Any], batches: tuple[int, ...]) -> report.Table:
    columns = [
        "",
        "CPU, all cores",
        *(f"GPU, {batch} at once" for batch in batches),
        "best of GPU to CPU",
        "pixels apart",
    ]
    rows = []
    for name, found in sizes.items():
        best = max((found[str(batch)].get("photos_s", 0.0) for batch in batches), default=0.0)
        rows.append(
            [
                name,
                f"{found['cpu_photos_s']:,.0f}",
                *(gpu_card.shown(found[str(batch)], "photos_s", ",.0f") for batch in batches),
                f"{best / found['cpu_photos_s']:.2f}",
                gpu_card.shown(found["pixels"], "apart", ".2f"),
            ]
        )
    return "Photos a second, from bytes to 224 by 224 pixels", columns, rows


if __name__ == "__main__":
    main()
