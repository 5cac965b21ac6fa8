"""The promise of the evaluation: nobody's desk is on both sides."""

from pathlib import Path

import numpy as np
import pytest

from training import folds
from training.dataset import Dataset, DatasetError, Photo

MANY = "many/makers"


def photo(number: int, desk: bool, source: str, family: str = "web") -> Photo:
    label = "desk" if desk else "not_desk"
    return Photo(f"train/{label}/{family}_{number:04}.jpg", desk, "train", source, f"{number}.jpg")


@pytest.fixture
def gathered() -> Dataset:
    random = np.random.default_rng(1)
    people = [photo(number, bool(number % 3 == 0), f"person-{random.integers(30)}") for number in range(200)]
    collection = [photo(number, number < 204, MANY, "inet") for number in range(200, 300)]
    return Dataset(Path(), tuple(people + collection))


def test_a_source_is_wholly_in_one_fold_and_a_collection_splits_its_not_desks_alone(gathered: Dataset) -> None:
    fold = folds.assign(gathered, 5, [MANY], seed=0)
    for source in set(gathered.sources) - {MANY}:
        assert len(set(fold[gathered.sources == source])) == 1
    of_collection = gathered.sources == MANY
    assert len(set(fold[of_collection & gathered.labels])) == 1
    assert len(set(fold[of_collection & ~gathered.labels])) == 5


def test_folds_are_even_and_repeatable(gathered: Dataset) -> None:
    fold = folds.assign(gathered, 5, [MANY], seed=0)
    desks = np.bincount(fold[gathered.labels], minlength=5)
    assert desks.min() >= 0.6 * desks.mean()
    assert np.array_equal(fold, folds.assign(gathered, 5, [MANY], seed=0))


def test_too_few_sources_are_refused(gathered: Dataset) -> None:
    with pytest.raises(DatasetError, match="lower the number of folds"):
        folds.assign(gathered, 60, [MANY], seed=0)


def test_a_large_source_counts_as_the_root_of_its_size_and_classes_count_the_same(gathered: Dataset) -> None:
    weights = folds.weights(gathered)
    assert weights[gathered.labels].sum() == pytest.approx(1.0)
    assert weights[~gathered.labels].sum() == pytest.approx(1.0)
    others = ~gathered.labels
    small = gathered.sources == gathered.sources[1]
    large = gathered.sources == MANY
    ratio = weights[others & large].sum() / weights[others & small].sum()
    assert ratio == pytest.approx((others & large).sum() ** 0.5 / (others & small).sum() ** 0.5)
