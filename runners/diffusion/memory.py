"""How a model is laid out in memory: how many pictures at once, and what is given up for room. Arithmetic alone.

The figures are estimates on the safe side; where they are wrong, running out of memory is caught when it happens.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Mode = Literal["auto", "fast", "slices", "offload"]
GB = 1024**3
RESERVE = GB
"""For CUDA's own context, fragments, and what else shares the card."""
DENOISE_PER_MEGAPIXEL = 2.0 * GB
"""A picture's activations while it is denoised, both halves of the guidance."""
DECODE_PER_MEGAPIXEL = 6.0 * GB
"""What the VAE needs for a picture in one piece; in slices and tiles, a fixed gigabyte in all."""
DECODE_IN_SLICES = GB


@dataclass(frozen=True)
class MemoryPlan:
    """`placement`: all of the model on the device; one part of it at a time; or a layer at a time, where even the
    largest part does not fit. `vae_slices`: the VAE works picture by picture and in tiles. `attention_slices`: so does
    attention, which is slow and the last resort."""

    placement: Literal["resident", "offload", "sequential"]
    vae_slices: bool
    attention_slices: bool
    max_batch: int


def plan(free: int, weights: int, largest: int, pixels: int, max_batch: int, mode: Mode = "auto") -> MemoryPlan:
    """The fastest layout that fits into `free` bytes.

    `weights` bytes of the whole model, `largest` of its largest part; `pixels` of one picture; `max_batch` wanted.
    A `mode` other than auto is taken as it is.
    """
    megapixels = pixels / 1e6

    def batch(room: float, each: float) -> int:
        return max(0, min(max_batch, int(room // max(each, 1))))

    whole = batch(free - RESERVE - weights, megapixels * max(DENOISE_PER_MEGAPIXEL, DECODE_PER_MEGAPIXEL))
    sliced = batch(free - RESERVE - weights - DECODE_IN_SLICES, megapixels * DENOISE_PER_MEGAPIXEL)
    parted = batch(free - RESERVE - largest - DECODE_IN_SLICES, megapixels * DENOISE_PER_MEGAPIXEL)
    match mode:
        case "fast":
            return MemoryPlan("resident", False, False, max_batch)
        case "slices":
            return MemoryPlan("resident", True, False, max(1, sliced))
        case "offload":
            return MemoryPlan("offload", True, False, max(1, parted))
    if whole >= max_batch:
        return MemoryPlan("resident", False, False, whole)
    if sliced:
        return MemoryPlan("resident", True, False, sliced)
    if parted:
        return MemoryPlan("offload", True, False, parted)
    return MemoryPlan("sequential", True, True, 1)


def free_ram() -> int:
    """Bytes of main memory that a process may still take: the machine's, or its container's if that is less."""
    free = next(
        (int(line.split()[1]) * 1024 for line in _lines("/proc/meminfo") if line.startswith("MemAvailable:")), 1 << 62
    )
    limit, used = _lines("/sys/fs/cgroup/memory.max"), _lines("/sys/fs/cgroup/memory.current")
    if limit and used and limit[0].isdigit():
        free = min(free, int(limit[0]) - int(used[0]))
    return max(free, 0)


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
