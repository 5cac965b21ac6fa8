"""Ways to spoil a checkpoint or an adapter."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

UNET = "unet/diffusion_pytorch_model.safetensors"


def spoil_index(**changed: Any) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / "model_index.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changed))

    return spoil


def spoil_weights(part: str, change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        (path,) = (folder / part).glob("*.safetensors")
        weights = load_file(path)
        change(weights)
        save_file(weights, path, metadata={"format": "pt"})

    return spoil


def spoil_config(part: str, **changed: Any) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / part / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changed))

    return spoil


def drop_one(weights: dict[str, Any]) -> None:
    del weights[sorted(weights)[2]]


def reshape_one(weights: dict[str, Any]) -> None:
    import torch

    weights[sorted(weights)[2]] = torch.zeros(3, 7)


def nan_in_one(weights: dict[str, Any]) -> None:
    weights[sorted(weights)[2]].view(-1)[0] = float("nan")


def rename_all(weights: dict[str, Any]) -> None:
    for name in sorted(weights):
        weights[f"other.{name}"] = weights.pop(name)


def blow_up(weights: dict[str, Any]) -> None:
    for weight in weights.values():
        weight.mul_(1e20)


def truncate(folder: Path) -> None:
    path = folder / UNET
    path.write_bytes(path.read_bytes()[:-100])


def foreign_lora(folder: Path) -> None:
    import torch
    from safetensors.torch import save_file

    (folder / "loras").mkdir(exist_ok=True)
    save_file({"lora_A.weight": torch.zeros(4, 4)}, folder / "loras" / "SIMPLE.safetensors")


def misfit_lora(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "loras" / "OIL.safetensors")
    save_file(
        {name: weight[:, :3].contiguous() for name, weight in weights.items()}, folder / "loras" / "SIMPLE.safetensors"
    )


def nan_lora(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "loras" / "OIL.safetensors")
    save_file(
        {name: weight * float("nan") for name, weight in weights.items()}, folder / "loras" / "SIMPLE.safetensors"
    )
