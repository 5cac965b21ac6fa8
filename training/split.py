"""The model in two: a trunk that stays as ImageNet left it, and a tail that is trained.

The first stages of an EfficientNet work at high resolution: most of the time, few of the weights. Frozen, they run once
for each view of a photo, and every fold trains its tail on what they gave.
"""

from typing import Any

from torch import Tensor, nn

from runners.desk_model import DeskModel
from training.backbone import BackboneError


class Trunk(nn.Module):
    """Photos ``(n, h, w, 3)`` uint8 to activations ``(n, c, h', w')`` after ``frozen`` stages.

    Raises ``BackboneError`` for a backbone that is not made of stages like an EfficientNet.
    """

    def __init__(self, model: DeskModel, frozen: int) -> None:
        super().__init__()
        net = model.backbone
        if not all(hasattr(net, part) for part in ("conv_stem", "bn1", "blocks")):
            raise BackboneError(f"the stages of {type(net).__name__} cannot be frozen; set --fit.frozen_stages 0")
        self.model = model
        self.frozen = frozen

    def forward(self, photos: Tensor) -> Tensor:
        net: Any = self.model.backbone
        x: Tensor = net.bn1(net.conv_stem(self.model.normalise(photos)))
        for stage in net.blocks[: self.frozen]:
            x = stage(x)
        return x


class Tail(nn.Module):
    """What the trunk gave to pooled features ``(n, d)`` and, by calling it, to logits ``(n,)``.

    With nothing ``frozen`` it is the whole model and takes photos.
    """

    def __init__(self, model: DeskModel, frozen: int) -> None:
        super().__init__()
        self.model = model
        self.frozen = frozen

    def features(self, x: Tensor) -> Tensor:
        net: Any = self.model.backbone
        if self.frozen == 0:
            x = net.forward_features(self.model.normalise(x))
        else:
            for stage in net.blocks[self.frozen :]:
                x = stage(x)
            x = net.bn2(net.conv_head(x))
        pooled: Tensor = net.forward_head(x, pre_logits=True)
        return pooled

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(x))
        return logits.squeeze(1)

    @property
    def head(self) -> nn.Linear:
        net: Any = self.model.backbone
        head = net.get_classifier()
        if not isinstance(head, nn.Linear):
            raise TypeError(f"the head of {type(self.model.backbone).__name__} is no linear layer")
        return head

    def trained(self) -> list[nn.Parameter]:
        """The parameters behind the frozen stages, without the head's."""
        net: Any = self.model.backbone
        frozen = set(net.parameters()) if self.frozen else set()
        if self.frozen:
            behind = [*net.blocks[self.frozen :], net.conv_head, net.bn2]
            frozen -= {parameter for part in behind for parameter in part.parameters()}
        head = set(self.head.parameters())
        return [parameter for parameter in net.parameters() if parameter not in frozen | head]
