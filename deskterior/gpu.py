"""Is the GPU alive? Asked through NVML, which answers also when CUDA in this process does not."""

from __future__ import annotations

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
