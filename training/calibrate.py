"""From logits to a verdict: temperature and shift that make scores honest, and the threshold that cuts them.

All three are fitted on out-of-fold logits, that is, on photos by people whose photos the model had not seen. Each class
weighs one half, since what is sent to the service is not what was gathered here, and within a class each
photo weighs what ``folds.weights`` gives it.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

PLATEAU = 0.01  # balanced accuracies this close are the same: with 370 desks its standard error is about 0.006


@dataclass(frozen=True)
class Calibration:
    """``score = sigmoid((logit + shift) / temperature)``; a desk if ``score >= threshold``."""

    temperature: float
    shift: float
    threshold: float

    def scores(self, logits: npt.NDArray[np.floating]) -> Floats:
        """Scores ``(n,)`` in 0-1 of logits ``(n,)``."""
        scores: Floats = expit((np.asarray(logits, dtype=np.float64) + self.shift) / self.temperature)
        return scores


def fit(logits: npt.NDArray[np.floating], labels: Bools, weights: Floats) -> Calibration:
    """Fit temperature and shift by weighted log loss (Guo et al. 2017, with a shift), then the threshold.

    ``logits``, ``labels``, ``weights`` are ``(n,)``. Raises ``ValueError`` unless both classes are there.
    """
    if labels.all() or not labels.any():
        raise ValueError("calibration needs photos of both classes")
    weights = class_balanced(labels, weights)
    values = np.asarray(logits, dtype=np.float64)
    sign = np.where(labels, 1.0, -1.0)

    def loss(parameters: Floats) -> float:
        log_temperature, shift = parameters
        return float(np.sum(weights * np.logaddexp(0.0, -sign * (values + shift) / np.exp(log_temperature))))

    found = minimize(loss, np.zeros(2), method="L-BFGS-B", bounds=[(-3.0, 3.0), (-20.0, 20.0)])
    temperature, shift = float(np.exp(found.x[0])), float(found.x[1])
    cut = _threshold((values + shift) / temperature, labels, weights)
    return Calibration(temperature, shift, float(expit(cut)))


def class_balanced(labels: Bools, weights: Floats) -> Floats:
    """The weights, scaled so that each class sums to one half."""
    balanced: Floats = weights / np.where(labels, weights[labels].sum(), weights[~labels].sum()) / 2.0
    return balanced


def _threshold(margins: Floats, labels: Bools, weights: Floats) -> float:
    """The middle of the margins around the best one whose balanced accuracy is as good, give or take ``PLATEAU``."""
    order = np.argsort(margins)
    ranked = margins[order]
    desks_below = np.concatenate([[0.0], np.cumsum(np.where(labels, weights, 0.0)[order])])
    others_below = np.concatenate([[0.0], np.cumsum(np.where(labels, 0.0, weights)[order])])
    accuracy = 0.5 - desks_below + others_below
    cuts = np.concatenate([[ranked[0] - 1e-6], (ranked[1:] + ranked[:-1]) / 2.0, [ranked[-1] + 1e-6]])
    best = int(np.argmax(accuracy))
    good = accuracy >= accuracy[best] - PLATEAU
    low = best - int(np.argmin(np.append(good[best::-1], False))) + 1
    high = best + int(np.argmin(np.append(good[best:], False))) - 1
    return float((cuts[low] + cuts[high]) / 2.0)


def crossed(
    logits: npt.NDArray[np.floating], labels: Bools, weights: Floats, folds: npt.NDArray[np.intp]
) -> tuple[Floats, Bools]:
    """Scores and verdicts ``(n,)`` of each fold, calibrated on the other folds: what evaluation reports."""
    scores = np.empty(len(labels))
    verdicts = np.empty(len(labels), dtype=bool)
    for fold in np.unique(folds):
        inside, outside = folds == fold, folds != fold
        calibration = fit(logits[outside], labels[outside], weights[outside])
        scores[inside] = calibration.scores(logits[inside])
        verdicts[inside] = scores[inside] >= calibration.threshold
    return scores, verdicts
