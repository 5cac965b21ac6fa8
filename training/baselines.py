"""What the trained model has to beat: ImageNet's own classes, and a linear probe on ImageNet's features."""

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import logsumexp
from timm.data.imagenet_info import ImageNetInfo

from training.backbone import imagenet_classifier

DESK_CLASSES = (
    "desk",
    "desktop computer",
    "monitor",
    "screen, CRT screen",
    "computer keyboard, keypad",
    "mouse, computer mouse",
    "notebook, notebook computer",
    "laptop, laptop computer",
)


def desk_classes() -> list[int]:
    """ImageNet's numbers of the classes that mean a desk or what stands on one."""
    info = ImageNetInfo()
    numbers = {info.index_to_description(number): number for number in range(1000)}
    return [numbers[name] for name in DESK_CLASSES]


def zero_shot(features: npt.NDArray[np.float32], backbone: str) -> npt.NDArray[np.float64]:
    """Log-odds ``(n,)`` that ImageNet's head gives the desk classes together, of pooled features ``(n, d)``.

    Raises ``BackboneError`` for a backbone without ImageNet weights on this machine.
    """
    head = imagenet_classifier(backbone).get_classifier()  # type: ignore[operator]
    with torch.inference_mode():
        values = head(torch.from_numpy(features)).double().numpy()
    chosen = np.zeros(values.shape[1], dtype=bool)
    chosen[desk_classes()] = True
    odds: npt.NDArray[np.float64] = logsumexp(values[:, chosen], axis=1) - logsumexp(values[:, ~chosen], axis=1)
    return odds
