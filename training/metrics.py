"""The figures of a binary classifier, each with an interval that respects how the photos came: source by source."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from training.calibrate import Bools, Floats

BINS = 15


@dataclass(frozen=True)
class Judged:
    """Photos and what the model said of them: labels, scores in 0-1, verdicts, sources and counts, ``(n,)``."""

    labels: Bools
    scores: Floats
    verdicts: Bools
    sources: npt.NDArray[np.str_]
    counts: Floats

    @classmethod
    def once(cls, labels: Bools, scores: Floats, verdicts: Bools, sources: npt.NDArray[np.str_]) -> "Judged":
        """Each photo counts once."""
        return cls(labels, scores, verdicts, sources, np.ones(len(labels)))

    def where(self, mask: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> "Judged":
        return Judged(self.labels[mask], self.scores[mask], self.verdicts[mask], self.sources[mask], self.counts[mask])


@dataclass(frozen=True)
class Figure:
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f}-{self.high:.3f})"


def roc_auc(judged: Judged) -> float:
    """The chance that a desk scores higher than another photo, ties counting half."""
    desks, others = _by_score(judged)
    below = np.cumsum(others) - others
    return float(np.sum(desks * (below + others / 2.0)) / (desks.sum() * others.sum()))


def average_precision(judged: Judged) -> float:
    """Precision, averaged over the desks from the highest score down."""
    desks, others = (masses[::-1] for masses in _by_score(judged))
    said = np.cumsum(desks + others)
    precision = np.divide(np.cumsum(desks), said, out=np.zeros_like(said), where=said > 0)
    return float(np.sum(precision * desks) / desks.sum())


def _by_score(judged: Judged) -> tuple[Floats, Floats]:
    """How many desks and how many others have each distinct score, in rising order."""
    values, number = np.unique(judged.scores, return_inverse=True)
    desks: Floats = np.bincount(number, judged.counts * judged.labels, len(values)).astype(np.float64)
    return desks, np.bincount(number, judged.counts * ~judged.labels, len(values)).astype(np.float64)


def recall(judged: Judged) -> float:
    """Of the desks, the share called desk."""
    return float(np.average(judged.verdicts[judged.labels], weights=judged.counts[judged.labels]))


def specificity(judged: Judged) -> float:
    """Of the others, the share called not desk."""
    return float(np.average(~judged.verdicts[~judged.labels], weights=judged.counts[~judged.labels]))


def balanced_accuracy(judged: Judged) -> float:
    return (recall(judged) + specificity(judged)) / 2.0


def calibration_error(judged: Judged) -> float:
    """Expected calibration error: in bins of equal width, how far scores are from the share of desks."""
    rows = reliability(judged)
    return sum(abs(score - share) * count for _, score, share, count in rows) / float(judged.counts.sum())


def reliability(judged: Judged, bins: int = BINS) -> list[tuple[int, float, float, int]]:
    """For each bin that is not empty: its number, mean score, share of desks, count."""
    number = np.minimum((judged.scores * bins).astype(int), bins - 1)
    count, score, desks = (
        np.bincount(number, judged.counts * values, bins) for values in (1.0, judged.scores, judged.labels)
    )
    return [
        (each, float(score[each] / count[each]), float(desks[each] / count[each]), int(count[each]))
        for each in np.flatnonzero(count).tolist()
    ]


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
    samples: dict[str, list[float]] = {name: [] for name in METRICS}
    while len(samples["roc_auc"]) < draws:
        drawn = np.bincount(random.integers(len(sources), size=len(sources)), minlength=len(sources))
        counts = judged.counts * drawn[number]
        if not counts[judged.labels].any() or not counts[~judged.labels].any():
            continue
        sample = replace(judged, counts=counts)
        for name, metric in METRICS.items():
            samples[name].append(metric(sample))
    return {
        name: Figure(metric(judged), float(np.quantile(samples[name], 0.025)), float(np.quantile(samples[name], 0.975)))
        for name, metric in METRICS.items()
    }
