"""Settings of our own drawing model, where it runs. Where that is, and what else runners share, is in `config`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class DrawingSettings(BaseSettings):
    model_config = SettingsConfigDict(use_attribute_docstrings=True)

    drawing_max_queue: int = Field(default=32, ge=1, le=1024)
    """Pictures that may wait for our own model; beyond it 503 `overloaded`."""
    drawing_max_batch: int = Field(default=4, ge=1, le=64)
    """Pictures drawn at once, of one concept and size, where memory allows."""
    drawing_memory: Literal["auto", "fast", "slices", "offload"] = "auto"
    """`auto` goes by what is free; `fast` gives up nothing for room, `slices` decodes in tiles, `offload` keeps in
    the GPU only the part that works."""
    drawing_precision: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """`auto` is bfloat16 on GPUs that have it, else float16, and float32 on a CPU."""
