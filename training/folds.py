"""Cross-validation that asks the real question: is the model right about people whose photos it has never seen?"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from training.dataset import Dataset, DatasetError

Indices = npt.NDArray[np.intp]


def groups(dataset: Dataset, collections: Sequence[str]) -> npt.NDArray[np.str_]:
    """``(n,)``: photos with the same group stay on the same side.

    The group is the source. A source listed in ``collections`` gathers photos of many makers: its not-desks are dealt
    photo by photo (or one fold would hold all of a kind of negative), its desks stay together all the same.
    """
    listed = set(collections)
    return np.array([p.file if p.source in listed and not p.desk else p.source for p in dataset.photos])


def strata(dataset: Dataset) -> npt.NDArray[np.str_]:
    """``(n,)``: label and family, for each fold to get its share of each. ``web`` and ``web2`` are one family here."""
    return np.array([f"{photo.desk}/{photo.family.rstrip('0123456789')}" for photo in dataset.photos])


def assign(dataset: Dataset, count: int, collections: Sequence[str], seed: int) -> Indices:
    """The fold, ``0`` to ``count - 1``, of each photo. Groups are whole; each goes where its strata are thinnest.

    Raises ``DatasetError`` if a fold would have no desk or nothing but desks.
    """
    group = groups(dataset, collections)
    if min(len(set(group[dataset.labels])), len(set(group[~dataset.labels]))) < count:
        raise DatasetError(
            f"{count} folds need photos of both classes from at least {count} sources; "
            "add sources or lower the number of folds"
        )
    _, stratum = np.unique(strata(dataset), return_inverse=True)
    _, member = np.unique(group, return_inverse=True)
    content = np.zeros((member.max() + 1, stratum.max() + 1))
    np.add.at(content, (member, stratum), 1.0)
    content /= content.sum(axis=0)
    load = np.zeros((count, content.shape[1]))
    chosen = np.empty(len(content), dtype=np.intp)
    shuffled = np.random.default_rng(seed).permutation(len(content))
    for each in shuffled[np.argsort(-content.max(axis=1)[shuffled], kind="stable")]:  # the largest while all is empty
        chosen[each] = np.argmin(((load + content[each]) ** 2).sum(axis=1) - (load**2).sum(axis=1))
        load[chosen[each]] += content[each]
    folds = chosen[member]
    for fold in range(count):
        desks = dataset.labels[folds == fold]
        if desks.all() or not desks.any():
            raise DatasetError(f"fold {fold} has {desks.sum()} desks of {len(desks)} photos; lower the number of folds")
    return folds


def weights(dataset: Dataset) -> npt.NDArray[np.float64]:
    """``(n,)``: how much a photo counts in sampling and calibration; each class sums to one.

    Of its class, a source with ``k`` photos counts as the root of ``k``: one office series with 124 greyscale desks
    must not outweigh a hundred people with one desk each, nor a thousand animals the near misses.
    """
    _, number, count = np.unique(
        [f"{photo.desk} {photo.source}" for photo in dataset.photos], return_inverse=True, return_counts=True
    )
    weight = count[number] ** -0.5
    for desk in (False, True):
        weight[dataset.labels == desk] /= weight[dataset.labels == desk].sum()
    return np.asarray(weight, dtype=np.float64)
