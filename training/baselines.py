"""What the trained model has to beat: ImageNet's own classes, and a linear probe on ImageNet's features."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression
from timm.data.imagenet_info import ImageNetInfo

from training import fit, views
from training.backbone import imagenet_classifier
from training.crossval import Run, untrained

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


@dataclass(frozen=True)
class LinearProbe:
    """The untrained backbone with a logistic regression for each fold, learnt from the plain photos of the others."""

    run: Run
    heads: list[LogisticRegression]

    def held_out(self, photos: npt.NDArray[np.intp], activations: views.Activations) -> npt.NDArray[np.float32]:
        """As ``Run.held_out``: out-of-fold logits of pictures of ``photos``, already through the trunk."""
        settings = self.run.settings
        rows = np.arange(len(photos))
        start = untrained(settings)
        values = fit.features(start, views.plain(activations), rows, settings.fit.frozen_stages).values
        return self.of_features(photos, values)

    def of_features(self, photos: npt.NDArray[np.intp], values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Out-of-fold logits of ``photos`` from their pooled features ``(len(photos), d)``."""
        logits = np.empty(len(photos), dtype=np.float32)
        for number, head in enumerate(self.heads):
            inside = self.run.fold[photos] == number
            if inside.any():
                logits[inside] = head.decision_function(values[inside])
        return logits


def linear_probe(run: Run, labels: npt.NDArray[np.bool_], weights: npt.NDArray[np.float64]) -> LinearProbe:
    """Fit the probe of each fold on the features that the run kept."""
    everything = np.arange(len(labels))
    kept = views.plain(np.zeros((len(labels), 1), dtype=np.float16))
    examples = fit.Examples(kept, labels, weights)
    given = fit.Features(run.features, everything)
    outside = [np.flatnonzero(run.fold != number) for number in range(run.settings.folds)]
    return LinearProbe(
        run, [fit.probe(given, examples, photos, run.settings.fit.probe_regularisation) for photos in outside]
    )
