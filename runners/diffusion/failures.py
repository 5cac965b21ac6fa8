"""What may go wrong while a model draws, by name: the errors, and which of them an exception of a library is."""

from __future__ import annotations

from typing import Any

from deskterior.errors import RunnerFailed

_SHORT = ("can't allocate memory", "CUDA error: out of memory", "_ALLOC_FAILED")
"""Signs of too little memory other than the allocator's own: main memory, the driver, cuBLAS and cuDNN."""


class OutOfMemory(RunnerFailed):
    """The device has not enough memory for this batch. What it had taken is free again."""


class Withheld(RunnerFailed):
    """The model's own safety checker would not show this picture."""


class DeviceLost(RunnerFailed):
    """CUDA in this process does not come back: only a new process draws again."""


class Abandoned(Exception):
    """Nobody waits for any picture of the batch any more. Never leaves the runner."""


def failure(torch: Any, error: BaseException, many: int) -> RunnerFailed:
    """What `error` of a batch of `many` was, without its frames: they hold every tensor it went through."""
    told = repr(error)[:1000]
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or any(sign in str(error) for sign in _SHORT):
        return OutOfMemory("The drawing model ran out of memory on this picture", internal=f"{many} at once: {told}")
    if isinstance(error, torch.AcceleratorError) or "CUDA error" in str(error):
        return DeviceLost("The GPU failed while it drew; the drawing model's runner has to be restarted", internal=told)
    return RunnerFailed("The drawing model failed on this picture", internal=told)


def first_line(error: BaseException) -> str:
    """What an exception says, as part of a sentence."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
