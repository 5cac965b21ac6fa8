"""The desk classifier as a torch module: the same object that training fits and that a GPU serves.

It needs torch, timm and safetensors alone; what training needs besides stays in ``training``.
"""

import json
from pathlib import Path

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn


class DeskModel(nn.Module):
    """A timm backbone with one logit: how much a photo looks like a desk.

    The score of a photo is ``sigmoid(logit / temperature)``; temperature and threshold stand in ``model.json``.
    """

    def __init__(self, backbone: str, mean: tuple[float, float, float], std: tuple[float, float, float]) -> None:
        super().__init__()
        self.backbone: nn.Module = timm.create_model(backbone, pretrained=False, num_classes=1)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def normalise(self, photos: Tensor) -> Tensor:
        """``(n, h, w, 3)`` uint8 RGB to ``(n, 3, h, w)`` in the precision of the model, 0-255 scaled by mean and std.

        The result keeps the layout of the photos in memory, which is torch's channels-last.
        """
        return (photos.permute(0, 3, 1, 2).to(self.mean.dtype) - self.mean) / self.std

    def forward(self, photos: Tensor) -> Tensor:
        """Logits ``(n,)`` of a batch of photos ``(n, 224, 224, 3)`` uint8 RGB."""
        logits: Tensor = self.backbone(self.normalise(photos))
        return logits.squeeze(1)


def load_torch(folder: Path) -> DeskModel:
    """Rebuild the trained model, in float32 and evaluation mode, from ``model.json`` and ``model.safetensors``.

    Raises ``FileNotFoundError`` without those files and ``RuntimeError`` when the weights are not the backbone's.
    """
    card = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    model = DeskModel(card["backbone"], tuple(card["input"]["mean"]), tuple(card["input"]["std"]))
    weights = load_file(folder / "model.safetensors")
    model.backbone.load_state_dict({name: _widened(tensor) for name, tensor in weights.items()})
    return model.eval()


def _widened(tensor: Tensor) -> Tensor:
    """Half precision is how weights are stored, not how they are computed with; counters stay as they are."""
    return tensor.float() if tensor.is_floating_point() else tensor
