"""Is the GPU alive, and what does it do? Asked through NVML, which answers also when CUDA in this process does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pynvml

from deskterior.errors import InternalError


def check_gpu() -> str:
    """`none` without an NVIDIA driver, otherwise the names of the GPUs.

    Raises:
        InternalError: a driver is there, but a GPU does not answer (fell off the bus, needs a reset).
    """
    try:
        pynvml.nvmlInit()
    except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded):
        return "none"
    except pynvml.NVMLError as error:
        raise InternalError(f"The GPU driver does not answer: {error}") from None
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        for handle in handles:
            pynvml.nvmlDeviceGetMemoryInfo(handle)
        return ", ".join(pynvml.nvmlDeviceGetName(handle) for handle in handles) or "none"
    except pynvml.NVMLError as error:
        raise InternalError(f"A GPU does not answer: {error}") from None
    finally:
        pynvml.nvmlShutdown()


@dataclass(frozen=True)
class GpuState:
    """One GPU. What it does not tell is None: a slice of a shared one has no utilisation of its own, say.

    `utilisation` is of the last second or so, 0 to 1; memory is in bytes.
    """

    name: str
    up: bool
    utilisation: float | None = None
    memory_used: int | None = None
    memory: int | None = None
    celsius: int | None = None


def gpu_states() -> list[GpuState]:
    """All GPUs of this machine; none without an NVIDIA driver. One that does not answer is told of as such."""
    try:
        pynvml.nvmlInit()
    except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded):
        return []
    except pynvml.NVMLError:
        return [GpuState("driver", up=False)]
    try:
        return [_state(index) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return [GpuState("driver", up=False)]
    finally:
        pynvml.nvmlShutdown()


def _state(index: int) -> GpuState:
    name = str(index)
    try:
        gpu = pynvml.nvmlDeviceGetHandleByIndex(index)
        name = f"{index} {pynvml.nvmlDeviceGetName(gpu)}"
        memory = pynvml.nvmlDeviceGetMemoryInfo(gpu)
    except pynvml.NVMLError:
        return GpuState(name, up=False)
    busy = _told(lambda: pynvml.nvmlDeviceGetUtilizationRates(gpu).gpu)
    return GpuState(
        name,
        up=True,
        utilisation=None if busy is None else busy / 100,
        memory_used=memory.used,
        memory=memory.total,
        celsius=_told(lambda: pynvml.nvmlDeviceGetTemperature(gpu, pynvml.NVML_TEMPERATURE_GPU)),
    )


def _told(ask: Callable[[], Any]) -> int | None:
    try:
        return int(ask())
    except pynvml.NVMLError:
        return None
