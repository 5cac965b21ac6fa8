"""A checkpoint of the drawing model as files alone, for tests that load none."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

INDEX: dict[str, Any] = {
    "_class_name": "StableDiffusionXLPipeline",
    "_diffusers_version": "0.42.1",
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "scheduler": ["diffusers", "EulerDiscreteScheduler"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "image_encoder": [None, None],
    "force_zeros_for_empty_prompt": True,
}


def tensors(many: int = 4) -> bytes:
    """A file of so many tensors, each of one number."""
    header = json.dumps(
        {f"w{at}": {"dtype": "F32", "shape": [1], "data_offsets": [4 * at, 4 * at + 4]} for at in range(many)}
    ).encode()
    return struct.pack("<Q", len(header)) + header + bytes(4 * many)


def write(folder: Path, index: dict[str, Any] | None = None) -> Path:
    """A checkpoint whose weights are nothing. Nothing here loads them."""
    folder.mkdir(parents=True)
    (folder / "model_index.json").write_text(json.dumps(INDEX if index is None else index))
    for name, config in (
        ("unet", {"sample_size": 128, "in_channels": 4}),
        ("vae", {"block_out_channels": [128, 256, 512, 512]}),
    ):
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(config))
        (folder / name / "diffusion_pytorch_model.safetensors").write_bytes(tensors())
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text("{}")
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "tokenizer.json").write_text("{}")
    return folder


def with_file(name: str, content: bytes | str) -> Callable[[Path], None]:
    """What puts a file into a checkpoint."""

    def put(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return put
