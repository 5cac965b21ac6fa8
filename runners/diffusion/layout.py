"""Where a model's weights go: which device, in which precision, and how much of the device it may take.

The arithmetic is `memory`'s; here the device is asked and the pipeline told.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from runners.diffusion import checkpoint, memory, recipe
from runners.diffusion.memory import MemoryPlan

Precision = Literal["auto", "bfloat16", "float16", "float32"]


@dataclass(frozen=True)
class Options:
    """What the settings say of drawing. `max_batch` is what memory may lower."""

    max_batch: int = 4
    memory: memory.Mode = "auto"
    precision: Precision = "auto"
    device: Literal["auto", "cpu"] = "auto"


def planned(
    found: checkpoint.Checkpoint, recipes: recipe.Recipes, options: Options, free: int, item_bytes: int
) -> MemoryPlan:
    """The layout of a checkpoint in `free` bytes of the device."""
    parts = [numbers * item_bytes for numbers in found.weights.values()]
    return memory.plan(free, sum(parts), max(parts), recipes.side**2, options.max_batch, options.memory)


def free_on(torch: Any, device: Any) -> int:
    """Bytes free on the device. A CPU's model shares main memory with all else, so it counts as half."""
    if device.type != "cuda":
        return memory.free_ram() // 2
    free, _ = torch.cuda.mem_get_info(device)
    return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))


def precise(torch: Any, device: Any, precision: Precision) -> Any:
    if precision != "auto":
        return getattr(torch, precision)
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def place(pipeline: Any, layout: MemoryPlan, device: Any) -> None:
    import torch

    vae = getattr(pipeline, "vae", None)
    if layout.vae_slices and vae is not None:
        for name in ("enable_slicing", "enable_tiling"):
            if hasattr(vae, name):
                getattr(vae, name)()
    if layout.attention_slices:
        pipeline.enable_attention_slicing()
    for part in (getattr(pipeline, "unet", None), vae):
        if part is None:
            continue
        dimensions = {weight.dim() for weight in part.parameters()}
        if 4 in dimensions and 5 not in dimensions:  # torch refuses the whole of a part that has both, as video VAEs do
            part.to(memory_format=torch.channels_last)
    if device.type == "cpu" or layout.placement == "resident":
        pipeline.to(device)
    elif layout.placement == "offload":
        pipeline.enable_model_cpu_offload(device=device)
    else:
        pipeline.enable_sequential_cpu_offload(device=device)
