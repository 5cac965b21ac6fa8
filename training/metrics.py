"""The figures of a binary classifier, each with an interval that respects how the photos came: source by source."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, roc_auc_score

from training.calibrate import Bools, Floats

BINS = 15


@dataclass(frozen=True)
class Judged:
    """Photos and what the model said of them: labels, scores in 0-1, verdicts and sources, all ``(n,)``."""

    labels: Bools
    scores: Floats
    verdicts: Bools
    sources: npt.NDArray[np.str_]

    def where(self, mask: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> "Judged":
        return Judged(self.labels[mask], self.scores[mask], self.verdicts[mask], self.sources[mask])


@dataclass(frozen=True)
class Figure:
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f}-{self.high:.3f})"


def roc_auc(judged: Judged) -> float:
    return float(roc_auc_score(judged.labels, judged.scores))


def average_precision(judged: Judged) -> float:
    return float(average_precision_score(judged.labels, judged.scores))


def recall(judged: Judged) -> float:
    """Of the desks, the share called desk."""
    return float(judged.verdicts[judged.labels].mean())


def specificity(judged: Judged) -> float:
    """Of the others, the share called not desk."""
    return float((~judged.verdicts[~judged.labels]).mean())


def balanced_accuracy(judged: Judged) -> float:
    return (recall(judged) + specificity(judged)) / 2.0


def calibration_error(judged: Judged) -> float:
    """Expected calibration error: in bins of equal width, how far scores are from the share of desks."""
    error = 0.0
    for _, score, share, count in reliability(judged):
        error += abs(score - share) * count / len(judged.labels)
    return error


def reliability(judged: Judged, bins: int = BINS) -> list[tuple[int, float, float, int]]:
    """For each bin that is not empty: its number, mean score, share of desks, count."""
    number = np.minimum((judged.scores * bins).astype(int), bins - 1)
    rows = []
    for each in np.unique(number):
        inside = number == each
        rows.append(
            (int(each), float(judged.scores[inside].mean()), float(judged.labels[inside].mean()), int(inside.sum()))
        )
    return rows


METRICS: dict[str, Callable[[Judged], float]] = {
    "roc_auc": roc_auc,
    "average_precision": average_precision,
    "balanced_accuracy": balanced_accuracy,
    "recall": recall,
    "specificity": specificity,
    "calibration_error": calibration_error,
}


def figures(judged: Judged, seed: int, draws: int = 300) -> dict[str, Figure]:
    """All metrics with 95 % intervals from a bootstrap over sources: whole sources are drawn, with replacement."""
    random = np.random.default_rng(seed)
    sources, number = np.unique(judged.sources, return_inverse=True)
    members = [np.flatnonzero(number == each) for each in range(len(sources))]
    samples: dict[str, list[float]] = {name: [] for name in METRICS}
    while len(samples["roc_auc"]) < draws:
        drawn = judged.where(
            np.concatenate([members[each] for each in random.integers(len(sources), size=len(sources))])
        )
        if drawn.labels.all() or not drawn.labels.any():
            continue
        for name, metric in METRICS.items():
            samples[name].append(metric(drawn))
    return {
        name: Figure(metric(judged), float(np.quantile(samples[name], 0.025)), float(np.quantile(samples[name], 0.975)))
        for name, metric in METRICS.items()
    }
