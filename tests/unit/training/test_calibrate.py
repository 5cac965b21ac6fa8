"""Temperature, shift and threshold on scores whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import average_precision_score, roc_auc_score

from training import calibrate
from training.metrics import Judged, average_precision, calibration_error, figures, roc_auc

ONES = np.ones


def drawn(count: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Margins that are honest log-odds, and labels drawn by them, as many of both classes."""
    random = np.random.default_rng(0)
    margins = random.normal(0.0, 3.0, count)
    return margins, random.random(count) < expit(margins)


def test_a_known_temperature_and_shift_are_found_again() -> None:
    margins, labels = drawn()
    found = calibrate.fit(margins * 2.5 - 1.0, labels, ONES(len(labels)))
    assert found.temperature == pytest.approx(2.5, rel=0.1)
    assert found.shift == pytest.approx(1.0, abs=0.2)
    assert found.threshold == pytest.approx(0.5, abs=0.1)
    assert np.allclose(found.scores(np.array([-1.0])), 0.5, atol=0.03)


def test_the_threshold_of_separated_classes_lies_in_the_middle_between_them() -> None:
    logits = np.concatenate([np.linspace(-6, -2, 50), np.linspace(4, 8, 50)])
    labels = np.arange(100) >= 50
    found = calibrate.fit(logits, labels, ONES(100))
    cut = np.log(found.threshold / (1 - found.threshold)) * found.temperature - found.shift
    assert cut == pytest.approx(1.0, abs=0.2)


def test_classes_weigh_the_same_however_many_there_are() -> None:
    margins, labels = drawn()
    few = ~labels | (np.arange(len(labels)) % 10 == 0)
    found = calibrate.fit(margins[few], labels[few], ONES(int(few.sum())))
    assert found.shift == pytest.approx(0.0, abs=0.3)


def test_one_class_alone_cannot_be_calibrated() -> None:
    with pytest.raises(ValueError, match="both classes"):
        calibrate.fit(np.zeros(3), np.ones(3, dtype=bool), ONES(3))


def test_reported_scores_of_a_fold_do_not_depend_on_its_labels() -> None:
    margins, labels = drawn(400)
    fold = np.arange(400) % 4
    scores, verdicts = calibrate.crossed(margins, labels, ONES(400), fold)
    other = np.where(fold == 0, ~labels, labels)
    again, verdicts_again = calibrate.crossed(margins, other, ONES(400), fold)
    assert np.array_equal(scores[fold == 0], again[fold == 0])
    assert np.array_equal(verdicts[fold == 0], verdicts_again[fold == 0])


def test_intervals_hold_the_value_and_widen_when_sources_are_few() -> None:
    margins, labels = drawn(2000)
    scores = expit(margins)
    number = np.arange(2000)
    many = Judged.once(labels, scores, scores >= 0.5, number.astype(str))
    few = Judged.once(labels, scores, scores >= 0.5, (number % 4).astype(str))
    found = figures(many, seed=0, draws=60)
    for figure in found.values():
        assert figure.low <= figure.high
    assert found["roc_auc"].low <= found["roc_auc"].value <= found["roc_auc"].high
    assert calibration_error(few) < 0.04
    assert figures(few, seed=0, draws=20)["recall"].value == found["recall"].value


def test_figures_are_scikit_learns_with_ties_and_a_drawn_source_counts_as_its_photos_twice() -> None:
    margins, labels = drawn(300)
    scores = np.round(expit(margins), 1)
    judged = Judged.once(labels, scores, scores >= 0.5, labels.astype(str))
    assert roc_auc(judged) == pytest.approx(roc_auc_score(labels, scores))
    assert average_precision(judged) == pytest.approx(average_precision_score(labels, scores))
    twice = np.concatenate([np.arange(300), np.arange(100)])
    counted = replace(judged, counts=np.where(np.arange(300) < 100, 2.0, 1.0))
    for metric in (roc_auc, average_precision, calibration_error):
        assert metric(counted) == pytest.approx(metric(judged.where(twice)))
