"""What the out-of-fold scores say: figures by subset, by kind of photo, under damage, and beside the baselines."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from training import baselines, calibrate, folds, robustness
from training.backbone import LITE0
from training.calibrate import Calibration
from training.crossval import Run
from training.dataset import Dataset, Pixels, grey
from training.metrics import Figure, Judged, figures
from training.views import Activations, FrozenTrunk

Indices = npt.NDArray[np.intp]
Masks = dict[str, npt.NDArray[np.bool_]]


@dataclass(frozen=True)
class Kind:
    """Photos of one kind and how many of them were judged wrongly."""

    name: str
    photos: int
    wrong: int


@dataclass(frozen=True)
class Damage:
    """How the model and the linear probe judged a sample of photos after a change."""

    name: str
    model: Judged
    probe: Judged


class Rival(Protocol):
    """Whatever gives out-of-fold logits of pictures of ``photos`` that went through the trunk."""

    def held_out(self, photos: Indices, activations: Activations) -> npt.NDArray[np.float32]: ...


@dataclass(frozen=True)
class Evaluation:
    """All that the report shows. Figures by subset: ``all photos``, ``colour photos`` and so on."""

    calibration: Calibration
    judged: Judged
    balanced: Judged  # the same, each class counting one half
    subsets: dict[str, dict[str, Figure]]
    counts: dict[str, tuple[int, int]]  # of each subset: photos, desks
    others: dict[str, dict[str, dict[str, Figure]]]  # baselines by name, then as subsets
    curves: dict[str, Judged]  # colour photos, by the model and by each baseline
    desks: list[Kind]
    not_desks: list[Kind]
    damages: list[Damage]
    sampled: tuple[int, int]  # photos and desks in the table of damages


def evaluate(dataset: Dataset, run: Run, plain: Pixels, trunk: FrozenTrunk) -> Evaluation:
    """Judge every photo by the model that has not seen its source, calibrated without its fold."""
    weights = folds.weights(dataset)
    sources = folds.groups(dataset, run.settings.collections)
    subsets = _subsets(dataset, plain)

    def judge(logits: npt.NDArray[np.floating]) -> Judged:
        scores, verdicts = calibrate.crossed(logits, dataset.labels, weights, run.fold)
        return Judged.once(dataset.labels, scores, verdicts, sources)

    judged = judge(run.logits)
    balanced = len(dataset) * calibrate.class_balanced(dataset.labels, np.ones(len(dataset)))
    probe = baselines.linear_probe(run, dataset.labels, weights)
    probed = probe.of_features(np.arange(len(dataset)), run.features)
    rivals = {"linear probe, photos as they are": judge(probed)}
    if run.settings.backbone == LITE0:
        rivals["zero-shot, ImageNet's own classes"] = judge(baselines.zero_shot(run.features, LITE0))

    def by_subset(of: Judged) -> dict[str, dict[str, Figure]]:
        return {name: figures(of.where(mask), run.settings.seed) for name, mask in subsets.items()}

    colour = subsets.get("colour photos", next(iter(subsets.values())))
    calibration = calibrate.fit(run.logits, dataset.labels, weights)
    wrong = judged.verdicts != judged.labels
    kinds = np.array([kind(photo.family, photo.source_path, run.settings.kinds) for photo in dataset.photos])
    sample = _sample(dataset, weights, run.settings.seed)
    return Evaluation(
        calibration,
        judged,
        replace(judged, counts=balanced),
        by_subset(judged),
        {name: (int(mask.sum()), int(dataset.labels[mask].sum())) for name, mask in subsets.items()},
        {name: by_subset(rival) for name, rival in rivals.items()},
        {"fine-tuned": judged.where(colour), **{name: rival.where(colour) for name, rival in rivals.items()}},
        _count(kinds, wrong, dataset.labels),
        _count(kinds, wrong, ~dataset.labels),
        _damages(
            dataset,
            sample,
            plain[sample],
            trunk,
            [(run, calibration), (probe, calibrate.fit(probed, dataset.labels, weights))],
        ),
        (len(sample), int(dataset.labels[sample].sum())),
    )


def kind(family: str, source_path: str, patterns: Mapping[str, str]) -> str:
    """The family, with what its pattern (of ``[kinds]``) finds in the path a photo had at its source."""
    found = re.search(patterns[family], source_path) if family in patterns else None
    return f"{family}: {found.group(1).lower()}" if found else family


def _subsets(dataset: Dataset, plain: Pixels) -> Masks:
    """Those subsets that have both classes."""
    everything = np.ones(len(dataset), dtype=bool)
    held_out = np.array([photo.split == "val" for photo in dataset.photos])
    subsets = {"all photos": everything, "colour photos": ~grey(plain), "original val": held_out}
    return {name: mask for name, mask in subsets.items() if len(set(dataset.labels[mask])) == 2}


def _count(names: npt.NDArray[np.str_], wrong: npt.NDArray[np.bool_], chosen: npt.NDArray[np.bool_]) -> list[Kind]:
    photos, mistakes = Counter(names[chosen].tolist()), Counter(names[chosen & wrong].tolist())
    return [Kind(name, photos[name], mistakes[name]) for name in sorted(photos)]


def _sample(dataset: Dataset, weights: npt.NDArray[np.float64], seed: int) -> npt.NDArray[np.intp]:
    """All desks, and as many other photos drawn by weight."""
    desks, others = np.flatnonzero(dataset.labels), np.flatnonzero(~dataset.labels)
    chance = weights[others] / weights[others].sum()
    drawn = np.random.default_rng(seed).choice(others, min(len(desks), len(others)), replace=False, p=chance)
    return np.sort(np.concatenate([desks, drawn]))


def _damages(
    dataset: Dataset, sample: Indices, sampled: Pixels, trunk: FrozenTrunk, rivals: list[tuple[Rival, Calibration]]
) -> list[Damage]:
    """``sampled`` are the pixels of ``sample``; the first rival is the model, the second the baseline."""
    rows = []
    for name, change in robustness.CHANGES.items():
        activations = trunk(robustness.changed(sampled, change, seed=0))
        judged = []
        for rival, calibration in rivals:
            scores = calibration.scores(rival.held_out(sample, activations))
            verdicts = scores >= calibration.threshold
            judged.append(Judged.once(dataset.labels[sample], scores, verdicts, dataset.sources[sample]))
        rows.append(Damage(name, *judged))
    return rows
